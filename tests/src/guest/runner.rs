//! Runs the tests one after another, and says of each what came of it.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Error, Result};

use crate::host::Skip;

/// Its name, and what it does.
pub type Test = (&'static str, fn() -> Result<()>);

/// Runs all. Each gives a line `test NAME: passed`, `... failed: WHY` or `... skipped: WHY`, which the host reads;
/// after one that failed, `failed` is called.
pub fn run<T>(tests: impl IntoIterator<Item = (&'static str, T)>, failed: fn()) -> ExitCode
where
    T: FnOnce() -> Result<()>,
{
    let mut exit = ExitCode::SUCCESS;
    let only = only();
    for (name, test) in tests.into_iter().filter(|(name, _)| as_one_word(name).contains(&only)) {
        let start = Instant::now();
        let result =
            panic::catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|_| Err(Error::msg("it panicked")));
        let outcome = match result {
            Ok(()) => format!("passed ({:.1} s)", start.elapsed().as_secs_f64()),
            Err(error) if error.is::<Skip>() => format!("skipped: {error}"),
            Err(error) => {
                exit = ExitCode::FAILURE;
                failed();
                format!("failed: {}", one_line(&format!("{error:#}")))
            }
        };
        println!("test {name}: {outcome}");
    }
    exit
}

/// Part of the names of the tests that are wanted: `only=WORD` on the kernel's command line, where `_` stands for a space.
fn only() -> String {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    as_one_word(line.split_whitespace().find_map(|word| word.strip_prefix("only=")).unwrap_or_default())
}

/// The kernel's command line is parted at spaces.
pub fn as_one_word(name: &str) -> String {
    name.replace(' ', "_")
}

/// The report is read by line.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim_end).collect::<Vec<_>>().join(" | ")
}
