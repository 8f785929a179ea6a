//! A reading of the kernel side's counters.

use forkwatch_ebpf::{CgroupCounts, Counters};

/// Everything that a scrape reads from the kernel, at one moment.
#[derive(Clone, Debug)]
pub struct KernelReading {
    /// The counters, summed over the CPUs (and `sequence` likewise).
    pub counters: Counters,
    /// Forked and never exec'd processes that live now.
    pub unexeced_children: u64,
    /// Size of the ring in bytes.
    pub ring_size: u64,
    /// Bytes in the ring that the reader has not taken yet.
    pub ring_used: u64,
    /// Process creations by cgroup (version 2) id.
    pub cgroups: Vec<(u64, CgroupCounts)>,
    /// The attached programs.
    pub programs: Vec<ProgramReading>,
    /// Whether the kernel keeps run statistics (`kernel.bpf_stats_enabled`); if not, those of the programs are 0.
    pub statistics: bool,
}

/// The kernel's statistics of one BPF program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramReading {
    /// Its name: `sched_process_fork`.
    pub name: &'static str,
    /// How often it ran.
    pub runs: u64,
    /// How long in all, nanoseconds.
    pub run_nanos: u64,
    /// How often the kernel skipped it because it was already running on that CPU.
    pub recursion_misses: u64,
}
