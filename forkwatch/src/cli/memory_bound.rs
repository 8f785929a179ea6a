//! How many children are followed where memory is short: fewer, and told, is better than to be killed for all.

use crate::host;

/// What the daemon takes with no child to follow: its tables in the kernel, and the parts of the program that are in use.
const BASE: u64 = 11 << 20;
/// What a child that lives on takes at most, with what the kernel remembers of its files below `/proc`.
const EACH: u64 = 5 << 10;
/// Children that are followed in any case.
const LEAST: u64 = 256;

/// How many children are followed: as many as were asked for, or as the memory of forkwatch's cgroup allows.
pub(super) fn children(asked: u32) -> usize {
    let bound = host::own_memory().map_or(u64::MAX, bound);
    usize::try_from(bound.min(asked.into())).unwrap_or(usize::MAX)
}

/// Says so where these are fewer.
pub(super) fn warn(asked: u32) {
    let Some(memory) = host::own_memory().filter(|memory| bound(*memory) < asked.into()) else { return };
    tracing::warn!(
        "forkwatch's cgroup may take {} MiB of memory: {} children that live on are followed at a time, and not {asked} \
         (kernel.max_children); those beyond are counted in forkwatch_given_up_total. Raise its limit (MemoryMax= in the \
         systemd unit) for more",
        memory >> 20,
        bound(memory)
    );
}

/// How many this much memory does for.
fn bound(memory: u64) -> u64 {
    (memory.saturating_sub(BASE) / EACH).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_does_for_few_children_and_never_for_none() {
        assert_eq!(bound(16 << 20), 1024);
        assert_eq!(bound(0), LEAST);
        assert!(bound(128 << 20) > 16_384, "the default, in what a unit usually has");
        assert!(children(1024) <= 1024);
    }
}
