//! Hears what a watch tells, whenever there is one, and queues the hooks that are to run.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;

use super::{book::Book, event::Event, queue::Queue, runner::Job};
use crate::{
    api::PREFIX,
    client::{Heard, Watch},
    service,
};

/// Waits between attempts to hear a watch: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whether a watch is heard.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) is_up: bool,
    /// When that last changed.
    pub(super) since: Timestamp,
    /// Why it is not heard; absent while it is.
    pub(super) why: Option<String>,
    /// How often it was not heard any more.
    pub(super) gaps: u64,
}

/// What is told, and what it is told to.
pub(super) struct News {
    pub(super) watch: Watch,
    pub(super) book: Arc<Book>,
    pub(super) queue: Arc<Queue<Job>>,
    connection: Mutex<Connection>,
    /// Our own unit, whose processes are hooks: what they do starts none.
    own_unit: Option<String>,
}

impl News {
    pub(super) fn new(
        watch: Watch,
        book: Arc<Book>,
        queue: Arc<Queue<Job>>,
        own_unit: Option<String>,
    ) -> Self {
        let connection = Connection { is_up: false, since: Timestamp::now(), why: None, gaps: 0 };
        Self { watch, book, queue, connection: Mutex::new(connection), own_unit }
    }

    pub(super) fn connection(&self) -> Connection {
        self.lock().clone()
    }

    /// Hears it for ever.
    pub(super) async fn hear(&self) -> std::convert::Infallible {
        let mut wait = FIRST_WAIT;
        loop {
            let why =
                self.watch.follow(&format!("{PREFIX}/events?type=notable"), |heard| self.take(heard)).await;
            if self.ended(&why.to_string()) {
                wait = FIRST_WAIT;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn take(&self, heard: Heard<'_>) {
        match heard {
            Heard::Begun => {
                let mut connection = self.lock();
                *connection =
                    Connection { is_up: true, since: Timestamp::now(), why: None, gaps: connection.gaps };
                drop(connection);
                let path = self.watch.path().display();
                tracing::info!("hears the watch at {path}");
                service::status("running hooks for what the watch tells");
            }
            Heard::Document(line) => {
                if let Some(event) = Event::read(line) {
                    self.queue(event);
                } else {
                    tracing::warn!("the watch has told something that is no event");
                }
            }
            Heard::TooLong => tracing::warn!("the watch has told something too long to be read"),
        }
    }

    fn queue(&self, event: Event) {
        if self.own_unit.is_some() && event.told.unit == self.own_unit {
            return;
        }
        let entries = self.book.wanting(&event);
        if entries.is_empty() {
            return;
        }
        if let Err(lost) = self.queue.add(event.line.len(), Job { event, entries })
            && lost.is_power_of_two()
        {
            tracing::warn!(lost, "too many events wait for their hooks: those that do not fit start none");
        }
    }

    /// Notes that it is not heard. Whether it was.
    fn ended(&self, why: &str) -> bool {
        let mut connection = self.lock();
        let was_up = connection.is_up;
        let is_news = connection.why.as_deref() != Some(why);
        let gaps = connection.gaps + u64::from(was_up);
        let since = if was_up { Timestamp::now() } else { connection.since };
        *connection = Connection { is_up: false, since, why: Some(why.to_owned()), gaps };
        drop(connection);
        if was_up {
            tracing::warn!("{why}; until a watch is heard again, nothing starts a hook");
        } else if is_news {
            tracing::warn!("{why}; a watch is looked for every {} s at most", LONGEST_WAIT.as_secs());
        }
        if is_news {
            service::status(&format!("waiting for the watch: {why}"));
        }
        was_up
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
