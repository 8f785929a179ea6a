//! Locks on files that whoever took them has left to a forked child, and that somebody waits for.
//!
//! A child is looked at once its grace is over, and from then on ever less often; more often while it carries a lock that was
//! left behind. Who waits for one in two looks some time apart is told of.

mod hazard;
mod kept;

use std::{collections::HashMap, time::Duration};

use self::hazard::{Case, judge};
pub(super) use self::{hazard::HAZARD, kept::KeptLocks};
use crate::{
    core::{Context, Detector, Output, Report, Unanswered},
    model::{
        evidence::{Evidence, Request},
        inventory::FileLockKind,
        left_lock::{CarriedLock, CarriedLocks, CarriedLocksSeen, MAX_LOCKS, Taker},
        process::ProcessKey,
        resolution::Resolution,
        time::BootTime,
    },
};

/// How long after the first look the next one comes. Each further one comes twice as late, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(128);
/// The longest pause while a lock is left behind.
const WHILE_LEFT: Duration = Duration::from_secs(8);
/// How long somebody must have been seen to wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Children that live on, and the locks that they carry.
#[derive(Default)]
pub(super) struct LockLeftBehind {
    children: HashMap<ProcessKey, Child>,
}

struct Child {
    forker: Option<ProcessKey>,
    /// Whether the kernel told of the fork, so that it is known who forked it.
    was_seen: bool,
    /// Descriptors with a lock that the forker was seen to have too.
    inherited: Vec<u32>,
    /// What somebody was seen to wait for.
    awaited: Option<Awaited>,
    pause: Duration,
    unanswered: Unanswered,
    reported: bool,
}

/// A lock that was left behind, and the process that waits for it.
struct Awaited {
    fd: u32,
    waiter: ProcessKey,
    since: BootTime,
}

impl Detector for LockLeftBehind {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, forker, was_seen) = (process.key, process.birth.parent, process.birth.was_seen());
        let followed = Child {
            forker,
            was_seen,
            inherited: Vec::new(),
            awaited: None,
            pause: FIRST_PAUSE,
            unanswered: Unanswered::default(),
            reported: false,
        };
        self.children.insert(child, followed);
        self.look(child, context);
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(child, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::CarriedLocks { child, seen } = evidence else { return };
        match seen {
            CarriedLocksSeen::Carried(carried) => self.carried(*child, carried, context),
            CarriedLocksSeen::None => self.free(*child, context),
            CarriedLocksSeen::Gone => {
                if self.leave(*child, context) {
                    context.resolve(*child, HAZARD.id, Resolution::Ended);
                }
            }
            CarriedLocksSeen::Unreadable(why) => {
                let is_followed = self.children.contains_key(child);
                if is_followed && !self.leave(*child, context) {
                    let (hazard, child) = (HAZARD.id, *child);
                    context.tell(Output::Undecided { hazard, child, why: why.clone() });
                }
            }
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.leave(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let is_bounded = self.children.values().all(|child| child.inherited.len() <= MAX_LOCKS);
        (self.children.len(), is_bounded)
    }
}

impl LockLeftBehind {
    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        // Locks in memory are asked about in the same children, and there it is said.
        if followed.unanswered.is_hopeless() {
            self.leave(child, context);
            return;
        }
        followed.unanswered.put();
        let pause = followed.pause;
        followed.pause = (pause * 2).min(LONGEST_PAUSE);
        context.ask(Request::CarriedLocks { child, forker: followed.forker });
        if followed.awaited.is_some() {
            context.wake_at(context.now + pause, child);
        } else {
            context.wake_to_look(context.now + pause, child);
        }
    }

    /// A child is looked at no more. Tells whether a lock of it was reported.
    fn leave(&mut self, child: ProcessKey, context: &mut Context) -> bool {
        context.sleep(child);
        self.children.remove(&child).is_some_and(|followed| followed.reported)
    }

    /// It carries no lock that somebody waits for.
    fn free(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        followed.unanswered.answered();
        followed.awaited = None;
        if std::mem::take(&mut followed.reported) {
            context.resolve(child, HAZARD.id, Resolution::Cleared);
        }
    }

    fn carried(&mut self, child: ProcessKey, carried: &CarriedLocks, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        for lock in carried.locks.iter().filter(|lock| lock.taker == Taker::Holds) {
            if followed.inherited.len() < MAX_LOCKS && !followed.inherited.contains(&lock.file.fd) {
                followed.inherited.push(lock.file.fd);
            }
        }
        let left: Vec<&CarriedLock> = carried.locks.iter().filter(|lock| followed.was_left(lock)).collect();
        if !left.is_empty() && followed.pause > WHILE_LEFT {
            followed.pause = WHILE_LEFT;
            context.wake_to_look(context.now + WHILE_LEFT, child);
        }
        let awaited = left.into_iter().find_map(|lock| Some((lock, lock.waiters.first()?)));
        let Some((lock, first)) = awaited else { return self.free(child, context) };
        followed.unanswered.answered();
        let is_same = |awaited: &&mut Awaited| {
            let waits = |waiter: ProcessKey| lock.waiters.iter().any(|one| one.process == waiter);
            awaited.fd == lock.file.fd && waits(awaited.waiter)
        };
        let since = followed.awaited.as_mut().filter(is_same).map(|awaited| awaited.since);
        let Some(since) = since else {
            followed.awaited = Some(Awaited { fd: lock.file.fd, waiter: first.process, since: carried.at });
            return context.wake_at(context.now + context.settings.pause(PATIENCE), child);
        };
        if followed.reported || carried.at.since(since) < context.settings.pause(PATIENCE) {
            return;
        }
        followed.reported = true;
        let (forker, was_seen) = (followed.forker, followed.was_seen);
        let case = Case { child, forker, was_seen, carried, lock, since };
        let parent = (forker.unwrap_or(child), &carried.program);
        let finding = judge(&case).finding(context.now, HAZARD.id, parent, (child, carried.comm));
        context.follow(child);
        context.report(Report::until_the_end(finding));
    }
}

impl Child {
    /// Whether a lock is one that its taker has left to this child.
    fn was_left(&self, lock: &CarriedLock) -> bool {
        match (lock.taker, lock.kind) {
            (Taker::Ended | Taker::Closed, _) => true,
            (Taker::Holds, _) => false,
            // It does not say who took it. That of an open file which the forker had is none of the child's own.
            (Taker::Unknown, FileLockKind::OpenFile) => self.inherited.contains(&lock.file.fd),
            // A shell has flock(1) take it, which ends at once, and holds it itself.
            (Taker::Unknown, _) => self.forker.is_none(),
        }
    }
}
