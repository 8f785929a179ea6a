//! Node.js with `cluster` or `child_process.fork`: its workers exec the same program with the same script.

use super::Rule;

pub(super) static RULE: Rule = Rule {
    by_workers: true,
    execs: true,
    ..Rule::new("Node.js cluster", |signs| signs.runs(&["node", "nodejs"]))
};
