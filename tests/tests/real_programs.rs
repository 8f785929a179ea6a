//! Real programs under watch: the right finding where there is one, and silence where there is none.

use std::process::ExitCode;

use forkwatch_tests::{runner, scenario};

fn main() -> ExitCode {
    let tests = scenario::all().map(|scenario| (scenario.name, move || scenario.watch()));
    runner::run(tests, runner::Together::SideBySide)
}
