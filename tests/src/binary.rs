//! The forkwatch binary under test.

use std::{env, fs, path::PathBuf};

use anyhow::Result;

use crate::{fixture::binary_folder, host::skip};

/// `FORKWATCH_BIN`, or the newest that cargo has built beside this test; skips the test where there is none.
pub fn forkwatch() -> Result<PathBuf> {
    if let Some(path) = env::var_os("FORKWATCH_BIN") {
        return Ok(path.into());
    }
    let debug = binary_folder()?;
    let candidates = [debug.with_file_name("debug"), debug.with_file_name("release")];
    let built = candidates.into_iter().map(|folder| folder.join("forkwatch")).filter(|path| path.is_file());
    match built.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok()) {
        Some(path) => Ok(path),
        None => skip("forkwatch is not built: cargo build --release"),
    }
}
