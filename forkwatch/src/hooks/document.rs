//! The documents that the process that runs hooks answers with.

use serde::{Deserialize, Serialize};

use super::{
    Ran,
    book::{Book, Entry},
    news::Connection,
    queue,
};
use crate::config::{
    hook::{Deed, Hook},
    written,
};

/// All hooks, and how it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HooksDocument {
    /// `forkwatch.hooks/1`.
    pub schema: String,
    /// The file that they stand in.
    pub file: String,
    /// Whether a process runs them.
    pub running: bool,
    /// Whether it hears a watch now.
    pub connected: bool,
    /// Since when it does, or does not.
    pub since: Option<String>,
    /// Why it does not.
    pub why: Option<String>,
    /// How often the watch was not heard any more: what happened until it was heard again started no hook.
    pub gaps: u64,
    /// Events that wait for their hooks.
    pub waiting: u64,
    /// Events for which no hook ran, because too many waited.
    pub lost: u64,
    /// The hooks, in the order in which they run.
    pub hooks: Vec<HookDocument>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HookDocument {
    /// Its name in `hooks.toml`.
    pub name: String,
    /// The events that it is for.
    pub on: Vec<String>,
    /// The program with its arguments, or the address.
    pub does: Vec<String>,
    /// Those with a lesser one run first.
    pub order: i64,
    /// Whether it runs.
    pub enabled: bool,
    /// Whether somebody has switched it since the file was read.
    pub switched: bool,
    /// How long it may take.
    pub timeout: String,
    /// How often it may run for each user.
    pub at_most: String,
    /// Runs that ended well.
    pub good: u64,
    /// Runs that ended otherwise, but for those that took too long.
    pub failed: u64,
    /// Runs that took too long.
    pub timed_out: u64,
    /// Not run, because the process had ended.
    pub gone: u64,
    /// Not run, because it had run as often as it may.
    pub left_out: u64,
    /// The last run.
    pub last: Option<LastRun>,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it ended.
    pub at: String,
    /// `good`, `failed`, `timed-out`, `gone` or `stopped`.
    pub how: String,
    /// How it ended, in words.
    pub words: String,
    /// How long it took.
    pub took_ms: u64,
    /// The end of what it wrote.
    pub output: String,
    /// Bytes that it wrote in all.
    #[serde(default)]
    pub written: u64,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialDocument {
    /// `forkwatch.hook-test/1`.
    pub schema: String,
    /// The hook.
    pub name: String,
    /// Whether its program would ever be run: `false` where it is disabled.
    pub enabled: bool,
    /// How it ended.
    pub ran: LastRun,
}

impl TrialDocument {
    /// Of a hook that was tried just now.
    pub fn new(name: &str, enabled: bool, ran: &Ran) -> Self {
        let ran = LastRun::new(format!("{:.3}", jiff::Timestamp::now()), ran);
        Self { schema: "forkwatch.hook-test/1".to_owned(), name: name.to_owned(), enabled, ran }
    }
}

impl LastRun {
    fn new(at: String, ran: &Ran) -> Self {
        Self {
            at,
            how: ran.how.name().to_owned(),
            words: ran.how.words(),
            took_ms: u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX),
            output: ran.output.clone(),
            written: ran.written,
        }
    }
}

impl HookDocument {
    /// Of a hook that no process runs.
    pub fn of(hook: &Hook) -> Self {
        Self {
            name: hook.name.clone(),
            on: hook.criteria.on().map(str::to_owned).collect(),
            does: match &hook.deed {
                Deed::Exec(arguments) => arguments.iter().map(crate::config::hook::Argument::shown).collect(),
                Deed::Post { url, .. } => vec![url.shown()],
            },
            order: hook.order,
            enabled: hook.enabled,
            switched: false,
            timeout: written(hook.timeout),
            at_most: hook.at_most.shown(),
            good: 0,
            failed: 0,
            timed_out: 0,
            gone: 0,
            left_out: 0,
            last: None,
        }
    }

    fn new(entry: &Entry) -> Self {
        let counts = entry.counts();
        let enabled = entry.is_enabled();
        Self {
            enabled,
            switched: enabled != entry.hook.enabled,
            good: counts.good,
            failed: counts.failed,
            timed_out: counts.timed_out,
            gone: counts.gone,
            left_out: counts.left_out,
            last: counts.last.map(|(at, ran)| LastRun::new(format!("{at:.3}"), &ran)),
            ..Self::of(&entry.hook)
        }
    }
}

impl HooksDocument {
    /// Of a file that no process has read.
    pub fn of(file: String, hooks: &[Hook]) -> Self {
        Self {
            schema: "forkwatch.hooks/1".to_owned(),
            file,
            running: false,
            connected: false,
            since: None,
            why: None,
            gaps: 0,
            waiting: 0,
            lost: 0,
            hooks: hooks.iter().map(HookDocument::of).collect(),
        }
    }

    pub(super) fn new<T>(
        file: String,
        book: &Book,
        queue: &queue::Queue<T>,
        connection: &Connection,
    ) -> Self {
        let (waiting, lost) = queue.count();
        Self {
            running: true,
            connected: connection.is_up,
            since: Some(format!("{:.3}", connection.since)),
            why: connection.why.clone(),
            gaps: connection.gaps,
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            lost,
            hooks: book.all().iter().map(|entry| HookDocument::new(entry)).collect(),
            ..Self::of(file, &[])
        }
    }
}
