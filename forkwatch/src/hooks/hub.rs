//! What the parts of the process share: the hooks, and how it goes.

use std::{path::PathBuf, sync::Arc};

use super::{HooksDocument, book::Book, news::News, stop::Stop};
use crate::config::{ConfigError, hook::Hooks};

/// What its parts share.
pub(super) struct Hub {
    pub(super) file: PathBuf,
    pub(super) book: Arc<Book>,
    pub(super) stop: Arc<Stop>,
    pub(super) news: News,
}

impl Hub {
    pub(super) fn document(&self) -> HooksDocument {
        let file = self.file.display().to_string();
        HooksDocument::new(file, &self.book, &self.news.queue, &self.news.connection())
    }

    /// Takes on the file as it now is. If that cannot be used, everything stays.
    pub(super) fn reload(&self) -> Result<(), ConfigError> {
        match Hooks::load(&self.file) {
            Ok(hooks) => {
                let count = hooks.0.len();
                self.book.replace(hooks);
                tracing::info!(count, "the hooks were read anew");
                Ok(())
            }
            Err(error) => {
                // The parser draws where the mistake is, on lines of its own.
                let why: Vec<_> = error.to_string().split_whitespace().map(str::to_owned).collect();
                tracing::error!("the hooks stay as they were: {}", why.join(" "));
                Err(error)
            }
        }
    }
}
