//! The way of a record into the ring: who gives way when it fills, and when the reader is woken.

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_smp_processor_id, generated::bpf_ktime_get_boot_ns},
    macros::map,
    maps::{Array, RingBuf, ring_buf::RingBufEntry},
};
use forkwatch_ebpf::{Counters, Header, Wake, fate, wake};

use crate::{counters::add, settings::RING_SIZE};

#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

#[map]
static WAKE: Array<Wake> = Array::with_max_entries(wake::COUNT, 0);

/// While the ring is more than half full the reader is woken this often, nanoseconds.
const FILLING_WINDOW: u64 = 1_000_000;

/// A record: it starts with a [`Header`].
///
/// # Safety
/// `#[repr(C)]`, first field a [`Header`], no padding.
pub(crate) unsafe trait Record: Copy + 'static {
    /// Says that one is dropped because the ring is full.
    fn found_no_room();
    /// Says that one is dropped because the rest of the ring is kept for hazardous ones.
    fn gave_way();
}

/// Makes a type that fulfils its conditions a [`Record`] of this speaker.
macro_rules! ring_record {
    ($record:ty, $speaker:ident) => {
        // SAFETY: `repr(C)` without padding, and starts with a header (asserted beside it).
        unsafe impl $crate::ring::Record for $record {
            #[inline(always)]
            fn found_no_room() {
                say!(
                    $speaker,
                    warn,
                    "process {}: record dropped, the ring is full",
                    tgid = aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32
                );
            }

            #[inline(always)]
            fn gave_way() {
                say!(
                    $speaker,
                    warn,
                    "process {}: plain record dropped, the rest of the ring is for hazards",
                    tgid = aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32
                );
            }
        }
    };
}
pub(crate) use ring_record;

/// Room in the ring for a record: it must be submitted.
pub(crate) struct Room<R: Record> {
    entry: RingBufEntry<R>,
    /// How the record starts.
    pub(crate) header: Header,
    class: usize,
    filling: bool,
}

/// What a record says before its own fields.
pub(crate) struct Label {
    /// [`forkwatch_ebpf::record`].
    pub(crate) record: u8,
    /// [`forkwatch_ebpf::flag`] bits.
    pub(crate) flags: u8,
    /// When it happened.
    pub(crate) time: u64,
    /// Plain records give way to hazardous ones.
    pub(crate) hazardous: bool,
}

/// Hands over a record that is too large for the stack, and lies in a map; `wakes` has the reader look at once. Tells
/// whether it found room.
#[inline(always)]
pub(crate) fn submit_copy<R: Record>(
    counters: &Counters,
    class: usize,
    label: Label,
    record: &mut R,
    wakes: bool,
) -> bool {
    let Some((header, filling)) = head::<R>(counters, class, label) else { return false };
    // SAFETY: a `Record` is `repr(C)` and starts with a header.
    unsafe { *core::ptr::from_mut(record).cast::<Header>() = header };
    if RECORDS.output::<R>(&*record, u64::from(BPF_RB_NO_WAKEUP)).is_err() {
        add(&counters.events[class][fate::DROPPED_FULL], 1);
        R::found_no_room();
        return false;
    }
    add(&counters.events[class][fate::SUBMITTED], 1);
    if is_wake_due(filling) || wakes {
        wake(counters, wake::BY_RECORD);
    }
    true
}

/// Makes room for a record of the row `class`, or counts it as dropped.
#[inline(always)]
pub(crate) fn reserve<R: Record>(counters: &Counters, class: usize, label: Label) -> Option<Room<R>> {
    let (header, filling) = head::<R>(counters, class, label)?;
    let Some(entry) = RECORDS.reserve::<R>(0) else {
        add(&counters.events[class][fate::DROPPED_FULL], 1);
        R::found_no_room();
        return None;
    };
    Some(Room { entry, header, class, filling })
}

/// How a record starts, and whether the ring fills; nothing where the record gives way to others.
#[inline(always)]
fn head<R: Record>(counters: &Counters, class: usize, label: Label) -> Option<(Header, bool)> {
    // Plain, not atomic: kernels before 5.12 cannot fetch what they add to. Where a tracepoint is preempted in
    // between, two records bear one number; the counters stay right.
    let sequence = counters.sequence;
    add(&counters.sequence, 1);

    let used = RECORDS.query(u64::from(BPF_RB_AVAIL_DATA));
    let size = RING_SIZE.load();
    if !label.hazardous && used > size / 4 * 3 {
        add(&counters.events[class][fate::DROPPED_PLAIN], 1);
        R::gave_way();
        if is_wake_due(true) {
            wake(counters, wake::BY_RECORD);
        }
        return None;
    }
    let Label { record, flags, time, hazardous: _ } = label;
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let header = Header { record, flags, length: size_of::<R>() as u16, cpu, sequence, time };
    Some((header, used > size / 2))
}

impl<R: Record> Room<R> {
    /// Writes the record and hands it over.
    ///
    /// A wake-up costs some ten microseconds, so the reader is woken only where it sleeps for good. Otherwise it looks
    /// by itself within milliseconds, unless the ring fills before that.
    #[inline(always)]
    pub(crate) fn submit(self, counters: &Counters, record: R) {
        let Self { mut entry, header: _, class, filling } = self;
        entry.write(record);
        entry.submit(u64::from(BPF_RB_NO_WAKEUP));
        add(&counters.events[class][fate::SUBMITTED], 1);
        // After the record is visible, which the submission makes sure of with a full barrier: the reader says that it
        // sleeps, and looks once more. One of the two sees the other.
        if is_wake_due(filling) {
            wake(counters, wake::BY_RECORD);
        }
    }
}

/// Wakes the reader if it waits for the next process.
#[inline(always)]
pub(crate) fn process_created(counters: &Counters) {
    let Some(wake) = WAKE.get_ptr_mut(wake::BY_FORK) else { return };
    if is_asleep(wake) {
        self::wake(counters, wake::BY_FORK);
    }
}

/// Whether the reader waits to be woken by this; from now on it does not.
#[inline(always)]
fn is_asleep(wake: *mut Wake) -> bool {
    // SAFETY: a value of the map; volatile, because user space writes it.
    let asleep = unsafe { core::ptr::read_volatile(&raw const (*wake).asleep) } != 0;
    if asleep {
        // SAFETY: likewise. Two CPUs may both find it asleep: that costs a wake-up and loses nothing.
        unsafe { (*wake).asleep = 0 };
    }
    asleep
}

/// Whether the reader sleeps, or the ring fills faster than it looks.
#[inline(always)]
fn is_wake_due(filling: bool) -> bool {
    let Some(wake) = WAKE.get_ptr_mut(wake::BY_RECORD) else { return true };
    if is_asleep(wake) {
        return true;
    }
    if !filling {
        return false;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // SAFETY: a value of the map.
    unsafe {
        if now.saturating_sub((*wake).filling) < FILLING_WINDOW {
            return false;
        }
        (*wake).filling = now;
    }
    true
}

/// Wakes the reader by an empty record, which it never sees: a real one has been handed over already. `by` is what it
/// was to be woken by.
#[inline(always)]
fn wake(counters: &Counters, by: u32) {
    match RECORDS.reserve::<u64>(0) {
        Some(empty) => {
            add(&counters.wakeups, 1);
            empty.discard(u64::from(BPF_RB_FORCE_WAKEUP));
        }
        // It still sleeps: the next of the kind tries again.
        None => {
            if let Some(wake) = WAKE.get_ptr_mut(by) {
                // SAFETY: a value of the map.
                unsafe { (*wake).asleep = 1 };
            }
        }
    }
}
