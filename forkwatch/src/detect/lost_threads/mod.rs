//! Children that lack background threads that their parent has.

mod hazard;

use std::{collections::HashMap, time::Duration};

pub(super) use self::hazard::HAZARD;
use self::hazard::{LostCase, judge};
use crate::{
    core::{Context, Detector, ForkCase, Report, Unanswered},
    model::{
        event::Event,
        evidence::{Evidence, Request, ThreadsSeen},
        process::{Comm, ProcessKey, Program},
        thread::SeenThread,
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
const MOST_CHILDREN: usize = 1024;
/// Most pairs of program and thread that are remembered.
const MOST_TOLD: usize = 4096;

/// Children whose parents have such threads.
#[derive(Default)]
pub(super) struct LostThreads {
    children: HashMap<ProcessKey, Lacking>,
    /// What was reported when: program, its unit or container, and comm.
    told: HashMap<(String, Option<String>, Comm), BootTime>,
}

/// A child that lives on.
struct Lacking {
    comm: Comm,
    parent: ProcessKey,
    program: Program,
    program_name: String,
    forked_at: BootTime,
    /// Whether its end will be told.
    tracked: bool,
    /// The parent's threads that a child should have.
    threads: Vec<SeenThread>,
    wait: Duration,
    unanswered: Unanswered,
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

    /// Remembers a child that lives on, if it should have threads that its forker has.
    fn watch(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        let Some(parent) = case.parent else { return };
        let due = case.fork.at + FIRST_LOOK;
        let news = |thread: &&SeenThread| {
            hazard::is_known(thread.comm) && self.is_news(case.program, case.program_name, thread.comm, due)
        };
        let threads: Vec<SeenThread> = parent.threads.iter().filter(news).copied().collect();
        if threads.is_empty() || self.children.len() >= MOST_CHILDREN {
            return;
        }
        let lacking = Lacking {
            comm: case.child_comm,
            parent: case.fork.parent,
            program: case.program.clone(),
            program_name: case.program_name.to_owned(),
            forked_at: case.fork.at,
            tracked: case.fork.tracked,
            threads,
            wait: FIRST_LOOK,
            unanswered: Unanswered::default(),
            before: None,
            worked: false,
        };
        self.children.insert(case.fork.child, lacking);
        context.wake_at(due, case.fork.child);
    }

    fn threads_seen(&mut self, child: ProcessKey, seen: &ThreadsSeen, context: &mut Context) {
        let Some(lacking) = self.children.get_mut(&child) else { return };
        lacking.unanswered.answered();
        lacking.threads.retain(|thread| !seen.comms.contains(&thread.comm));
        if lacking.threads.is_empty() {
            self.children.remove(&child);
            return;
        }
        if lacking.worked {
            if let Some(lacking) = self.children.remove(&child) {
                self.threads_are_lost(child, lacking, context);
            }
            return;
        }
        lacking.worked = lacking.has_worked_since(seen);
        let wait = match (&lacking.before, lacking.worked) {
            (None, _) | (_, true) => FIRST_LOOK,
            (Some(_), false) => lacking.wait * 2,
        };
        if wait > LONGEST_WAIT {
            self.children.remove(&child);
            return;
        }
        lacking.before = Some(seen.clone());
        lacking.wait = wait;
        context.wake_at(context.now + wait, child);
    }

    fn threads_are_lost(&mut self, child: ProcessKey, lacking: Lacking, context: &mut Context) {
        let Lacking { comm, parent, program, program_name, forked_at, tracked, threads, .. } = lacking;
        let now = context.now;
        // Another child of the program may have been reported meanwhile.
        let lost: Vec<SeenThread> = threads
            .into_iter()
            .filter(|thread| self.is_news(&program, &program_name, thread.comm, now))
            .collect();
        for thread in &lost {
            self.tell(&program, &program_name, thread.comm, now);
        }
        let age = nanoseconds(now.since(forked_at));
        let case = LostCase { parent, program_name: &program_name, child, lost, age };
        let Some(verdict) = judge(case) else { return };
        let finding = verdict.finding(now, HAZARD.id, (parent, &program), (child, comm));
        context.report(Report { until_its_end: tracked, ..Report::of(finding) });
    }
}

impl Detector for LostThreads {
    // Not by `forget`: for this, a child need not be such that its memory can be looked into.
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        let left = match event {
            Event::Exec(exec) => exec.process,
            Event::Exit(exit) => exit.process,
            _ => return,
        };
        if self.children.remove(&left).is_some() {
            context.sleep(left);
        }
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        self.watch(case, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Threads { child, seen: Some(seen) } => self.threads_seen(*child, seen, context),
            Evidence::Threads { child, seen: None } => drop(self.children.remove(child)),
            _ => {}
        }
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(lacking) = self.children.get_mut(&child) else { return };
        if lacking.unanswered.is_hopeless() {
            self.children.remove(&child);
            return;
        }
        lacking.unanswered.put();
        context.wake_at(context.now + FIRST_LOOK, child);
        context.ask(Request::Threads { child });
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let within = self.children.len() <= MOST_CHILDREN && self.told.len() <= MOST_TOLD;
        (self.children.len(), within)
    }
}
