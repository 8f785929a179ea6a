//! The findings, with what is known of them in memory: which key has which finding of this watch, and which children a
//! finding is about.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::Path,
};

use redb::{Database, ReadableTable as _};

use super::{
    Bounds, Change, Listed, database,
    error::StoreError,
    row::{Report, Row},
    rows::{BRIEFS, REPORTS, Rows, Size, existing, id},
};
use crate::api::{Filter, Kept};

/// Findings whose number in this watch is remembered, for what is said of them later.
const MOST_NUMBERS: usize = 20_000;
/// Children by which findings of earlier watches are known.
const MOST_NAMES: usize = 100_000;

/// The database, with what is known of its size.
pub(super) struct Table {
    database: Database,
    is_file: bool,
    bounds: Bounds,
    size: Size,
    /// Keys of the findings of this watch, by their number in it.
    numbers: BTreeMap<u64, u64>,
    /// Keys of findings by a hash of the hazard and a child that they are about: the last one about each. What stands
    /// there is looked at before it counts.
    about: HashMap<u64, u64>,
}

impl Table {
    /// Of a file, which is made where there is none. What is no database any more is put aside.
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let database = match database::open(path) {
            Err(error) if error.is_broken() => {
                let aside = path.with_extension("broken");
                fs::rename(path, &aside)
                    .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
                tracing::warn!(
                    %error, aside = %aside.display(),
                    "the store of findings could not be read: it was put aside, and a new one begins"
                );
                database::open(path)
            }
            other => other,
        };
        Self::begin(database?, true, bounds)
    }

    /// In memory.
    pub(super) fn memory(bounds: Bounds) -> Result<Self, StoreError> {
        Self::begin(database::in_memory()?, false, bounds)
    }

    /// In memory, with what a file holds that no watch has open. The file stays as it is.
    pub(super) fn copy_of(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        Self::begin(database::copy_of(path)?, false, bounds)
    }

    fn begin(database: Database, is_file: bool, bounds: Bounds) -> Result<Self, StoreError> {
        let size = Size::default();
        let mut table =
            Self { database, is_file, bounds, size, numbers: BTreeMap::new(), about: HashMap::new() };
        let transaction = table.database.begin_read().map_err(StoreError::inside)?;
        if let Some(briefs) = existing(&transaction, BRIEFS)? {
            for row in briefs.iter().map_err(StoreError::inside)? {
                let (key, row) = row.map_err(StoreError::inside)?;
                table.size.count += 1;
                match serde_json::from_slice::<Row>(row.value()) {
                    Ok(row) => {
                        table.size.bytes += row.bytes;
                        let hazard = &row.brief.hazard;
                        table
                            .about
                            .extend(row.members.iter().map(|child| (hash(hazard, child), key.value())));
                    }
                    Err(_) => table.size.unreadable += 1,
                }
            }
        }
        Ok(table)
    }

    /// What is remembered of this watch's findings, for the same file when it is opened anew.
    pub(super) fn numbers(self) -> BTreeMap<u64, u64> {
        self.numbers
    }

    /// Remembers that.
    pub(super) fn remember(&mut self, numbers: BTreeMap<u64, u64>) {
        self.numbers = numbers;
    }

    pub(super) const fn is_file(&self) -> bool {
        self.is_file
    }

    pub(super) const fn count(&self) -> u64 {
        self.size.count
    }

    /// How many of them cannot be read.
    pub(super) const fn unreadable(&self) -> u64 {
        self.size.unreadable
    }

    pub(super) const fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Writes what was said of findings of this watch, all or nothing, and removes what is beyond the bounds.
    pub(super) fn apply(&mut self, changes: &[Change], watch: &str) -> Result<(), StoreError> {
        let transaction = self.database.begin_write().map_err(StoreError::inside)?;
        let (mut size, mut numbers, mut about) = (self.size, Vec::new(), HashMap::new());
        {
            let mut rows = Rows::open(&transaction)?;
            for change in changes {
                let known = numbers
                    .iter()
                    .rev()
                    .find_map(|(number, key)| (*number == change.number).then_some(*key))
                    .or_else(|| self.numbers.get(&change.number).copied());
                let names = change.members.iter().map(|child| hash(&change.brief.hazard, child));
                let names: Vec<u64> = names.collect();
                let before = names.first().and_then(|name| about.get(name).or_else(|| self.about.get(name)));
                let key = rows.say((known, before.copied()), change, watch, &mut size)?;
                about.extend(names.into_iter().map(|name| (name, key)));
                if known != Some(key) {
                    numbers.push((change.number, key));
                }
            }
            rows.prune(self.bounds, &mut size)?;
        }
        transaction.commit().map_err(StoreError::inside)?;
        self.size = size;
        self.numbers.extend(numbers);
        self.about.extend(about);
        if self.about.len() > MOST_NAMES {
            // What was found first is least likely to be found again.
            let mut keys: Vec<u64> = self.about.values().copied().collect();
            keys.sort_unstable();
            let first = keys.get(keys.len() / 2).copied().unwrap_or_default();
            self.about.retain(|_, key| *key > first);
        }
        while self.numbers.len() > MOST_NUMBERS {
            self.numbers.pop_first();
        }
        Ok(())
    }

    /// The findings that match, the latest first. What another watch left open nobody follows any more.
    pub(super) fn list(&self, filter: &Filter, watch: &str) -> Result<Listed, StoreError> {
        let transaction = self.database.begin_read().map_err(StoreError::inside)?;
        let (mut found, mut last) = (Vec::new(), None);
        let Some(briefs) = existing(&transaction, BRIEFS)? else { return Ok((found, None)) };
        let most = filter.limit();
        let end = filter.before.into_iter().chain(filter.until).min().unwrap_or(u64::MAX);
        for row in briefs.range(..end).map_err(StoreError::inside)?.rev() {
            let (key, row) = row.map_err(StoreError::inside)?;
            let Ok(row) = serde_json::from_slice::<Row>(row.value()) else { continue };
            let seen = row.last;
            let brief = row.shown(watch);
            if !filter.matches(&brief, seen) {
                continue;
            }
            if found.len() == most {
                return Ok((found, last));
            }
            last = Some(id(key.value()));
            found.push(brief);
        }
        Ok((found, None))
    }

    /// One finding.
    pub(super) fn find(&self, id: &str, watch: &str) -> Result<Option<Kept>, StoreError> {
        let Ok(key) = u64::from_str_radix(id, 16) else { return Ok(None) };
        let transaction = self.database.begin_read().map_err(StoreError::inside)?;
        let tables = (existing(&transaction, BRIEFS)?, existing(&transaction, REPORTS)?);
        let (Some(briefs), Some(reports)) = tables else { return Ok(None) };
        let Some(row) = briefs.get(key).map_err(StoreError::inside)? else { return Ok(None) };
        let Ok(row) = serde_json::from_slice::<Row>(row.value()) else { return Ok(None) };
        let report = match reports.get(key).map_err(StoreError::inside)? {
            Some(report) => serde_json::from_slice(report.value()).or_else(|_| Report::none())?,
            None => Report::none()?,
        };
        Ok(Some(Kept {
            brief: row.shown(watch),
            report: serde_json::from_str(report.report.get())?,
            end: report.end.map(|end| serde_json::from_str(end.get())).transpose()?,
        }))
    }
}

/// Stands for what was found about a child.
fn hash(hazard: &str, child: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hazard, child).hash(&mut hasher);
    hasher.finish()
}
