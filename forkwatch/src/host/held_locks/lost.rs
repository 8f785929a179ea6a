//! The threads that a fork left behind, by the two names that locks know them by: the tid that glibc notes as an owner,
//! and the address of the thread's descriptor (`pthread_self`), which CPython notes.

use std::collections::{HashMap, HashSet};

use super::Question;
use crate::{
    host::{
        locks::{Parent, Threads, robust_list},
        maps::{Mapping, Maps},
        memory::{self, OwnPages},
        stat::Stat,
        status::Status,
    },
    model::{
        glibc::{DESCRIPTOR_SELF, TID_BEFORE_ROBUST_LIST},
        held_lock::LostOwner,
        thread::SeenThread,
    },
};

/// Of a forker that has ended nobody can say which threads it had. Their tids are as old as its own, or a little older.
const NEAR: u32 = 4096;
/// A thread's descriptor lies at the end of its stack, with what threads have of their own before it.
const END_OF_STACK: u64 = 64 * 1024;

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The thread with this tid.
    Tid(u32),
    /// The thread with this descriptor.
    Descriptor(u64),
}

/// Threads that the child does not have.
pub(super) struct Lost {
    /// Those of the parent, by the tid that they have themselves.
    tids: HashMap<u32, SeenThread>,
    /// Where the parent has ended: between which tids those of its threads were.
    near: Option<(u32, u32)>,
    /// The child's own, by their own tids.
    own: HashSet<u32>,
    /// Descriptors of lost threads, and whose they are where that is known.
    descriptors: HashMap<u64, Option<(u32, SeenThread)>>,
    /// Descriptors of the child's own threads; absent where they are not all known.
    own_descriptors: Option<HashSet<u64>>,
    /// A bit for the lower 16 of each of the tids.
    bits: Box<[u64; 1024]>,
    quick: Quick,
    parent: Option<u32>,
}

impl Lost {
    pub(super) fn of(question: &Question, stat: &Stat, child: &Threads, parent: Option<&Parent>) -> Self {
        let own_ids = child.all.iter().filter_map(|thread| own_id(stat.id, thread.id, child.namespaced));
        let mut lost = Self {
            tids: HashMap::new(),
            near: None,
            own: own_ids.collect(),
            descriptors: HashMap::new(),
            own_descriptors: child.all.iter().map(|thread| own_descriptor(question, thread.id)).collect(),
            bits: Box::new([0; 1024]),
            quick: Quick::NOTHING,
            parent: parent.map(|parent| parent.key.tgid),
        };
        // Of threads that were not listed nothing is known, and one of them may be the owner.
        if child.cut {
            lost.own_descriptors = None;
            return lost;
        }
        match parent {
            Some(parent) => {
                let others = parent.threads.all.iter().filter(|thread| thread.id != question.forking_tid);
                for thread in others {
                    lost.add(parent, thread);
                }
            }
            // One that has a pid namespace of its own has tids that say nothing of when they were given out.
            None if !child.namespaced => {
                let (from, to) = (child.own_id.saturating_sub(NEAR), child.own_id);
                lost.near = Some((from, to));
                lost.quick.tids = (from, to - from);
            }
            None => {}
        }
        lost
    }

    fn nobody() -> Self {
        Self {
            tids: HashMap::new(),
            near: None,
            own: HashSet::new(),
            descriptors: HashMap::new(),
            own_descriptors: None,
            bits: Box::new([0; 1024]),
            quick: Quick::NOTHING,
            parent: None,
        }
    }

    /// The threads of a running process: none of them is lost yet, and a fork by another would leave each behind.
    pub(super) fn living(threads: &Threads) -> Self {
        let mut all = Self::nobody();
        for thread in &threads.all {
            let Some(id) = own_id(threads.process, thread.id, threads.namespaced) else { continue };
            let seen = SeenThread { tid: thread.id, comm: thread.comm };
            all.enter(id, seen);
            if let Some(descriptor) = descriptor(thread.id) {
                all.descriptors.insert(descriptor, Some((id, seen)));
                all.quick.add_descriptor(descriptor);
            }
        }
        all
    }

    /// The thread that an owner is, where it is known.
    pub(super) fn thread(&self, owner: Owner) -> Option<SeenThread> {
        match owner {
            Owner::Tid(tid) => self.tids.get(&tid).copied(),
            Owner::Descriptor(descriptor) => {
                self.descriptors.get(&descriptor)?.as_ref().map(|(_, thread)| *thread)
            }
        }
    }

    /// Threads with these tids.
    #[cfg(test)]
    pub(super) fn made_up(tids: &[u32], descriptors: &[u64]) -> Self {
        let mut lost = Self::nobody();
        for tid in tids {
            lost.enter(*tid, SeenThread { tid: *tid, comm: "lost".into() });
        }
        for descriptor in descriptors {
            lost.descriptors.insert(*descriptor, None);
            lost.quick.add_descriptor(*descriptor);
        }
        lost
    }

    fn enter(&mut self, id: u32, thread: SeenThread) {
        self.tids.insert(id, thread);
        self.quick.add_tid(id);
        if let Some(bits) = self.bits.get_mut(usize::from((id & 0xffff) as u16) / 64) {
            *bits |= 1 << (id % 64);
        }
    }

    fn add(&mut self, parent: &Parent, thread: &Stat) {
        let Some(id) = own_id(parent.key.tgid, thread.id, parent.threads.namespaced) else { return };
        let seen = SeenThread { tid: thread.id, comm: thread.comm };
        if !self.own.contains(&id) {
            self.enter(id, seen);
        }
        let is_own = |own: &HashSet<u64>, descriptor| own.contains(&descriptor);
        let there = descriptor(thread.id).filter(|_| parent.comparable);
        let Some((descriptor, own)) = there.zip(self.own_descriptors.as_ref()) else { return };
        if !is_own(own, descriptor) && names(parent, thread.id, descriptor, id) {
            self.descriptors.insert(descriptor, Some((id, seen)));
            self.quick.add_descriptor(descriptor);
        }
    }

    /// Finds the descriptors of threads that the child has none of any more: also those of threads that have ended in
    /// the parent since, and of one that has ended itself. A descriptor begins with its own address (`tcbhead_t`,
    /// `sysdeps/x86_64/nptl/tls.h`; on other machines it has no such mark).
    pub(super) fn find_descriptors(&mut self, pages: &OwnPages, maps: &Maps) {
        let Some(offset) = DESCRIPTOR_SELF else { return };
        if self.own_descriptors.is_none() {
            return;
        }
        let is_stack = |mapping: &&Mapping| mapping.path.is_empty() && pages.admits(mapping);
        let mut found = Vec::new();
        for mapping in maps.iter().filter(is_stack) {
            let from = mapping.end.saturating_sub(END_OF_STACK);
            let words_between = offset / 8;
            let shown = pages.go_through(mapping, from, |at, bytes| {
                let words = bytes.as_chunks::<8>().0;
                let pairs = words.iter().zip(words.iter().skip(words_between));
                for (index, (first, second)) in pairs.enumerate() {
                    let address = at.wrapping_add(index as u64 * 8);
                    if u64::from_ne_bytes(*first) == address && first == second {
                        found.push(address);
                    }
                }
            });
            if shown.is_err() {
                break;
            }
        }
        for address in found {
            if self.own_descriptors.as_ref().is_some_and(|own| !own.contains(&address)) {
                self.descriptors.entry(address).or_default();
                self.quick.add_descriptor(address);
            }
        }
    }

    /// What most words are told by that name none of them.
    pub(super) const fn quick(&self) -> Quick {
        self.quick
    }

    /// Whether a word may be the tid of one of them: quick, and wrong now and then.
    pub(super) fn may_be_tid(&self, word: u32) -> bool {
        let place = usize::from((word & 0xffff) as u16);
        let is_near = self.near.is_some_and(|(from, to)| (from..to).contains(&word));
        self.bits.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1) || is_near
    }

    /// Whether it is the tid of one of them.
    pub(super) fn has_tid(&self, tid: u32) -> bool {
        let near = self.near.is_some_and(|(from, to)| (from..to).contains(&tid));
        self.tids.contains_key(&tid) || near && !self.own.contains(&tid)
    }

    /// Whether it is the descriptor of one of them.
    pub(super) fn has_descriptor(&self, descriptor: u64) -> bool {
        self.descriptors.contains_key(&descriptor)
    }

    /// The first descriptor of a lost thread in a mapping: where such a mapping begins as a stack does, it is one up to
    /// there.
    pub(super) fn first_descriptor(&self, mapping: &Mapping) -> Option<u64> {
        self.descriptors.keys().copied().filter(|descriptor| mapping.contains(*descriptor)).min()
    }

    /// What is known of an owner.
    pub(super) fn owner(&self, owner: Owner) -> LostOwner {
        let (id, thread) = match owner {
            Owner::Tid(tid) => (Some(tid), self.tids.get(&tid)),
            Owner::Descriptor(descriptor) => {
                let known = self.descriptors.get(&descriptor).and_then(Option::as_ref);
                (known.map(|(id, _)| *id), known.map(|(_, thread)| thread))
            }
        };
        LostOwner { id, name: thread.map(|thread| thread.comm.to_string()) }
    }

    /// Whether only the fork can have brought a lock of this owner into the child: a tid is not given out twice while a
    /// thread bears it. The memory of a descriptor may be used again for a thread of the child's.
    pub(super) fn is_from_before(&self, owner: Owner) -> bool {
        let Owner::Tid(tid) = owner else { return false };
        let thread = self.tids.get(&tid).zip(self.parent);
        thread.is_some_and(|(thread, parent)| {
            Stat::of_thread(parent, thread.tid).is_ok_and(|stat| !stat.has_ended())
        })
    }
}

/// Between which numbers those that name a lost thread lie.
#[derive(Clone, Copy)]
pub(super) struct Quick {
    /// The lowest tid, and how far the highest is from it.
    tids: (u32, u32),
    /// The lowest descriptor likewise.
    descriptors: (u64, u64),
}

impl Quick {
    /// The words that are told by it are few: none is as high as these.
    const NOTHING: Self = Self { tids: (u32::MAX, 0), descriptors: (u64::MAX, 0) };

    fn add_tid(&mut self, tid: u32) {
        let (lowest, width) = self.tids;
        let highest = if lowest == u32::MAX { tid } else { lowest + width };
        self.tids = (lowest.min(tid), highest.max(tid) - lowest.min(tid));
    }

    fn add_descriptor(&mut self, descriptor: u64) {
        let (lowest, width) = self.descriptors;
        let highest = if lowest == u64::MAX { descriptor } else { lowest + width };
        self.descriptors = (lowest.min(descriptor), highest.max(descriptor) - lowest.min(descriptor));
    }

    /// Whether a word may name one of them: a tid with a small number after it, or a descriptor. Without a branch, for
    /// it is asked of every word.
    #[inline]
    #[expect(clippy::needless_bitwise_bool, reason = "a branch for each word takes half as long again")]
    pub(super) const fn admits(self, word: u64) -> bool {
        const SMALL: u64 = 0x1_0000;
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is a number of its own")]
        let may_be_tid = (word as u32).wrapping_sub(self.tids.0) <= self.tids.1;
        may_be_tid & (word >> 32 < SMALL) | (word.wrapping_sub(self.descriptors.0) <= self.descriptors.1)
    }
}

fn own_id(process: u32, thread: u32, namespaced: bool) -> Option<u32> {
    if !namespaced {
        return Some(thread);
    }
    Status::of_thread(process, thread).ok().map(|status| status.own_id)
}

/// The descriptor of a thread of the child. Its main thread goes on with the forker's, and is known by it to the kernel
/// only when the C library has said so.
fn own_descriptor(question: &Question, tid: u32) -> Option<u64> {
    let is_main = tid == question.child.tgid;
    descriptor(tid).or_else(|| descriptor(question.forking_tid).filter(|_| is_main))
}

/// The descriptor of a thread that glibc runs: its list of robust locks lies in it, as far from its beginning as in this
/// process's own threads. What comes before it has stayed the same since glibc 2.4.
fn descriptor(tid: u32) -> Option<u64> {
    let list = robust_list(tid)?;
    // SAFETY: pthread_self(3) only tells which thread calls.
    let own = unsafe { libc::pthread_self() };
    let own_list = robust_list(nix::unistd::gettid().as_raw().cast_unsigned())? as u64;
    (list as u64).checked_sub(own_list.checked_sub(own)?)
}

/// Whether the parent's memory says that this is the thread's descriptor.
fn names(parent: &Parent, tid: u32, descriptor: u64, id: u32) -> bool {
    let list = robust_list(tid).map(|list| list as u64);
    let tid_at = list.and_then(|list| list.checked_sub(TID_BEFORE_ROBUST_LIST));
    let word = |address| memory::there::<8>(parent.key.tgid, address).map(u64::from_ne_bytes);
    let is_marked = DESCRIPTOR_SELF.is_none_or(|offset| {
        let second = descriptor.wrapping_add(offset as u64);
        word(descriptor) == Some(descriptor) && word(second) == Some(descriptor)
    });
    let noted = tid_at.and_then(|at| memory::there::<4>(parent.key.tgid, at)).map(u32::from_ne_bytes);
    is_marked && noted == Some(id)
}
