//! What was told of which program, so that it is not told again too soon.

use std::{collections::HashMap, hash::Hash, time::Duration};

use crate::model::{process::Program, time::BootTime};

/// For so long a program is not told again about the same.
const TOLD_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// Most of it that is remembered.
const MOST: usize = 4096;

/// What was told when.
pub(super) struct Told<What> {
    told: HashMap<Of<What>, BootTime>,
}

/// A program, its unit or container, and what was told of it.
pub(super) type Of<What> = (String, Option<String>, What);

/// The same, of what runs in a program under this name.
pub(super) fn of<What>(name: &str, program: &Program, what: What) -> Of<What> {
    (name.to_owned(), program.place().map(str::to_owned), what)
}

impl<What> Default for Told<What> {
    fn default() -> Self {
        Self { told: HashMap::new() }
    }
}

impl<What: Eq + Hash> Told<What> {
    pub(super) fn is_news(&self, of: &Of<What>, now: BootTime) -> bool {
        self.told.get(of).is_none_or(|told| now.since(*told) >= TOLD_FOR)
    }

    /// Remembers it, as far as there is room. Tells whether it was news.
    pub(super) fn tell(&mut self, of: Of<What>, now: BootTime) -> bool {
        let is_news = self.is_news(&of, now);
        if self.told.len() >= MOST {
            self.told.retain(|_, told| now.since(*told) < TOLD_FOR);
        }
        if is_news && self.told.len() < MOST {
            self.told.insert(of, now);
        }
        is_news
    }

    #[cfg(test)]
    pub(super) fn is_bounded(&self) -> bool {
        self.told.len() <= MOST
    }
}
