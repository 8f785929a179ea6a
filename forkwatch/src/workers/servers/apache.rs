//! Apache's httpd. Its processes keep the command line; what it has loaded says how it forks.

use super::{
    Part, Role, Rule, Signs, Work,
    command_line::{Opt, Setting, settings as set},
};
use crate::model::loaded::Loaded;

pub(super) static RULE: Rule = Rule {
    part,
    settings,
    work: Work::CONNECTIONS_IN_TURNS,
    ..Rule::new("Apache", |signs| signs.runs(&["apache2", "httpd"]))
};

const OPTIONS: [Opt; 2] = [Opt::value("configuration", &["-f"]), Opt::value("directory", &["-d"])];

/// A daemon of `mod_wsgi` with a `display-name` shows that in parentheses.
fn part(signs: &Signs<'_>) -> Option<Part> {
    let name = signs.words.first()?.strip_prefix("(wsgi:")?.strip_suffix(')')?;
    Some(Part::titled(Role::Worker, &format!("mod_wsgi {name}")))
}

fn settings(signs: &Signs<'_>) -> Vec<Setting> {
    let modules = [
        (Loaded::ApacheEvent, "MPM", "event"),
        (Loaded::ApacheWorker, "MPM", "worker"),
        (Loaded::ApachePrefork, "MPM", "prefork"),
        (Loaded::ModPhp, "module", "PHP"),
        (Loaded::ModWsgi, "module", "mod_wsgi"),
    ];
    let loaded = modules.iter().filter(|(object, ..)| signs.has_loaded(*object));
    let loaded = loaded.map(|(_, name, value)| Setting { name, value: (*value).to_owned() });
    loaded.chain(set(&signs.words, &OPTIONS)).collect()
}
