//! `cargo xtask gen`: the files that the program writes about itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::project;

/// Write the event schema and the reference pages that the program generates
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is stale
    #[arg(long)]
    check: bool,
}

/// Where they lie in the workspace. What else the program generates, man pages and completions, the package takes from it.
const PLACE: &str = "docs";

/// Lets the program generate, then writes or compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = project::root()?;
    let generated = tempfile::tempdir().context("cannot create a temporary directory")?;
    write_all(generated.path())?;
    let place = root.join(PLACE);
    let present = files(&place)?;
    let wanted = files(generated.path())?.into_iter();
    let stale = wanted.filter(|(name, content)| present.get(name) != Some(content));
    let stale: Vec<_> = stale.map(|(name, content)| (place.join(name), content)).collect();
    if options.check { report(&root, &stale) } else { stale.iter().try_for_each(write) }
}

/// Has everything that is made from the program written into a directory.
pub(crate) fn write_all(directory: &Path) -> Result<()> {
    let arguments = ["run", "--quiet", "--locked", "--package", "forkwatch", "--example", "generate", "--"];
    project::run(project::cargo()?.args(arguments).arg(directory))
}

/// A file that is not as the program generates it, and what it should hold.
type Stale = (PathBuf, Vec<u8>);

fn write((path, content): &Stale) -> Result<()> {
    println!("write {}", path.display());
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn report(root: &Path, stale: &[Stale]) -> Result<()> {
    if stale.is_empty() {
        println!("all generated files are fresh");
        return Ok(());
    }
    let names = stale.iter().map(|(path, _)| path.strip_prefix(root).unwrap_or(path).display().to_string());
    bail!("stale; `cargo xtask gen` writes them:\n  {}", names.collect::<Vec<_>>().join("\n  "))
}

/// The files of one directory, not of those below it, by name.
fn files(directory: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut files = BTreeMap::new();
    for entry in directory.read_dir().with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
    }
    Ok(files)
}
