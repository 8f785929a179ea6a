//! The families that a reading of the kernel's counters gives.

use forkwatch_ebpf::{Counters, THREAD_BOUNDS, class, fate, kind, outcome};
use prometheus::proto::MetricFamily;

use super::family::{Buckets, Family, float, seconds};
use crate::model::{
    counters::{KernelReading, ProgramReading},
    event::LossReason,
};

/// Names of the classes of event, by [`class`]: the kinds of clone, then all others.
const CLASSES: [&str; class::COUNT] = [
    "fork",
    "shared-memory",
    "vfork",
    "thread",
    "kernel",
    "worker",
    "exec",
    "exit",
    "clone-call",
    "signal",
    "socket-use",
];
/// Names of the outcomes, by [`outcome`].
const OUTCOMES: [&str; outcome::COUNT] = ["exec", "late-exec", "exit", "late-exit", "killed"];

const FORKS: Family<1> = Family::new(
    "forkwatch_forks_total",
    "Tasks created, by kind. Exact: the sum grows as forkwatch_kernel_tasks_created_total does.",
    ["kind"],
);
const OUTCOMES_OF_FORKS: Family<1> = Family::new(
    "forkwatch_fork_outcomes_total",
    "Copying forks that ended, by how: exec or exit within the grace, or late, or killed by a signal.",
    ["outcome"],
);
const CONDITIONS: Family<1> = Family::new(
    "forkwatch_fork_conditions_total",
    "Copying forks in a state that is a hazard unless the child execs or ends soon, by condition.",
    ["condition"],
);
const PARENT_THREADS: Family<0> = Family::new(
    "forkwatch_parent_threads",
    "Live threads of the parent at each copying fork, kernel workers excluded.",
    [],
);
const EXEC_LATENCY: Family<0> = Family::new(
    "forkwatch_fork_to_exec_duration_seconds",
    "Time from a copying fork to the child's first exec, for those that exec.",
    [],
);
const UNEXECED: Family<0> = Family::new(
    "forkwatch_unexeced_children",
    "Forked and never exec'd processes that live now and are followed.",
    [],
);
const UNTRACKED: Family<0> = Family::new(
    "forkwatch_tracking_dropped_total",
    "Children that are not followed, because kernel.max_children are: how they end is counted, but no event tells it.",
    [],
);
const SEEN: Family<1> = Family::new(
    "forkwatch_events_seen_total",
    "Events that the kernel side saw, by class. Summed over all labels it is submitted plus filtered plus dropped.",
    ["class"],
);
const SUBMITTED: Family<1> =
    Family::new("forkwatch_events_submitted_total", "Events whose record went into the ring.", ["class"]);
const FILTERED: Family<1> = Family::new(
    "forkwatch_events_filtered_total",
    "Events that nobody had asked for: they are counted in the kernel and need no record.",
    ["class"],
);
const DROPPED: Family<1> = Family::new(
    "forkwatch_events_dropped_total",
    "Events whose record was lost, by reason: the ring was full, or kept its rest for hazardous forks.",
    ["reason"],
);
const RING_SIZE: Family<0> =
    Family::new("forkwatch_ring_size_bytes", "Size of the ring between kernel and user side.", []);
const RING_USED: Family<0> =
    Family::new("forkwatch_ring_used_bytes", "Bytes in the ring that have not been read yet.", []);
const WAKEUPS: Family<0> = Family::new(
    "forkwatch_wakeups_total",
    "Times the kernel side woke the user side: this is what watching costs, not the records.",
    [],
);
const UNITS_OVERFLOW: Family<0> = Family::new(
    "forkwatch_unit_forks_uncounted_total",
    "Process creations missing from forkwatch_unit_forks_total because the kernel's table of cgroups was full.",
    [],
);
const RUNS: Family<1> = Family::new(
    "forkwatch_bpf_program_runs_total",
    "Runs of each BPF program; they grow only while forkwatch_bpf_statistics_enabled is 1.",
    ["program"],
);
const RUN_SECONDS: Family<1> = Family::new(
    "forkwatch_bpf_program_run_seconds_total",
    "Time spent in each BPF program; it grows only while forkwatch_bpf_statistics_enabled is 1.",
    ["program"],
);
const RECURSION_MISSES: Family<1> = Family::new(
    "forkwatch_bpf_program_recursion_misses_total",
    "Runs that the kernel skipped because the program was running on that CPU already: events never seen.",
    ["program"],
);
const STATISTICS: Family<0> = Family::new(
    "forkwatch_bpf_statistics_enabled",
    "Whether the kernel times BPF programs (kernel.bpf_stats_enabled).",
    [],
);

/// All families of a reading, those excepted that are there only on request.
pub(super) fn families(reading: &KernelReading) -> Vec<MetricFamily> {
    let KernelReading { counters, unexeced_children, ring_size, ring_used, cgroups: _, programs, statistics } =
        reading;
    let mut families = of_counters(counters);
    families.extend([
        UNEXECED.gauge(float(*unexeced_children)),
        RING_SIZE.gauge(float(*ring_size)),
        RING_USED.gauge(float(*ring_used)),
        STATISTICS.gauge(f64::from(u8::from(*statistics))),
    ]);
    families.extend(of_programs(programs));
    families
}

fn of_counters(counters: &Counters) -> Vec<MetricFamily> {
    let Counters {
        events,
        outcomes,
        multithreaded,
        pending,
        untracked,
        cgroups_overflow,
        wakeups,
        sequence: _,
        parent_threads,
        parent_threads_sum,
        exec_latency,
        clone_calls: _,
    } = counters;
    let seen = || CLASSES.iter().zip(events).map(|(class, fates)| ([*class], fates.iter().sum()));
    let by_fate = |fate: usize| {
        let counts = events.iter().map(move |fates| fates.get(fate).copied().unwrap_or_default());
        CLASSES.iter().map(|class| [*class]).zip(counts)
    };
    let dropped = |fate: usize| by_fate(fate).map(|(_, count)| count).sum();
    vec![
        FORKS.counters(seen().take(kind::COUNT)),
        OUTCOMES_OF_FORKS
            .counters(OUTCOMES.iter().zip(outcomes).map(|(outcome, count)| ([*outcome], *count))),
        CONDITIONS.counters([(["other-threads"], *multithreaded), (["pending-signals"], *pending)]),
        PARENT_THREADS.histogram(Buckets {
            bounds: THREAD_BOUNDS.iter().copied().map(f64::from).collect(),
            counts: parent_threads,
            sum: float(*parent_threads_sum),
        }),
        EXEC_LATENCY.histogram(Buckets::of_durations(exec_latency)),
        UNTRACKED.counter(*untracked),
        SEEN.counters(seen()),
        SUBMITTED.counters(by_fate(fate::SUBMITTED)),
        FILTERED.counters(by_fate(fate::FILTERED)),
        DROPPED.counters([
            ([LossReason::RingFull.name()], dropped(fate::DROPPED_FULL)),
            ([LossReason::PlainShed.name()], dropped(fate::DROPPED_PLAIN)),
        ]),
        WAKEUPS.counter(*wakeups),
        UNITS_OVERFLOW.counter(*cgroups_overflow),
    ]
}

fn of_programs(programs: &[ProgramReading]) -> [MetricFamily; 3] {
    [
        RECURSION_MISSES.counters(programs.iter().map(|program| ([program.name], program.recursion_misses))),
        RUNS.counters(programs.iter().map(|program| ([program.name], program.runs))),
        RUN_SECONDS
            .counters_of_floats(programs.iter().map(|program| ([program.name], seconds(program.run_nanos)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::CloneKind;

    #[test]
    fn the_names_follow_the_wire_format() {
        for (index, name) in [
            (kind::COPYING, "fork"),
            (kind::SHARED_MEMORY, CloneKind::SharedMemory.name()),
            (kind::VFORK, CloneKind::Vfork.name()),
            (kind::KERNEL, CloneKind::Kernel.name()),
        ] {
            assert_eq!(CLASSES[usize::from(index)], name);
        }
        assert_eq!(CLASSES[usize::from(kind::THREAD)], "thread");
        assert_eq!(CLASSES[usize::from(kind::WORKER)], "worker");
        assert_eq!((CLASSES[class::EXEC], CLASSES[class::EXIT]), ("exec", "exit"));
        assert_eq!(CLASSES[class::CLONE_CALL], "clone-call");
        assert_eq!((CLASSES[class::SIGNAL], CLASSES[class::SOCKET]), ("signal", "socket-use"));
        assert_eq!(OUTCOMES[outcome::EXEC], "exec");
        assert_eq!(OUTCOMES[outcome::LATE_EXEC], "late-exec");
        assert_eq!(OUTCOMES[outcome::EXIT], "exit");
        assert_eq!(OUTCOMES[outcome::LATE_EXIT], "late-exit");
        assert_eq!(OUTCOMES[outcome::KILLED], "killed");
    }
}
