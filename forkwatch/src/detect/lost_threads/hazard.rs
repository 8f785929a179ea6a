//! `lost-threads`: background threads of the parent are missing in the child.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD, name_threads},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{Comm, ProcessKey},
        thread::SeenThread,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("lost-threads"),
    title: "Background threads of the parent are missing in the child",
    what: "fork copies the one thread that calls it. A library that works in a background thread (it sends metrics, \
           writes logs, fetches settings) has none in the child, while its objects look as if it had: what the \
           program hands to it piles up, or its settings never change again, and nothing says so.",
    detection: "Names of threads that the parent had at the fork and 100 ms later are looked up in a table of known \
                libraries. 30 s after the fork the child's threads are listed, and again later, at most for an hour, \
                until it has been seen to work: 1 % of a CPU or 64 KiB read and written since the look before. If \
                such a thread is missing then, and still is 30 s later, it is reported, once a day for each program \
                and name.",
    certainty: Certainty::Strong,
    certainty_reason: "That the thread is missing is certain. A child that never uses the library loses nothing, \
                       which cannot be seen; for threads that serve only those who call them (Kafka and gRPC \
                       clients, ...) a finding is heuristic, and information.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "Threads that a fork handler starts again in the child: they are there.",
        "Threads that start again when they are first needed, and so are never lost: Sentry's, PyMongo's, ddtrace's, \
         datadog's, OpenTelemetry's for spans and log records. Their names are not in the table.",
        "jemalloc's background thread: the child does its work by itself.",
        "APScheduler: a scheduler that only the parent runs is what most want.",
        "Threads that ended in the parent within 100 ms, and io_uring workers.",
        "Children that exec, end, or do nothing, such as those that save data and exit.",
        "Python before 3.14: it does not tell the kernel its threads' names, so that nothing is known of them.",
    ],
    remedies,
    links: &[
        "https://docs.python.org/3/library/os.html#os.register_at_fork",
        "https://docs.python.org/3/whatsnew/3.14.html",
    ],
    watches: "background threads of known libraries that the parent has and the child lacks",
    sees: &[(Aspect::Traffic, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the reads and writes of other users' processes are not seen: whether a child has worked is told by its CPU time alone",
    )),
    needs: &[],
    knows_threads: true,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// A background thread that a library starts once, and not again after a fork.
struct Known {
    /// How its comm begins: the kernel keeps 15 bytes of it.
    starts: &'static str,
    /// Whose it is.
    library: &'static str,
    /// What no longer happens in the child, after "the child".
    stops: &'static str,
    /// Whether only those miss it who call the library.
    on_call: bool,
    advice: &'static str,
    link: &'static str,
}

impl Known {
    fn of(comm: Comm) -> Option<&'static Self> {
        KNOWN.iter().find(|known| comm.bytes().starts_with(known.starts.as_bytes()))
    }
}

/// `tokio-rt-worker`, and `tokio-runtime-worker` in older versions (tokio, tokio/src/runtime/builder.rs): the default
/// name of a runtime's workers.
const TOKIO: Known = Known {
    starts: "tokio-rt-worker",
    library: "Tokio",
    stops: "has nobody to run the tasks of runtimes made before the fork",
    on_call: true,
    advice: "Build the runtime after the fork. In Python modules written in Rust: use the module in the child \
             alone, or start workers by forkserver or spawn.",
    link: "https://docs.rs/tokio/latest/tokio/runtime/index.html",
};

static KNOWN: [Known; 10] = [
    // OtelPeriodicExportingMetricReader (opentelemetry-python,
    // opentelemetry-sdk/src/opentelemetry/sdk/metrics/_internal/export/__init__.py). Only os.register_at_fork starts
    // it again, which a fork from C does not run, such as uWSGI's.
    Known {
        starts: "OtelPeriodicExp",
        library: "OpenTelemetry",
        stops: "exports no metrics",
        on_call: false,
        advice: "Set up the MeterProvider after the fork: in gunicorn's post_fork, in a function marked @postfork in \
                 uWSGI, where py-call-uwsgi-fork-hooks = true helps as well.",
        link: "https://opentelemetry-python.readthedocs.io/en/latest/examples/fork-process-model/README.html",
    },
    // NR-Harvest-Thread (newrelic-python-agent, newrelic/core/agent.py).
    Known {
        starts: "NR-Harvest",
        library: "New Relic",
        stops: "reports nothing to New Relic",
        on_call: false,
        advice: "Initialise the agent in each worker after the fork, or start the server through newrelic-admin \
                 run-program, and do not preload the application.",
        link: "https://docs.newrelic.com/docs/apm/agents/python-agent/",
    },
    // google.cloud.logging.Worker (python-logging,
    // google/cloud/logging_v2/handlers/transports/background_thread.py): enqueue() does not start it.
    Known {
        starts: "google.cloud.lo",
        library: "Google Cloud Logging",
        stops: "sends no log entries, and keeps them all in memory",
        on_call: false,
        advice: "Set up the logging handler in each worker after the fork, or give it the SyncTransport.",
        link: "https://cloud.google.com/python/docs/reference/logging/latest",
    },
    // ldclient.datasource.streaming and .polling (launchdarkly/python-server-sdk,
    // ldclient/impl/datasource/streaming.py and polling.py).
    Known {
        starts: "ldclient.dataso",
        library: "LaunchDarkly",
        stops: "keeps the flags as they were at the fork",
        on_call: false,
        advice: "Make the client in each worker, after the fork.",
        link: "https://launchdarkly.com/docs/sdk/server-side/python",
    },
    // rdk:main, rdk:bg, rdk:broker1 (librdkafka, rd_kafka_thread_main, rd_kafka_background_thread_main,
    // rd_kafka_broker_thread_main). All clients on it: confluent-kafka, rdkafka-ruby, php-rdkafka.
    Known {
        starts: "rdk:",
        library: "librdkafka",
        stops: "sends and fetches nothing through Kafka clients made before the fork",
        on_call: true,
        advice: "Make producers and consumers after the fork, in each worker.",
        link: "https://github.com/confluentinc/librdkafka/wiki/FAQ",
    },
    // event_engine (grpc, src/core/lib/event_engine/thread_pool/work_stealing_thread_pool.cc): with fork support it
    // stops before the fork and starts again, so that it is younger than the fork, and not in the list.
    Known {
        starts: "event_engine",
        library: "gRPC",
        stops: "cannot use gRPC channels made before the fork",
        on_call: true,
        advice: "Make channels after the fork, and set GRPC_ENABLE_FORK_SUPPORT=1 in the parent.",
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    // grpc_global_timer (grpc, src/core/lib/iomgr/timer_manager.cc), of versions before the event engine.
    Known {
        starts: "grpc_global_tim",
        library: "gRPC",
        stops: "cannot use gRPC channels made before the fork",
        on_call: true,
        advice: "Make channels after the fork, and set GRPC_ENABLE_FORK_SUPPORT=1 in the parent.",
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    TOKIO,
    Known { starts: "tokio-runtime-w", ..TOKIO },
    // gdbus (GLib, _g_dbus_shared_thread_ref, gio/gdbusprivate.c).
    Known {
        starts: "gdbus",
        library: "GLib",
        stops: "sends and gets nothing on D-Bus connections made before the fork",
        on_call: true,
        advice: "Fork before the first use of D-Bus, or exec in the child (g_spawn_async).",
        link: "https://docs.gtk.org/gio/class.DBusConnection.html",
    },
];

/// Whether a thread of this name is a loss for a child.
pub(super) fn is_known(comm: Comm) -> bool {
    Known::of(comm).is_some()
}

/// A child that works without threads that its parent has.
pub(super) struct LostCase<'a> {
    /// The parent.
    pub(super) parent: ProcessKey,
    /// Its name.
    pub(super) program_name: &'a str,
    /// The child.
    pub(super) child: ProcessKey,
    /// The missing threads, as the parent has them.
    pub(super) lost: Vec<SeenThread>,
    /// Nanoseconds since the fork.
    pub(super) age: u64,
}

/// The verdict, and how sure it is; none where nothing of it is known to matter.
pub(super) fn judge(case: LostCase<'_>) -> Option<Verdict> {
    let known: Vec<&Known> = case.lost.iter().filter_map(|thread| Known::of(thread.comm)).collect();
    let on_call = known.iter().all(|known| known.on_call);
    // What is missed for certain comes first.
    let first = known.iter().find(|known| !known.on_call).or_else(|| known.first())?;
    let summary = format!(
        "{} (pid {}) forked {}, which works without the background threads that {} had at the fork ({}): the child \
         {}{}",
        case.program_name,
        case.parent.tgid,
        case.child.tgid,
        first.library,
        name_threads(case.lost.iter().map(|thread| thread.comm)),
        first.stops,
        if on_call { ", if it uses them at all" } else { "" },
    );
    Some(Verdict {
        state: HAZARD.state,
        certainty: if on_call { Certainty::Heuristic } else { HAZARD.certainty },
        severity: if on_call { Severity::Info } else { HAZARD.severity },
        summary,
        facts: Facts {
            thread_count: u32::try_from(case.lost.len()).ok(),
            threads: case.lost,
            age: Some(case.age),
            ..Facts::default()
        },
        remedy: remedy(first.advice, first.link),
    })
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let mut remedies: Vec<_> =
        KNOWN.iter().map(|known| (known.library, remedy(known.advice, known.link))).collect();
    remedies.dedup_by_key(|(library, _)| *library);
    remedies
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_table_fit_into_a_comm() {
        for known in &KNOWN {
            assert!(Known::of(known.starts.into()).is_some_and(|found| found.library == known.library));
        }
        for (name, known) in [
            ("OtelPeriodicExportingMetricReader", true),
            ("google.cloud.logging.Worker", true),
            ("rdk:broker1001", true),
            ("OtelBatchSpanRecordProcessor", false),
            ("sentry-sdk.BackgroundWorker", false),
            ("jemalloc_bg_thd", false),
            ("", false),
        ] {
            assert_eq!(is_known(name.into()), known, "{name}");
        }
    }
}
