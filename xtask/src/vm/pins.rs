//! `tests/kernels.toml`: which versions of what is downloaded are booted unless others are asked for.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::project;

/// Its place in the workspace.
pub(super) const FILE: &str = "tests/kernels.toml";

/// What it says.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pins {
    /// Releases, oldest first.
    pub(super) kernels: Vec<String>,
    /// Version of the emulator's packages.
    pub(super) qemu: String,
}

impl Pins {
    pub(super) fn read() -> Result<Self> {
        let path = project::root()?.join(FILE);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is malformed", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_well_formed_and_oldest_comes_first() {
        let pins: Pins = toml::from_str(include_str!("../../../tests/kernels.toml")).unwrap();
        assert!(!pins.kernels.is_empty() && !pins.qemu.is_empty());
        let numbers: Vec<_> =
            pins.kernels.iter().map(|release| super::super::kernels::numbers(release)).collect();
        assert!(numbers.is_sorted(), "{:?}", pins.kernels);
    }
}
