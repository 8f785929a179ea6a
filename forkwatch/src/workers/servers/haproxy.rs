//! `HAProxy`, whose master starts workers with `-W` and `-Ws`.

use super::{
    Rule,
    command_line::{Opt, settings},
};

pub(super) static RULE: Rule = Rule {
    settings: |signs| settings(&signs.words, &OPTIONS),
    ..Rule::new("HAProxy", |signs| signs.runs(&["haproxy"]))
};

const OPTIONS: [Opt; 2] = [Opt::flag("master-worker", &["-W", "-Ws"]), Opt::value("configuration", &["-f"])];
