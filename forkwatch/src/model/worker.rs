//! What becomes of the workers of a server that forks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    child_end::{ChildEnd, Sender, SentBy},
    process::{Comm, ProcessKey},
    time::BootTime,
};

/// The server that a worker belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersServer {
    /// The process that forks its workers.
    pub master: ProcessKey,
    /// What it is called: `gunicorn`, `uid 1000's uWSGI`; of a program that is no known server, the name that the program
    /// goes by. Not safe for a terminal.
    pub name: String,
    /// Whether forkwatch knows its kind.
    pub known: bool,
    /// How it works, where that has a name: gunicorn's worker class.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<String>,
    /// Its systemd unit, else its container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// The master's real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
}

/// Something that has happened to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerEvent {
    /// When it happened. It may have been learnt later: a child is known for a worker only some time after its fork.
    pub at: BootTime,
    /// What has happened.
    pub change: WorkerChange,
    /// The worker: its tgid, and when it started.
    pub worker: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Whose worker it is.
    pub server: WorkersServer,
    /// Which of the workers it is, where its title says so: `worker 3`. Not safe for a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<String>,
    /// The pid of the worker whose place it has taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<u32>,
}

/// What has happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerChange {
    /// The server has forked it.
    Forked {
        /// Whether the fork itself was seen. If not, it was found later.
        seen: bool,
        /// Where it stood when it was known for a worker.
        state: WorkerState,
    },
    /// It waits for work, for the first time.
    Ready(Ready),
    /// It should, by what others of its server did, and does not.
    NotReady {
        /// What it does instead, in words.
        doing: String,
        /// Nanoseconds since its fork.
        after: u64,
    },
    /// It was asked to end.
    Stopping(Stopping),
    /// It has ended.
    Exited(Box<Exited>),
    /// It has taken the place of another, which had ended before.
    Replaced {
        /// Nanoseconds from that end to the fork.
        gap: u64,
    },
}

impl WorkerChange {
    /// The name of the event that it is.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Forked { .. } => "worker_forked",
            Self::Ready(_) => "worker_ready",
            Self::NotReady { .. } => "worker_not_ready",
            Self::Stopping(_) => "worker_stopping",
            Self::Exited(_) => "worker_exited",
            Self::Replaced { .. } => "worker_replaced",
        }
    }
}

/// The first wait for work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Nanoseconds from the fork until it was seen to wait.
    pub after: u64,
    /// Whether a look shortly before had seen it not to: the wait has begun between the two. If not, it may have begun
    /// any time before.
    pub exact: bool,
    /// What brings the work.
    pub source: WorkSource,
}

/// What brings work to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkSource {
    /// Connections, at a socket that it has inherited: where that listens.
    Listener(String),
    /// A connection that came in where its server listens: its other end.
    Connection(String),
    /// A pipe or socket that it has inherited, as the kernel shows it: `pipe:[4711]`.
    Queue(String),
    /// Its turn at a queue that it shares with others.
    Turn,
}

impl WorkSource {
    /// Whether what it brings are connections, and no jobs.
    pub const fn is_connection(&self) -> bool {
        matches!(self, Self::Listener(_) | Self::Connection(_))
    }

    /// What it waits for, in words. Not safe for a terminal.
    pub fn words(&self) -> String {
        match self {
            Self::Listener(address) => format!("awaits connections at {address}"),
            Self::Connection(peer) => format!("awaits what {peer} sends"),
            Self::Queue(link) => format!("awaits jobs from {link}"),
            Self::Turn => "awaits its turn at the queue".to_owned(),
        }
    }
}

/// How it was asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopping {
    /// The name of the signal that asked it: `SIGTERM`.
    pub signal: String,
    /// Whether its server sent that, or another process.
    pub sent_by: SentBy,
    /// The process that sent it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sender: Option<Sender>,
}

/// How it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// With which code or signal, and who had a hand in it; absent where it was found gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<ChildEnd>,
    /// Nanoseconds from its fork.
    pub lifetime: u64,
    /// What it was doing before.
    pub state: WorkerState,
    /// What it did when it was looked at last, in words, and when that was.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<(BootTime, String)>,
    /// What it was stuck in, by the summary of the finding about that. Safe for a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stuck: Option<String>,
    /// The last lines that it wrote to standard output and error, where somebody has asked for them. Not safe for a terminal.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub said: Vec<String>,
}

impl Exited {
    /// Whether nobody wants a worker to end so: by a signal other than those that ask it to, or with a code that is not 0.
    pub fn is_unexpected(&self) -> bool {
        /// By these, one that has no handler ends as it was asked to.
        const ASKED: [&str; 5] = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR2"];
        match &self.end {
            None => true,
            Some(ChildEnd { exit_code: Some(code), .. }) => *code != 0,
            Some(ChildEnd { signal, .. }) => !signal.as_deref().is_some_and(|signal| ASKED.contains(&signal)),
        }
    }

    /// What it did when it was looked at last, where that was so shortly before its end that it says something of it.
    pub fn did(&self, ended: BootTime) -> Option<&str> {
        const SHORTLY: Duration = Duration::from_secs(60);
        let (at, words) = self.last.as_ref()?;
        (ended.since(*at) <= SHORTLY).then_some(words.as_str())
    }
}

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// It has not waited for work yet.
    Starting,
    /// It has waited for work: it waits, or works.
    Ready,
    /// It has not waited for work for so long that something may be wrong.
    NotReady,
    /// It was asked to end.
    Stopping,
    /// It was not seen to start, nor to wait for work.
    Unknown,
}

impl WorkerState {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::NotReady, Self::Stopping, Self::Unknown];

    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::NotReady => "not-ready",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
        }
    }
}
