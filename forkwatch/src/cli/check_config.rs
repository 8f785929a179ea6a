//! `forkwatch check-config`: whether a configuration can be used, and what it comes to.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::exit::Exit;
use crate::config::Config;

/// Which file.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/forkwatch/forkwatch.toml")]
    config: PathBuf,
    /// Say nothing where it can be used
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let config = Config::load(&options.config)?;
    if !options.quiet {
        write!(
            io::stdout(),
            "# {} can be used. In force, defaults included:\n{config}",
            options.config.display()
        )
        .context("cannot write the output")?;
    }
    Ok(Exit::Fine)
}
