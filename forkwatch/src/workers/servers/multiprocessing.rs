//! Python's `multiprocessing`: pools and processes, forked or spawned.

use super::{Part, Role, Rule, Signs, Work};
use crate::model::loaded::Loaded;

pub(super) static RULE: Rule =
    Rule { part, by_workers: true, execs: true, work: Work::ANY, ..Rule::new("Python multiprocessing", is) };

fn is(signs: &Signs<'_>) -> bool {
    signs.runs(&["python", "pypy"])
        && (signs.has_loaded(Loaded::Multiprocessing)
            || signs.words.iter().any(|word| word.contains("multiprocessing.")))
}

/// What its own processes are started with: `python -c "from multiprocessing.spawn import spawn_main; ..."`.
fn part(signs: &Signs<'_>) -> Option<Part> {
    let program = signs.program.cmdline.iter().find(|word| word.starts_with("from multiprocessing."))?;
    let has = |module: &str| program.contains(module);
    if has("resource_tracker") {
        Some(Part::titled(Role::Helper, "resource tracker"))
    } else if has("forkserver") {
        Some(Part::titled(Role::Helper, "forkserver"))
    } else {
        has("spawn").then(|| Part::titled(Role::Worker, "spawned"))
    }
}
