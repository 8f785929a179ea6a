//! What the kernel side reports on demand.

use forkwatch_tests::{on_demand, runner::Tests};

pub(crate) fn tests() -> Tests {
    Tests::alone(on_demand::all())
}
