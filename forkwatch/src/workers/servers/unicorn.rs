//! Unicorn and Pitchfork: `unicorn master -c u.rb`, `unicorn worker[0] -c u.rb`, `pitchfork (gen:0) worker[0] - ready`.

use super::{
    Part, Role, Rule, Signs,
    command_line::{Opt, settings},
};

pub(super) static RULE: Rule = Rule {
    part,
    settings: |signs| settings(&signs.words, &OPTIONS),
    ..Rule::new("Unicorn", |signs| signs.named(&["unicorn", "unicorn_rails", "pitchfork"]))
};

const OPTIONS: [Opt; 3] = [
    Opt::value("configuration", &["-c", "--config-file"]),
    Opt::value("environment", &["-E", "--env"]),
    Opt::value("listen", &["-l", "--listen"]),
];

fn part(signs: &Signs<'_>) -> Option<Part> {
    let is_generation = |word: &&String| !word.starts_with("gen:");
    let word = signs.words.iter().skip(1).find(is_generation)?;
    Some(match word.as_str() {
        "master" | "monitor" => Part::of(Role::Master),
        "mold" | "service" | "init" => Part::titled(Role::Helper, word),
        word => Part::titled(Role::Worker, &number_of(word)?),
    })
}

/// `worker 0` of `worker[0]`.
fn number_of(word: &str) -> Option<String> {
    let index = word.strip_prefix("worker[")?.strip_suffix(']')?;
    Some(format!("worker {index}"))
}
