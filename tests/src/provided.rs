//! Where the programs are that `cargo xtask test` provides.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::host::{skip, workspace};

/// `real/provided.json` in the cache, as xtask writes it.
#[derive(Deserialize)]
struct Provided {
    present: BTreeMap<String, PathBuf>,
    missing: BTreeMap<String, String>,
}

/// The path of something that `tests/provision.toml` names; skips the test where it is not available.
pub fn provided(name: &str) -> Result<PathBuf> {
    let cache = env::var_os("FORKWATCH_CACHE").map_or_else(|| workspace().join(".cache"), PathBuf::from);
    let note = cache.join("real/provided.json");
    let Ok(text) = fs::read(&note) else {
        return skip(format!("needs {name}: `cargo xtask test` provides it"));
    };
    let provided: Provided =
        serde_json::from_slice(&text).with_context(|| format!("{} is malformed", note.display()))?;
    match (provided.present.get(name), provided.missing.get(name)) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(why)) => skip(format!("needs {name}: {why}")),
        (None, None) => anyhow::bail!("tests/provision.toml does not name {name}"),
    }
}
