//! The findings of the last days, on disk: so that what happened last night can be asked in the morning.
//!
//! A thread of its own has the database; whoever asks or tells waits for no disk. Whatever happens to the disk, the watch
//! goes on: what cannot be written waits a while, then is counted as lost, and health says so.

mod database;
mod error;
mod row;
mod rows;
mod shape;
mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

pub use self::error::StoreError;
use self::{
    table::Table,
    worker::{Job, Worker},
};
use crate::api::{Brief, Filter, Kept, StoreHealth};

/// What may wait for the thread.
const MOST_WAITING: usize = 4096;
/// Longest wait for the thread at the end of the program.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Longest report that is kept.
const LONGEST_REPORT: usize = 256 << 10;

/// What is kept at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many findings.
    pub count: u64,
    /// How many bytes of them.
    pub bytes: u64,
    /// How long after something was last said of one.
    pub time: Duration,
}

/// Something that was said of a finding.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number in this watch.
    pub number: u64,
    /// When it was said: nanoseconds of Unix time.
    pub at: u64,
    /// What a list shows of it.
    pub brief: Brief,
    /// Names of the children that it is about, its own first, by which a later watch knows it; none where these are not
    /// known.
    pub members: Vec<String>,
    /// The document of `forkwatch.event/1`.
    pub document: String,
}

/// How an answer comes back.
pub type Reply<T> = Box<dyn FnOnce(Result<T, String>) + Send>;

/// Where findings are told and asked for; any number of these for one database.
#[derive(Clone)]
pub struct Store {
    jobs: SyncSender<Job>,
    health: Arc<Mutex<StoreHealth>>,
}

/// Found that were listed, and what `before` has to be for the next.
pub type Listed = (Vec<Brief>, Option<String>);

impl Store {
    /// Opens the database of this file, or makes it, beside the watch with this name. Without a file, and where the file
    /// cannot be used, findings are kept in memory; health says why.
    pub fn start(path: Option<PathBuf>, watch: String, bounds: Bounds) -> std::io::Result<Self> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let health = StoreHealth {
            path: path.as_ref().map(|path| path.display().to_string()),
            most: bounds.count,
            seconds: bounds.time.as_secs(),
            ..StoreHealth::default()
        };
        let health = Arc::new(Mutex::new(health));
        let worker = Worker::new(path, watch, bounds, Arc::clone(&health));
        thread::Builder::new().name("store".to_owned()).spawn(move || work(worker, &waiting))?;
        Ok(Self { jobs, health })
    }

    /// Keeps what was said of a finding. Never waits.
    pub fn tell(&self, mut change: Change) {
        if change.document.len() > LONGEST_REPORT {
            "null".clone_into(&mut change.document);
        }
        let is_lost = self.jobs.try_send(Job::Change(Box::new(change))).is_err();
        let mut health = lock(&self.health);
        health.told += 1;
        health.lost += u64::from(is_lost);
    }

    /// Asks for a list.
    pub fn list(&self, filter: Filter, reply: Reply<Listed>) {
        self.ask(Job::List(Box::new(filter), reply));
    }

    /// Asks for one finding.
    pub fn find(&self, id: String, reply: Reply<Option<Kept>>) {
        self.ask(Job::Find(id, reply));
    }

    fn ask(&self, job: Job) {
        let (why, job) = match self.jobs.try_send(job) {
            Ok(()) => return,
            Err(TrySendError::Full(job)) => ("too much waits to be written: ask again later", job),
            Err(TrySendError::Disconnected(job)) => ("the part that keeps findings has failed", job),
        };
        match job {
            Job::List(_, reply) => reply(Err(why.to_owned())),
            Job::Find(_, reply) => reply(Err(why.to_owned())),
            Job::Change(_) | Job::Close(_) => {}
        }
    }

    /// How findings are kept now.
    pub fn health(&self) -> StoreHealth {
        lock(&self.health).clone()
    }

    /// Waits until all that was told is written, for a moment at most.
    pub fn close(&self) {
        let (done, wait) = sync_channel(1);
        if self.jobs.try_send(Job::Close(done)).is_ok() {
            // Whatever comes of it, the program ends now.
            let _ = wait.recv_timeout(LAST_WORDS);
        }
    }
}

/// Reads a database that no watch has open, without changing it. Every finding in it is of a watch that has ended.
pub fn read(path: &Path, bounds: Bounds) -> Result<Saved, StoreError> {
    Ok(Saved(Table::copy_of(path, bounds)?, path.display().to_string()))
}

/// A database as it was left.
pub struct Saved(Table, String);

impl Saved {
    /// A list.
    pub fn list(&self, filter: &Filter) -> Result<Listed, StoreError> {
        self.0.list(filter, "")
    }

    /// One finding.
    pub fn find(&self, id: &str) -> Result<Option<Kept>, StoreError> {
        self.0.find(id, "")
    }

    /// Where findings are kept, how many, and for how long.
    pub fn health(&self) -> StoreHealth {
        let Bounds { count, time, .. } = self.0.bounds();
        StoreHealth {
            path: Some(self.1.clone()),
            findings: self.0.count(),
            unreadable: self.0.unreadable(),
            most: count,
            seconds: time.as_secs(),
            ..StoreHealth::default()
        }
    }
}

/// Works until nobody asks any more. A defect below must not look like health.
fn work(worker: Worker, jobs: &Receiver<Job>) {
    let health = worker.health();
    if panic::catch_unwind(AssertUnwindSafe(|| worker.run(jobs))).is_err() {
        let why = "the part that keeps findings has failed, which is a defect of forkwatch";
        tracing::error!("findings are not kept any more: {why}");
        lock(&health).trouble = Some(why.to_owned());
    }
}

fn lock(health: &Mutex<StoreHealth>) -> MutexGuard<'_, StoreHealth> {
    health.lock().unwrap_or_else(PoisonError::into_inner)
}
