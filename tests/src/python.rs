//! The installations of Python of this host.

use std::{env, fs, os::unix::fs::symlink, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::{
    host::{Skip, workspace},
    program::{Launch, Program},
    provided::provided,
};

/// Versions that come from a later release where the host has none.
const LATER: [&str; 3] = ["python3.13", "python3.14", "python3.15"];

/// A CPython.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Python {
    /// Major and minor number.
    pub version: (u32, u32),
    /// Whether a thread that wants a lock waits on a semaphore that it has made itself, as from 3.13.1 on
    /// (`Python/parking_lot.c`): that does not tell from where the lock comes.
    pub parks: bool,
    /// Whether it has no GIL.
    pub free_threaded: bool,
    path: PathBuf,
}

impl Python {
    /// The system's.
    pub fn system() -> Result<Self> {
        Self::of(provided("python3")?)
    }

    /// The system's, and one of each further kind that pyenv has here or that is provided; the oldest first. What could
    /// not be provided is said.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = vec![Self::system()?];
        for path in of_pyenv().into_iter().chain(later()?) {
            let python = Self::of(path)?;
            if all.iter().all(|known| known.kind() != python.kind()) {
                all.push(python);
            }
        }
        all.sort();
        Ok(all)
    }

    fn of(path: PathBuf) -> Result<Self> {
        let output = Command::new(&path)
            .args(["-c", VERSION])
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u32> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [major, minor, micro, free_threaded] = numbers[..] else { bail!("no version: {text}") };
        let parks = (major, minor, micro) >= (3, 13, 1);
        Ok(Self { version: (major, minor), parks, free_threaded: free_threaded == 1, path })
    }

    /// What differs between those that are worth a test.
    const fn kind(&self) -> ((u32, u32), bool, bool) {
        (self.version, self.parks, self.free_threaded)
    }

    /// What tells it from the others.
    fn name(&self) -> String {
        let (major, minor) = self.version;
        let parks = if self.parks && minor == 13 { ".1" } else { "" };
        format!("{major}.{minor}{parks}{}", if self.free_threaded { "t" } else { "" })
    }

    /// Whether forkwatch knows how this version keeps the frames of a thread.
    pub fn has_known_frames(&self) -> bool {
        ((3, 7)..=(3, 15)).contains(&self.version)
    }

    /// `stuck.py` in one of its cases, held before its exec, and what it is called. No other program is called so:
    /// what happens in one of the same name later is only counted.
    pub fn hold(&self, case: &str) -> Result<(String, Program)> {
        self.hold_script("stuck.py", case)
    }

    /// The same with another script of the fixtures.
    pub fn hold_script(&self, file: &str, case: &str) -> Result<(String, Program)> {
        let fixtures = workspace().join("tests/fixtures/python");
        let name = format!("{case}-{}.py", self.name());
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

/// Prints its version, and whether it has no GIL.
const VERSION: &str = "import sys, sysconfig; free = bool(sysconfig.get_config_var('Py_GIL_DISABLED')); \
                       print('%d %d %d %d' % (tuple(sys.version_info[:3]) + (free,)))";

/// Those of a later release that are here.
fn later() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in LATER {
        match provided(name) {
            Ok(path) => found.push(path),
            Err(error) => match error.downcast::<Skip>() {
                Ok(Skip(why)) => eprintln!("not tested with {name}: {why}"),
                Err(error) => return Err(error),
            },
        }
    }
    Ok(found)
}

fn of_pyenv() -> Vec<PathBuf> {
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let Some(root) = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv"))) else {
        return Vec::new();
    };
    let versions = fs::read_dir(root.join("versions")).into_iter().flatten().flatten();
    versions.map(|version| version.path().join("bin/python")).filter(|path| path.is_file()).collect()
}
