//! `forkwatch completions`: what a shell needs to complete this command line.

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Arguments, exit::Exit, generate::visible};

/// For which shell.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let mut script = Vec::new();
    // Into memory first: the generator panics where it cannot write.
    clap_complete::generate(options.shell, &mut visible(&Arguments::command()), "forkwatch", &mut script);
    io::stdout().write_all(&script).context("cannot write the output")?;
    Ok(Exit::Fine)
}
