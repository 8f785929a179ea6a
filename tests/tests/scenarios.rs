//! The real programs themselves, without forkwatch: each starts, forks, works, and ends with all its children.

use std::process::ExitCode;

use forkwatch_tests::{runner, scenario};

fn main() -> ExitCode {
    let tests = scenario::all().map(|scenario| (scenario.name, move || scenario.run_alone()));
    runner::run(tests, runner::Together::SideBySide)
}
