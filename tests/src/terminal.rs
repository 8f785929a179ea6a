//! A real terminal for a program that draws on one: tmux, without a user.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};

use crate::{provided::Provided, wait::until};

/// A terminal of this size in which a command runs. It is closed when this is dropped.
pub struct Terminal {
    tmux: Provided,
    /// tmux's own socket: another's sessions are left alone.
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Terminal {
    /// Runs a command of the shell there. What it ended with is shown afterwards, as `ended with CODE`.
    pub fn run(command: &str, columns: u16, lines: u16) -> Result<Self> {
        let tmux = Provided::find("tmux")?;
        let folder = tempfile::tempdir()?;
        let terminal = Self { tmux, socket: folder.path().join("tmux"), _folder: folder };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        // The terminal stays open until it is closed from here.
        let command = format!("{command}; echo ended with $?; exec sleep 600");
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, &command])?;
        Ok(terminal)
    }

    /// What stands on it now.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Waits for a screen that is as it should be.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<String> {
        let mut last = String::new();
        until(what, || {
            last = self.screen()?;
            Ok(is(&last).then(|| last.clone()))
        })
        .with_context(|| format!("the screen:\n{}", self.screen().unwrap_or_default()))
    }

    /// Presses a key, by tmux's name for it.
    pub fn press(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Gives it another size.
    pub fn resize(&self, columns: u16, lines: u16) -> Result<()> {
        self.tmux(&["resize-window", "-x", &columns.to_string(), "-y", &lines.to_string()]).map(drop)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .tmux
            .command()?
            // Without it tmux writes no letters beyond ASCII.
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .context("cannot run tmux")?;
        ensure!(output.status.success(), "tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Where the server has ended already, nothing is left.
        let _ = self.tmux(&["kill-server"]);
    }
}

/// A command of the shell that runs this program with these arguments.
pub fn words(program: &Path, arguments: &[&str]) -> String {
    let quoted = |word: &str| format!("'{}'", word.replace('\'', "'\\''"));
    let program = quoted(&program.display().to_string());
    std::iter::once(program).chain(arguments.iter().map(|word| quoted(word))).collect::<Vec<_>>().join(" ")
}
