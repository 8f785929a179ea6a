//! Looks at the processes of the servers that are shown, as often as that costs little. What has not run since is not
//! looked at anew: nothing of it can have changed but what others do to its memory.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::rounds::{Rounds, Visited};
use crate::{
    cli::inspect::Family,
    engine::Asker,
    host,
    model::process::ProcessKey,
    reader::{Answer, Client, Question},
};

/// How long a look is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);

/// A server, as it was when it was looked at.
pub(super) struct Looked {
    /// When the server was looked at, on the wall clock.
    pub(super) at: Timestamp,
    /// What was seen.
    pub(super) family: Family,
}

/// What has come of a look.
pub(super) struct Seen {
    /// The process that forks the workers of the server.
    pub(super) master: ProcessKey,
    /// What was seen; absent where it could not be looked at.
    pub(super) looked: Option<Looked>,
}

/// The thread that looks.
pub(super) struct Survey {
    shared: Arc<Shared>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    /// Rung where something else is wanted, or nothing any more.
    bell: Condvar,
}

#[derive(Default)]
struct Wanted {
    masters: Vec<ProcessKey>,
    is_over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a server is to be visited; none once this is over.
    fn next(&self, rounds: &mut Rounds) -> Option<ProcessKey> {
        let mut wanted = self.lock();
        loop {
            if wanted.is_over {
                return None;
            }
            match rounds.next(&wanted.masters, Instant::now()) {
                Ok(master) => return Some(master),
                Err(Some(pause)) => {
                    wanted = self.bell.wait_timeout(wanted, pause).unwrap_or_else(PoisonError::into_inner).0;
                }
                Err(None) => wanted = self.bell.wait(wanted).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Survey {
    /// Starts it. It ends when this is dropped, at most one look later.
    pub(super) fn start(
        mut look: impl FnMut(ProcessKey) -> Option<Family> + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (send, seen) = mpsc::unbounded_channel();
        let its = Arc::clone(&shared);
        thread::Builder::new().name("survey".to_owned()).spawn(move || {
            let mut rounds = Rounds::new(Instant::now());
            let runs = |processes: &[u32]| host::runs(processes.iter().copied());
            while let Some(master) = its.next(&mut rounds) {
                let (began, at) = (Instant::now(), Timestamp::now());
                let visited = rounds.visit(master, began, runs, &mut look);
                rounds.spend(began.elapsed());
                let Visited::Seen(family) = visited else { continue };
                let looked = family.map(|family| Looked { at, family });
                if send.send(Seen { master, looked }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { shared, seen })
    }

    /// From now on looks at the servers of these masters, and at the first one first.
    pub(super) fn want(&self, masters: Vec<ProcessKey>) {
        let mut wanted = self.shared.lock();
        if wanted.masters != masters {
            wanted.masters = masters;
            self.shared.bell.notify_all();
        }
    }

    /// What was seen since the last call.
    pub(super) fn seen(&mut self) -> impl Iterator<Item = Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok())
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.bell.notify_all();
    }
}

/// Has a watch look at the server of a master.
pub(super) fn by(asker: Asker) -> impl FnMut(ProcessKey) -> Option<Family> {
    move |master| {
        let process = host::look_again(master)?;
        family(master, asker.ask_now(Question::Tree(process), PATIENCE)?)
    }
}

/// The same without a watch.
pub(super) fn by_itself(mut reader: Client) -> impl FnMut(ProcessKey) -> Option<Family> {
    move |master| {
        let process = host::look_again(master)?;
        family(master, reader.ask(&Question::Tree(process)).ok()?.answer)
    }
}

fn family(master: ProcessKey, answer: Answer) -> Option<Family> {
    match answer {
        Answer::Tree(tree) => Some(Family::new(&*tree.ok()?, master)),
        _ => None,
    }
}
