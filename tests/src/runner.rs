//! Runs a file of tests, of which some may find only at run time that they cannot run here.

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::host::Skip;

/// How the tests of a file get on with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Together {
    /// Each watches its own processes: side by side.
    SideBySide,
    /// They watch or load the whole host: one by one.
    OneByOne,
}

/// Runs them as libtest would; one that returns [`Skip`] counts as ignored, with its reason.
pub fn run<N, T>(tests: impl IntoIterator<Item = (N, T)>, together: Together) -> ExitCode
where
    N: Into<String>,
    T: FnOnce() -> Result<()> + Send + 'static,
{
    run_with_long(tests, [], together)
}

/// The same, with tests that take so long that they are run only when `--include-ignored` asks for them.
pub fn run_with_long<N, T>(
    tests: impl IntoIterator<Item = (N, T)>,
    long: impl IntoIterator<Item = (N, T)>,
    together: Together,
) -> ExitCode
where
    N: Into<String>,
    T: FnOnce() -> Result<()> + Send + 'static,
{
    let mut arguments = Arguments::from_args();
    if together == Together::OneByOne {
        arguments.test_threads = Some(1);
    }
    let trial = |(name, test): (N, T)| Trial::ignorable_test(name, || outcome(test()));
    let long = long.into_iter().map(|test| trial(test).with_ignored_flag(true));
    let trials = tests.into_iter().map(trial).chain(long).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn outcome(result: Result<()>) -> Result<Completion, Failed> {
    match result {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(reason) => Ok(Completion::ignored_with(reason)),
            None => Err(Failed::from(format!("{error:#}"))),
        },
    }
}

/// The list of tests of these functions, named after them.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn() -> anyhow::Result<()>)),*] };
}
