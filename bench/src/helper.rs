//! A process of the benchmark's own that does as it is told: a line is an order, and a line the answer.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::this_program;

/// One that runs. It ends with its input, and its children with it, when dropped.
pub(crate) struct Helper {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts this program with these arguments.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new(this_program()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start a helper: {arguments:?}"))?;
        let stdout = BufReader::new(child.stdout.take().context("a helper has no output")?);
        Ok(Self { child, stdout })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its next line.
    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.stdout.read_line(&mut line).context("a helper does not answer")? > 0, "a helper failed");
        Ok(line)
    }

    /// Has it do something, and gives its answer.
    pub(crate) fn order(&mut self, order: &str) -> Result<String> {
        let stdin = self.child.stdin.as_mut().context("a helper has no input")?;
        writeln!(stdin, "{order}").context("a helper takes no orders")?;
        self.line()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}
