//! The real programs themselves, without forkwatch: each starts, forks, works, and ends with all its children.

use forkwatch_tests::{runner::Tests, scenario};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(scenario::all().map(|scenario| (scenario.name, move || scenario.run_alone())))
}
