//! Where things are, and how programs are run.

use std::env;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace's root. Asked at run time: a binary in a shared target directory may stem from another clone.
pub(crate) fn root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: run this as `cargo xtask`")?;
    let root = PathBuf::from(package).parent().map(PathBuf::from);
    root.context("the xtask package has no workspace around it")
}

/// Cargo's target directory.
pub(crate) fn target() -> Result<PathBuf> {
    Ok(env::var_os("CARGO_TARGET_DIR").map_or(root()?.join("target"), PathBuf::from))
}

/// Tools and packages that the project fetches or builds for itself: `FORKWATCH_CACHE`, or `.cache` in the
/// workspace.
pub(crate) fn cache() -> Result<PathBuf> {
    Ok(env::var_os("FORKWATCH_CACHE").map_or(root()?.join(".cache"), PathBuf::from))
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()?);
    Ok(command)
}

/// Runs a command, shows what it says, and fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", line(command));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command, shows its standard output and hands each line of it to `watch`; says whether it succeeded.
pub(crate) fn run_watched(command: &mut Command, watch: impl FnMut(&str)) -> Result<bool> {
    run_watched_as(&line(command), command, watch)
}

/// The same with another name for the command.
pub(crate) fn run_watched_as(name: &str, command: &mut Command, mut watch: impl FnMut(&str)) -> Result<bool> {
    eprintln!("+ {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{name}`"))?;
    for text in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
        // A test may write anything, not only text.
        let text = String::from_utf8_lossy(&text?).into_owned();
        println!("{text}");
        watch(&text);
    }
    Ok(child.wait()?.success())
}

/// What a command writes to its standard output, trimmed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{}`", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", line(command), output.status, said.trim());
    }
    Ok(String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote no text", line(command)))?
        .trim()
        .to_owned())
}

/// The command without its environment, as one would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
