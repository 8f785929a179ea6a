//! The first and only program of a test virtual machine (`cargo xtask vm-test`): its init, the tests that run
//! forkwatch there, and the programs that they watch.
//!
//! It is linked statically, because the machine has no file system but what is in memory.

use std::{env, process::ExitCode};

use anyhow::Result;
use forkwatch_tests::{guest::runner, host, on_demand};

mod cgroups;
mod command;
mod doctor;
mod init;
mod leftovers;
mod namespaces;
mod privileges;
mod proofs;
mod role;
mod server;
mod tests;
mod types;
mod work;
mod world;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tests"] => run_tests(),
        [on_demand::ARGUMENT, name] => on_demand::run(name),
        ["work", name] => work::run(name),
        [role::AS, user, capabilities, program @ ..] => role::run_as(user, capabilities, program),
        [role::CONTAINED, program @ ..] => role::run_contained(program),
        // The kernel gives init words of its command line that it does not know.
        _ if std::process::id() == 1 => init::run(),
        _ => ExitCode::from(2),
    }
}

/// After saying what this kernel is and has.
fn run_tests() -> ExitCode {
    if let Err(error) = doctor::announce() {
        // The tests of doctor fail then.
        println!("doctor failed: {error:#}");
    }
    let mut own = [tests::ALL, proofs::ALL, doctor::ALL, leftovers::ALL].concat();
    // One thing amiss at a time: these bring worlds of their own, and a lockdown is one.
    if host::lockdown() == "none" {
        own.extend([privileges::ALL, types::ALL, cgroups::ALL, namespaces::ALL].concat());
    }
    let own = own.into_iter();
    let own = own.map(|(name, test)| (name, Box::new(test) as Box<dyn FnOnce() -> Result<()>>));
    let on_demand = on_demand::all().into_iter().map(|(name, test)| (name, Box::new(test) as Box<_>));
    runner::run(own.chain(on_demand), || ())
}
