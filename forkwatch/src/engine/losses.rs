//! Records that were dropped: noticed by the kernel's counters, told as events.

use std::time::{Duration, Instant};

use forkwatch_ebpf::fate;

use crate::{
    host::clock,
    kernel::{Kernel, KernelError, Ring},
    model::{
        event::{LossReason, Lost},
        time::BootTime,
    },
};

/// Least time between two looks.
const LOSS_WINDOW: Duration = Duration::from_millis(100);

/// Notices records that were dropped.
pub(crate) struct Losses {
    seen: [(LossReason, u64); 3],
    since: BootTime,
    looked: Instant,
    /// Whether the next look happens, however short ago the last was.
    pub(crate) looks_next: bool,
}

impl Losses {
    pub(crate) fn begin(kernel: &Kernel) -> Result<Self, KernelError> {
        let [full, plain] = dropped(kernel)?;
        let seen = [(LossReason::RingFull, full), (LossReason::PlainShed, plain), (LossReason::Malformed, 0)];
        Ok(Self { seen, since: clock::now(), looked: Instant::now(), looks_next: false })
    }

    /// Makes the next look happen, however short ago the last was.
    pub(crate) fn look_now(&mut self) {
        self.looks_next = true;
    }

    /// What was lost since the last look, by reason. Looks only now and then.
    pub(crate) fn since_last_look(&mut self, kernel: &Kernel, ring: &Ring) -> Result<Vec<Lost>, KernelError> {
        if !self.looks_next && self.looked.elapsed() < LOSS_WINDOW {
            return Ok(Vec::new());
        }
        (self.looked, self.looks_next) = (Instant::now(), false);
        let [full, plain] = dropped(kernel)?;
        let at = clock::now();
        let mut lost = Vec::new();
        for ((reason, seen), count) in self.seen.iter_mut().zip([full, plain, ring.malformed()]) {
            if count > *seen {
                lost.push(Lost { at, since: self.since, count: count - *seen, reason: *reason });
                *seen = count;
            }
        }
        self.since = at;
        Ok(lost)
    }
}

/// Records dropped so far, because the ring was full and because plain ones give way.
fn dropped(kernel: &Kernel) -> Result<[u64; 2], KernelError> {
    let counters = kernel.counters()?;
    let of = |fate: usize| counters.events.iter().filter_map(|fates| fates.get(fate)).sum();
    Ok([of(fate::DROPPED_FULL), of(fate::DROPPED_PLAIN)])
}
