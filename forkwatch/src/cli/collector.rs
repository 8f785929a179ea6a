//! The thread that answers the core's questions, so that judging never keeps the reader of the ring waiting.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use tokio::sync::mpsc;

use super::scope::Scope;
use crate::{
    host,
    model::{
        evidence::{Evidence, Request},
        time::BootTime,
    },
};

/// Questions that may wait.
const MOST_WAITING: usize = 4096;

/// Asks the thread.
pub(super) struct Collector {
    requests: SyncSender<Request>,
    answers: mpsc::UnboundedReceiver<(BootTime, Evidence)>,
}

impl Collector {
    /// Starts the thread, which finds no processes outside the scope. It has the capabilities that the caller has now.
    pub(super) fn start(scope: Scope) -> io::Result<Self> {
        let (requests, open) = sync_channel(MOST_WAITING);
        // Unbounded, and yet no longer than the questions were: one answer each.
        let (send, answers) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("evidence".to_owned())
            .stack_size(256 << 10)
            .spawn(move || answer_all(&open, &send, &scope))?;
        Ok(Self { requests, answers })
    }

    /// Asks; the answer comes through [`Self::answer`], or never: where there is no room, the core asks again later,
    /// and counts what stays unanswered.
    pub(super) fn ask(&self, request: Request) {
        if self.requests.try_send(request).is_err() {
            tracing::debug!("a question finds no room: too many suspects at once");
        }
    }

    /// The next answer, if it is there already.
    pub(super) fn answered(&mut self) -> Option<(BootTime, Evidence)> {
        self.answers.try_recv().ok()
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Option<(BootTime, Evidence)> {
        self.answers.recv().await
    }
}

fn answer_all(open: &Receiver<Request>, send: &mpsc::UnboundedSender<(BootTime, Evidence)>, scope: &Scope) {
    while let Ok(request) = open.recv() {
        let mut evidence = host::answer(&request);
        if let Evidence::Sweep { seen: Some(sweep) } = &mut evidence {
            scope.narrow(sweep);
        }
        if send.send((host::clock::now(), evidence)).is_err() {
            return;
        }
    }
}
