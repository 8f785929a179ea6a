//! Programs that do nothing: what the kernel charges for any program on these tracepoints. Only the benchmark
//! loads them.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

#[btf_tracepoint(function = "sched_process_fork")]
fn empty(_context: BtfTracePointContext) -> i32 {
    0
}
