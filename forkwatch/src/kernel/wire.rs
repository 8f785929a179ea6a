//! The wire format's types in the shape that aya's maps take.

use std::ops::AddAssign;

use aya::Pod;
use forkwatch_ebpf::{CgroupCounts, Counters, Family, Forker, Sharer, Signalled, Socket, SocketUser, Wake};

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

/// What a map holds, where that is one structure of the wire format.
macro_rules! cells {
    ($($(#[$doc:meta])* $cell:ident($value:ident);)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy)]
        #[repr(transparent)]
        pub(super) struct $cell(pub(super) $value);

        // SAFETY: integers and byte arrays without padding (its size is asserted where it stands).
        unsafe impl Pod for $cell {}
    )*};
}

cells! {
    /// A [`Family`].
    FamilyCell(Family);
    /// A [`Forker`].
    ForkerCell(Forker);
    /// A [`Sharer`].
    SharerCell(Sharer);
    /// A [`Signalled`].
    SignalledCell(Signalled);
    /// A [`Socket`].
    SocketCell(Socket);
    /// A [`SocketUser`].
    SocketUserCell(SocketUser);
    /// A [`Wake`].
    WakeCell(Wake);
}

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
