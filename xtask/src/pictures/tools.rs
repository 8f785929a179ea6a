//! Where the programs are that pictures need beside the project's own.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::project;

/// A program or a folder that `tests/provision.toml` names, as `cargo xtask test` has noted it; else that of the host.
pub(super) fn path(name: &str) -> Result<PathBuf> {
    let note = fs::read(project::cache()?.join("real/provided.json")).unwrap_or_default();
    let note: Value = serde_json::from_slice(&note).unwrap_or_default();
    let noted = note.pointer(&format!("/present/{name}/path")).and_then(Value::as_str).map(PathBuf::from);
    let path = noted.unwrap_or_else(|| PathBuf::from("/usr/bin").join(name));
    path.exists()
        .then_some(path)
        .with_context(|| format!("there is no {name}: `cargo xtask test` provides it"))
}
