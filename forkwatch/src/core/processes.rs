//! The processes that are followed: children of copying forks, until they exec or end.

use std::{collections::HashMap, time::Duration};

use super::{
    case::{Case, EarlierFork},
    detector::Unanswered,
};
use crate::model::{
    event::Fork,
    finding::Finding,
    followed::Followed,
    held_lock::{HeldAtFork, HeldLocks},
    process::{Comm, ProcessKey, Program},
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// The followed processes. A tgid belongs to one at a time.
#[derive(Default)]
pub struct Processes {
    by_tgid: HashMap<u32, Process>,
    /// How many of them live on.
    living: usize,
}

/// A process, for as long as something is to be learnt of it.
pub struct Process {
    /// Which it is, as precisely as is known.
    pub key: ProcessKey,
    /// What is known of the fork that it came from.
    pub birth: Birth,
    /// As long as it may still exec or end soon.
    pub(super) grace: Option<Grace>,
    /// As long as it is to be judged by what its fork was like.
    pub(super) case: Option<Box<Case>>,
    /// Once it is known to live on without exec, if there was room to follow that.
    life: Option<Box<Life>>,
    /// The locks that it carries of threads that it does not have, as they were seen first; once they have been looked
    /// at again, those that were still held.
    held: Option<Box<(HeldLocks, Looks)>>,
}

/// How often a process was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    One,
    Several,
}

/// What is known of the fork that a process came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Birth {
    /// The process that forked it, where that was seen or still lives.
    pub parent: Option<ProcessKey>,
    /// Comm of the thread that forked, where a record told.
    pub comm: Option<Comm>,
    /// The thread that called fork.
    pub forking_tid: Option<u32>,
    /// Threads of the parent at the fork, where a record told.
    pub threads: Option<u32>,
    /// The real uid that it was forked with, where that is known.
    pub uid: Option<u32>,
    /// Whether the forker itself was exec'd, so that only its own threads can have left locks behind.
    pub first_generation: bool,
    /// Who left threads behind on the way to it before that, where a record told of it: whoever becomes a daemon may fork
    /// twice.
    pub earlier: Option<EarlierFork>,
}

impl Birth {
    /// As a record of the kernel side tells it.
    pub(super) const fn seen(fork: &Fork) -> Self {
        Self {
            parent: Some(fork.parent),
            comm: Some(fork.comm),
            forking_tid: Some(fork.parent_tid),
            threads: Some(fork.threads),
            uid: Some(fork.uid),
            first_generation: fork.generation <= 1,
            earlier: None,
        }
    }

    /// The last fork beside threads on the way to a child of this process.
    fn left_behind(&self) -> Option<EarlierFork> {
        let Self { parent, comm, threads, .. } = *self;
        let own = parent.zip(comm).zip(threads).filter(|(_, threads)| *threads > 1);
        own.map(|((forker, comm), threads)| EarlierFork { forker, comm, threads }).or(self.earlier)
    }

    /// Whether the kernel told of the fork. If not, nobody knows who forked the child: a parent may have taken it over.
    pub const fn was_seen(&self) -> bool {
        self.threads.is_some()
    }
}

/// A child that may still exec or end soon.
pub(super) struct Grace {
    pub(super) forked_at: BootTime,
    /// The grace counts from here: the fork, or the last time the child was seen stopped.
    pub(super) counted_from: BootTime,
    /// Nanoseconds it had waited for a CPU by then.
    pub(super) waited_before: u64,
    /// When it is looked at next.
    pub(super) due: BootTime,
    pub(super) looks: u8,
    pub(super) stops: u8,
    pub(super) unanswered: Unanswered,
    /// Whether the kernel side will report its end.
    pub(super) tracked: bool,
}

/// A process that lives on.
pub struct Life {
    /// When that was first known.
    pub since: BootTime,
    /// Threads of its forker that lived at the fork and some time later, as far as they were looked at.
    pub forker_threads: Vec<SeenThread>,
    /// What those were called in their program and did, as far as that was to be seen.
    pub occupations: Vec<Occupation>,
    /// What runs in the process that forked it, where that was looked at.
    pub program: Option<Program>,
    /// Whether a detector has proven that it hangs for good, and saw it so when it looked last.
    pub hangs: bool,
    /// Whether a detector has seen it twice in the same wait that may be endless, but not for long enough yet to say so.
    pub waits: bool,
    /// What is known of its hang, once it has ended in it: what was found, and since when it hung.
    pub hung: Option<Box<(Finding, BootTime)>>,
    /// Whether the kernel side will report its end.
    pub(super) tracked: bool,
}

impl Life {
    pub(super) const fn new(since: BootTime, tracked: bool) -> Self {
        Self {
            since,
            forker_threads: Vec::new(),
            occupations: Vec::new(),
            program: None,
            hangs: false,
            waits: false,
            hung: None,
            tracked,
        }
    }
}

impl Process {
    /// Whether a fork on the way to it left threads behind; absent where that is not known.
    pub fn left_threads_behind(&self) -> Option<bool> {
        match self.birth.threads {
            Some(threads) if threads > 1 => Some(true),
            _ if self.birth.earlier.is_some() => Some(true),
            Some(_) if self.birth.first_generation => Some(false),
            _ => None,
        }
    }

    /// How long it has been known to live on.
    pub fn age(&self, now: BootTime) -> Duration {
        self.life.as_ref().map_or(Duration::ZERO, |life| now.since(life.since))
    }

    /// What is known of its life, once it is known to live on.
    pub fn life(&self) -> Option<&Life> {
        self.life.as_deref()
    }

    /// The fork that it came from, until that is judged.
    pub fn fork_to_judge(&self) -> Option<&Fork> {
        self.case.as_deref().map(|case| &case.fork)
    }

    /// The locks that it was seen to carry of threads that it does not have.
    pub fn held(&self) -> Option<&HeldLocks> {
        self.held.as_deref().map(|(held, _)| held)
    }

    /// The same where it is known that they have stayed held: by two looks, or by one after the grace.
    pub(super) fn still_held(&self, grace: Duration) -> Option<&HeldLocks> {
        let (held, looks) = self.held.as_deref()?;
        (*looks == Looks::Several || held.at >= self.key.start + grace).then_some(held)
    }

    const fn is_followed(&self) -> bool {
        self.grace.is_some() || self.case.is_some() || self.life.is_some()
    }
}

impl Processes {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_tgid.len()
    }

    /// How many of them live on.
    pub(super) const fn living(&self) -> usize {
        self.living
    }

    /// The process with this key, if it is followed.
    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.by_tgid.get(&key.tgid).filter(|process| process.key == key)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        self.by_tgid.get_mut(&key.tgid).filter(|process| process.key == key)
    }

    /// What is known of the birth of a process that this fork has made.
    pub(super) fn birth(&self, fork: &Fork) -> Birth {
        let earlier = self.get(fork.parent).and_then(|parent| parent.birth.left_behind());
        Birth { earlier, ..Birth::seen(fork) }
    }

    /// The life of this process, if it is known to live on.
    pub fn life(&self, key: ProcessKey) -> Option<&Life> {
        self.get(key).and_then(Process::life)
    }

    /// Whether the lock of a child that this futex word belongs to was held when it was forked, and how sure that is; absent
    /// where that is not known.
    pub fn held_at_fork(&self, child: ProcessKey, futex: u64) -> Option<HeldAtFork> {
        self.get(child)?.held()?.held_at_fork(futex)
    }

    /// What became known of the locks that a process carries. Of a look after the first, only what both have seen counts.
    pub(super) fn set_held(&mut self, key: ProcessKey, seen: &HeldLocks) {
        let Some(process) = self.get_mut(key) else { return };
        process.held = Some(match process.held.take() {
            Some(before) => Box::new((before.0.still(seen), Looks::Several)),
            None => Box::new((seen.clone(), Looks::One)),
        });
    }

    /// What the threads of a process's forker are called and do, for as long as the fork is not judged.
    pub fn set_occupations(&mut self, key: ProcessKey, seen: &[Occupation]) {
        if let Some(case) = self.get_mut(key).and_then(|process| process.case.as_mut()) {
            case.occupations = seen.to_vec();
        }
    }

    /// What became known of the fork of a process that lives on is to be seen there from now on.
    pub(super) fn set_forker(
        &mut self,
        key: ProcessKey,
        threads: &[SeenThread],
        occupations: &[Occupation],
        program: &Program,
    ) {
        if let Some(life) = self.life_mut(key) {
            life.forker_threads = threads.to_vec();
            life.occupations = occupations.to_vec();
            life.program = Some(program.clone());
        }
    }

    /// A process is known to live on. Tells whether that is news.
    pub(super) fn begin_life(&mut self, key: ProcessKey, life: Life) -> bool {
        let Some(process) = self.get_mut(key).filter(|process| process.life.is_none()) else { return false };
        process.life = Some(Box::new(life));
        self.living += 1;
        true
    }

    /// How a process lives on is followed no more.
    pub(super) fn end_life(&mut self, key: ProcessKey) {
        if self.get_mut(key).and_then(|process| process.life.take()).is_some() {
            self.living -= 1;
        }
        self.tidy(key);
    }

    /// The same, to be changed.
    pub fn life_mut(&mut self, key: ProcessKey) -> Option<&mut Life> {
        self.get_mut(key).and_then(|process| process.life.as_deref_mut())
    }

    /// Those that hang for good.
    pub fn hanging(&self) -> Vec<ProcessKey> {
        let hanging = self.by_tgid.values().filter(|process| process.life().is_some_and(|life| life.hangs));
        hanging.map(|process| process.key).collect()
    }

    /// How many may, but have not been seen so for long enough.
    pub(super) fn waiting(&self) -> usize {
        self.by_tgid.values().filter(|process| process.life().is_some_and(|life| life.waits)).count()
    }

    /// Whose the tgid is now.
    pub(super) fn with_tgid(&self, tgid: u32) -> Option<ProcessKey> {
        self.by_tgid.get(&tgid).map(|process| process.key)
    }

    /// Those that live on, by pid.
    pub(super) fn followed(&self) -> Vec<Followed> {
        let living = self.by_tgid.values().filter_map(|process| Some((process, process.life()?)));
        let mut followed: Vec<Followed> = living
            .map(|(process, life)| Followed {
                process: process.key,
                parent: process.birth.parent,
                forked_by: process.birth.comm,
                forker_threads: process.birth.threads,
                uid: process.birth.uid,
                hangs: life.hangs,
                waits: life.waits,
                carried_locks: process.held().map_or(0, |held| held.locks.len()),
            })
            .collect();
        followed.sort_unstable_by_key(|followed| followed.process.tgid);
        followed
    }

    /// The entry of this process, new if it is not followed yet.
    pub(super) fn enter(&mut self, key: ProcessKey, birth: Birth) -> &mut Process {
        if let Some(before) = self.with_tgid(key.tgid).filter(|before| *before != key) {
            self.remove(before);
        }
        let new = || Process { key, birth, grace: None, case: None, life: None, held: None };
        self.by_tgid.entry(key.tgid).or_insert_with(new)
    }

    /// Of how many it is not known yet what becomes of them, or what their fork was like.
    #[cfg(test)]
    pub(super) fn in_grace(&self) -> usize {
        let early = |process: &&Process| process.grace.is_some() || process.case.is_some();
        self.by_tgid.values().filter(early).count()
    }

    /// Forgets a process.
    pub(super) fn remove(&mut self, key: ProcessKey) {
        if self.get(key).is_none() {
            return;
        }
        let process = self.by_tgid.remove(&key.tgid);
        if process.is_some_and(|process| process.life.is_some()) {
            self.living -= 1;
        }
    }

    /// Forgets a process if nothing more is to be learnt of it.
    pub(super) fn tidy(&mut self, key: ProcessKey) {
        if self.get(key).is_some_and(|process| !process.is_followed()) {
            self.by_tgid.remove(&key.tgid);
        }
    }
}
