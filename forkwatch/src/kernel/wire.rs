//! The wire format's types in the shape that aya's maps take.

use std::ops::AddAssign;

use aya::Pod;
use forkwatch_ebpf::{CgroupCounts, Counters, Family, Sharer, Signalled, Socket, SocketUser, Wake};

/// One CPU's [`Counters`], word by word: every field is a u64, so that a sum is a sum of words.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct CounterWords([u64; size_of::<Counters>() / 8]);

// SAFETY: an array of integers.
unsafe impl Pod for CounterWords {}

/// One CPU's [`CgroupCounts`] likewise.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct CgroupWords([u64; size_of::<CgroupCounts>() / 8]);

// SAFETY: an array of integers.
unsafe impl Pod for CgroupWords {}

/// A [`Family`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct FamilyCell(pub(super) Family);

// SAFETY: integers and byte arrays without padding (its size is asserted beside it).
unsafe impl Pod for FamilyCell {}

/// A [`Sharer`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SharerCell(pub(super) Sharer);

// SAFETY: integers without padding (its size is asserted beside it).
unsafe impl Pod for SharerCell {}

/// A [`Signalled`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SignalledCell(pub(super) Signalled);

// SAFETY: likewise.
unsafe impl Pod for SignalledCell {}

/// A [`Socket`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SocketCell(pub(super) Socket);

// SAFETY: likewise.
unsafe impl Pod for SocketCell {}

/// A [`SocketUser`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct SocketUserCell(pub(super) SocketUser);

// SAFETY: likewise.
unsafe impl Pod for SocketUserCell {}

/// A [`Wake`].
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct WakeCell(pub(super) Wake);

// SAFETY: two integers.
unsafe impl Pod for WakeCell {}

/// Adds up the CPUs.
pub(super) fn sum_counters<'a>(cpus: impl Iterator<Item = &'a CounterWords>) -> Counters {
    let words = sum(cpus.map(|CounterWords(words)| words));
    // SAFETY: `Counters` is `repr(C)` and consists of u64 alone, as many as there are words.
    unsafe { std::mem::transmute::<[u64; size_of::<Counters>() / 8], Counters>(words) }
}

/// Adds up the CPUs.
pub(super) fn sum_cgroup<'a>(cpus: impl Iterator<Item = &'a CgroupWords>) -> CgroupCounts {
    let [copying, sharing] = sum(cpus.map(|CgroupWords(words)| words));
    CgroupCounts { copying, sharing }
}

fn sum<'a, const WORDS: usize>(cpus: impl Iterator<Item = &'a [u64; WORDS]>) -> [u64; WORDS] {
    let mut total = [0_u64; WORDS];
    for words in cpus {
        total.iter_mut().zip(words).for_each(|(total, word)| total.add_assign(word));
    }
    total
}
