//! `signal_generate`, attached while a process is watched: who sends it signals.

use aya_ebpf::{
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::bpf_ktime_get_boot_ns,
    },
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use forkwatch_ebpf::{COMM_LEN, SignalRecord, class, record};

use crate::{
    counters::counters,
    family::TICK,
    kernel::Kernel,
    ring::{self, Label, Record},
    settings::OFFSET_SIGINFO_CODE,
    task::Task,
};

/// By tgid: the start.
#[map]
static SIGNALLED: HashMap<u32, u64> = HashMap::with_max_entries(256, 0);

// SAFETY: `repr(C)` without padding, and starts with a header (asserted beside it).
unsafe impl Record for SignalRecord {}

/// `SEND_SIG_NOINFO` and `SEND_SIG_PRIV` (include/linux/sched/signal.h): no pointers, but words of their own. A load
/// through them would be an invalid access, and the verifier takes the argument for a good pointer.
/// The kernel passes them where it sends on its own account: the first for `PR_SET_PDEATHSIG` (`reparent_leader`,
/// kernel/exit.c), when the current task is a parent that merely ends.
const WITHOUT_INFO: [u64; 2] = [0, 1];

/// `SI_USER`, `SI_QUEUE` and `SI_TKILL` (include/uapi/asm-generic/siginfo.h): some process sent it, by kill(2),
/// sigqueue(3) or tgkill(2). All else is the kernel's doing, perhaps from an interrupt, where the current task is any.
const BY_CALL: [i32; 3] = [0, -1, -6];
/// `SI_KERNEL`, likewise.
const BY_KERNEL: i32 = 0x80;

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
    let task = Task::new(context.arg(2));
    let tgid = task.tgid();
    let Some(watched) = SIGNALLED.get_ptr(&tgid) else { return };
    // SAFETY: a value of the map, read at once.
    let watched = unsafe { *watched };
    let start = task.leader().start();
    if start.wrapping_sub(watched) >= TICK || LOST.contains(&context.arg::<i32>(4)) {
        return;
    }
    let by_process = is_by_process(context.arg(1), code);
    let Some(counters) = counters() else { return };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let label = Label { record: record::SIGNAL, flags: 0, time, hazardous: false };
    let Some(room) = ring::reserve(counters, class::SIGNAL, label) else { return };
    let (mut sender_tgid, mut comm) = (0, [0; COMM_LEN]);
    if by_process {
        sender_tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
        comm = bpf_get_current_comm().unwrap_or_default();
    }
    let record = SignalRecord {
        header: room.header,
        target_start: start,
        target_tgid: tgid,
        number: context.arg(0),
        sender_tgid,
        reserved: 0,
        comm,
    };
    room.submit(counters, record);
}

/// Whether the current task sent it, rather than the kernel in whatever task that was.
#[inline(always)]
fn is_by_process(info: *const u8, code: impl FnOnce(*const u8) -> i32) -> bool {
    let [_, greatest] = WITHOUT_INFO;
    // By size, because the verifier knows better than a comparison with NULL, and would take it out.
    if info as u64 <= greatest {
        return false;
    }
    BY_CALL.contains(&code(info))
}
