//! The servers that fork, their workers, and how the last ones ended: what is known now, bounded.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey},
    time::BootTime,
    worker::{Exited, Ready, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
};

/// Most servers that are kept.
pub const MOST_SERVERS: usize = 256;
/// Most living workers of one server that are kept.
pub const MOST_WORKERS: usize = 1024;
/// Ends of one server's workers that are kept: the last ones.
pub const MOST_ENDS: usize = 20;

/// All servers that fork their workers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerTable {
    /// At most [`MOST_SERVERS`]; the one that changed last stands last.
    pub servers: Vec<ServerRecord>,
}

/// A server, with what is known of its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// The server's name, kind and master.
    pub server: WorkersServer,
    /// Its living workers, the oldest first: at most [`MOST_WORKERS`].
    pub workers: Vec<WorkerRecord>,
    /// How the last ones ended, the latest last: at most [`MOST_ENDS`].
    pub ends: VecDeque<WorkerEnd>,
    /// How many of its workers have ended since the watch began.
    pub ended: u64,
    /// When one of its workers changed last.
    pub changed: BootTime,
}

/// A living worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its tgid, and when it started.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Which of the workers it is, where its title says so. Not safe for a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<String>,
    /// The pid of the worker whose place it has taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<u32>,
    /// Whether it starts, is ready, stops.
    pub state: WorkerState,
    /// When it came to stand there.
    pub since: BootTime,
    /// Its first wait for work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready: Option<Ready>,
}

/// A worker that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEnd {
    /// When it ended, or was found gone.
    pub at: BootTime,
    /// Its tgid, and when it started.
    pub process: ProcessKey,
    /// Its comm at the end.
    pub comm: Comm,
    /// Which of the workers it was, where its title said so. Not safe for a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<String>,
    /// How it ended, and who had a hand in it.
    pub exited: Exited,
    /// The pid of the worker that has taken its place since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaced_by: Option<u32>,
}

impl WorkerTable {
    /// Takes in what has happened to a worker.
    pub fn take(&mut self, event: &WorkerEvent) {
        let mut server = self.remove(event.server.master).unwrap_or_else(|| ServerRecord {
            server: event.server.clone(),
            workers: Vec::new(),
            ends: VecDeque::new(),
            ended: 0,
            changed: event.at,
        });
        server.server = event.server.clone();
        server.changed = server.changed.max(event.at);
        server.take(event);
        self.servers.push(server);
        if self.servers.len() > MOST_SERVERS {
            // One without workers has most likely ended.
            let idle = self.servers.iter().position(|server| server.workers.is_empty());
            self.servers.remove(idle.unwrap_or(0));
        }
    }

    /// The server with this master, or to which this worker belongs.
    pub fn of(&self, process: ProcessKey) -> Option<&ServerRecord> {
        self.servers.iter().find(|server| {
            server.server.master == process || server.workers.iter().any(|worker| worker.process == process)
        })
    }

    fn remove(&mut self, master: ProcessKey) -> Option<ServerRecord> {
        let place = self.servers.iter().position(|server| server.server.master == master)?;
        Some(self.servers.remove(place))
    }
}

impl ServerRecord {
    /// How many of its workers stand there.
    pub fn count(&self, state: WorkerState) -> usize {
        self.workers.iter().filter(|worker| worker.state == state).count()
    }

    fn take(&mut self, event: &WorkerEvent) {
        let (at, pid) = (event.at, event.worker.tgid);
        match &event.change {
            WorkerChange::Forked { state, .. } => self.enter(event, *state),
            WorkerChange::Ready(ready) => {
                self.stand(event, WorkerState::Ready);
                if let Some(worker) = self.worker(event) {
                    worker.ready = Some(ready.clone());
                }
            }
            WorkerChange::NotReady { .. } => self.stand(event, WorkerState::NotReady),
            WorkerChange::Stopping(_) => self.stand(event, WorkerState::Stopping),
            WorkerChange::Exited(exited) => {
                self.workers.retain(|worker| worker.process != event.worker);
                self.ended = self.ended.saturating_add(1);
                if self.ends.len() >= MOST_ENDS {
                    self.ends.pop_front();
                }
                self.ends.push_back(WorkerEnd {
                    at,
                    process: event.worker,
                    comm: event.comm,
                    slot: event.slot.clone(),
                    exited: (**exited).clone(),
                    replaced_by: None,
                });
            }
            WorkerChange::Replaced { .. } => {
                let before = event.replaces;
                let is_it =
                    |end: &&mut WorkerEnd| Some(end.process.tgid) == before && end.replaced_by.is_none();
                if let Some(end) = self.ends.iter_mut().rev().find(is_it) {
                    end.replaced_by = Some(pid);
                }
            }
        }
    }

    fn worker(&mut self, event: &WorkerEvent) -> Option<&mut WorkerRecord> {
        self.workers.iter_mut().find(|worker| worker.process == event.worker)
    }

    /// Where one stands from now on. What is asked to end stays so.
    fn stand(&mut self, event: &WorkerEvent, state: WorkerState) {
        let Some(worker) = self.worker(event) else { return };
        worker.slot = event.slot.clone().or_else(|| worker.slot.take());
        if worker.state != WorkerState::Stopping && worker.state != state {
            (worker.state, worker.since) = (state, event.at);
        }
    }

    fn enter(&mut self, event: &WorkerEvent, state: WorkerState) {
        // Another that had its pid has ended.
        self.workers.retain(|worker| worker.process.tgid != event.worker.tgid);
        if self.workers.len() >= MOST_WORKERS {
            return;
        }
        self.workers.push(WorkerRecord {
            process: event.worker,
            comm: event.comm,
            slot: event.slot.clone(),
            replaces: event.replaces,
            state,
            since: event.at,
            ready: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        child_end::SentBy,
        worker::{Stopping, WorkSource},
    };

    const SECOND: u64 = 1_000_000_000;

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(u64::from(tgid) * SECOND) }
    }

    fn event(master: u32, worker: u32, seconds: u64, change: WorkerChange) -> WorkerEvent {
        WorkerEvent {
            at: BootTime(seconds * SECOND),
            change,
            worker: process(worker),
            comm: "gunicorn".into(),
            server: WorkersServer {
                master: process(master),
                name: "gunicorn".to_owned(),
                known: true,
                class: None,
                unit: Some("shop.service".to_owned()),
                uid: Some(33),
            },
            slot: None,
            replaces: None,
        }
    }

    fn forked() -> WorkerChange {
        WorkerChange::Forked { seen: true, state: WorkerState::Starting }
    }

    fn ready() -> WorkerChange {
        let source = WorkSource::Listener("127.0.0.1:8000".to_owned());
        WorkerChange::Ready(Ready { after: SECOND / 2, exact: true, source })
    }

    fn exited() -> WorkerChange {
        let exited = Exited {
            end: None,
            lifetime: 9 * SECOND,
            state: WorkerState::Ready,
            last: None,
            stuck: None,
            said: Vec::new(),
        };
        WorkerChange::Exited(Box::new(exited))
    }

    #[test]
    fn a_worker_is_followed_from_its_fork_to_its_end_and_its_replacement() {
        let mut table = WorkerTable::default();
        table.take(&event(10, 11, 1, forked()));
        table.take(&event(10, 12, 1, forked()));
        table.take(&event(10, 11, 2, ready()));
        let server = table.of(process(11)).unwrap();
        assert_eq!(server.count(WorkerState::Ready), 1);
        assert_eq!(server.count(WorkerState::Starting), 1);
        table.take(&event(10, 11, 9, exited()));
        let replaced = WorkerChange::Replaced { gap: 1 };
        table.take(&event(10, 13, 10, forked()));
        table.take(&WorkerEvent { replaces: Some(11), ..event(10, 13, 10, replaced) });
        let server = table.of(process(10)).unwrap();
        let living: Vec<u32> = server.workers.iter().map(|worker| worker.process.tgid).collect();
        assert_eq!(living, [12, 13]);
        let end = server.ends.back().unwrap();
        assert_eq!((end.process.tgid, end.replaced_by, server.ended), (11, Some(13), 1));
        assert!(table.of(process(11)).is_none());
    }

    #[test]
    fn what_was_asked_to_end_is_not_ready_again() {
        let mut table = WorkerTable::default();
        table.take(&event(10, 11, 1, forked()));
        let stopping = Stopping { signal: "SIGTERM".to_owned(), sent_by: SentBy::Parent, sender: None };
        table.take(&event(10, 11, 2, WorkerChange::Stopping(stopping)));
        table.take(&event(10, 11, 3, ready()));
        assert_eq!(table.of(process(11)).unwrap().count(WorkerState::Stopping), 1);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(events in proptest::collection::vec((0..400_u32, 0..6_u32, 0..3_u8), 0..3000)) {
            let mut table = WorkerTable::default();
            for (master, worker, what) in events {
                let change = match what {
                    0 => forked(),
                    1 => ready(),
                    _ => exited(),
                };
                table.take(&event(master, 1000 + master * 10 + worker, 5, change));
                prop_assert!(table.servers.len() <= MOST_SERVERS);
                let is_bounded = |server: &ServerRecord| {
                    server.workers.len() <= MOST_WORKERS && server.ends.len() <= MOST_ENDS
                };
                prop_assert!(table.servers.iter().all(is_bounded));
            }
        }
    }
}
