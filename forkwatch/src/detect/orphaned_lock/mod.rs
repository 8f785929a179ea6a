//! Children that wait for a lock: from the first look at a wait to the proof that it cannot end, and to its end.

mod awaited;
pub mod hazard;
mod judged;
pub(super) mod lost_thread;
mod pace;
mod proof;
pub mod releasable;
mod stuck;
mod suspect;
mod verdicts;
mod words;

use std::collections::HashMap;

pub(super) use self::hazard::HAZARD;
use self::{
    hazard::Proven,
    judged::case,
    pace::{LONGEST, Pace, SHORTEST, pause, soon, together},
    suspect::{Dismissed, Early, Stuck, Suspect},
};
use crate::{
    core::{Context, Detector, Dropped, Output, Process, Recent, Rest, Unanswered},
    model::{
        event::{CloneKind, Event},
        evidence::{Evidence, Request},
        facts::Proof,
        finding::Finding,
        lock::{LockWait, Locks, LocksSeen, MAX_WAITS},
        process::ProcessKey,
        resolution::Resolution,
        stack::Stacks,
        time::BootTime,
    },
};

/// Looks in a row that may see nothing, before a child is given up.
const MOST_UNREADABLE: u8 = 3;
/// Most processes of which it is known that another has shared their memory.
const MOST_SHARERS: usize = 1024;

/// Children that live on, each looked at now and then: ever less often where nothing changes.
pub(super) struct OrphanedLock {
    children: HashMap<ProcessKey, Child>,
    pace: Pace,
    /// Processes that have cloned another with their own memory (`CLONE_VM`) and not exec'd since.
    sharers: Recent<()>,
}

/// A child that lives on.
struct Child {
    process: ProcessKey,
    /// What it waits for, if it waits.
    stuck: Stuck,
    /// Waits of its threads that are of no interest as long as they last.
    dismissed: Vec<Dismissed>,
    /// Whether it was told that one could not be judged.
    undecided: bool,
    unanswered: Unanswered,
    /// Looks in a row that saw nothing.
    unreadable: u8,
    /// Whether it may wait for something by now that it did not wait for at the last look.
    rest: Rest,
}

impl Default for OrphanedLock {
    fn default() -> Self {
        Self { children: HashMap::new(), pace: Pace::default(), sharers: Recent::new(MOST_SHARERS) }
    }
}

impl Detector for OrphanedLock {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) if fork.kind == CloneKind::SharedMemory => self.sharers.insert(fork.parent, ()),
            Event::Exec(exec) => drop(self.sharers.remove(exec.process)),
            Event::Exit(exit) => {
                self.ended(exit, context);
                self.sharers.remove(exit.process);
            }
            _ => {}
        }
    }

    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child).map(|process| process.key) else { return };
        let unanswered = Unanswered::default();
        let (stuck, dismissed, unreadable) = (Stuck::No, Vec::new(), 0);
        let rest = Rest::default();
        let child = Child { process, stuck, dismissed, undecided: false, unanswered, unreadable, rest };
        self.children.insert(process, child);
        context.wake_at(context.now + SHORTEST, process);
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        if self.children.get(&process).is_some_and(|child| context.sleeps_on(child.rest)) {
            // What this costs is next to nothing; and should it not be told any more, it is looked at again.
            return context.wake_at(together(context.now, LONGEST), process);
        }
        self.look(process, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Locks { child, seen } => self.seen(*child, seen, context),
            Evidence::Place { child, seen: Some(place) } => self.place_seen(*child, place, context),
            Evidence::FellAsleep { seen: Some(seen) } => self.fell_asleep(seen, context),
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(child) = self.children.remove(&process) else { return };
        context.sleep(process);
        if !matches!(child.stuck, Stuck::No) {
            context.no_longer_suspect(process);
        }
        if child.stuck.is_confirmed() {
            self.tell_stuck(context);
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), self.sharers.within_bounds())
    }
}

impl OrphanedLock {
    fn look_again_at(&self, process: ProcessKey, due: BootTime, context: &mut Context) {
        if self.children.contains_key(&process) {
            context.wake_at(due, process);
        }
    }

    /// Children that may have begun to wait are looked at now, and not when it is their turn.
    fn fell_asleep(&mut self, children: &[ProcessKey], context: &mut Context) {
        for process in children {
            let Some(child) = self.children.get_mut(process) else { continue };
            child.rest.fell_asleep();
            if matches!(child.stuck, Stuck::No) && !child.unanswered.is_open() {
                self.look(*process, context);
            }
        }
    }

    fn look(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(birth) = context.processes.get(process).map(|process| process.birth) else { return };
        if !context.settings.snapshot && !self.pace.take(birth.uid, context.now) {
            return self.look_again_at(process, context.now + SHORTEST, context);
        }
        let hopeless = |child: &Child| child.unanswered.is_hopeless();
        if self.children.get(&process).is_some_and(hopeless)
            && !self.out_of_sight(process, "forkwatch's questions about it are not answered", context)
        {
            context.tell(Output::Dropped(Dropped::Unanswered));
            return context.lose(process);
        }
        let Some(child) = self.children.get_mut(&process) else { return };
        if !child.unanswered.is_open() {
            child.rest.look_begins();
        }
        child.unanswered.put();
        let child = child.process;
        // A child is as old as its fork.
        let (parent, forked_at, forking_tid) = (birth.parent, Some(child.start), birth.forking_tid);
        context.ask(Request::Locks { child, parent, forked_at, forking_tid });
        self.look_again_at(child, context.now + LONGEST, context);
    }

    fn seen(&mut self, process: ProcessKey, seen: &LocksSeen, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        match seen {
            LocksSeen::Gone => context.gone(process, Resolution::Ended),
            LocksSeen::Execed => context.gone(process, Resolution::Execed),
            LocksSeen::Unreadable(why) => {
                if !self.out_of_sight(process, why, context) {
                    self.unreadable(process, why, context);
                }
            }
            LocksSeen::Alive(locks) => {
                child.unreadable = 0;
                self.weigh(process, locks, context);
            }
        }
    }

    /// A child of which nothing is known cannot be looked at: for a while, where a look at it hung, or for good.
    fn unreadable(&mut self, process: ProcessKey, why: &str, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unreadable += 1;
        let looks = child.unreadable;
        if looks == 1 {
            context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why: why.to_owned() });
        }
        if looks >= MOST_UNREADABLE || context.settings.snapshot {
            return context.lose(process);
        }
        self.look_again_at(process, context.now + LONGEST / 2, context);
    }

    fn weigh(&mut self, process: ProcessKey, locks: &Locks, context: &mut Context) {
        let now = context.now;
        let Some(child) = self.children.get_mut(&process) else { return };
        child.rest.is_over();
        if let Some(life) = context.processes.life_mut(process) {
            life.waits = false;
        }
        let Some(followed) = context.processes.get(process) else { return };
        // A stopped process neither moves nor proves anything: what was known stays.
        if locks.stopped {
            return context.wake_to_look(together(now, pause(followed.age(now))), process);
        }
        // Nor does one that was made to leave its wait in order to end.
        let has_left = child.stuck.suspect().is_some_and(|suspect| suspect.find(locks).is_none());
        if has_left && context.was_asked_to_end(process) {
            return self.look_again_at(process, now + SHORTEST, context);
        }
        // Of more waiting threads than are told, the last may be left out.
        let is_cut = locks.waits.len() >= MAX_WAITS;
        if has_left && is_cut && self.out_of_sight(process, "too many of its threads wait", context) {
            return;
        }
        let Some(child) = self.children.get_mut(&process) else { return };
        if has_left && child.stuck.may_be_back() {
            return self.look_again_at(process, now + SHORTEST, context);
        }
        let Some(followed) = context.processes.get(process) else { return };
        child.dismissed.retain(|dismissed| locks.waits.iter().any(|wait| Dismissed::new(wait) == *dismissed));
        let has_parked = !child.dismissed.is_empty();
        // What the words say of a lock they say of all who wait for it, also of a thread that was left alone.
        let of_lock =
            |proven: &Proven| matches!(proven.proof, Proof::Owner | Proof::SelfOwned | Proof::Queue);
        let of_lock = hazard::prove(&case(followed, locks)).filter(of_lock);
        let others;
        let locks = if of_lock.is_some() {
            locks
        } else {
            others = without(locks, &child.dismissed);
            &others
        };
        let case = case(followed, locks);
        let proven = of_lock.or_else(|| hazard::prove(&case)).or_else(|| proof::unexplained(&case));
        let wait = proven.and_then(|proven| locks.waits.get(proven.wait));
        match (std::mem::take(&mut child.stuck), proven.zip(wait)) {
            (Stuck::Judged { suspect, finding }, better)
                if suspect.find(locks).is_some() && !is_outdone(&suspect, &finding, better) =>
            {
                let unchanged = now.since(suspect.since);
                child.stuck = Stuck::Judged { suspect, finding };
                self.in_sight(process, context);
                // Its end is told by the kernel side: a look only tells whether it woke.
                let pause = (unchanged / 4).clamp(SHORTEST, LONGEST * 4);
                self.look_again_at(process, together(now, pause), context);
            }
            (Stuck::Judged { finding, suspect }, _) if suspect.find(locks).is_none() => {
                self.woke(process, finding.hazard, context);
            }
            (Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. }, Some((proven, wait)))
                if suspect.is_unmoved(locks) && suspect.wait.tid == wait.tid =>
            {
                // What its calls have said of it holds as long as it lasts.
                let proven = if proven.proof == Proof::Frames {
                    let copy = proven.after(&suspect.proven).copy;
                    Proven { wait: proven.wait, copy, ..suspect.proven }
                } else {
                    proven.after(&suspect.proven)
                };
                let suspect =
                    Suspect { looks: suspect.looks.saturating_add(1), misses: 0, proven, ..suspect };
                self.wait_longer(process, suspect, locks, context);
            }
            (before, Some((proven, wait))) => {
                let suspect = Suspect::new(locks.at, process.start, proven, wait.clone());
                if matches!(before, Stuck::No) {
                    // From now on its signals and its end must not be missed.
                    context.suspect(process);
                    context.follow(process);
                }
                self.wait_longer(process, suspect, locks, context);
            }
            (before, None) => {
                let may_get_stuck = followed.left_threads_behind() != Some(false);
                let pause = pause(followed.age(now));
                let has_waits = has_parked || !locks.waits.is_empty();
                let is_too_early = !has_waits && !child.rest.found_nothing(now);
                // Where it is told who falls asleep, that is when to look.
                let pause = if is_too_early {
                    SHORTEST
                } else if may_get_stuck && !context.is_told_who_falls_asleep() {
                    pause.min(soon(self.children.len(), has_waits))
                } else {
                    pause
                };
                if !matches!(before, Stuck::No) {
                    context.no_longer_suspect(process);
                }
                context.wake_to_look(together(now, pause), process);
            }
        }
    }

    /// Goes on with a wait that proves something: until it has lasted, then until it is described.
    fn wait_longer(&mut self, process: ProcessKey, suspect: Suspect, locks: &Locks, context: &mut Context) {
        let now = context.now;
        let enough = suspect.enough(&context.settings);
        let Some(child) = self.children.get_mut(&process) else { return };
        let locks = Box::new(locks.clone());
        if now < enough || suspect.looks < 2 {
            if let Some(life) = context.processes.life_mut(process) {
                life.waits = suspect.looks > 1;
            }
            let Some(followed) = context.processes.get(process) else { return };
            // The threads of a server are parked between requests: only those that stay so are looked at.
            let is_common = suspect.proven.proof == Proof::Frames && locks.threads > 1;
            let mut suspect = suspect;
            if !is_common && !context.settings.snapshot && matches!(suspect.early, Early::Unasked) {
                suspect.early = Early::Asked;
                // Nobody is stopped who may go on in a moment.
                let stacks = context.settings.stacks;
                let stacks = if stacks == Stacks::Full { Stacks::Light } else { stacks };
                let request = place_of(followed, &suspect, &locks, stacks);
                context.ask(request);
            }
            child.stuck = Stuck::Suspected { suspect, locks };
            let halfway = enough.since(now) / 2;
            return self.look_again_at(process, enough.min(now + halfway.max(SHORTEST)), context);
        }
        if suspect.asked.is_hopeless() {
            child.stuck = Stuck::Proven { suspect, locks };
            return self.confirm(process, None, context);
        }
        let Some(followed) = context.processes.get(process) else { return };
        // The thread has not moved since, so that its calls are the same. Of what may be certain all is asked anew.
        let stacks = context.settings.stacks;
        if let Some(early) = suspect.early.place().filter(|early| suspect.is_told_by(early, stacks)).cloned()
        {
            child.stuck = Stuck::Proven { suspect, locks };
            return self.place_seen(process, &early, context);
        }
        let mut suspect = suspect;
        suspect.asked.put();
        let request = place_of(followed, &suspect, &locks, stacks);
        child.stuck = Stuck::Proven { suspect, locks };
        context.ask(request);
        self.look_again_at(process, now + SHORTEST * 5, context);
    }
}

/// Where the thread is, and what it keeps from others.
fn place_of(followed: &Process, suspect: &Suspect, locks: &Locks, stacks: Stacks) -> Request {
    let parent = if followed.birth.was_seen() {
        locks.forker().or(followed.birth.parent)
    } else {
        hazard::forker_of_unseen(locks, &suspect.proven)
    };
    let holder = suspect.proven.owner_in_parent();
    let (tid, address) = (suspect.wait.tid, suspect.wait.lock());
    Request::Place { child: followed.key, parent, tid, address, holder, stacks }
}

/// What its threads wait for, but for what is of no interest.
fn without(locks: &Locks, dismissed: &[Dismissed]) -> Locks {
    let mut locks = locks.clone();
    locks.waits.retain(|wait| !dismissed.contains(&Dismissed::new(wait)));
    locks
}

/// Whether more is known now of another wait of the child than was found of one.
fn is_outdone(suspect: &Suspect, finding: &Finding, better: Option<(Proven, &LockWait)>) -> bool {
    better.is_some_and(|(proven, wait)| {
        proven.certainty > finding.certainty
            && (wait.tid, wait.address) != (suspect.wait.tid, suspect.wait.address)
    })
}
