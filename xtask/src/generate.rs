//! `cargo xtask gen`: the files that the program writes about itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::project;

/// Write the man pages, completions, event schema and reference pages that the program generates
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if a file is stale
    #[arg(long)]
    check: bool,
}

/// Where the parts of the generated tree go in the workspace, and whether nothing else may lie there.
const PLACES: [(&str, &str, bool); 3] =
    [("man", "dist/man", true), ("completions", "dist/completions", true), ("", "docs", false)];

/// Lets the program generate, then writes or compares.
pub(crate) fn run(options: &Options) -> Result<()> {
    let root = project::root()?;
    run_program(|generated| {
        let mut stale = Vec::new();
        for (part, place, exclusive) in PLACES {
            let wanted = files(&generated.join(part))?;
            let place = root.join(place);
            let present = if place.is_dir() { files(&place)? } else { BTreeMap::new() };
            for (name, content) in &wanted {
                if present.get(name) != Some(content) {
                    stale.push(Change { path: place.join(name), content: Some(content.clone()) });
                }
            }
            let surplus = present.into_keys().filter(|name| exclusive && !wanted.contains_key(name));
            stale.extend(surplus.map(|name| Change { path: place.join(name), content: None }));
        }
        if options.check { report(&root, &stale) } else { stale.iter().try_for_each(Change::make) }
    })
}

/// A file that is not as the program generates it.
struct Change {
    path: PathBuf,
    /// What it should hold; nothing where it should not be.
    content: Option<Vec<u8>>,
}

impl Change {
    fn make(&self) -> Result<()> {
        let Self { path, content } = self;
        println!("{} {}", if content.is_some() { "write" } else { "remove" }, path.display());
        if let Some(content) = content {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(path, content)
        } else {
            fs::remove_file(path)
        }
        .with_context(|| format!("cannot change {}", path.display()))
    }
}

fn report(root: &Path, stale: &[Change]) -> Result<()> {
    if stale.is_empty() {
        println!("all generated files are fresh");
        return Ok(());
    }
    let names = stale
        .iter()
        .map(|change| change.path.strip_prefix(root).unwrap_or(&change.path).display().to_string());
    bail!("stale; `cargo xtask gen` writes them:\n  {}", names.collect::<Vec<_>>().join("\n  "))
}

/// Has forkwatch generate into a directory that lives as long as `then` runs.
fn run_program(then: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let directory = tempfile::tempdir().context("cannot create a temporary directory")?;
    let arguments =
        ["run", "--quiet", "--locked", "--package", "forkwatch", "--bin", "forkwatch", "--", "generate"];
    project::run(project::cargo()?.args(arguments).arg(directory.path()))?;
    then(directory.path())
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
