//! Runs the tests one after another, and says of each what came of it.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Error, Result};
use forkwatch_tests::{host::Skip, orders};

use crate::doctor;

/// Its name, and what it does.
pub(crate) type Test = (&'static str, fn() -> Result<()>);

/// Runs all, after saying what this kernel is and has. Each gives a line `test NAME: passed`, `... failed: WHY` or
/// `... skipped: WHY`, which the host reads.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let mut exit = ExitCode::SUCCESS;
    if let Err(error) = doctor::announce() {
        // The tests of doctor fail then.
        println!("doctor failed: {}", one_line(&format!("{error:#}")));
    }
    let all = tests.iter().map(|(name, test)| (*name, Box::new(test) as Box<dyn FnOnce() -> Result<()>>));
    let on_demand = orders::all().into_iter().map(|(name, test)| (name, Box::new(test) as Box<_>));
    let only = only();
    for (name, test) in all.chain(on_demand).filter(|(name, _)| name.contains(&only)) {
        let start = Instant::now();
        let result =
            panic::catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|_| Err(Error::msg("it panicked")));
        let outcome = match result {
            Ok(()) => format!("passed ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(error) if error.is::<Skip>() => format!("skipped: {error}"),
            Err(error) => {
                exit = ExitCode::FAILURE;
                format!("failed: {}", one_line(&format!("{error:#}")))
            }
        };
        println!("test {name}: {outcome}");
    }
    exit
}

/// Part of the names of the tests that are wanted: `only=WORD` on the kernel's command line.
fn only() -> String {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace().find_map(|word| word.strip_prefix("only=")).unwrap_or_default().to_owned()
}

/// The report is read by line.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join(" | ")
}
