//! Resque: a process that waits for jobs and forks a child for each. Its titles say what it does:
//! `resque-2.6.0: Waiting for default`, `resque-2.6.0: Forked 17 at 1690000000`, `resque-2.6.0: Processing default since
//! 1690000000 [Job]` (`Resque::Worker#procline`).

use super::{Part, Role, Rule, Signs, Work, command_line::number};

pub(super) static RULE: Rule = Rule {
    part,
    work: Work::NONE,
    version: |signs| number(&signs.after("resque-")?),
    ..Rule::new("Resque", |signs| signs.named(&["resque"]))
};

fn part(signs: &Signs<'_>) -> Option<Part> {
    let title = signs.after("resque")?;
    let (_, doing) = title.split_once(": ")?;
    let role = if doing.starts_with("Processing") { Role::Worker } else { Role::Master };
    Some(Part::titled(role, doing))
}
