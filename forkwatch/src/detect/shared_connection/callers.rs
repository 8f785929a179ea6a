//! Which code uses a shared connection: whoever uses it is looked at in that moment.
//!
//! A look comes a moment after the use. Where the thread still sleeps in a call on the connection, or is in a client
//! library, its calls are those that use it. Otherwise it has gone on already; its next uses are looked at.

use std::time::Duration;

use crate::model::{
    client_library::libraries_in,
    connection::{Caller, Engaged, LibraryThread},
    evidence::Request,
    facts::CallerFacts,
    observation::SocketUse,
    process::ProcessKey,
    stack::Stacks,
    time::BootTime,
};

/// Looks at the users of one connection.
const MOST_LOOKS: usize = 16;
/// Looks at one of them.
const MOST_LOOKS_AT_ONE: usize = 4;
/// Users whose calls are told.
const MOST_TOLD: usize = 4;
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a verdict waits for one more use, where the first was over when it was looked at.
const ANOTHER_USE: Duration = Duration::from_millis(800);
/// Looks at all connections in a second.
const MOST_IN_A_SECOND: u32 = 32;

/// How often was looked in this second.
#[derive(Default)]
pub(super) struct Pace {
    since: Option<BootTime>,
    looks: u32,
}

impl Pace {
    fn allows(&mut self, now: BootTime) -> bool {
        if self.since.is_none_or(|since| since + Duration::from_secs(1) <= now) {
            *self = Self { since: Some(now), looks: 0 };
        }
        self.looks += 1;
        self.looks <= MOST_IN_A_SECOND
    }
}

/// What was seen of the users of one connection.
#[derive(Default)]
pub(super) struct Callers {
    /// Who was looked at.
    looks: Vec<ProcessKey>,
    /// The looks that are not answered, and since when; of each process one.
    open: Vec<(ProcessKey, BootTime)>,
    /// Those that were at something else when they were looked at.
    missed: Vec<ProcessKey>,
    told: Vec<CallerFacts>,
    behind: Vec<LibraryThread>,
}

impl Callers {
    /// The question about a use, where it is to be looked at.
    pub(super) fn look(
        &mut self,
        used: &SocketUse,
        forker: ProcessKey,
        stacks: Stacks,
        pace: &mut Pace,
    ) -> Option<Request> {
        let process = used.user.process;
        let looked = self.looks.iter().filter(|looked| **looked == process).count();
        self.open.retain(|(_, asked)| used.at < *asked + PATIENCE);
        let is_open = self.open.iter().any(|(asked, _)| *asked == process);
        let is_enough = self.looks.len() >= MOST_LOOKS
            || looked >= MOST_LOOKS_AT_ONE
            || self.told.len() >= MOST_TOLD
            || self.has_told(process.tgid);
        if stacks == Stacks::None || is_open || is_enough || !pace.allows(used.at) {
            return None;
        }
        // What the fork left behind is the same at each look.
        let is_first = self.looks.iter().all(|looked| *looked == forker);
        let forker = Some(forker).filter(|forker| is_first && *forker != process);
        self.looks.push(process);
        self.open.push((process, used.at));
        Some(Request::Caller { process, tid: used.tid, inode: used.inode, forker, stacks })
    }

    /// A look was answered.
    pub(super) fn seen(&mut self, process: ProcessKey, seen: Option<&Caller>) {
        self.open.retain(|(asked, _)| *asked != process);
        let Some(seen) = seen else { return };
        self.behind.extend(seen.behind.iter().cloned());
        let script = seen.script.as_ref().filter(|script| !script.frames.is_empty());
        let libraries = libraries_in(script.into_iter().chain([&seen.stack]));
        let is_use = match seen.engaged {
            Engaged::WithIt => true,
            Engaged::WithAnother => false,
            Engaged::Otherwise => !libraries.is_empty(),
        };
        let is_cut = script.is_some_and(|script| script.missing.is_some());
        if !is_use || is_cut {
            self.missed.push(process);
        }
        if !is_use || self.has_told(process.tgid) {
            return;
        }
        // Of a script that ran on only the outer calls are known: another use may show the inner ones, too.
        self.told.retain(|told| told.pid != process.tgid);
        self.told.push(CallerFacts {
            pid: process.tgid,
            tid: seen.tid,
            waits: seen.engaged == Engaged::WithIt,
            libraries: libraries.into_iter().map(str::to_owned).collect(),
            script: script.cloned(),
            stack: Some(seen.stack.clone()).filter(|stack| !stack.frames.is_empty()),
        });
    }

    /// Until when a verdict about what this process did waits for its calls; absent where there is nothing to wait for.
    /// Two have used the connection since then.
    pub(super) fn due(&self, process: ProcessKey, since: BootTime, now: BootTime) -> Option<BootTime> {
        let answer = self.open.iter().map(|(_, asked)| *asked + PATIENCE).max();
        let is_missed = self.missed.contains(&process) && !self.has_told(process.tgid);
        let another = is_missed.then(|| since + ANOTHER_USE);
        answer.max(another).filter(|due| now < *due)
    }

    /// Whether the calls of this process are told, and none of its script is missing.
    fn has_told(&self, pid: u32) -> bool {
        let is_whole =
            |told: &CallerFacts| told.script.as_ref().is_none_or(|script| script.missing.is_none());
        self.told.iter().any(|told| told.pid == pid && is_whole(told))
    }

    /// Where those that used it were, the first that was seen first.
    pub(super) fn told(&self) -> &[CallerFacts] {
        &self.told
    }

    /// The libraries whose calls were seen on it.
    pub(super) fn libraries(&self) -> Vec<&'static str> {
        libraries_in(self.told.iter().flat_map(|told| [&told.script, &told.stack]).flatten())
    }

    /// Threads of client libraries that the child lacks.
    pub(super) fn behind(&self) -> &[LibraryThread] {
        &self.behind
    }
}
