//! The process that runs hooks, from its start to its end.

use std::{io, path::PathBuf, sync::Arc};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    book::Book,
    control,
    hub::Hub,
    news::News,
    queue::Queue,
    runner::{Job, Runners},
    stop::Stop,
};
use crate::{
    client::Watch,
    config::{ConfigError, hook::Hooks},
    host,
    serve::{Allowed, LocalSocket, LocalSocketError},
    service,
};

/// The unit that comes with the package.
const UNIT: &str = "forkwatch-hooks";

/// The files and sockets that the process which runs hooks uses.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The hooks.
    pub file: PathBuf,
    /// The watch that is heard.
    pub watch: Watch,
    /// Where we are asked ourselves; nowhere if there is none.
    pub socket: Option<PathBuf>,
}

/// Why hooks cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum HooksError {
    /// The file cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The socket cannot be had.
    #[error(transparent)]
    Socket(#[from] LocalSocketError),
    /// The system refuses what every process needs.
    #[error("cannot start to run hooks: {0}")]
    System(#[from] io::Error),
}

/// A process that runs hooks.
pub struct Service {
    hub: Arc<Hub>,
    queue: Arc<Queue<Job>>,
    socket: Option<LocalSocket>,
}

impl Service {
    /// Reads the hooks and opens the socket. Nothing runs yet.
    pub fn new(setup: Setup) -> Result<Self, HooksError> {
        let Setup { file, watch, socket } = setup;
        let hooks = Hooks::load(&file)?;
        if hooks.0.is_empty() {
            tracing::warn!(
                "{} has no [[hook]]: nothing will be run until it has, and is read anew",
                file.display()
            );
        }
        let socket = socket.map(|path| LocalSocket::bind(&path, Allowed::default())).transpose()?;
        let book = Arc::new(Book::new(hooks));
        let queue = Arc::new(Queue::new());
        let news = News::new(watch, Arc::clone(&book), Arc::clone(&queue), own_unit());
        let hub = Hub { file, book, stop: Arc::new(Stop::new()?), news };
        Ok(Self { hub: Arc::new(hub), queue, socket })
    }

    /// Runs hooks until a signal ends it. To be run in a tokio runtime with its I/O and time drivers.
    pub async fn run(self) -> Result<(), HooksError> {
        let Self { hub, queue, socket } = self;
        let runners = Runners::start(&queue, &hub.stop)?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let control = match &socket {
            Some(socket) => Some(tokio::net::UnixListener::from_std(socket.listener()?)?),
            None => None,
        };
        let asked = Arc::clone(&hub);
        let mut answers = tokio::spawn(async move {
            match control {
                Some(listener) => control::answer_all(listener, asked).await,
                None => std::future::pending().await,
            }
        });
        let listening = Arc::clone(&hub);
        let mut news = tokio::spawn(async move { listening.news.hear().await });
        tracing::info!(hooks = hub.book.all().len(), "ready, running hooks");
        service::ready("waiting for the watch");
        let result = loop {
            tokio::select! {
                _ = interrupt.recv() => break Ok(()),
                _ = terminate.recv() => break Ok(()),
                _ = hangup.recv() => {
                    service::reloading();
                    // What is wrong is in the log, and everything stays.
                    let _ = hub.reload();
                    service::ready("running hooks");
                }
                Err(error) = &mut answers => break Err(io::Error::other(error).into()),
                Err(error) = &mut news => break Err(io::Error::other(error).into()),
            }
        };
        service::stopping();
        answers.abort();
        news.abort();
        let left = queue.close();
        if left > 0 {
            tracing::warn!(left, "events were still waiting for their hooks, which are not run");
        }
        hub.stop.ask();
        runners.join();
        result
    }
}

/// The unit that we run in, if it is that of the hooks: then nothing else is in it.
fn own_unit() -> Option<String> {
    let memberships = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let unit = host::cgroup::Membership::parse(&memberships)?.unit?;
    unit.rsplit('/').next().is_some_and(|name| name.starts_with(UNIT)).then_some(unit)
}
