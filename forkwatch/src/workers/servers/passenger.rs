//! Passenger: a watchdog that starts the core, which starts preloaders, which fork the processes of an application. All
//! but the last exec.

use super::{Part, Role, Rule, Signs, Work};

pub(super) static RULE: Rule = Rule {
    part,
    execs: true,
    work: Work::NONE,
    ..Rule::new("Passenger", |signs| {
        signs.named(&["Passenger", "PassengerAgent"]) || signs.runs(&["PassengerAgent"])
    })
};

fn part(signs: &Signs<'_>) -> Option<Part> {
    let title = signs.after("Passenger ").or_else(|| signs.after("PassengerAgent "))?;
    let role = match title.split([' ', ':']).next()? {
        "watchdog" => Role::Master,
        // `RubyApp: /srv/app (production)`, `NodeApp: ...`, `PythonApp: ...`.
        word if word.ends_with("App") => Role::Worker,
        _ => Role::Helper,
    };
    Some(Part::titled(role, &title))
}
