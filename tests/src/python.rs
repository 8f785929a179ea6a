//! The installations of Python of this host.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    host::workspace,
    program::{Launch, Program},
    provided::provided,
};

/// A CPython.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Python {
    /// Major and minor number.
    pub version: (u32, u32),
    /// Whether a thread that wants a lock waits on a semaphore that it has made itself, as from 3.13.1 on
    /// (`Python/parking_lot.c`): that does not tell from where the lock comes.
    pub parks: bool,
    path: PathBuf,
}

impl Python {
    /// The system's.
    pub fn system() -> Result<Self> {
        Self::of(provided("python3")?)
    }

    /// The system's, and one of each further version that pyenv has here; the oldest first.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = vec![Self::system()?];
        for path in of_pyenv() {
            let python = Self::of(path)?;
            if all.iter().all(|known| known.version != python.version) {
                all.push(python);
            }
        }
        all.sort();
        Ok(all)
    }

    fn of(path: PathBuf) -> Result<Self> {
        let output = Command::new(&path)
            .args(["-c", "import sys; print('%d %d %d' % sys.version_info[:3])"])
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u32> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [major, minor, micro] = numbers[..] else { bail!("no version: {text}") };
        Ok(Self { version: (major, minor), parks: (major, minor, micro) >= (3, 13, 1), path })
    }

    /// Whether forkwatch knows how this version keeps the frames of a thread.
    pub fn has_known_frames(&self) -> bool {
        ((3, 7)..=(3, 13)).contains(&self.version)
    }

    /// `stuck.py` in one of its cases, held before its exec, and what it is called. No other program is called so:
    /// what happens in one of the same name later is only counted.
    pub fn hold(&self, case: &str) -> Result<(String, Program)> {
        self.hold_script("stuck.py", case)
    }

    /// The same with another script of the fixtures.
    pub fn hold_script(&self, file: &str, case: &str) -> Result<(String, Program)> {
        let fixtures = workspace().join("tests/fixtures/python");
        let (major, minor) = self.version;
        let name = format!("{case}-{major}.{minor}.py");
        let program = Program::hold(|folder| {
            let script = folder.join(&name);
            symlink(fixtures.join(file), &script).context("cannot link the script")?;
            Ok(Launch::new(&self.path)
                .args([script.into_os_string(), case.into()])
                .env("PYTHONPATH", &fixtures)
                .env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
        Ok((name, program))
    }
}

fn of_pyenv() -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let Some(root) = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv"))) else {
        return Vec::new();
    };
    let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/python")).filter(|path| path.is_file()).collect()
}
