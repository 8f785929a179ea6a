//! `lost-threads`: background threads of the parent are missing in the child.

use crate::{
    core::Verdict,
    detect::{
        Hazard, WITH_CHILD,
        calls::{is, module_starts, name_of, named},
        thread_names::name_threads,
    },
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        lock::ThreadAt,
        process::{Comm, ProcessKey, escape},
        stack::Frame,
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
                libraries. 30 s after the fork the child's threads are listed. They are listed again, for an hour at \
                most, until the child has been seen to work: 1 % of a CPU, or 64 KiB read and written, since the \
                look before. If such a thread is missing then, and still is 30 s later, it is reported, once a day \
                for each program and name. It is reported sooner if a thread of the child waits for it: if two \
                looks, 5 s apart, find the same thread in the same call of librdkafka, Tokio, gRPC, ZeroMQ or GLib, \
                whatever time limit each of its short waits has. No table knows the threads of a program's own, which CPython \
                or CRuby runs. They are reported in two cases. If one takes from a queue.Queue of CPython's, as a \
                QueueListener does, or from that of a pool of threads, the child's copy of the queue is looked at: \
                it is reported if ten items were put there and none was taken in four looks, 5 s apart. That is \
                suspected, and strong. Or if a thread that a server has started in the child waits without end in \
                the file in which the missing thread worked, at another line, as two looks 30 s apart see it. That \
                is suspected, and heuristic.",
    certainty: Certainty::Strong,
    certainty_reason: "That the thread is missing is certain. A child that never uses the library loses nothing, \
                       which cannot be seen; for threads that serve only those who call them (Kafka and gRPC \
                       clients, ...) a finding is heuristic, and information, unless the child is seen to wait for \
                       them.",
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
        "A child that has made a client of its own, and waits in it: it has the client's threads.",
        "A queue that a thread of the child's own empties, or the child itself, and a multiprocessing.Queue, from \
         which the parent takes.",
        "An idle thread that was started from the file in which it waits, and one that was started again in the child.",
        "Python before 3.14: it does not tell the kernel its threads' names, so that nothing is known of them.",
    ],
    remedies,
    links: &[
        "https://docs.python.org/3/library/os.html#os.register_at_fork",
        "https://docs.python.org/3/whatsnew/3.14.html",
    ],
    watches: "background threads of known libraries that the parent has and the child lacks",
    sees: &[
        (Aspect::Traffic, Wanted::Helps),
        (Aspect::Calls, Wanted::Helps),
        (Aspect::Memory, Wanted::Helps),
    ],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the reads and writes of other users' processes are not seen, nor are their calls: whether a child has worked is told by its CPU time alone",
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
    /// The name of the library, for people.
    library: &'static str,
    /// What no longer happens in the child, after "the child".
    stops: &'static str,
    /// Whether only those miss it who call the library.
    on_call: bool,
    /// The calls in which a thread waits for what they do: functions, by how their names begin.
    functions: &'static [&'static str],
    /// The same: any call in a library whose file's name begins so.
    libraries: &'static [&'static str],
    /// The same: functions of scripts, each with the end of the file's path.
    scripts: &'static [(&'static str, &'static str)],
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
    // Not of a runtime of one thread, which whoever waits runs himself.
    functions: &["tokio::runtime::scheduler::multi_thread::"],
    libraries: &[],
    scripts: &[],
    advice: "Build the runtime after the fork. In Python modules written in Rust: use the module in the child \
             alone, or start workers by forkserver or spawn.",
    link: "https://docs.rs/tokio/latest/tokio/runtime/index.html",
};

/// Where grpcio waits for an answer: around the other thread that gets it (grpc, `src/python/grpcio/grpc/_common.py`), or in
/// the call itself, which drives the queue of the call's own events (`_channel.py`).
const GRPC_WAITS: [(&str, &str); 4] = [
    ("_wait_once", "/grpc/_common.py"),
    ("wait", "/grpc/_common.py"),
    ("_blocking", "/grpc/_channel.py"),
    ("__call__", "/grpc/_channel.py"),
];

static KNOWN: [Known; 11] = [
    // OtelPeriodicExportingMetricReader (opentelemetry-python,
    // opentelemetry-sdk/src/opentelemetry/sdk/metrics/_internal/export/__init__.py). Only os.register_at_fork starts
    // it again, which a fork from C does not run, such as uWSGI's.
    Known {
        starts: "OtelPeriodicExp",
        library: "OpenTelemetry",
        stops: "exports no metrics",
        on_call: false,
        functions: &[],
        libraries: &[],
        scripts: &[],
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
        functions: &[],
        libraries: &[],
        scripts: &[],
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
        functions: &[],
        libraries: &[],
        scripts: &[],
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
        functions: &[],
        libraries: &[],
        scripts: &[],
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
        functions: &["rd_kafka_"],
        libraries: &["librdkafka"],
        scripts: &[],
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
        functions: &[],
        libraries: &[],
        scripts: &GRPC_WAITS,
        advice: "Make channels after the fork, and set GRPC_ENABLE_FORK_SUPPORT=1 in the parent.",
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    // grpc_global_timer (grpc, src/core/lib/iomgr/timer_manager.cc), of versions before the event engine.
    Known {
        starts: "grpc_global_tim",
        library: "gRPC",
        stops: "cannot use gRPC channels made before the fork",
        on_call: true,
        functions: &[],
        libraries: &[],
        scripts: &GRPC_WAITS,
        advice: "Make channels after the fork, and set GRPC_ENABLE_FORK_SUPPORT=1 in the parent.",
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    // ZMQbg/IO/0 and ZMQbg/Reaper (zeromq/libzmq, src/ctx.cpp, `start_thread`). In a forked child every call on a socket of
    // the parent's fails with EINTR (src/signaler.cpp), which most bindings take for a signal and try again, for ever.
    Known {
        starts: "ZMQbg/",
        library: "ZeroMQ",
        stops: "sends and gets nothing through ZeroMQ contexts made before the fork, and may spin while it tries",
        on_call: true,
        functions: &["zmq_"],
        libraries: &["libzmq"],
        scripts: &[],
        advice: "Make the context and its sockets after the fork, in each process.",
        link: "https://libzmq.readthedocs.io/en/latest/zmq_ctx_new.html",
    },
    TOKIO,
    Known { starts: "tokio-runtime-w", ..TOKIO },
    // gdbus (GLib, _g_dbus_shared_thread_ref, gio/gdbusprivate.c).
    Known {
        starts: "gdbus",
        library: "GLib",
        stops: "sends and gets nothing on D-Bus connections made before the fork",
        on_call: true,
        functions: &["g_dbus_connection_call_sync", "g_dbus_connection_send_message_with_reply_sync"],
        libraries: &[],
        scripts: &[],
        advice: "Fork before the first use of D-Bus, or exec in the child (g_spawn_async).",
        link: "https://docs.gtk.org/gio/class.DBusConnection.html",
    },
];

/// Whether a thread of this name is a loss for a child.
pub(super) fn is_known(comm: Comm) -> bool {
    Known::of(comm).is_some()
}

/// Whether a child with threads of these names lacks this one: who has made a client of its own since the fork has the
/// threads of that, under names that may differ by a number.
pub(super) fn is_missing(thread: Comm, comms: &[Comm]) -> bool {
    let of = |comm: Comm| Known::of(comm).map(|known| known.library);
    !comms.iter().any(|comm| *comm == thread || of(*comm).is_some() && of(*comm) == of(thread))
}

/// Whether it can be seen that a child waits for what such a thread does.
pub(super) fn may_be_waited_for(comm: Comm) -> bool {
    Known::of(comm).is_some_and(|known| !known.functions.is_empty() || !known.scripts.is_empty())
}

/// A thread of a child in a call that only threads would serve which the child does not have.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Wait {
    library: &'static str,
    thread: SeenThread,
    /// The call, and who made it.
    call: String,
    caller: Option<String>,
}

impl Wait {
    /// Whether two looks have seen the same thread wait for the same.
    pub(super) fn goes_on(&self, later: &Self) -> bool {
        (self.library, self.thread.tid, &self.call) == (later.library, later.thread.tid, &later.call)
    }
}

/// A thread at these places that waits for one of those that are missing.
pub(super) fn wait(missing: &[SeenThread], places: &[ThreadAt]) -> Option<Wait> {
    let known = missing.iter().filter_map(|thread| Known::of(thread.comm));
    known.into_iter().find_map(|known| places.iter().find_map(|place| waits_for(known, place)))
}

/// The outermost call into the library is the one that the program has made.
fn waits_for(known: &Known, place: &ThreadAt) -> Option<Wait> {
    let native = &place.stack.frames;
    let script = place.script.as_ref().map_or(&[][..], |script| &script.frames);
    let is_native = |frame: &Frame| {
        let is_known = |name: &str| known.functions.iter().any(|start| name.starts_with(start));
        name_of(frame).is_some_and(is_known) || module_starts(frame, known.libraries)
    };
    let is_script = |frame: &Frame| known.scripts.iter().any(|(function, file)| is(frame, function, file));
    let (call, callers) = if let Some(index) = native.iter().rposition(is_native) {
        let frame = native.get(index)?;
        // Without symbols, or where its stack could not be followed further, only the library is known.
        let call = frame.function.as_deref().map_or_else(|| known.library.to_owned(), escape);
        (call, if script.is_empty() { native.get(index + 1..)? } else { script })
    } else {
        let index = script.iter().rposition(is_script)?;
        (named(script.get(index)?)?, script.get(index + 1..)?)
    };
    Some(Wait { library: known.library, thread: place.thread, call, caller: callers.iter().find_map(named) })
}

/// A child that works without threads that its parent has.
pub(super) struct LostCase<'a> {
    /// The process that forked the child.
    pub(super) parent: ProcessKey,
    /// The name that the parent's program goes by in metrics.
    pub(super) program_name: &'a str,
    /// The forked child: its tgid, and when it started.
    pub(super) child: ProcessKey,
    /// The missing threads, as the parent has them.
    pub(super) lost: Vec<SeenThread>,
    /// What it waits for in vain, where two looks have seen it wait for the same.
    pub(super) wait: Option<Wait>,
    /// Nanoseconds since the fork.
    pub(super) age: u64,
}

/// The verdict, and how sure it is; none where nothing of it is known to matter.
pub(super) fn judge(case: LostCase<'_>) -> Option<Verdict> {
    let LostCase { parent, program_name, child, lost, wait, age } = case;
    let known: Vec<&Known> = lost.iter().filter_map(|thread| Known::of(thread.comm)).collect();
    let waited_for = wait.as_ref().and_then(|wait| known.iter().find(|known| known.library == wait.library));
    let is_doubtful = waited_for.is_none() && known.iter().all(|known| known.on_call);
    // What is missed for certain comes first.
    let first = waited_for.or_else(|| known.iter().find(|known| !known.on_call)).or_else(|| known.first())?;
    let wait = wait.filter(|_| waited_for.is_some());
    let does = if wait.is_some() { "waits for" } else { "works without" };
    let (in_call, note) = match &wait {
        Some(Wait { thread, call, caller, .. }) => {
            let by = caller.as_ref().map_or_else(String::new, |caller| format!(", called by {caller}"));
            let note = format!("thread {} ({}) was seen in {call} twice{by}", thread.tid, thread.comm);
            (format!("; it is in {call}{by}"), Some(note))
        }
        None if is_doubtful => (", if it uses them at all".to_owned(), None),
        None => (String::new(), None),
    };
    let summary = format!(
        "{program_name} (pid {}) forked {}, which {does} the background threads that {} had at the fork ({}): the \
         child {}{in_call}",
        parent.tgid,
        child.tgid,
        first.library,
        name_threads(&lost, &[]),
        first.stops,
    );
    Some(Verdict {
        state: HAZARD.state,
        certainty: if is_doubtful { Certainty::Heuristic } else { HAZARD.certainty },
        severity: if is_doubtful { Severity::Info } else { HAZARD.severity },
        summary,
        facts: Facts {
            thread_count: u32::try_from(lost.len()).ok(),
            threads: lost,
            age: Some(age),
            notes: note.into_iter().collect(),
            ..Facts::default()
        },
        remedy: remedy(first.advice, first.link),
    })
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let mut remedies: Vec<_> =
        KNOWN.iter().map(|known| (known.library, remedy(known.advice, known.link))).collect();
    remedies.dedup_by_key(|(library, _)| *library);
    remedies.push(("Python's QueueListener", super::backlog::listener()));
    remedies.push(("Python's ThreadPoolExecutor", super::backlog::executor()));
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
