//! What CPython itself offers to make processes.

use std::path::Path;

use anyhow::Result;

use super::{Scenario, done, python, python_fixtures};
use crate::{
    expectation::{Expected, SILENCE, multithreaded},
    program::Launch,
};

const POOL_BESIDE_THREAD: &[Expected] = &[multithreaded("pool_beside_thread.py", &["metrics-push"])];

pub(super) const ALL: &[Scenario] = &[
    script("multiprocessing_forks_a_pool_beside_a_thread", POOL_BESIDE_THREAD, |_| {
        run("pool_beside_thread.py")
    }),
    script("multiprocessing_forks_a_pool_without_threads", SILENCE, |_| run("pool.py")),
    script("process_pool_executor_forks_before_its_own_threads_start", SILENCE, |_| run("executor.py")),
    script("subprocess_forks_for_preexec_fn_beside_a_thread_and_execs", SILENCE, |_| run("preexec_fn.py")),
    script("subprocess_spawns_beside_a_thread", SILENCE, |_| run("spawn.py")),
];

/// A script says when it is done, and ends with its stdin.
const fn script(
    name: &'static str,
    expected: &'static [Expected],
    prepare: fn(&Path) -> Result<Launch>,
) -> Scenario {
    Scenario { name, expected, prepare, work: done, stop: None }
}

fn run(script: &str) -> Result<Launch> {
    Ok(python("python", "python")?.args([python_fixtures().join(script)]))
}
