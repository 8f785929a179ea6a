//! The rows of the database, and their bounds. A row of `briefs` is what a list shows, and of `reports` the evidence, by
//! the same key: when the finding was told first, so that keys ascend with time.

use std::time::SystemTime;

use redb::{
    ReadOnlyTable, ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError, WriteTransaction,
};
use serde_json::value::RawValue;

use super::{
    Bounds, Change,
    error::StoreError,
    row::{Report, Row},
};

pub(super) const BRIEFS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("briefs");
pub(super) const REPORTS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("reports");

/// How much is kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) count: u64,
    pub(super) bytes: u64,
    /// Of the findings, those whose row is none of ours.
    pub(super) unreadable: u64,
}

/// A table, where it has been written to.
pub(super) fn existing(
    transaction: &ReadTransaction,
    table: TableDefinition<'static, u64, &'static [u8]>,
) -> Result<Option<ReadOnlyTable<u64, &'static [u8]>>, StoreError> {
    match transaction.open_table(table) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(StoreError::inside(error)),
    }
}

/// A key as users see it.
pub(super) fn id(key: u64) -> String {
    format!("{key:016x}")
}

/// Both tables, open for writing.
pub(super) struct Rows<'a> {
    briefs: Table<'a, u64, &'static [u8]>,
    reports: Table<'a, u64, &'static [u8]>,
}

impl<'a> Rows<'a> {
    /// Of a transaction, which writes them when it is committed.
    pub(super) fn open(transaction: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self {
            briefs: transaction.open_table(BRIEFS).map_err(StoreError::inside)?,
            reports: transaction.open_table(REPORTS).map_err(StoreError::inside)?,
        })
    }

    /// Writes what was said of a finding, and gives its key.
    pub(super) fn say(
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
    pub(super) fn prune(&mut self, bounds: Bounds, size: &mut Size) -> Result<(), StoreError> {
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

/// Makes a record one that cannot be read.
#[cfg(test)]
pub(super) fn spoil(path: &std::path::Path, key: u64) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(BRIEFS).unwrap().insert(key, b"{".as_slice()).unwrap();
    transaction.commit().unwrap();
}
