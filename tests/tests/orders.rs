//! What the kernel side reports on demand.

use forkwatch_tests::{orders, runner::Tests};

pub(crate) fn tests() -> Tests {
    Tests::alone(orders::all())
}
