//! What this kernel offers, found out by trying. Nothing stays attached.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{
    btf::{self, Btf, KERNEL_BTF},
    error::KernelError,
    kernel_log::{KernelLog, Tally},
    layout::Layout,
    load::Kernel,
    options::Options,
    probes::{Probe, Way},
    self_test,
    ways::Probes,
};

pub use super::load::check_pid_namespace;

/// What the kernel tells of its own types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// Size of the description in bytes.
    pub bytes: usize,
    /// Fields whose place was found and checked.
    pub fields: usize,
    /// Optional fields that this kernel lacks, such as `css_set.dfl_cgrp`.
    pub absent: Vec<String>,
}

/// Resolves every field that the eBPF side reads. Needs no privilege.
pub fn types() -> Result<Types, KernelError> {
    let blob = btf::read(Path::new(KERNEL_BTF)).map_err(KernelError::NoBtf)?;
    let layout = Layout::resolve(&Btf::parse(&blob)?)?;
    let absent = layout.absent();
    Ok(Types {
        bytes: blob.len(),
        fields: layout.globals().filter(|(_, value)| *value != forkwatch_ebpf::ABSENT).count(),
        absent,
    })
}

/// A start of the kernel side that went well.
#[derive(Debug)]
pub struct Trial {
    /// How long it took until all programs were loaded and attached.
    pub started: Duration,
    /// How long the self-test took, or what it found.
    pub self_test: Result<Duration, KernelError>,
    /// What can be watched.
    pub probes: Probes,
    /// What was logged meanwhile, where that was asked for.
    pub logged: Option<Tally>,
}

/// Loads, attaches and tests with these options, and detaches. Must run while the process has one thread.
/// `own_cgroup` is the id of forkwatch's own cgroup, where that is known.
pub fn trial(options: &Options, own_cgroup: Option<u64>) -> Result<Trial, KernelError> {
    let start = Instant::now();
    let (mut kernel, mut ring) = Kernel::start(options)?;
    let started = start.elapsed();
    let start = Instant::now();
    let self_test = self_test::run(&mut kernel, &mut ring, own_cgroup, drop).map(|()| start.elapsed());
    let probes = kernel.try_probes().clone();
    Ok(Trial { started, self_test, probes, logged: kernel.take_log().map(logged).transpose()? })
}

/// What is in the log.
fn logged(mut log: KernelLog) -> Result<Tally, KernelError> {
    log.drain(drop);
    // What is missing counts as lost once two looks have missed it.
    log.look_for_lost()?;
    log.drain(drop);
    log.look_for_lost()?;
    Ok(log.tally())
}

/// How a probe would be had that is on only where it is asked for.
pub fn on_request(probe: &'static [Probe; 1]) -> Result<&'static Way, String> {
    let options = Options { asked: probe, ..Options::default() };
    let (kernel, _ring) = Kernel::start(&options).map_err(|error| error.to_string())?;
    let [probe] = probe;
    kernel.probes().way(*probe).map_err(ToString::to_string)
}
