//! The kernel side, as user space holds it.

use std::{fs, os::fd::AsFd, path::Path, thread};

use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuArray, PerCpuHashMap},
    programs::Program,
};
use forkwatch_ebpf::{Counters, Family, kind, map};

use super::{
    attach,
    btf::{self, Btf, KERNEL_BTF, Kind},
    error::KernelError,
    kernel_log::KernelLog,
    layout::Layout,
    maps::{map_error, take},
    memory_lock,
    on_demand::{Living, OnDemand},
    options::Options,
    probes::{self, Probe},
    programs::load_programs,
    ring::{Gauge, Ring},
    sleepers::Sleepers,
    statistics,
    switch::Switch,
    ways::Probes,
    wire::{CgroupWords, CounterWords, FamilyCell, sum_cgroup, sum_counters},
};
use crate::{
    model::{
        counters::{KernelReading, ProgramReading},
        probe_request::ProbeRequest,
        process::ProcessKey,
    },
    release::Release,
};

/// Insert only where there is no entry yet (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;

/// The kernel side, attached for as long as this lives.
pub struct Kernel {
    ebpf: Ebpf,
    counters: PerCpuArray<MapData, CounterWords>,
    family: HashMap<MapData, u32, FamilyCell>,
    cgroups: PerCpuHashMap<MapData, u64, CgroupWords>,
    workers: HashMap<MapData, u32, u64>,
    /// The task filter: tgids whose forks are streamed.
    filter: HashMap<MapData, u32, u8>,
    on_demand: OnDemand,
    sleepers: Sleepers,
    gauge: Gauge,
    ring_bytes: u32,
    /// Un-exec'd processes from before the watch began.
    unexeced_before: u64,
    log: Option<KernelLog>,
}

/// A child that was forked before the watch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Which process: its tgid, and when it started.
    pub child: ProcessKey,
    /// Its present parent.
    pub parent_tgid: u32,
    /// Forks since the last exec on the way to it.
    pub generation: u32,
}

impl Kernel {
    /// Loads and attaches. What comes through the ring must not be trusted before
    /// [`self_test`](super::self_test::run) has passed.
    pub fn start(options: &Options) -> Result<(Self, Ring), KernelError> {
        check_pid_namespace()?;
        let release = Release::running();
        let blob = btf::read(Path::new(KERNEL_BTF)).map_err(KernelError::NoBtf)?;
        let types = Btf::parse(&blob)?;
        let layout = Layout::resolve(&types)?;
        let found = Probes::find(&types, |globals| layout.has(globals), options.asked);
        let (tracepoints, functions) = found.names();
        let ids = types.attach_stub(&tracepoints, &functions)?;
        let pid_levels = pid_levels(&types)?;
        drop(blob);

        memory_lock::raise(release);
        let logs = !options.kernel_log.are_none();
        let started = fit(options, |options| {
            let mut ebpf = attach::load(options, &layout, release, pid_levels)?;
            let mut found = found.clone();
            load_programs(&mut ebpf, &mut found, &ids)?;
            let mut switch = Switch::new(found);
            switch.on_from_start(&mut ebpf, true);
            for program in probes::always() {
                attach::attach(&mut ebpf, program)?;
            }
            switch.probes_mut().attach_asked(&mut ebpf, &ids)?;
            switch.on_from_start(&mut ebpf, false);
            Ok((ebpf, switch))
        });
        let (options, (ebpf, switch)) =
            started.map_err(|error| if logs { error.of_logging() } else { error })?;
        drop(ids);
        trim_heap();
        Self::adopt(ebpf, &options, switch)
    }

    /// Takes the maps out of the loaded object.
    fn adopt(mut ebpf: Ebpf, options: &Options, switch: Switch) -> Result<(Self, Ring), KernelError> {
        let ring = take(&mut ebpf, map::RECORDS)?;
        let ring: aya::maps::RingBuf<MapData> = ring;
        let gauge = Gauge::map(ring.as_fd())
            .map_err(|error| KernelError::Ring { bytes: options.ring_bytes, error })?;
        let ring = Ring::new(ring, take(&mut ebpf, map::WAKE)?);
        let log = (!options.kernel_log.are_none()).then(|| KernelLog::new(&mut ebpf)).transpose()?;
        let kernel = Self {
            counters: take(&mut ebpf, map::COUNTERS)?,
            family: take(&mut ebpf, map::FAMILY)?,
            cgroups: take(&mut ebpf, map::CGROUPS)?,
            workers: take(&mut ebpf, map::WORKERS)?,
            filter: take(&mut ebpf, map::WANTED)?,
            on_demand: OnDemand::new(&mut ebpf, switch)?,
            sleepers: Sleepers::default(),
            gauge,
            ring_bytes: options.ring_bytes,
            unexeced_before: 0,
            log,
            ebpf,
        };
        Ok((kernel, ring))
    }

    /// What the programs say of their decisions, where that was asked for. Can be had once.
    pub const fn take_log(&mut self) -> Option<KernelLog> {
        self.log.take()
    }

    /// Lets the forks of a process pass the task filter, and those of the children it has from now on.
    pub fn let_through(&mut self, tgid: u32) -> Result<(), KernelError> {
        self.filter.insert(tgid, 1, 0).map_err(map_error(map::WANTED))
    }

    /// Takes out again what [`let_through`](Self::let_through) let in.
    pub fn filter_out(&mut self, tgid: u32) {
        // Where it is not there any more, all is well.
        let _ = self.filter.remove(&tgid);
    }

    /// Copying forks so far, and those whose child has exec'd or ended: while neither changes, the number of forked and
    /// never exec'd processes does not either.
    pub fn copying_and_ended(&self) -> Result<(u64, u64), KernelError> {
        let counters = self.counters()?;
        Ok((copying(&counters), ended(&counters)))
    }

    /// Takes in how many forked and never exec'd processes lived when
    /// [`copying_and_ended`](Self::copying_and_ended) told these numbers.
    pub const fn begin_with(&mut self, unexeced: u64, (copying, ended): (u64, u64)) {
        self.unexeced_before = unexeced.saturating_add(ended).saturating_sub(copying);
    }

    /// Enters a child that was forked before the watch began, so that the generation of its children is right. Tells
    /// whether it was new.
    pub fn seed(&mut self, seed: &Seed) -> bool {
        let Seed { child, parent_tgid, generation } = *seed;
        let family = Family {
            start: child.start.0,
            blocked: 0,
            parent_tgid,
            generation,
            kind: kind::COPYING,
            hazards: 0,
            flags: 0,
            reserved: [0; 5],
        };
        self.family.insert(child.tgid, FamilyCell(family), BPF_NOEXIST).is_ok()
    }

    /// Takes a seeded child out again: it exec'd or ended before it was entered.
    pub fn unseed(&mut self, child: ProcessKey) {
        // Where it is not there any more, all is well.
        let _ = self.family.remove(&child.tgid);
    }

    /// Enters the kernel workers that a process had before the watch began. `look` tells how many it has now; what was
    /// entered is put right by it, because a worker that ended before that is not counted out by the kernel side. Where
    /// the table is full the workers pass for threads, as those do that the kernel side finds no room for.
    pub fn seed_workers(&mut self, tgid: u32, workers: u64, look: impl Fn() -> u64) {
        // What the kernel side has counted since is newer than the scan.
        let _ = self.workers.insert(tgid, workers, BPF_NOEXIST);
        // Bounded, because both may go on changing.
        for _ in 0..5 {
            let now = look();
            if self.workers.get(&tgid, 0).unwrap_or_default() == now {
                return;
            }
            let _ = if now == 0 { self.workers.remove(&tgid) } else { self.workers.insert(tgid, now, 0) };
        }
    }

    /// Does what the core has requested. What cannot be done is logged: the detector then stays silent.
    ///
    /// `look` tells what a process is now, by `/proc`, if it lives. It is asked after an entry was made, because the
    /// kernel side takes out only what ends or execs after that.
    pub fn probe(&mut self, request: &ProbeRequest, look: impl Fn(ProcessKey) -> Option<Living>) {
        let Self { ebpf, family, on_demand, .. } = self;
        on_demand.probe(ebpf, family, request, look);
    }

    /// The un-exec'd children of which a thread sleeps that was awake when this was asked last; of those
    /// alone that are followed. Absent where this kernel does not tell.
    pub fn fell_asleep(&mut self, is_followed: impl Fn(ProcessKey) -> bool) -> Option<Vec<ProcessKey>> {
        let Self { ebpf, on_demand, sleepers, .. } = self;
        on_demand.probes().way(Probe::Sleepers).ok()?;
        let found = sleepers.fell_asleep(ebpf, is_followed);
        found.map_err(|error| on_demand.no_sleepers(&error)).ok()
    }

    /// The way that this kernel has for each probe, as far as that is known: it may refuse a program when that is first
    /// attached.
    pub const fn probes(&self) -> &Probes {
        self.on_demand.probes()
    }

    /// Finds out by attaching, and detaching again what nobody has requested.
    pub fn try_probes(&mut self) -> &Probes {
        self.fell_asleep(|_| false);
        let Self { ebpf, on_demand, .. } = self;
        on_demand.try_probes(ebpf)
    }

    /// Forgets a probe that was tried and reported something else than what happened.
    pub(super) fn distrust(&mut self, probe: Probe, why: String) {
        self.on_demand.distrust(probe, why);
    }

    /// How many processes pass the task filter now, descendants included.
    pub fn filtered(&self) -> usize {
        self.filter.keys().filter_map(Result::ok).count()
    }

    /// Reads the counters of all CPUs.
    pub fn counters(&self) -> Result<Counters, KernelError> {
        let cpus = self.counters.get(&0, 0).map_err(map_error(map::COUNTERS))?;
        let mut counters = sum_counters(cpus.iter());
        // The kernel side counts the rarer parents alone.
        let single = copying(&counters).saturating_sub(counters.multithreaded);
        counters.parent_threads_sum += single;
        if let Some(bucket) = counters.parent_threads.first_mut() {
            *bucket += single;
        }
        Ok(counters)
    }

    /// Reads everything that can be counted.
    pub fn reading(&self) -> Result<KernelReading, KernelError> {
        let counters = self.counters()?;
        Ok(KernelReading {
            unexeced_children: (self.unexeced_before + copying(&counters)).saturating_sub(ended(&counters)),
            counters,
            ring_size: u64::from(self.ring_bytes),
            ring_used: self.gauge.used(),
            // An entry that vanishes between key and value has nothing to add.
            cgroups: self
                .cgroups
                .iter()
                .filter_map(Result::ok)
                .map(|(id, cpus)| (id, sum_cgroup(cpus.iter())))
                .collect(),
            programs: self.programs(),
            statistics: statistics::are_kept(),
        })
    }

    fn programs(&self) -> Vec<ProgramReading> {
        let read = |name: &'static str| {
            let Program::BtfTracePoint(program) = self.ebpf.program(name)? else { return None };
            statistics::read(name, program.fd().ok()?.as_fd()).ok()
        };
        probes::always().map(|program| program.name).filter_map(read).collect()
    }
}

/// Loads, with smaller tables for as long as those asked for exceed the limit of locked memory.
fn fit<T>(
    options: &Options,
    mut load: impl FnMut(&Options) -> Result<T, KernelError>,
) -> Result<(Options, T), KernelError> {
    let mut options = *options;
    loop {
        let error = match load(&options) {
            Ok(loaded) => return Ok((options, loaded)),
            Err(error) => error,
        };
        let limited = matches!(error, KernelError::LockedMemory { .. });
        let Some(smaller) = limited.then(|| memory_lock::smaller(&options)).flatten() else {
            return Err(error);
        };
        options = smaller;
        tracing::warn!(
            ring_bytes = options.ring_bytes,
            max_children = options.max_children,
            "the limit of locked memory is too low for what was asked: trying less. Raise it (ulimit -l, \
             LimitMEMLOCK=) to lose fewer records"
        );
        thread::sleep(memory_lock::SETTLED_AFTER);
    }
}

/// All copying forks.
fn copying(counters: &Counters) -> u64 {
    counters.events.get(usize::from(kind::COPYING)).map_or(0, |fates| fates.iter().sum())
}

/// Copying forks whose child has exec'd or ended.
fn ended(counters: &Counters) -> u64 {
    counters.outcomes.iter().sum()
}

/// Deepest pid namespace that typed loads reach: `pid.numbers` was declared with one element until it became a
/// flexible array (commit b69f0aeb0689), and the verifier takes the declaration at its word.
fn pid_levels(types: &Btf<'_>) -> Result<u32, KernelError> {
    let numbers =
        types.find(Kind::Struct, "pid").map(|pid| types.member(pid, "numbers")).transpose()?.flatten();
    Ok(if numbers.is_some_and(|numbers| numbers.definition.size == Some(0)) { 4 } else { 0 })
}

/// The kernel reports tgids of the initial pid namespace; `/proc` must speak of the same.
pub fn check_pid_namespace() -> Result<(), KernelError> {
    /// `PROC_PID_INIT_INO`, `include/linux/proc_ns.h`.
    const INITIAL: &str = "pid:[4026531836]";
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if namespace.as_os_str() != INITIAL => Err(KernelError::PidNamespace),
        _ => Ok(()),
    }
}

/// Gives back what the parse of the kernel's types took: some 13 MB that the allocator would keep.
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn refused() -> KernelError {
        let error = io::Error::from_raw_os_error(libc::EPERM);
        KernelError::LockedMemory { what: "make the table x".to_owned(), error }
    }

    #[test]
    fn less_is_asked_for_until_it_fits() {
        let asked = Options { ring_bytes: 1 << 20, max_children: 16_384, ..Options::default() };
        let load = |options: &Options| if options.ring_bytes > 256 << 10 { Err(refused()) } else { Ok(7) };
        let (options, loaded) = fit(&asked, load).unwrap();
        assert_eq!((options.ring_bytes, options.max_children, loaded), (256 << 10, 4096, 7));
    }

    #[test]
    fn what_never_fits_is_told_with_the_limit_and_another_error_is_not_tried_again() {
        let asked = Options { ring_bytes: 128 << 10, max_children: 2048, ..Options::default() };
        let error = fit::<()>(&asked, |_| Err(refused())).unwrap_err().to_string();
        assert!(error.contains("ulimit -l") && error.contains("LimitMEMLOCK"), "{error}");

        let mut attempts = 0;
        let result = fit::<()>(&asked, |_| {
            attempts += 1;
            Err(KernelError::PidNamespace)
        });
        assert!(matches!(result, Err(KernelError::PidNamespace)));
        assert_eq!(attempts, 1);
    }
}
