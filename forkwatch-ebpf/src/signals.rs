//! `signal_generate`, attached while a process is watched: who sends it signals.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::{bpf_get_current_task_btf, bpf_ktime_get_boot_ns},
    },
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use forkwatch_ebpf::{COMM_LEN, SignalRecord, Signalled, class, fate, record};

use crate::{
    counters::{add, counters},
    family::TICK,
    kernel::Kernel,
    ring::{self, Label, ring_record},
    settings::{CURRENT_TASK_IS_TOLD, OFFSET_SIGINFO_CODE},
    task::Task,
};

/// By tgid.
#[map]
static SIGNALLED: HashMap<u32, Signalled> = HashMap::with_max_entries(1024, 0);

ring_record!(SignalRecord, SIGNALS);

/// `SEND_SIG_NOINFO` (include/linux/sched/signal.h): no pointer, but a word of its own. The signal is the current
/// task's, and the kernel fills in `SI_USER`, its pid and its uid (`__send_signal_locked`, kernel/signal.c).
const IN_NAME_OF_CURRENT: u64 = 0;
/// `SEND_SIG_PRIV` likewise: the kernel sends on its own account.
const BY_KERNEL_ITSELF: u64 = 1;

/// `SI_USER`, `SI_QUEUE` and `SI_TKILL` (include/uapi/asm-generic/siginfo.h): some process sent it, by kill(2),
/// sigqueue(3) or tgkill(2). All else is the kernel's doing, perhaps from an interrupt, where the current task is any.
const BY_CALL: [i32; 3] = [0, -1, -6];
/// `SI_KERNEL`, likewise.
const BY_KERNEL: i32 = 0x80;

/// Nothing comes of these where no handler is set (signal(7)): `SIGCHLD`, `SIGCONT`, `SIGURG` and `SIGWINCH`. They end
/// nobody, and the first is the most frequent of all signals.
const HARMLESS: u64 = 1 << 16 | 1 << 17 | 1 << 22 | 1 << 27;

/// The same signal of the same sender is told this often, nanoseconds: a profiler's timer ticks a thousand times a
/// second.
const AGAIN_AFTER: u64 = 1_000_000_000;

/// `TRACE_SIGNAL_IGNORED` and `TRACE_SIGNAL_OVERFLOW_FAIL` (include/trace/events/signal.h): it went nowhere.
const LOST: [i32; 2] = [1, 3];

/// `TP_PROTO(int sig, struct kernel_siginfo *info, struct task_struct *task, int group, int result)`,
/// include/trace/events/signal.h.
///
/// Newer kernels (6.12.7, 6.13) forbid a load through `info`, which may be no pointer (`raw_tp_null_args`,
/// kernel/bpf/btf.c), so it is copied. `lockdown=confidentiality` forbids that: for older kernels there is the other
/// program.
#[btf_tracepoint(function = "signal_generate")]
fn signal_generate(context: BtfTracePointContext) -> i32 {
    generated(context, |info| {
        let code = info.wrapping_add(OFFSET_SIGINFO_CODE.load() as usize).cast::<i32>();
        // SAFETY: the helper copies from any address, and fails where nothing can be read.
        unsafe { bpf_probe_read_kernel(code) }.unwrap_or(BY_KERNEL)
    });
    0
}

/// The same, by a load.
#[btf_tracepoint(function = "signal_generate")]
fn signal_generate_typed(context: BtfTracePointContext) -> i32 {
    generated(context, |info| Kernel::new(info).field(&OFFSET_SIGINFO_CODE));
    0
}

/// `code` reads the code of a `struct kernel_siginfo`.
#[inline(always)]
fn generated(context: BtfTracePointContext, code: impl FnOnce(*const u8) -> i32) {
    let number: u32 = context.arg(0);
    // The least is 1, and the greatest 64.
    let bit = 1_u64 << (number.wrapping_sub(1) & 63);
    if bit & HARMLESS != 0 {
        return;
    }
    let task = Task::new(context.arg(2));
    let tgid = task.tgid();
    let Some(watched) = SIGNALLED.get_ptr_mut(&tgid) else { return };
    // SAFETY: a value of the map. The target's `siglock` is held wherever this tracepoint is, so that nobody else
    // writes it meanwhile (`__send_signal_locked`, kernel/signal.c).
    let Signalled { start: wanted, since, told, sender, .. } = unsafe { *watched };
    let start = task.leader().start();
    if start.wrapping_sub(wanted) >= TICK || LOST.contains(&context.arg::<i32>(4)) {
        return;
    }
    let by_process = is_by_process(context.arg(1), code);
    let Some(counters) = counters() else { return };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let (mut sender_tgid, mut comm) = (0, [0; COMM_LEN]);
    if by_process {
        sender_tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        comm = bpf_get_current_comm().unwrap_or_default();
    }
    let goes_on = sender_tgid == sender && time.wrapping_sub(since) < AGAIN_AFTER;
    if goes_on && told & bit != 0 {
        say!(
            SIGNALS,
            debug,
            "process {}: signal {} not told, the same came within the second",
            tgid = tgid,
            number = number
        );
        return add(&counters.events[class::SIGNAL][fate::FILTERED], 1);
    }
    let (since, told) = if goes_on { (since, told | bit) } else { (time, bit) };
    // SAFETY: as above.
    unsafe { *watched = Signalled { start: wanted, since, told, sender: sender_tgid, reserved: 0 } };
    let label = Label { record: record::SIGNAL, flags: 0, time, hazardous: false };
    let Some(room) = ring::reserve(counters, class::SIGNAL, label) else { return };
    let record = SignalRecord {
        header: room.header,
        target_start: start,
        target_tgid: tgid,
        number,
        sender_tgid,
        reserved: 0,
        comm,
    };
    room.submit(counters, record);
    say!(
        SIGNALS,
        debug,
        "process {}: signal {} by {} told",
        tgid = tgid,
        number = number,
        sender = sender_tgid
    );
}

/// Whether the current task sent it, rather than the kernel in whatever task that was.
#[inline(always)]
fn is_by_process(info: *const u8, code: impl FnOnce(*const u8) -> i32) -> bool {
    // By size, because the verifier takes the argument for a good pointer, knows better than a comparison with NULL,
    // and would take it out; and with a number that the compiler does not know, because it would make it one.
    let none = IN_NAME_OF_CURRENT;
    // SAFETY: a variable of this function.
    let none = unsafe { core::ptr::read_volatile(&raw const none) };
    if info as u64 <= none {
        return is_current_a_sender();
    }
    if info as u64 <= BY_KERNEL_ITSELF {
        return false;
    }
    BY_CALL.contains(&code(info))
}

/// Whether a signal in the name of the current task is one that it sent. Up to Linux 7.2 kill(2) says who calls, and
/// what comes so is written to `cgroup.kill`, raised by a task against itself (`SIGPIPE`), or the signal of a parent's
/// end (`PR_SET_PDEATHSIG`): then the current task is one that exits, and it calls nobody any more.
///
/// Before Linux 5.11 a program cannot ask for the current task, and there is only the last of these.
#[inline(always)]
fn is_current_a_sender() -> bool {
    if CURRENT_TASK_IS_TOLD.load() == 0 {
        return false;
    }
    // SAFETY: a helper without arguments.
    let current = Task::new(unsafe { bpf_get_current_task_btf() }.cast());
    !current.is_exiting() && !current.is_kernel()
}
