//! How much is followed where memory is short: less, and told, is better than to be killed for all.

use crate::host;

/// What the daemon takes with no child to follow: its tables in the kernel, and the parts of the program that are in use.
const BASE: u64 = 12 << 20;
/// What a child that lives on takes at most, with what the kernel remembers of its files below `/proc`.
const EACH: u64 = 6 << 10;
/// Children that are followed in any case.
const LEAST_CHILDREN: u64 = 512;
/// The part of all memory that the ring of records may have, and how small it is in any case.
const PART_FOR_RING: u64 = 256;
const LEAST_RING: u32 = 64 << 10;

/// What the memory of forkwatch's cgroup does for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    /// How many children are followed.
    pub(crate) children: u32,
    /// Bytes of the ring.
    pub(crate) ring: u32,
}

/// What is asked for, or what the memory does for where that is less.
pub(crate) fn fit(asked: Bound) -> Bound {
    host::own_memory().map_or(asked, |memory| asked.within(memory))
}

/// Says so where it is less.
pub(crate) fn warn(asked: Bound) {
    let Some(memory) = host::own_memory() else { return };
    let Bound { children, ring } = asked.within(memory);
    if (Bound { children, ring }) != asked {
        tracing::warn!(
            "forkwatch's cgroup may take {} MiB of memory: {children} children that live on are followed at a time \
             (kernel.max_children = {}), and the ring has {ring} bytes (kernel.ring_bytes = {}); what is beyond is counted \
             in forkwatch_given_up_total and forkwatch_events_dropped_total. Raise its limit (MemoryMax= in the systemd \
             unit) for more",
            memory >> 20,
            asked.children,
            asked.ring
        );
    }
}

impl Bound {
    fn within(self, memory: u64) -> Self {
        let children = (memory.saturating_sub(BASE) / EACH).max(LEAST_CHILDREN);
        // A power of two, as the kernel wants it.
        let ring = (memory / PART_FOR_RING).checked_ilog2().map_or(0, |exponent| 1_u64 << exponent);
        Self {
            children: u32::try_from(children).unwrap_or(u32::MAX).min(self.children),
            ring: u32::try_from(ring).unwrap_or(u32::MAX).max(LEAST_RING).min(self.ring),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_does_for_few_children_and_never_for_none() {
        let usual = Bound { children: 16_384, ring: 1 << 20 };
        assert_eq!(usual.within(16 << 20), Bound { children: 682, ring: 64 << 10 });
        assert_eq!(usual.within(0), Bound { children: 512, ring: 64 << 10 });
        assert_eq!(usual.within(63 << 20), Bound { children: 8704, ring: 128 << 10 });
        for memory in [256 << 20, u64::MAX] {
            assert_eq!(usual.within(memory), usual);
        }
        let less = Bound { children: 7, ring: 4096 };
        assert_eq!(less.within(0), less, "nobody gets more than he asked for");
        assert!(fit(less).children <= 7);
    }
}
