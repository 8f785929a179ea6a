//! Children that live on without exec, for as long as they do: looked at now and then, ever less often.

use std::{collections::HashMap, time::Duration};

use super::{
    Dropped, Output, Watch,
    children::MOST_UNANSWERED,
    locks::Stuck,
    timers::{Task, Timer},
};
use crate::model::{
    evidence::{Request, SeenThread},
    process::{ProcessKey, Program},
    time::{BootTime, nanoseconds},
};

/// The longest time between two looks at a child. One that may get stuck, and is busy, is looked at more often: a server
/// such as gunicorn kills a worker that hangs after 30 s, and by then it must be known why.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The shortest.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// A child is looked at again after this part of the time since something about it changed.
const PART: u32 = 4;

/// Most children that are looked at in a second; those that are due beyond it are looked at later. It bounds what
/// thousands of them can cost, however often each ought to be looked at.
const MOST_LOOKS: u32 = 500;
/// Looks that each user's children have in any case, so that thousands of another's keep nobody's waiting.
const LOOKS_OF_USER: u32 = 100;

/// How many children were looked at in the present second.
#[derive(Default)]
pub(super) struct Pace {
    second: BootTime,
    looks: u32,
    of_users: HashMap<Option<u32>, u32>,
}

impl Pace {
    /// Takes one look at a child of this user's, if there is one left in this second.
    fn take(&mut self, user: Option<u32>, now: BootTime) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.looks) = (now, 0);
            self.of_users.clear();
        }
        let of_user = self.of_users.entry(user).or_default();
        *of_user += 1;
        self.looks += 1;
        self.looks <= MOST_LOOKS || *of_user <= LOOKS_OF_USER
    }
}

/// Children that live on, by tgid.
pub(super) type Living = HashMap<u32, Alive>;

/// A child that lives on without exec.
pub(super) struct Alive {
    pub(super) process: ProcessKey,
    pub(super) birth: Birth,
    /// When it was first known to live on.
    pub(super) since: BootTime,
    /// Threads of the parent that lived at the fork and some time later, as far as they were looked at.
    pub(super) parent_threads: Vec<SeenThread>,
    /// What it waits for, if it waits.
    pub(super) stuck: Stuck,
    /// What runs in the process that forked it, where that was looked at.
    pub(super) program: Option<Program>,
    /// Whether the kernel side will report its end.
    pub(super) followed: bool,
    due: BootTime,
    unanswered: u8,
}

/// What is known of the fork that a child came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Birth {
    /// The process that forked it, where that was seen or still lives.
    pub(super) parent: Option<ProcessKey>,
    /// The thread that called fork.
    pub(super) forking_tid: Option<u32>,
    /// Threads of the parent at the fork, where a record told.
    pub(super) threads: Option<u32>,
    /// The real uid that it was forked with, where that is known.
    pub(super) uid: Option<u32>,
    /// Whether the forker itself was exec'd, so that only its own threads can have left locks behind.
    pub(super) first_generation: bool,
}

impl Birth {
    /// Whether the kernel told of the fork. If not, nobody knows who forked the child: a parent may have taken it over.
    pub(super) const fn was_seen(&self) -> bool {
        self.threads.is_some()
    }
}

impl Alive {
    /// When the fork was: the child's start.
    pub(super) const fn forked_at(&self) -> BootTime {
        self.process.start
    }

    /// When it is looked at next.
    #[cfg(test)]
    pub(super) const fn due(&self) -> BootTime {
        self.due
    }

    /// Whether a fork on the way to it left threads behind; absent where that is not known.
    pub(super) fn left_threads_behind(&self) -> Option<bool> {
        match self.birth.threads {
            Some(threads) if threads > 1 => Some(true),
            Some(_) if self.birth.first_generation => Some(false),
            _ => None,
        }
    }
}

/// How long to wait for the next look, where nothing has changed for so long.
pub(super) fn pause(unchanged: Duration) -> Duration {
    (unchanged / PART).clamp(SHORTEST, LONGEST)
}

/// When to look next, some time before a pause is over: where that is long, at a moment that others look at too, so that
/// one wake-up does for all of them.
pub(super) fn together(now: BootTime, pause: Duration) -> BootTime {
    /// From which pause on, and how far apart these moments are.
    const MOMENTS: [(Duration, Duration); 2] =
        [(Duration::from_secs(20), Duration::from_secs(5)), (Duration::from_secs(4), Duration::from_secs(1))];
    let due = now + pause;
    let apart = MOMENTS.into_iter().find(|(from, _)| pause >= *from).map(|(_, apart)| nanoseconds(apart));
    apart.map_or(due, |apart| BootTime(due.0 - due.0 % apart))
}

impl Watch {
    /// Takes in a child that lives on.
    pub(super) fn lives(
        &mut self,
        process: ProcessKey,
        birth: Birth,
        followed: bool,
        now: BootTime,
        out: &mut Vec<Output>,
    ) {
        let known = self.living.get(&process.tgid).map(|alive| alive.process);
        if let Some(alive) = self.living(process) {
            // A sweep may have found it before the record of its fork was read.
            if birth.was_seen() && !alive.birth.was_seen() {
                alive.birth = birth;
            }
            return;
        }
        if known.is_none() && self.living.len() >= self.settings.max_children {
            out.push(Output::Dropped(Dropped::Living));
            return;
        }
        if let Some(known) = known {
            self.no_longer_lives(known, out);
        }
        let due = now + SHORTEST;
        let alive = Alive {
            process,
            birth,
            since: now,
            parent_threads: Vec::new(),
            stuck: Stuck::default(),
            program: None,
            followed,
            due,
            unanswered: 0,
        };
        self.living.insert(process.tgid, alive);
        self.set(due, process, Task::Living);
        self.follow_leaks(process, birth.parent, now, out);
        if let Some(parent) = birth.parent {
            out.push(Output::Ask(Request::Sockets { child: process, parent }));
        }
    }

    /// The entry of a child that lives on.
    pub(super) fn living(&mut self, process: ProcessKey) -> Option<&mut Alive> {
        self.living.get_mut(&process.tgid).filter(|alive| alive.process.is_same(process))
    }

    /// Whether a timer still counts.
    pub(super) fn living_awaits(living: &Living, timer: &Timer) -> bool {
        living.get(&timer.process.tgid).is_some_and(|alive| {
            alive.process == timer.process && alive.due == timer.due && timer.task == Task::Living
        })
    }

    /// Whether it waits for a lock in a way that proves something.
    pub(super) fn is_suspect(&self, process: ProcessKey) -> bool {
        let alive = self.living.get(&process.tgid).filter(|alive| alive.process.is_same(process));
        alive.is_some_and(|alive| !matches!(alive.stuck, Stuck::No))
    }

    /// Sets when a child is looked at next.
    pub(super) fn look_again_at(&mut self, process: ProcessKey, due: BootTime) {
        let Some(alive) = self.living(process) else { return };
        let process = alive.process;
        alive.due = due;
        self.set(due, process, Task::Living);
    }

    pub(super) fn look_at_living(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !Self::living_awaits(&self.living, timer) {
            return;
        }
        let user = self.living(timer.process).and_then(|alive| alive.birth.uid);
        if !self.pace.take(user, now) {
            return self.look_again_at(timer.process, now + SHORTEST);
        }
        let Some(alive) = self.living(timer.process) else { return };
        if alive.unanswered >= MOST_UNANSWERED {
            let process = alive.process;
            if !self.out_of_sight(now, process, "forkwatch's questions about it are not answered", out) {
                self.no_longer_lives(process, out);
                out.push(Output::Dropped(Dropped::Unanswered));
                return;
            }
        }
        let Some(alive) = self.living(timer.process) else { return };
        alive.unanswered = alive.unanswered.saturating_add(1);
        let Birth { parent, forking_tid, .. } = alive.birth;
        let (process, forked_at) = (alive.process, Some(alive.forked_at()));
        out.push(Output::Ask(Request::Locks { child: process, parent, forked_at, forking_tid }));
        self.look_again_at(process, now + LONGEST);
    }

    /// The host has answered for this child.
    pub(super) fn answered(&mut self, process: ProcessKey) {
        if let Some(alive) = self.living(process) {
            alive.unanswered = 0;
        }
    }

    /// Forgets a child that has exec'd or ended, and takes back what was ordered for it.
    pub(super) fn no_longer_lives(&mut self, process: ProcessKey, out: &mut Vec<Output>) -> Option<Alive> {
        self.living(process)?;
        let alive = self.living.remove(&process.tgid)?;
        self.leaks.forget(process);
        self.stuck_left(&alive, out);
        self.shares_no_longer(process, out);
        Some(alive)
    }
}
