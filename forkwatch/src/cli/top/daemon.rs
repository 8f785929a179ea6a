//! Asks a running daemon for what the screen shows, on a thread of its own: whoever looks waits for no answer. What is the
//! same as before is not asked for, or not read again.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::known::Known as KnownServers;
use crate::{
    api::{Brief, FindingDocument, Findings, Health, Kept, MOST_LISTED, PREFIX, ServerDocument, Servers},
    client::{AskError, Watch},
};

/// Findings that are shown beside those that are open.
const LAST: usize = 200;
/// Servers and findings are asked for again after so many rounds, whatever the daemon says of them.
const ANYWAY: u64 = 60;

/// What a daemon has answered last.
#[derive(Clone, Default)]
pub(super) struct News {
    /// The servers and their workers.
    pub(super) servers: Arc<Vec<Arc<ServerDocument>>>,
    /// Those that are open and the last ones, the latest first.
    pub(super) findings: Arc<Vec<Brief>>,
    /// The daemon's health; absent until it has answered once.
    pub(super) health: Option<Health>,
    /// Why it does not answer now.
    pub(super) trouble: Option<String>,
}

/// The thread that asks.
pub(super) struct Asked(Arc<Shared>);

#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// Rung where somebody wants something, or nothing any more.
    bell: Condvar,
}

#[derive(Default)]
struct Known {
    news: Option<News>,
    wanted: Option<String>,
    found: Option<(String, Result<Kept, String>)>,
    is_over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Goes on by itself, so often.
    pub(super) fn start(asking: Asking, interval: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().news = Some(asking.news.clone());
        let its = Arc::clone(&shared);
        thread::Builder::new().name("daemon".to_owned()).spawn(move || asking.run(&its, interval))?;
        Ok(Self(shared))
    }

    /// What it has answered last.
    pub(super) fn news(&self) -> Option<News> {
        self.0.lock().news.clone()
    }

    /// All of a finding, where it was answered; else asks for it.
    pub(super) fn find(&self, id: &str) -> Option<Result<Kept, String>> {
        let mut known = self.0.lock();
        if let Some((_, found)) = known.found.take_if(|(of, _)| of == id) {
            return Some(found);
        }
        if known.wanted.as_deref() != Some(id) {
            known.wanted = Some(id.to_owned());
            self.0.bell.notify_all();
        }
        None
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.bell.notify_all();
    }
}

/// What the thread knows.
pub(super) struct Asking {
    watch: Watch,
    round: u64,
    news: News,
    /// How often something had been said of findings when they were asked for.
    told: Option<u64>,
    servers: KnownServers,
}

impl Asking {
    /// Asks for the first time.
    pub(super) fn begin(watch: Watch) -> Result<Self, AskError> {
        let mut asking =
            Self { watch, round: 0, news: News::default(), told: None, servers: KnownServers::default() };
        asking.renew()?;
        Ok(asking)
    }

    fn run(mut self, shared: &Shared, interval: Duration) {
        loop {
            let mut known = shared.lock();
            if known.wanted.is_none() && !known.is_over {
                known = shared.bell.wait_timeout(known, interval).unwrap_or_else(PoisonError::into_inner).0;
            }
            if known.is_over {
                return;
            }
            // It stays wanted until it was answered, so that it is not asked for twice.
            let wanted = known.wanted.clone();
            drop(known);
            if let Some(id) = wanted {
                let found = self.watch.get::<FindingDocument>(&format!("{PREFIX}/findings/{id}"));
                let found = found.map(|document| document.finding).map_err(|error| error.to_string());
                let mut known = shared.lock();
                (known.wanted, known.found) = (None, Some((id, found)));
                continue;
            }
            self.news.trouble = self.renew().err().map(|error| error.to_string());
            shared.lock().news = Some(self.news.clone());
        }
    }

    fn renew(&mut self) -> Result<(), AskError> {
        let health: Health = self.watch.get(&format!("{PREFIX}/health"))?;
        let anyway = self.round.is_multiple_of(ANYWAY);
        self.round += 1;
        if anyway || self.told != Some(health.store.told) {
            self.told = Some(health.store.told);
            self.news.findings = Arc::new(self.findings()?);
        }
        if anyway {
            self.servers.forget();
        }
        if let Some(most) = self.servers.missing(health.workers_told) {
            self.servers(most)?;
        }
        self.news.health = Some(health);
        Ok(())
    }

    /// Asks for the servers that have changed: so many at most, unless more do so meanwhile.
    fn servers(&mut self, most: usize) -> Result<(), AskError> {
        let limit = |most: usize| if most == usize::MAX { String::new() } else { format!("?limit={most}") };
        let ask = |most: usize| self.watch.get::<Servers>(&format!("{PREFIX}/servers{}", limit(most)));
        let mut answer = ask(most)?;
        if self.servers.missing(answer.told).is_some_and(|missing| missing > most) {
            answer = ask(usize::MAX)?;
        }
        self.servers.take(answer);
        self.news.servers = Arc::clone(&self.servers.servers);
        Ok(())
    }

    fn findings(&self) -> Result<Vec<Brief>, AskError> {
        let get = |query: &str| -> Result<Vec<Brief>, AskError> {
            Ok(self.watch.get::<Findings>(&format!("{PREFIX}/findings?{query}"))?.findings)
        };
        let mut all = get(&format!("limit={LAST}"))?;
        for brief in get(&format!("state=open&limit={MOST_LISTED}"))? {
            if !all.iter().any(|known| known.id == brief.id) {
                all.push(brief);
            }
        }
        // A later one has a greater id.
        all.sort_by(|one, other| other.id.cmp(&one.id));
        Ok(all)
    }
}
