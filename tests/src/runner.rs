//! Runs all end-to-end tests in one process: first those that get on with others, several at a time, for most of them
//! wait; then one by one those that do not.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::host::Skip;

/// How many tests run side by side for each processor. They wait for what forkwatch must give time, so one alone
/// leaves a processor idle.
const AT_A_TIME: usize = 3;

/// A test's name and what it does.
type Test = (String, Box<dyn FnOnce() -> Result<()> + Send>);

/// The tests of a file.
#[derive(Default)]
pub struct Tests {
    /// Each watches its own processes, and waits for events, whenever they come.
    side_by_side: Vec<Test>,
    /// Each needs the host for itself: see [`Tests::alone`].
    alone: Vec<Test>,
    /// Like the first, but so long that they are run only when `--include-ignored` asks for them.
    long: Vec<Test>,
}

impl Tests {
    /// Tests that get on with each other and with all that others do to the host.
    pub fn side_by_side<N, T>(tests: impl IntoIterator<Item = (N, T)>) -> Self
    where
        N: Into<String>,
        T: FnOnce() -> Result<()> + Send + 'static,
    {
        Self { side_by_side: list(tests), ..Self::default() }
    }

    /// Tests that do not: they count what the whole host does, watch all of it with a limit that others would use up,
    /// change what all processes share, or depend on being served in time.
    pub fn alone<N, T>(tests: impl IntoIterator<Item = (N, T)>) -> Self
    where
        N: Into<String>,
        T: FnOnce() -> Result<()> + Send + 'static,
    {
        Self { alone: list(tests), ..Self::default() }
    }

    /// Tests that take so long that they run only when they are asked for, side by side.
    pub fn long<N, T>(tests: impl IntoIterator<Item = (N, T)>) -> Self
    where
        N: Into<String>,
        T: FnOnce() -> Result<()> + Send + 'static,
    {
        Self { long: list(tests), ..Self::default() }
    }

    /// These and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.side_by_side.extend(others.side_by_side);
        self.alone.extend(others.alone);
        self.long.extend(others.long);
        self
    }
}

fn list<N, T>(tests: impl IntoIterator<Item = (N, T)>) -> Vec<Test>
where
    N: Into<String>,
    T: FnOnce() -> Result<()> + Send + 'static,
{
    tests.into_iter().map(|(name, test)| (name.into(), Box::new(test) as Box<_>)).collect()
}

/// Runs the tests of these files as libtest would, each as `FILE::NAME`; one that returns [`Skip`] counts as ignored,
/// with its reason. In the end it says how long those of each file took.
pub fn run(files: impl IntoIterator<Item = (&'static str, Tests)>) -> ExitCode {
    let times = Times::default();
    let (mut side_by_side, mut long, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for (file, tests) in files {
        let trials = |tests: Vec<Test>| tests.into_iter().map(|test| times.measured(file, test));
        side_by_side.extend(trials(tests.side_by_side));
        long.extend(trials(tests.long).map(|trial| trial.with_ignored_flag(true)));
        alone.extend(trials(tests.alone));
    }
    // What takes longest begins first.
    long.append(&mut side_by_side);

    let mut arguments = Arguments::from_args();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads = arguments.test_threads.or(Some(processors * AT_A_TIME));
    let first = libtest_mimic::run(&arguments, long);
    arguments.test_threads = Some(1);
    let second = libtest_mimic::run(&arguments, alone);
    times.print();
    if first.has_failed() { first.exit_code() } else { second.exit_code() }
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

/// How long each test took, by file.
#[derive(Clone, Default)]
struct Times(Arc<Mutex<Files>>);

type Files = BTreeMap<&'static str, Vec<(Duration, String)>>;

impl Times {
    fn measured(&self, file: &'static str, (name, test): Test) -> Trial {
        let times = self.clone();
        Trial::ignorable_test(format!("{file}::{name}"), move || {
            let start = Instant::now();
            let outcome = outcome(test());
            let mut files = times.0.lock().unwrap_or_else(PoisonError::into_inner);
            files.entry(file).or_default().push((start.elapsed(), name));
            outcome
        })
    }

    /// One line a file: the sum, and the longest.
    fn print(&self) {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (file, tests) in files.iter() {
            let sum: Duration = tests.iter().map(|(took, _)| *took).sum();
            if let Some((longest, name)) = tests.iter().max() {
                let (sum, longest, count) = (sum.as_secs_f64(), longest.as_secs_f64(), tests.len());
                println!("{sum:7.1} s  {file} ({count}), the longest {longest:.1} s: {name}");
            }
        }
    }
}

/// The list of tests of these functions, named after them.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn() -> anyhow::Result<()>)),*] };
}
