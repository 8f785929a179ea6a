//! Programs with a connection that is open at a fork: alone, to see that they go wrong where they are said to, and
//! under watch.

use anyhow::Result;
use forkwatch_tests::{connection, runner::Tests};

pub(crate) fn tests() -> Tests {
    type Test = Box<dyn FnOnce() -> Result<()> + Send>;
    Tests::side_by_side(connection::all().flat_map(|case| -> [(String, Test); 2] {
        [
            (format!("alone::{}", case.name), Box::new(|| case.run_alone())),
            (format!("watched::{}", case.name), Box::new(|| case.watch())),
        ]
    }))
}
