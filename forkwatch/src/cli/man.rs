//! `forkwatch man`: the manual, as roff for man(1).

use std::io::{self, Write as _};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};

use super::{
    Arguments,
    exit::{Exit, UsageError},
    generate::visible,
};

/// Which page.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A command, for its own page; else that of forkwatch
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let mut page = visible(&Arguments::command());
    if let Some(name) = &options.command {
        let found = page.get_subcommands().find(|command| command.get_name() == name).cloned();
        let names: Vec<&str> = page.get_subcommands().map(clap::Command::get_name).collect();
        let unknown = || UsageError(format!("there is no command {name:?}; there are {}", names.join(", ")));
        let command = found.ok_or_else(unknown)?;
        page = command.display_name(format!("forkwatch-{name}")).version(env!("CARGO_PKG_VERSION"));
    }
    let mut roff = Vec::new();
    clap_mangen::Man::new(page).render(&mut roff).context("cannot make the man page")?;
    io::stdout().write_all(&roff).context("cannot write the output")?;
    Ok(Exit::Fine)
}
