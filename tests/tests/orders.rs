//! What the kernel side reports on demand.

use std::{env, process::ExitCode};

use forkwatch_tests::{
    orders,
    runner::{self, Together},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [argument, name] if argument == orders::ARGUMENT => orders::run(name),
        _ => runner::run(orders::all(), Together::OneByOne),
    }
}
