//! The thread that has the database.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::{Duration, Instant},
};

use super::{Bounds, Change, Listed, Reply, StoreError, lock, table::Table};
use crate::{
    api::{Filter, Kept, StoreHealth},
    resources,
};

/// Most changes of one transaction.
const BATCH: usize = 1024;
/// Most changes that wait for a disk that cannot be written.
const MOST_KEPT_BACK: usize = 1024;
/// Bytes of findings that are kept where there is no disk for them.
const MOST_MEMORY: u64 = 4 << 20;
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(10);

/// What the thread is asked.
pub(super) enum Job {
    Change(Box<Change>),
    List(Box<Filter>, Reply<Listed>),
    Find(String, Reply<Option<Kept>>),
    /// Write everything, then say so.
    Close(SyncSender<()>),
}

/// The database, and what is still to be written.
pub(super) struct Worker {
    path: Option<PathBuf>,
    watch: String,
    bounds: Bounds,
    health: Arc<Mutex<StoreHealth>>,
    table: Option<Table>,
    waiting: VecDeque<Change>,
    /// After a failure: when it is tried again.
    retry: Option<Instant>,
    /// Keys of this watch's findings by their number, while no database is open.
    numbers: BTreeMap<u64, u64>,
}

impl Worker {
    pub(super) const fn new(
        path: Option<PathBuf>,
        watch: String,
        bounds: Bounds,
        health: Arc<Mutex<StoreHealth>>,
    ) -> Self {
        Self {
            path,
            watch,
            bounds,
            health,
            table: None,
            waiting: VecDeque::new(),
            retry: None,
            numbers: BTreeMap::new(),
        }
    }

    /// How it goes, for whoever asks.
    pub(super) fn health(&self) -> Arc<Mutex<StoreHealth>> {
        Arc::clone(&self.health)
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        self.open();
        loop {
            let first = match self.retry {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            let first = match first {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut asked = Vec::new();
            for job in first.into_iter().chain(jobs.try_iter()).take(BATCH) {
                match job {
                    Job::Change(change) => self.wait(*change),
                    other => asked.push(other),
                }
            }
            // What was told before is in the answer.
            self.write();
            for job in asked {
                self.answer(job);
            }
        }
    }

    fn wait(&mut self, change: Change) {
        self.waiting.push_back(change);
        if self.waiting.len() > MOST_KEPT_BACK {
            self.waiting.pop_front();
            lock(&self.health).lost += 1;
        }
    }

    fn write(&mut self) {
        if self.waiting.is_empty() || self.retry.is_some_and(|due| due > Instant::now()) {
            return;
        }
        if self.table.is_none() {
            self.open();
        }
        let Some(table) = &mut self.table else { return };
        match table.apply(self.waiting.make_contiguous(), &self.watch) {
            Ok(()) => {
                self.waiting.clear();
                self.retry = None;
                let (count, unreadable) = (table.count(), table.unreadable());
                let trouble = {
                    let mut health = lock(&self.health);
                    (health.findings, health.unreadable) = (count, unreadable);
                    if self.table.as_ref().is_some_and(Table::is_file) { health.trouble.take() } else { None }
                };
                if trouble.is_some() {
                    tracing::warn!("findings can be written to disk again");
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Opens the file; where that fails at the start, memory has to do.
    fn open(&mut self) {
        let Some(path) = &self.path else {
            self.in_memory();
            return;
        };
        match Table::open(path, self.bounds) {
            Ok(mut table) => {
                let mut health = lock(&self.health);
                (health.findings, health.unreadable) = (table.count(), table.unreadable());
                drop(health);
                if self.retry.is_none() {
                    tracing::info!(path = %path.display(), "findings are kept on disk");
                    if table.unreadable() > 0 {
                        let count = table.unreadable();
                        tracing::warn!(count, "of the kept findings, these cannot be read, and are left out");
                    }
                }
                table.remember(std::mem::take(&mut self.numbers));
                self.table = Some(table);
            }
            Err(error) if self.retry.is_none() => {
                let why = error.to_string();
                tracing::warn!(
                    "findings are kept in memory only, and are gone when this watch ends: {why}{}",
                    advice(&error)
                );
                let mut health = lock(&self.health);
                health.trouble = Some(format!("kept in memory only: {why}"));
                health.path = None;
                drop(health);
                self.path = None;
                self.in_memory();
            }
            Err(error) => self.failed(&error),
        }
    }

    fn in_memory(&mut self) {
        let bounds = Bounds { bytes: self.bounds.bytes.min(MOST_MEMORY), ..self.bounds };
        self.table =
            Table::memory(bounds).inspect_err(|error| tracing::error!(%error, "findings are not kept")).ok();
    }

    /// The database may be of no use after a failure, so it is opened anew for the next try.
    fn failed(&mut self, error: &StoreError) {
        let mut health = lock(&self.health);
        if health.trouble.is_none() {
            tracing::warn!(
                "findings cannot be written to disk: the last {MOST_KEPT_BACK} wait, and what is older is lost: {error}{}",
                advice(error)
            );
        }
        health.trouble = Some(error.to_string());
        drop(health);
        if self.path.is_some()
            && let Some(table) = self.table.take()
        {
            self.numbers = table.numbers();
        }
        self.retry = Some(Instant::now() + RETRY);
    }

    fn answer(&mut self, job: Job) {
        if self.table.is_none() && self.path.is_some() {
            // What stands on a disk that is full can be read all the same.
            self.table = self.path.as_ref().and_then(|path| Table::open(path, self.bounds).ok());
            if let Some(table) = &mut self.table {
                table.remember(std::mem::take(&mut self.numbers));
            }
        }
        let why = || lock(&self.health).trouble.clone().unwrap_or_else(|| "it cannot be read".to_owned());
        match (job, &self.table) {
            (Job::List(filter, reply), Some(table)) => {
                reply(table.list(&filter, &self.watch).map_err(|error| error.to_string()));
            }
            (Job::Find(id, reply), Some(table)) => {
                reply(table.find(&id, &self.watch).map_err(|error| error.to_string()));
            }
            (Job::List(_, reply), None) => reply(Err(why())),
            (Job::Find(_, reply), None) => reply(Err(why())),
            (Job::Close(done), _) => {
                self.table = None;
                // Whoever asked may have gone on already.
                let _ = done.send(());
            }
            // Taken out before.
            (Job::Change(_), _) => {}
        }
    }
}

/// What to do about a failure.
fn advice(error: &StoreError) -> &'static str {
    match error {
        StoreError::Open { source, .. } => resources::advice(source),
        _ => "",
    }
}
