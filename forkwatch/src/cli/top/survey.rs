//! Looks at the processes of the servers that are shown, as often as that costs little.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use crate::{
    cli::inspect::Family,
    engine::Asker,
    host,
    model::process::ProcessKey,
    reader::{Answer, Client, Question},
};

/// The shortest time between two looks at a server.
const SHORTEST: Duration = Duration::from_secs(1);
/// A server is looked at again after so many times what the last look took: all looks together take a small part of a
/// processor, however many processes there are.
const REST: u32 = 200;
/// How long a look is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(6);

/// A server, as it was when it was looked at.
pub(super) struct Seen {
    /// The process that forks its workers.
    pub(super) master: ProcessKey,
    /// What was seen; absent where it could not be looked at.
    pub(super) family: Option<Family>,
}

/// The thread that looks.
pub(super) struct Survey {
    wanted: Arc<Mutex<Vec<ProcessKey>>>,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Survey {
    /// Starts it. It ends when this is dropped, at most one look later.
    pub(super) fn start(
        mut look: impl FnMut(ProcessKey) -> Option<Family> + Send + 'static,
    ) -> io::Result<Self> {
        let wanted = Arc::new(Mutex::new(Vec::new()));
        let (send, seen) = mpsc::unbounded_channel();
        let wishes = Arc::downgrade(&wanted);
        thread::Builder::new().name("survey".to_owned()).spawn(move || {
            let mut due: HashMap<ProcessKey, Instant> = HashMap::new();
            while let Some(wanted) = wishes.upgrade() {
                let wanted: Vec<ProcessKey> = wanted.lock().unwrap_or_else(PoisonError::into_inner).clone();
                due.retain(|master, _| wanted.contains(master));
                let now = Instant::now();
                let next = wanted.iter().find(|master| due.get(master).is_none_or(|due| *due <= now));
                let Some(master) = next.copied() else {
                    thread::sleep(Duration::from_millis(100));
                    continue;
                };
                let family = look(master);
                let pause = (now.elapsed() * REST).max(SHORTEST);
                due.insert(master, Instant::now() + pause);
                if send.send(Seen { master, family }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { wanted, seen })
    }

    /// From now on looks at the servers of these masters.
    pub(super) fn want(&self, masters: Vec<ProcessKey>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = masters;
    }

    /// What was seen since the last call.
    pub(super) fn seen(&mut self) -> impl Iterator<Item = Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok())
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
