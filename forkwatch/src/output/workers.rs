//! Keeps what is known of servers and their workers, for whoever asks while the watch runs.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Output;
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        worker_table::WorkerTable,
    },
};

/// The table, shared: one of these is told, and others are asked.
#[derive(Clone, Debug, Default)]
pub struct Workers(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    table: WorkerTable,
    told: u64,
}

impl Workers {
    /// Looks at the table as it is now. Must not take long: the watch waits meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&WorkerTable) -> T) -> T {
        look(&self.lock().table)
    }

    /// The same, with how often something was told of a worker. As that puts the server last in the table, no more than
    /// so many of the last ones have changed since an earlier look.
    pub fn look_told<T>(&self, look: impl FnOnce(&WorkerTable, u64) -> T) -> T {
        let known = self.lock();
        look(&known.table, known.told)
    }

    /// How often something was told of a worker.
    pub fn told(&self) -> u64 {
        self.lock().told
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output for Workers {
    fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn finding(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }

    fn resolution(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        if let core::Output::Worker(event) = said {
            let mut known = self.lock();
            known.table.take(event);
            known.told += 1;
        }
        Ok(())
    }
}
