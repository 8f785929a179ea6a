//! The table of all metrics, for `docs/metrics.md`.

use std::{error::Error, fmt::Write, time::SystemTime};

use forkwatch_ebpf::{CgroupCounts, CloneCalls, Counters, Durations};
use prometheus::proto::MetricType;

use super::{Answering, Metrics, MetricsError, Options, RestsOn, Sources};
use crate::model::{
    counters::{KernelReading, ProgramReading},
    detector::DetectorState,
    finding::HazardId,
    process::{Comm, ProcessKey},
    resolution::Resolution,
    time::BootTime,
    worker::{Exited, Ready, WorkSource, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
};

/// Every family with its type, labels and meaning, as a Markdown table. Made by gathering all that the program can
/// export, so that it cannot differ from it.
pub fn markdown() -> Result<String, MetricsError> {
    let hazard = HazardId::new("multithreaded-fork");
    let hazards = vec![(hazard, &[Resolution::Exited][..])];
    let (hangs, given_up) = (vec![hazard], &["child"][..]);
    let options = Options { max_series: 1, by_unit: true, clone_calls: true, hazards, hangs, given_up };
    let metrics = Metrics::new(Box::new(Specimen), options)?;
    metrics.events_received(1, SystemTime::UNIX_EPOCH);
    metrics.store(0, true);
    metrics.config_reloaded(true, SystemTime::UNIX_EPOCH);
    metrics.clone_call_failed(11, "pids.max");
    for change in [
        WorkerChange::Forked { seen: true, state: WorkerState::Starting },
        WorkerChange::Ready(Ready { after: 0, exact: true, source: WorkSource::Turn }),
    ] {
        metrics.worker(&worker(1, change), SystemTime::UNIX_EPOCH);
    }
    let exited = Exited {
        end: None,
        lifetime: 0,
        state: WorkerState::Ready,
        last: None,
        stuck: None,
        said: Vec::new(),
    };
    metrics.worker(&worker(2, WorkerChange::Exited(Box::new(exited))), SystemTime::UNIX_EPOCH);
    metrics.detector("multithreaded-fork", DetectorState::On, RestsOn::default());

    let mut table = "| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for family in metrics.registry.gather() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            MetricType::SUMMARY => "summary",
            MetricType::GAUGE | MetricType::UNTYPED => "gauge",
        };
        let labels = family.get_metric().first().map_or_else(String::new, |metric| {
            metric
                .get_label()
                .iter()
                .map(|label| format!("`{}`", label.name()))
                .collect::<Vec<_>>()
                .join(", ")
        });
        // Writing to a string cannot fail.
        let _ = writeln!(table, "| `{}` | {kind} | {labels} | {} |", family.name(), family.help());
    }
    Ok(table)
}

/// A worker of gunicorn's to which this has happened.
fn worker(tgid: u32, change: WorkerChange) -> WorkerEvent {
    let process = |tgid| ProcessKey { tgid, start: BootTime(0) };
    let server = WorkersServer {
        master: process(3),
        name: "gunicorn".to_owned(),
        known: true,
        class: None,
        unit: None,
        uid: None,
    };
    let (worker, comm) = (process(tgid), Comm::default());
    WorkerEvent { at: BootTime(0), change, worker, comm, server, slot: None, replaces: None }
}

/// A reading in which everything occurs once.
pub(super) struct Specimen;

impl Sources for Specimen {
    fn kernel(&self) -> Result<KernelReading, Box<dyn Error + Send + Sync>> {
        Ok(KernelReading {
            counters: EMPTY,
            unexeced_children: 0,
            ring_size: 0,
            ring_used: 0,
            cgroups: vec![(1, CgroupCounts { copying: 0, sharing: 0 })],
            programs: vec![ProgramReading {
                name: "sched_process_fork",
                runs: 0,
                run_nanos: 0,
                recursion_misses: 0,
            }],
            statistics: true,
        })
    }

    fn answering(&self) -> Answering {
        Answering::default()
    }

    fn tasks_created(&self) -> Option<u64> {
        Some(0)
    }

    fn unit(&self, _cgroup: u64) -> Option<String> {
        Some("example.service".to_owned())
    }
}

const NO_DURATIONS: Durations = Durations { buckets: [0; forkwatch_ebpf::LATENCY_BOUNDS.len() + 1], sum: 0 };

/// Counters at 0.
pub(super) const EMPTY: Counters = Counters {
    events: [[0; forkwatch_ebpf::fate::COUNT]; forkwatch_ebpf::class::COUNT],
    outcomes: [0; forkwatch_ebpf::outcome::COUNT],
    multithreaded: 0,
    pending: 0,
    untracked: 0,
    cgroups_overflow: 0,
    wakeups: 0,
    sequence: 0,
    parent_threads: [0; forkwatch_ebpf::THREAD_BOUNDS.len() + 1],
    parent_threads_sum: 0,
    exec_latency: NO_DURATIONS,
    clone_calls: CloneCalls {
        durations: [NO_DURATIONS; forkwatch_ebpf::call::COUNT],
        failures: [0; forkwatch_ebpf::CLONE_ERRORS.len() + 1],
    },
};
