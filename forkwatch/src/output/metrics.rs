//! Prometheus metrics.
//!
//! What the kernel side counted is read when a scrape asks, so nothing here can be stale or counted twice. Label
//! values are either fixed sets, which start at 0, or bounded in number.

mod bounded;
mod clone_calls;
mod counting;
mod dashboards;
mod ends;
mod family;
mod kernel;
mod markdown;
mod observed;
mod shares;
mod units;
mod workers;

use std::{
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use forkwatch_ebpf::CgroupCounts;
use prometheus::{
    Registry, TextEncoder,
    core::{Collector, Desc},
    process_collector::ProcessCollector,
    proto::MetricFamily,
};

pub use self::{
    counting::Counting,
    dashboards::{DashboardError, UnknownMetric, dashboards},
    markdown::markdown,
};
use self::{family::Family, observed::Observed, units::Units, workers::Workers};
use crate::{
    health::Part,
    model::{
        counters::KernelReading,
        detector::DetectorState,
        event::Exit,
        finding::{Finding, HazardId},
        resolution::Resolution,
        worker::WorkerEvent,
    },
};

const UNIT_FORKS: Family<2> = Family::new(
    "forkwatch_unit_forks_total",
    "Processes created by each systemd unit: by copying forks, and by vfork and other memory-sharing clones.",
    ["unit", "kind"],
);
const KERNEL_TASKS: Family<0> = Family::new(
    "forkwatch_kernel_tasks_created_total",
    "Tasks created since boot as the kernel itself counts them (processes in /proc/stat): checks our counts.",
    [],
);

/// Why there are no metrics: a defect, as the names are fixed.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The registry refuses a collector.
    #[error("cannot register the metrics: {0}")]
    Register(#[source] prometheus::Error),
    /// The encoder refuses a family.
    #[error("cannot encode the metrics: {0}")]
    Encode(#[source] prometheus::Error),
}

/// What a scrape reads.
pub trait Sources: Send + Sync {
    /// The kernel side's counters, now.
    fn kernel(&self) -> Result<KernelReading, Box<dyn Error + Send + Sync>>;
    /// What of forkwatch itself answers, as of a moment ago.
    fn answering(&self) -> Answering;
    /// Tasks created since boot (`processes` in `/proc/stat`).
    fn tasks_created(&self) -> Option<u64>;
    /// The systemd unit, or whatever else names the cgroup with this id; asked once a cgroup.
    fn unit(&self, cgroup: u64) -> Option<String>;
}

/// What of forkwatch itself answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answering {
    /// The parts that do not.
    pub failing: Vec<Part>,
    /// Questions about processes that have not been answered yet.
    pub unanswered: u64,
    /// For how long the oldest of them has waited.
    pub lag: Duration,
    /// Living processes that are not looked into, because a look at them hung or broke.
    pub unreadable: u64,
    /// Readers that hang in such a look, and that no signal ends.
    pub lost_readers: u64,
    /// Readers that were replaced because they hung or broke.
    pub replaced_readers: u64,
    /// Whether it is told late, or not at all, which children fall asleep.
    pub sleepers_are_late: bool,
}

/// What a detector rests on, beside what comes through the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestsOn {
    /// Whether it needs answers about processes.
    pub answers: bool,
    /// How far it works while it is told late which children fall asleep; absent where it does without.
    pub late_sleepers: Option<DetectorState>,
}

impl Answering {
    fn fails(&self, part: Part) -> bool {
        self.failing.contains(&part)
    }
}

/// What is exported.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most pairs of program and unit, and most units, with series of their own (`metrics.max_series`).
    pub max_series: usize,
    /// Whether process creations are counted by unit (`metrics.by_unit`).
    pub by_unit: bool,
    /// Whether the clone-family system calls are watched (`kernel.clone_calls`).
    pub clone_calls: bool,
    /// The hazards that findings are about, and how these may end.
    pub hazards: Vec<(HazardId, &'static [Resolution])>,
    /// Those of them of which is told how many children hang now.
    pub hangs: Vec<HazardId>,
    /// The names that [`Metrics::given_up`] is called with.
    pub given_up: &'static [&'static str],
}

/// The metrics of one run of the program. Clones share everything.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    shared: Arc<Shared>,
}

struct Shared {
    sources: Box<dyn Sources>,
    options: Options,
    observed: Mutex<Observed>,
    units: Mutex<Units>,
    workers: Mutex<Workers>,
}

impl Metrics {
    /// Begins at 0.
    pub fn new(sources: Box<dyn Sources>, options: Options) -> Result<Self, MetricsError> {
        let shared = Arc::new(Shared {
            sources,
            observed: Mutex::new(Observed::new(&options)),
            units: Mutex::new(Units::new(options.max_series)),
            workers: Mutex::new(Workers::new(options.max_series)),
            options,
        });
        let registry = Registry::new();
        registry.register(Box::new(OnScrape(Arc::clone(&shared)))).map_err(MetricsError::Register)?;
        registry.register(Box::new(ProcessCollector::for_self())).map_err(MetricsError::Register)?;
        Ok(Self { registry, shared })
    }

    /// Everything, in the text format 0.0.4. Reads the [`Sources`]; takes about a millisecond.
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encode)
    }

    /// Counts a finding, a summary of repeats, or a resolution: whatever the core reports, as it reports it.
    pub fn finding(&self, finding: &Finding) {
        self.observed().finding(finding);
    }

    /// Counts a fork that was judged unsafe, at once, also where it is a repeat that the core does not report yet. `uid` is
    /// the forker's: users share the series fairly.
    pub fn unsafe_fork(&self, hazard: HazardId, program: &str, unit: Option<&str>, uid: Option<u32>) {
        self.observed().unsafe_fork(hazard, program, unit, uid);
    }

    /// Counts a finding that a suppress rule silenced.
    pub fn finding_suppressed(&self, hazard: HazardId) {
        self.observed().suppressed(hazard);
    }

    /// So many children are stuck now, and so many were when they could last be looked at; the longest since then.
    pub fn stuck(&self, hazard: HazardId, confirmed: u64, unknown: u64, since: Option<SystemTime>) {
        self.observed().stuck(hazard, confirmed, unknown, since);
    }

    /// So many connections are shared now.
    pub fn shared_connections(&self, count: usize) {
        self.observed().shared_connections = u64::try_from(count).unwrap_or(u64::MAX);
    }

    /// Counts a fork that could not be judged.
    pub fn undecided(&self, hazard: HazardId) {
        self.observed().undecided(hazard);
    }

    /// Counts something that the core gave up to stay within its bounds.
    pub fn given_up(&self, what: &'static str) {
        self.observed().given_up(what);
    }

    /// Counts a forked child that ended by a signal or with another code than 0.
    pub fn child_ended(&self, exit: &Exit) {
        if let Some(way) = ends::way(exit) {
            self.observed().child_failed(way);
        }
    }

    /// Counts what has happened to a worker that was forked at that time.
    pub fn worker(&self, event: &WorkerEvent, forked: SystemTime) {
        lock(&self.shared.workers).take(event, forked);
    }

    /// Counts records read from the ring, the malformed ones included, the last of them at `at`.
    pub fn events_received(&self, count: u64, at: SystemTime) {
        self.observed().events(count, at);
    }

    /// Counts records whose layout was not as agreed.
    pub fn events_malformed(&self, count: u64) {
        self.observed().malformed += count;
    }

    /// Counts events that the event file, or standard output, lost.
    pub fn event_file_lost(&self, count: u64) {
        self.observed().file_lost += count;
    }

    /// Counts what `forkwatch rescue` told of, by what came of it.
    pub fn rescued(&self, outcome: &'static str) {
        self.observed().rescued(outcome);
    }

    /// How many findings could not be kept so far, and whether they are kept where they were meant to be.
    pub fn store(&self, lost: u64, is_well: bool) {
        self.observed().store = Some((lost, is_well));
    }

    /// Counts a failed call of the clone family by error number and by the limit that caused it.
    pub fn clone_call_failed(&self, errno: u32, cause: &'static str) {
        self.observed().causes.count(errno, cause);
    }

    /// Tells how far a detector works here, and what it rests on. To be called for every detector at start.
    pub fn detector(&self, detector: &'static str, state: DetectorState, rests_on: RestsOn) {
        self.observed().detector(detector, state, rests_on);
    }

    /// Tells how loading the configuration went, at start and at every reload.
    pub fn config_reloaded(&self, success: bool, at: SystemTime) {
        self.observed().reload(success, at);
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        lock(&self.shared.observed)
    }
}

/// Counts stay usable whatever happened to another thread.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct OnScrape(Arc<Shared>);

impl Collector for OnScrape {
    /// None: the names are constants of ours, and which of them appear depends on the reading.
    fn desc(&self) -> Vec<&Desc> {
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Shared { sources, options, observed, units, workers } = &*self.0;
        let mut families = vec![build_info()];
        families.extend(sources.tasks_created().map(|count| KERNEL_TASKS.counter(count)));
        match sources.kernel() {
            Ok(reading) => {
                families.extend(kernel::families(&reading));
                if options.clone_calls {
                    families.extend(clone_calls::families(&reading.counters.clone_calls));
                }
                if options.by_unit {
                    let mut units = lock(units);
                    units.update(&reading.cgroups, |cgroup| sources.unit(cgroup));
                    families.push(unit_forks(&units));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot read the kernel side's counters: this scrape lacks them");
                lock(observed).read_failures += 1;
            }
        }
        let (of_workers, refused_workers) = {
            let workers = lock(workers);
            (workers.families(), workers.refused())
        };
        families.extend(of_workers);
        let refused = lock(units).refused() + refused_workers;
        families.extend(lock(observed).families(refused, &sources.answering()));
        if options.clone_calls {
            families.push(lock(observed).causes.family());
        }
        families
    }
}

fn unit_forks(units: &Units) -> MetricFamily {
    UNIT_FORKS.counters(units.totals().flat_map(|(unit, CgroupCounts { copying, sharing })| {
        [([unit, "fork"], copying), ([unit, "sharing"], sharing)]
    }))
}

/// The build script sets what the source cannot know; what it did not set is left out.
fn build_info() -> MetricFamily {
    const HELP: &str = "1, with the version, source revision and compiler of this build as labels.";
    const NAME: &str = "forkwatch_build_info";
    let version = env!("CARGO_PKG_VERSION");
    match (option_env!("FORKWATCH_REVISION"), option_env!("FORKWATCH_RUSTC")) {
        (Some(revision), Some(rust)) => Family::new(NAME, HELP, ["version", "revision", "rustversion"])
            .gauges([([version, revision, rust], 1.0)]),
        (None, Some(rust)) => {
            Family::new(NAME, HELP, ["version", "rustversion"]).gauges([([version, rust], 1.0)])
        }
        (Some(revision), None) => {
            Family::new(NAME, HELP, ["version", "revision"]).gauges([([version, revision], 1.0)])
        }
        (None, None) => Family::new(NAME, HELP, ["version"]).gauges([([version], 1.0)]),
    }
}

#[cfg(test)]
mod tests;
