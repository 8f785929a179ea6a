//! `forkwatch generate`: everything that is made from the program itself, for `cargo xtask gen` to keep fresh.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Arguments, exit::Exit};
use crate::{
    hazard,
    report::{json, metrics},
};

/// Where to.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The directory to write into
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let directory = &options.directory;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&man, &completions] {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    let mut command = Arguments::command();
    clap_mangen::generate_to(command.clone(), &man).context("cannot write the man pages")?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        clap_complete::generate_to(shell, &mut command, "forkwatch", &completions)
            .context("cannot write the completions")?;
    }
    let schema = serde_json::to_string_pretty(&json::schema())? + "\n";
    write(&directory.join("events.schema.json"), &schema)?;
    write(&directory.join("hazards.md"), &hazard::markdown())?;
    write(&directory.join("metrics.md"), &metrics::markdown()?)?;
    Ok(Exit::Fine)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
