//! A recording under way: what tail and daemon write with `--record`.

use std::{fs::File, io, path::Path};

use anyhow::{Context as _, Result};

use super::session;
use crate::{
    report::recording::{Header, Writer},
    watch::Settings,
};

/// Writes what the core is fed.
pub(super) struct Recorder {
    writer: Writer<File>,
    path: String,
}

impl Recorder {
    /// Begins a recording where one is asked for. To be called before capabilities are given up: without them root
    /// cannot write into another user's directory.
    pub(super) fn create(path: Option<&Path>, settings: &Settings) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let name = path.display().to_string();
        let create = || -> Result<Writer<File>> {
            let header = Header::new(&session::context(), serde_json::to_value(settings)?);
            let mut writer = Writer::new(File::create(path)?, &header)?;
            // What cannot be written at all shows now.
            writer.flush()?;
            Ok(writer)
        };
        let writer = create().with_context(|| format!("cannot write a recording to {name}"))?;
        Ok(Some(Self { writer, path: name }))
    }

    /// Writes; false where that failed, and the recording ends. The watch goes on.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Writer<File>) -> io::Result<()>) -> bool {
        match write(&mut self.writer) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, path = %self.path, "the recording ends here: it cannot be written");
                false
            }
        }
    }
}
