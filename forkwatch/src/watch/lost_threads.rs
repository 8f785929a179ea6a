//! Children that lack background threads that their parent has.

use std::{collections::HashMap, time::Duration};

use super::{
    Output, Watch,
    case::Case,
    children::MOST_UNANSWERED,
    timers::{Task, Timer},
};
use crate::{
    hazard::lost_threads::{LostCase, is_known, judge},
    model::{
        evidence::{ParentSeen, Request, SeenThread, ThreadsSeen},
        finding::HazardId,
        process::{Comm, ProcessKey, Program},
        time::{BootTime, nanoseconds},
    },
};

/// When a child is looked at first, and how long a thread may take to start after work has been seen.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// The longest that a child is waited for that does nothing: each look takes twice as long to come as the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// What makes a child one that has worked, since the look before. An idle worker that wakes each second for its
/// heartbeat uses some 0.1 ms of CPU for it, and moves next to no bytes.
const LEAST_SHARE: u32 = 100;
const LEAST_BYTES: u64 = 64 << 10;
/// For so long a program is not told again about the same threads.
const TOLD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Most children that are looked at.
pub(super) const MOST_CHILDREN: usize = 1024;
/// Most pairs of program and thread that are remembered.
const MOST_TOLD: usize = 4096;

/// Children whose parents have such threads.
#[derive(Default)]
pub(super) struct LostThreads {
    /// By tgid.
    pub(super) children: HashMap<u32, Lacking>,
    /// What was reported when: program, its unit or container, and comm.
    told: HashMap<(String, Option<String>, Comm), BootTime>,
}

/// A child that lives on.
pub(super) struct Lacking {
    child: ProcessKey,
    comm: Comm,
    parent: ProcessKey,
    program: Program,
    program_name: String,
    forked_at: BootTime,
    /// Whether its end will be told.
    tracked: bool,
    /// The parent's threads that a child should have.
    threads: Vec<SeenThread>,
    due: BootTime,
    wait: Duration,
    unanswered: u8,
    before: Option<ThreadsSeen>,
    worked: bool,
}

impl Lacking {
    fn has_worked_since(&self, seen: &ThreadsSeen) -> bool {
        self.before.as_ref().is_some_and(|before| {
            let ran = Duration::from_nanos(seen.ran.saturating_sub(before.ran));
            let bytes = seen.moved.zip(before.moved).map_or(0, |(now, before)| now.saturating_sub(before));
            let least = seen.at.since(before.at) / LEAST_SHARE;
            !ran.is_zero() && ran >= least || bytes >= LEAST_BYTES
        })
    }
}

impl LostThreads {
    /// Forgets a child that exec'd or ended.
    pub(super) fn left(&mut self, process: ProcessKey) {
        if self.children.get(&process.tgid).is_some_and(|lacking| lacking.child == process) {
            self.children.remove(&process.tgid);
        }
    }

    /// Whether a timer still counts.
    pub(super) fn awaits(&self, timer: &Timer) -> bool {
        let lacking = self.children.get(&timer.process.tgid);
        lacking.is_some_and(|lacking| lacking.child == timer.process && lacking.due == timer.due)
    }

    fn is_news(&self, program: &Program, name: &str, comm: Comm, now: BootTime) -> bool {
        let told = self.told.get(&Self::key(program, name, comm));
        told.is_none_or(|told| now.since(*told) >= TOLD_FOR)
    }

    fn tell(&mut self, program: &Program, name: &str, comm: Comm, now: BootTime) {
        if self.told.len() >= MOST_TOLD {
            self.told.retain(|_, told| now.since(*told) < TOLD_FOR);
        }
        if self.told.len() < MOST_TOLD {
            self.told.insert(Self::key(program, name, comm), now);
        }
    }

    fn key(program: &Program, name: &str, comm: Comm) -> (String, Option<String>, Comm) {
        (name.to_owned(), program.place().map(str::to_owned), comm)
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.children.len() <= MOST_CHILDREN && self.told.len() <= MOST_TOLD
    }
}

impl Watch {
    /// Remembers a child that lives on, if it should have threads that its parent has.
    pub(super) fn watch_threads(&mut self, case: &Case, parent: &ParentSeen, program_name: &str) {
        let (fork, program) = (&case.fork, &parent.program);
        let due = fork.at + FIRST_LOOK;
        let news = |thread: &&SeenThread| {
            is_known(thread.comm) && self.lost.is_news(program, program_name, thread.comm, due)
        };
        let threads: Vec<SeenThread> = parent.threads.iter().filter(news).copied().collect();
        if threads.is_empty() || self.lost.children.len() >= MOST_CHILDREN {
            return;
        }
        let lacking = Lacking {
            child: fork.child,
            comm: case.lives_on.unwrap_or(fork.comm),
            parent: fork.parent,
            program: program.clone(),
            program_name: program_name.to_owned(),
            forked_at: fork.at,
            tracked: fork.tracked,
            threads,
            due,
            wait: FIRST_LOOK,
            unanswered: 0,
            before: None,
            worked: false,
        };
        self.lost.children.insert(fork.child.tgid, lacking);
        self.set(due, fork.child, Task::Threads);
    }

    pub(super) fn look_at_threads(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !self.lost.awaits(timer) {
            return;
        }
        let Some(lacking) = self.lost.children.get_mut(&timer.process.tgid) else { return };
        if lacking.unanswered >= MOST_UNANSWERED {
            self.lost.children.remove(&timer.process.tgid);
            return;
        }
        lacking.unanswered += 1;
        lacking.due = now + FIRST_LOOK;
        let due = lacking.due;
        self.set(due, timer.process, Task::Threads);
        out.push(Output::Ask(Request::Threads { child: timer.process }));
    }

    pub(super) fn threads_seen(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        seen: Option<&ThreadsSeen>,
        out: &mut Vec<Output>,
    ) {
        let Some(lacking) = self.lost.children.get_mut(&child.tgid).filter(|lacking| lacking.child == child)
        else {
            return;
        };
        let Some(seen) = seen else {
            self.lost.children.remove(&child.tgid);
            return;
        };
        lacking.unanswered = 0;
        lacking.threads.retain(|thread| !seen.comms.contains(&thread.comm));
        if lacking.threads.is_empty() {
            self.lost.children.remove(&child.tgid);
            return;
        }
        if lacking.worked {
            if let Some(lacking) = self.lost.children.remove(&child.tgid) {
                self.threads_are_lost(now, lacking, out);
            }
            return;
        }
        lacking.worked = lacking.has_worked_since(seen);
        let wait = match (&lacking.before, lacking.worked) {
            (None, _) | (_, true) => FIRST_LOOK,
            (Some(_), false) => lacking.wait * 2,
        };
        if wait > LONGEST_WAIT {
            self.lost.children.remove(&child.tgid);
            return;
        }
        lacking.before = Some(seen.clone());
        lacking.wait = wait;
        lacking.due = now + wait;
        let due = lacking.due;
        self.set(due, child, Task::Threads);
    }

    fn threads_are_lost(&mut self, now: BootTime, lacking: Lacking, out: &mut Vec<Output>) {
        let Lacking { child, comm, parent, program, program_name, forked_at, tracked, threads, .. } = lacking;
        // Another child of the program may have been reported meanwhile.
        let lost: Vec<SeenThread> = threads
            .into_iter()
            .filter(|thread| self.lost.is_news(&program, &program_name, thread.comm, now))
            .collect();
        for thread in &lost {
            self.lost.tell(&program, &program_name, thread.comm, now);
        }
        let age = nanoseconds(now.since(forked_at));
        let case = LostCase { parent, program_name: &program_name, child, lost, age };
        let Some(verdict) = judge(case) else { return };
        let finding = verdict.finding(now, HazardId::LostThreads, (parent, &program), (child, comm));
        self.report(finding, tracked, None, out);
    }
}
