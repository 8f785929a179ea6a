//! The thread that answers the core's questions, so that the reader of the ring never waits for `/proc`.

use std::{
    io,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread,
};

use tokio::sync::mpsc;

use crate::{
    host,
    model::{
        evidence::{Evidence, Request},
        time::BootTime,
    },
};

/// Questions that may wait. A storm of suspects fills it, and what does not fit stays unanswered: the core then
/// knows nothing, and says nothing.
const MOST_WAITING: usize = 4096;

/// Asks the thread.
pub(super) struct Collector {
    requests: SyncSender<Request>,
    answers: mpsc::UnboundedReceiver<(BootTime, Evidence)>,
    refused: u64,
}

impl Collector {
    /// Starts the thread. It has the capabilities that the caller has now.
    pub(super) fn start() -> io::Result<Self> {
        let (requests, open) = sync_channel(MOST_WAITING);
        // Unbounded, and yet no longer than the questions were: one answer each.
        let (send, answers) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("evidence".to_owned())
            .stack_size(256 << 10)
            .spawn(move || answer_all(&open, &send))?;
        Ok(Self { requests, answers, refused: 0 })
    }

    /// Asks; the answer comes through [`Self::answer`], or never.
    pub(super) fn ask(&mut self, request: Request) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.requests.try_send(request) {
            self.refused += 1;
        }
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Option<(BootTime, Evidence)> {
        self.answers.recv().await
    }

    /// Questions that found no room.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }
}

fn answer_all(open: &Receiver<Request>, send: &mpsc::UnboundedSender<(BootTime, Evidence)>) {
    while let Ok(request) = open.recv() {
        let evidence = host::answer(&request);
        if send.send((host::clock::now(), evidence)).is_err() {
            return;
        }
    }
}
