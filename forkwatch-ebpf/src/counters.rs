//! Exact counts, whatever happens to the stream.

use aya_ebpf::{
    macros::map,
    maps::{PerCpuArray, PerCpuHashMap},
};
use forkwatch_ebpf::{CgroupCounts, Counters};

#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

#[map]
static CGROUPS: PerCpuHashMap<u64, CgroupCounts> = PerCpuHashMap::with_max_entries(1024, 0);

/// This CPU's counters. The map has the entry: `None` only satisfies the verifier.
#[inline(always)]
pub(crate) fn counters() -> Option<&'static Counters> {
    COUNTERS.get(0)
}

/// Adds to a counter. Atomically, although it is this CPU's: newer kernels may preempt a tracepoint, and let
/// the same program run in between.
#[inline(always)]
pub(crate) fn add(counter: &u64, amount: u64) {
    // The instruction itself (BPF_ATOMIC | BPF_ADD without BPF_FETCH, which kernels before 5.12 have too):
    // `AtomicU64::fetch_add` does not exist on this target.
    // SAFETY: the counter lies in a map value, aligned to 8 bytes, and is changed by nothing else.
    unsafe {
        core::arch::asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) core::ptr::from_ref(counter),
            amount = in(reg) amount,
            options(nostack, preserves_flags),
        );
    }
}

/// Counts into the bucket of a histogram: the first whose bound holds the value, or the last. Without a branch for
/// each bound, because the verifier would walk everything behind it once for every bucket.
#[inline(always)]
pub(crate) fn observe<const BOUNDS: usize, const BUCKETS: usize>(
    buckets: &[u64; BUCKETS],
    bounds: &[u64; BOUNDS],
    value: u64,
) {
    let mut bucket = 0;
    let mut index = 0;
    while index < BOUNDS {
        bucket += bounds[index].wrapping_sub(value) >> 63;
        index += 1;
    }
    if let Some(bucket) = buckets.get(bucket as usize) {
        add(bucket, 1);
    }
}

/// 1 where the value is not 0, without a branch (see [`observe`]).
#[inline(always)]
pub(crate) fn nonzero(value: u64) -> u8 {
    ((value | value.wrapping_neg()) >> 63) as u8
}

/// Counts a process creation for a cgroup.
#[inline(always)]
pub(crate) fn count_for_cgroup(counters: &Counters, cgroup: u64, copying: bool) {
    let counts = match CGROUPS.get_ptr(&cgroup) {
        Some(counts) => counts,
        None => {
            // BPF_NOEXIST: another CPU may have been first, and its counts must stay.
            let _ = CGROUPS.insert(&cgroup, &CgroupCounts { copying: 0, sharing: 0 }, 1);
            match CGROUPS.get_ptr(&cgroup) {
                Some(counts) => counts,
                None => {
                    say!(FORK, warn, "cgroup {}: no room in the table of cgroups", cgroup = cgroup);
                    return add(&counters.cgroups_overflow, 1);
                }
            }
        }
    };
    // SAFETY: a value of the map, which holds CgroupCounts.
    let counts = unsafe { &*counts };
    add(if copying { &counts.copying } else { &counts.sharing }, 1);
}
