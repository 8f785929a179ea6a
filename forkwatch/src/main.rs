//! The `forkwatch` command.

use std::process::ExitCode;

use clap::Parser;
use forkwatch::{cli, resources};

fn main() -> ExitCode {
    // The self-test execs this program, and only wants to see it exec'd: that must not cost a start-up.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cli::EXEC_ARGUMENT) {
        return ExitCode::SUCCESS;
    }
    resources::survive_full_files();
    cli::report(cli::run(cli::Arguments::parse()))
}
