//! Real programs under watch: the right finding where there is one, and silence where there is none.

use forkwatch_tests::{runner::Tests, scenario};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(scenario::all().map(|scenario| (scenario.name, move || scenario.watch())))
}
