//! The `CPythons` of this host.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

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
            .args(["-c", "import sys; print('%d %d' % sys.version_info[:2])"])
            .output()
            .with_context(|| format!("cannot run {}", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (major, minor) = text.trim().split_once(' ').with_context(|| format!("no version: {text}"))?;
        Ok(Self { version: (major.parse()?, minor.parse()?), path })
    }

    /// `stuck.py` in one of its cases, held before its exec, and what to call it.
    pub fn hold(&self, case: &str) -> Result<(String, Program)> {
        let fixtures = workspace().join("tests/fixtures/python");
        let program = Program::hold(|_| {
            Ok(Launch::new(&self.path)
                .args([fixtures.join("stuck.py").into_os_string(), case.into()])
                .env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
        let (major, minor) = self.version;
        Ok((format!("Python {major}.{minor}: {case}"), program))
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
