//! A running forkwatch.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{expect::until, runner::Skip};

/// Where the initramfs has it.
const PROGRAM: &str = "/forkwatch";

/// Runs forkwatch to its end.
pub(crate) fn forkwatch(arguments: &[&str]) -> Result<Output> {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {PROGRAM}"))
}

/// Skips the test where this forkwatch lacks a command.
pub(crate) fn needs_command(name: &str) -> Result<()> {
    if forkwatch(&[name, "--help"])?.status.success() {
        return Ok(());
    }
    Err(Skip(format!("this forkwatch has no command {name}")).into())
}

/// A forkwatch that watches, and what it writes.
pub(crate) struct Watch {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Watch {
    /// Returns when it watches.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let (stdout, stderr) = (PathBuf::from("/tmp/stdout"), PathBuf::from("/tmp/stderr"));
        let child = Command::new(PROGRAM)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .spawn()
            .with_context(|| format!("cannot start {PROGRAM}"))?;
        let mut watch = Self { child, stdout, stderr };
        until("forkwatch to watch", || {
            if let Some(status) = watch.child.try_wait()? {
                bail!("forkwatch ended with {status}: {}", watch.stderr()?);
            }
            Ok(watch.stderr()?.contains("watching every fork").then_some(()))
        })?;
        Ok(watch)
    }

    /// What it has said.
    pub(crate) fn stderr(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.stderr)?)
    }

    /// The documents of all whole lines that it has written.
    pub(crate) fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.stdout)?;
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}")))
            .collect()
    }

    /// Waits for a document, be it one that has come already.
    pub(crate) fn wait_for(&self, what: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        until(what, || Ok(self.events()?.into_iter().find(&is_it)))
    }

    /// Ends it as Ctrl-C does, and gives back all that it wrote.
    pub(crate) fn stop(mut self) -> Result<Vec<Value>> {
        let status = self.end(Signal::SIGINT)?;
        ensure!(status.code() == Some(0), "forkwatch ended with {status}: {}", self.stderr()?);
        self.events()
    }

    /// Sends a signal that ends it.
    pub(crate) fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)?;
        until("forkwatch to end", || Ok(self.child.try_wait()?))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
