//! Keeps what is known of servers and their workers, for whoever asks while the watch runs.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
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
pub struct Workers(Arc<Mutex<WorkerTable>>);

impl Workers {
    /// Looks at the table as it is now. Must not take long: the watch waits meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&WorkerTable) -> T) -> T {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
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
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take(event);
        }
        Ok(())
    }
}
