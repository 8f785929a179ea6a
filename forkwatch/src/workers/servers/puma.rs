//! Puma: `puma 6.4.2 (tcp://0.0.0.0:9292) [app]` and `puma: cluster worker 0: 17 [app]`
//! (`Puma::Runner`, `Puma::Cluster::Worker`).

use super::{
    Part, Role, Rule, Signs,
    command_line::{Setting, number},
};

pub(super) static RULE: Rule =
    Rule { part, version, settings, ..Rule::new("Puma", |signs| signs.named(&["puma"])) };

fn part(signs: &Signs<'_>) -> Option<Part> {
    if let Some(title) = signs.after("puma: cluster worker ") {
        let index = title.split(':').next().unwrap_or_default();
        return Some(Part::titled(Role::Worker, &format!("worker {index}")));
    }
    signs.after("puma ").and_then(|rest| number(&rest)).map(|_| Part::of(Role::Master))
}

fn version(signs: &Signs<'_>) -> Option<String> {
    number(&signs.after("puma ")?)
}

fn settings(signs: &Signs<'_>) -> Vec<Setting> {
    let title = signs.title();
    let bind = title.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(bind, _)| bind);
    bind.map(|bind| Setting { name: "bind", value: bind.to_owned() }).into_iter().collect()
}
