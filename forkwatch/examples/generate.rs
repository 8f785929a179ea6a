//! Writes what is made from the program itself into a directory: see `cargo xtask gen`.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let directory: PathBuf = env::args_os().nth(1).context("say into which directory").map(Into::into)?;
    forkwatch::cli::generate(&directory)
}
