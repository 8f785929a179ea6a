//! `forkwatch check-config`: whether a configuration can be used, and what it comes to.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::Args;

use super::exit::Exit;
use crate::config::Config;

/// Where the package puts it.
const DEFAULT: &str = "/etc/forkwatch/forkwatch.toml";

/// Which file.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file
    #[arg(value_name = "FILE", default_value = DEFAULT)]
    file: PathBuf,
    /// The same, as the daemon takes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Say nothing where it can be used
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let file = options.config.as_ref().unwrap_or(&options.file);
    let config = Config::load(file)?;
    for renamed in &config.old_names {
        writeln!(io::stderr(), "forkwatch: {}: {}", file.display(), renamed.warning())
            .context("cannot write the warning")?;
    }
    if !options.quiet {
        write!(io::stdout(), "# {} can be used. In force, defaults included:\n{config}", file.display())
            .context("cannot write the output")?;
    }
    Ok(Exit::Fine)
}
