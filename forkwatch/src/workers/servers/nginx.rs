//! nginx: `nginx: master process nginx -c FILE`, `nginx: worker process`, `nginx: cache manager process`
//! (`ngx_setproctitle`).

use super::{
    Part, Role, Rule, Signs,
    command_line::{Opt, settings},
};

pub(super) static RULE: Rule = Rule {
    part,
    settings: |signs| settings(&signs.words, &OPTIONS),
    ..Rule::new("nginx", |signs| signs.runs(&["nginx", "openresty", "angie"]) || signs.name == "nginx")
};

const OPTIONS: [Opt; 2] = [Opt::value("configuration", &["-c"]), Opt::value("prefix", &["-p"])];

fn part(signs: &Signs<'_>) -> Option<Part> {
    let title = signs.after("nginx: ")?;
    let shown = title.split(" process").next().unwrap_or_default().to_owned();
    let stopping = if title.contains("is shutting down") { "worker, stopping" } else { "" };
    Some(match shown.as_str() {
        "master" => Part::of(Role::Master),
        "worker" => Part::titled(Role::Worker, stopping),
        _ => Part::titled(Role::Helper, &shown),
    })
}
