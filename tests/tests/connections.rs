//! Programs with a connection that is open at a fork: alone, to see that they go wrong where they are said to, and
//! under watch.

use std::process::ExitCode;

use anyhow::Result;
use forkwatch_tests::{connection, runner};

fn main() -> ExitCode {
    type Test = Box<dyn FnOnce() -> Result<()> + Send>;
    let tests = connection::all().flat_map(|case| -> [(String, Test); 2] {
        [
            (format!("alone::{}", case.name), Box::new(|| case.run_alone())),
            (format!("watched::{}", case.name), Box::new(|| case.watch())),
        ]
    });
    runner::run(tests, runner::Together::SideBySide)
}
