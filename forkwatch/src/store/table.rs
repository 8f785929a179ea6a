//! The database itself. A row of `briefs` is what a list shows, and of `reports` the evidence, by the same key: when the
//! finding was told first, so that keys ascend with time.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use nix::fcntl::{Flock, FlockArg};
use redb::{
    Builder, Database, ReadTransaction, ReadableTable, StorageBackend, Table as Rows, TableDefinition,
    TableError, backends::InMemoryBackend,
};
use serde_json::value::RawValue;

use super::{
    Bounds, Change, Listed,
    row::{Report, Row},
    shape,
};
use crate::{
    api::{Filter, Kept},
    output_file::{OutputFileError, Place},
};

const BRIEFS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("briefs");
const REPORTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("reports");

/// Memory for pages of the database.
const CACHE: usize = 1 << 20;
/// Most that is read of a file into memory, for whoever asks while no watch runs.
const MOST_READ: u64 = 1 << 30;
/// Findings whose number in this watch is remembered, for what is said of them later.
const MOST_NUMBERS: usize = 20_000;
/// Children by which findings of earlier watches are known.
const MOST_NAMES: usize = 100_000;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the store of findings {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong below.
        source: io::Error,
    },
    /// The file is not one that forkwatch should write to.
    #[error("cannot open the store of findings {}: {source}", path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: OutputFileError,
    },
    /// The file ends early.
    #[error("the store of findings {} was cut off", .0.display())]
    CutOff(PathBuf),
    /// A running watch has it.
    #[error("the store of findings {} is open in another forkwatch, which must be asked instead", .0.display())]
    Busy(PathBuf),
    /// It is read, and is none.
    #[error("{} is no store of findings: {why}", path.display())]
    None {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Something went wrong inside.
    #[error("the store of findings: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A row is none of ours.
    #[error("the store of findings holds what this forkwatch did not write: {0}")]
    Row(#[from] serde_json::Error),
}

impl StoreError {
    fn inside(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// Whether the file holds something else than a database that can be read.
    fn is_broken(&self) -> bool {
        match self {
            Self::CutOff(_) => true,
            Self::Database(error) => is_broken(error),
            _ => false,
        }
    }
}

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

/// What is in it.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    count: u64,
    bytes: u64,
    /// Of the findings, those whose row is none of ours.
    unreadable: u64,
}

impl Table {
    /// Of a file, which is made where there is none. What is no database any more is put aside.
    pub(super) fn open(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        match Self::try_open(path, bounds) {
            Err(error) if error.is_broken() => {
                let aside = path.with_extension("broken");
                fs::rename(path, &aside)
                    .map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
                tracing::warn!(
                    %error, aside = %aside.display(),
                    "the store of findings could not be read: it was put aside, and a new one begins"
                );
                Self::try_open(path, bounds)
            }
            other => other,
        }
    }

    fn try_open(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let place =
            Place::find(path).map_err(|source| StoreError::Place { path: path.to_owned(), source })?;
        let file = place.update().map_err(|source| StoreError::Place { path: path.to_owned(), source })?;
        check_whole(path, &file)?;
        let database = builder().create_file(file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Busy(path.to_owned()),
            error => StoreError::inside(error),
        })?;
        Self::begin(database, true, bounds)
    }

    /// In memory.
    pub(super) fn memory(bounds: Bounds) -> Result<Self, StoreError> {
        Self::on(InMemoryBackend::new(), bounds)
    }

    /// In memory, with what a file holds that no watch has open. The file stays as it is.
    pub(super) fn copy_of(path: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| match errno {
            nix::Error::EWOULDBLOCK => StoreError::Busy(path.to_owned()),
            errno => failed(errno.into()),
        })?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("it is no regular file")));
        }
        let length = metadata.len();
        if length == 0 {
            return Err(StoreError::None { path: path.to_owned(), why: "it is empty".to_owned() });
        }
        check_whole(path, &file)?;
        if length > MOST_READ {
            return Err(failed(io::Error::other("it is longer than any that forkwatch makes")));
        }
        let memory = InMemoryBackend::new();
        let copy = || -> io::Result<()> {
            StorageBackend::set_len(&memory, length)?;
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(&*file, length), &mut bytes)?;
            StorageBackend::write(&memory, 0, &bytes)
        };
        copy().map_err(failed)?;
        Self::on(memory, bounds).map_err(|error| StoreError::None {
            path: path.to_owned(),
            why: match error {
                StoreError::Database(error) => error.to_string(),
                other => other.to_string(),
            },
        })
    }

    fn on(memory: InMemoryBackend, bounds: Bounds) -> Result<Self, StoreError> {
        let database = builder().create_with_backend(memory).map_err(StoreError::inside)?;
        Self::begin(database, false, bounds)
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
            let mut rows = Both {
                briefs: transaction.open_table(BRIEFS).map_err(StoreError::inside)?,
                reports: transaction.open_table(REPORTS).map_err(StoreError::inside)?,
            };
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

/// Both tables, open for writing.
struct Both<'a> {
    briefs: Rows<'a, u64, &'static [u8]>,
    reports: Rows<'a, u64, &'static [u8]>,
}

impl Both<'_> {
    /// Writes what was said of a finding, and gives its key.
    fn say(
        &mut self,
        (known, about): (Option<u64>, Option<u64>),
        change: &Change,
        watch: &str,
        size: &mut Size,
    ) -> Result<u64, StoreError> {
        let mut before = match known {
            Some(key) => self.row(key)?.map(|row| (key, row, false)),
            None => None,
        };
        if let (None, None, Some(key)) = (known, &before, about) {
            let row = self.row(key)?.filter(|row| row.is_found_again(change, watch));
            before = row.map(|row| (key, row, true));
        }
        let document: Box<RawValue> = serde_json::from_str(&change.document)?;
        let (key, row, report) = match before {
            None => {
                let mut key = change.at;
                while self.briefs.get(key).map_err(StoreError::inside)?.is_some() {
                    key += 1;
                }
                let row = Row::new(change, watch, id(key));
                size.count += 1;
                (key, row, Report { report: document, end: None })
            }
            Some((key, mut row, is_adopted)) => {
                size.bytes = size.bytes.saturating_sub(row.bytes);
                let mut report = self.report(key)?;
                if is_adopted {
                    row.adopt(change, watch, document, &mut report);
                } else {
                    row.take_on(change, document, &mut report);
                }
                (key, row, report)
            }
        };
        let report = serde_json::to_vec(&report)?;
        let names: usize = row.members.iter().map(String::len).sum();
        let row = Row { bytes: (report.len() + names) as u64, ..row };
        size.bytes += row.bytes;
        self.reports.insert(key, report.as_slice()).map_err(StoreError::inside)?;
        self.briefs.insert(key, serde_json::to_vec(&row)?.as_slice()).map_err(StoreError::inside)?;
        Ok(key)
    }

    fn row(&self, key: u64) -> Result<Option<Row>, StoreError> {
        let row = self.briefs.get(key).map_err(StoreError::inside)?;
        Ok(row.and_then(|row| serde_json::from_slice(row.value()).ok()))
    }

    fn report(&self, key: u64) -> Result<Report, StoreError> {
        match self.reports.get(key).map_err(StoreError::inside)? {
            Some(report) => Ok(serde_json::from_slice(report.value()).or_else(|_| Report::none())?),
            None => Ok(Report::none()?),
        }
    }

    /// Removes the oldest, as long as there is too much or it is too old.
    fn prune(&mut self, bounds: Bounds, size: &mut Size) -> Result<(), StoreError> {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let oldest = u64::try_from(now.saturating_sub(bounds.time).as_nanos()).unwrap_or(u64::MAX);
        loop {
            let first = self.briefs.first().map_err(StoreError::inside)?;
            let first =
                first.map(|(key, row)| (key.value(), serde_json::from_slice::<Row>(row.value()).ok()));
            let Some((key, row)) = first else { return Ok(()) };
            // One that cannot be read was found when its key says.
            let last = row.as_ref().map_or(key, |row| row.last);
            if size.count <= bounds.count && size.bytes <= bounds.bytes && last >= oldest {
                return Ok(());
            }
            self.briefs.remove(key).map_err(StoreError::inside)?;
            self.reports.remove(key).map_err(StoreError::inside)?;
            size.count = size.count.saturating_sub(1);
            size.bytes = size.bytes.saturating_sub(row.as_ref().map_or(0, |row| row.bytes));
            size.unreadable = size.unreadable.saturating_sub(u64::from(row.is_none()));
        }
    }
}

/// Stands for what was found about a child.
fn hash(hazard: &str, child: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (hazard, child).hash(&mut hasher);
    hasher.finish()
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder.create_with_file_format_v3(true);
    builder
}

/// A table, where it has been written to.
fn existing(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, u64, &'static [u8]>,
) -> Result<Option<redb::ReadOnlyTable<u64, &'static [u8]>>, StoreError> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(StoreError::inside(error)),
    }
}

/// A key as users see it.
fn id(key: u64) -> String {
    format!("{key:016x}")
}

/// Refuses a file that ends before its database does.
fn check_whole(path: &Path, file: &File) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut head = [0; shape::HEAD];
    let length = file.metadata().map_err(failed)?.len();
    // One that is new.
    if length == 0 {
        return Ok(());
    }
    match file.read_exact_at(&mut head, 0) {
        Ok(()) if shape::is_whole(&head, length) => Ok(()),
        Ok(()) => Err(StoreError::CutOff(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(StoreError::CutOff(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Whether that is said of a file that holds something else.
fn is_broken(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) | redb::Error::RepairAborted => true,
        // What redb says of a file that does not begin as it should.
        redb::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}

/// Makes a record one that cannot be read.
#[cfg(test)]
pub(super) fn spoil(path: &Path, key: u64) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(BRIEFS).unwrap().insert(key, b"{".as_slice()).unwrap();
    transaction.commit().unwrap();
}
