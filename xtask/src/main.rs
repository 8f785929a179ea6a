//! The project's own commands, run as `cargo xtask`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod debian;
mod dist;
mod ebpf;
mod fresh;
mod fuzz;
mod generate;
mod house;
mod new_hazard;
mod pictures;
mod precision;
mod project;
mod provide;
mod system;
mod test;
mod vm;

/// Builds, generates, tests and measures forkwatch.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BuildEbpf(ebpf::Options),
    Gen(generate::Options),
    Test(test::Options),
    Bench(bench::Options),
    Precision(precision::Options),
    VmTest(vm::Options),
    Dist(dist::Options),
    SystemTest(system::Options),
    FreshTest(fresh::Options),
    Fuzz(fuzz::Options),
    House(house::Options),
    NewHazard(new_hazard::Options),
    Pictures(pictures::Options),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::BuildEbpf(options) => ebpf::run(&options),
        Command::Gen(options) => generate::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Precision(options) => precision::run(&options),
        Command::VmTest(options) => vm::run(&options),
        Command::Dist(options) => dist::run(&options),
        Command::SystemTest(options) => system::run(&options),
        Command::FreshTest(options) => fresh::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::House(options) => house::run(&options),
        Command::NewHazard(options) => new_hazard::run(&options),
        Command::Pictures(options) => pictures::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
