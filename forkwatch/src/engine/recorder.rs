//! A recording under way: what tail and daemon write with `--record`.

use std::{fs::File, io, path::Path};

use anyhow::{Context as _, Result};

use crate::{
    core::Settings,
    output::{
        Context as Host,
        recording::{Header, Writer},
    },
    output_file::{OutputFileError, Place},
};

/// Writes what the core and the outputs are fed.
pub(crate) struct Recorder {
    writer: Writer<File>,
    path: String,
    written: u64,
}

impl Recorder {
    /// Begins a recording where one is asked for. To be called once capabilities have been given up, so that it is
    /// written where its user may write, and nowhere else.
    pub(crate) fn create(path: Option<&Path>, settings: &Settings, host: &Host) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let name = path.display().to_string();
        let create = || -> Result<Writer<File>> {
            let header = Header::new(host, serde_json::to_value(settings)?);
            // What stands there is a recording of something else, or no recording at all, and is left alone.
            let file = Place::find(path)?.create()?;
            let mut writer = Writer::new(file, &header).map_err(OutputFileError::from)?;
            // What cannot be written at all shows now.
            writer.flush().map_err(OutputFileError::from)?;
            Ok(writer)
        };
        let writer = create().with_context(|| format!("cannot write a recording to {name}"))?;
        Ok(Some(Self { writer, path: name, written: 0 }))
    }

    /// Writes; false where that failed, and the recording ends. The watch goes on.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Writer<File>) -> io::Result<()>) -> bool {
        self.written += 1;
        let written = write(&mut self.writer);
        self.is_whole(written)
    }

    /// Writes out what is in the buffer; false likewise.
    pub(crate) fn flush(&mut self) -> bool {
        let written = self.writer.flush();
        self.is_whole(written)
    }

    fn is_whole(&self, written: io::Result<()>) -> bool {
        written
            .inspect_err(|error| {
                tracing::error!(%error, path = %self.path, "the recording ends here: it cannot be written");
            })
            .is_ok()
    }

    /// What came of it, in a sentence.
    pub(crate) fn summary(&self) -> String {
        let Self { path, written, .. } = self;
        format!("recorded {written} inputs in {path}: `forkwatch replay {path}` judges them again")
    }
}
