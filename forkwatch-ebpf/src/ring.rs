//! The way of a record into the ring: who gives way when it fills, and when the reader is woken.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, RingBuf},
};
use forkwatch_ebpf::{Counters, Header, Wake, fate};

use crate::{
    counters::add,
    settings::{RING_SIZE, WAKE_WINDOW},
};

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
static WAKE: Array<Wake> = Array::with_max_entries(1, 0);

/// While the ring is more than half full the reader is woken this often, nanoseconds.
const FILLING_WINDOW: u64 = 1_000_000;

/// A record: it starts with a [`Header`].
///
/// # Safety
/// `#[repr(C)]`, first field a [`Header`], no padding.
pub(crate) unsafe trait Record: Copy + 'static {}

/// Writes a record, and counts its fate in the row `class`. Tells whether it went in.
///
/// A wake-up costs some ten microseconds, so the reader gets at most one in a window, and drains the ring a last
/// time after its own, slightly longer window: what was written without a wake-up is found then.
#[inline(always)]
pub(crate) fn write<R: Record>(
    counters: &Counters,
    class: usize,
    hazardous: bool,
    (record, flags, time): (u8, u8, u64),
    fill: impl FnOnce(Header) -> R,
) -> bool {
    // Plain, not atomic: kernels before 5.12 cannot fetch what they add to. Where a tracepoint is preempted in
    // between, two records bear one number; the counters stay right.
    let sequence = counters.sequence;
    add(&counters.sequence, 1);

    let used = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = RING_SIZE.load();
    if !hazardous && used > size / 4 * 3 {
        add(&counters.events[class][fate::SHED_PLAIN], 1);
        return false;
    }
    let Some(mut entry) = RECORDS.reserve::<R>(0) else {
        add(&counters.events[class][fate::SHED_FULL], 1);
        return false;
    };
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    entry.write(fill(Header { record, flags, length: size_of::<R>() as u16, cpu, sequence, time }));
    let wake = is_wake_due(time, used > size / 2);
    if wake {
        add(&counters.wakeups, 1);
    }
    entry.submit(u64::from(if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP }));
    add(&counters.events[class][fate::SUBMITTED], 1);
    true
}

/// Whether to wake the reader, which then counts as woken.
#[inline(always)]
fn is_wake_due(now: u64, filling: bool) -> bool {
    let Some(wake) = WAKE.get_ptr_mut(0) else { return true };
    let window = if filling { FILLING_WINDOW } else { WAKE_WINDOW.load() };
    // SAFETY: the map's only value. Two CPUs may both find it due: that costs a wake-up and loses nothing.
    unsafe {
        if now.saturating_sub((*wake).last) < window {
            return false;
        }
        (*wake).last = now;
    }
    true
}
