//! Whose threads are these?

use crate::{
    detect::thread_names::name_threads,
    model::{
        inventory::{Inventory, Whereabouts},
        process::Comm,
        stack::Frame,
        thread::SeenThread,
    },
};

/// Threads that a library or runtime starts, by how their names begin (15 bytes of them are kept).
static KNOWN: [(&str, &[&str]); 18] = [
    ("jemalloc's, which forks safely", &[JEMALLOC]),
    ("gRPC's", &["grpc_", "event_engine", "default-executo", "resolver-execut", "timer_manager"]),
    ("Tokio's", &["tokio-"]),
    ("Rayon's", &["rayon"]),
    ("Polars'", &["polars-"]),
    ("librdkafka's", &["rdk:"]),
    ("PyMongo's", &["pymongo_"]),
    ("libuv's", &["libuv-worker"]),
    ("V8's", &["V8Worker", "DelayedTaskSche", "SignalInspector", "V8_"]),
    ("OpenTelemetry's", &["Otel", "otel"]),
    ("Sentry's", &["sentry", "raven-sentry"]),
    ("Datadog's", &["ddtrace", "Datadog"]),
    ("New Relic's", &["NR-"]),
    ("CUDA's", &["cuda-EvtHandlr", "cuda0"]),
    ("PyTorch's", &["pt_"]),
    (
        "Python's executors'",
        &["ExecutorManager", "QueueFeeder", "QueueManager", "ThreadPoolExec", "asyncio_"],
    ),
    ("the JVM's", &["GC Thread#", "G1 ", "VM Thread", "C1 Compiler", "C2 Compiler"]),
    ("GLib's", &["gmain", "gdbus", "pool-spawner"]),
];

const JEMALLOC: &str = "jemalloc_bg_thd";

/// What a fork means for a thread that stays behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Bearing {
    /// Fork handlers of its library see to it that nothing is missing in the child.
    Handled,
    /// The same, where the fork goes through Python.
    Ended,
    /// The same, where the fork goes through the library.
    Renewed,
    /// A child that uses the library waits for it for ever.
    Awaited,
    /// Anything: locks that it holds stay locked.
    Unknown,
}

/// A thread, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// Whose it is, for a sentence.
    pub(super) owner: Option<&'static str>,
    pub(super) bearing: Bearing,
}

/// Libraries that start threads, by how the name of their file begins, or what stands in it.
///
/// `OpenBLAS` ends its threads before a fork and starts new ones when it needs them (`openblas_fork_handler`, memory.c,
/// and `blas_thread_shutdown`, `blas_server.c`). The OpenMP of LLVM and Intel, which MKL uses, takes its locks before
/// the fork and begins anew in the child (`__kmp_register_atfork`, `z_Linux_util.cpp`). GCC's has no such handlers
/// (GCC bug 58378).
const LIBRARIES: [(&str, &str, Bearing); 5] = [
    ("openblas", "OpenBLAS's", Bearing::Handled),
    ("libomp.", "LLVM's OpenMP's", Bearing::Handled),
    ("libomp-", "LLVM's OpenMP's", Bearing::Handled),
    ("libiomp5", "Intel's OpenMP's", Bearing::Handled),
    ("libgomp", "GCC's OpenMP's", Bearing::Awaited),
];

/// Whether a child misses a thread: nothing sees to it that it has another one in its place.
pub(in crate::detect) fn is_missed(thread: SeenThread, whereabouts: &[Whereabouts]) -> bool {
    known(thread, whereabouts).bearing >= Bearing::Awaited
}

/// What is known of a thread: by what started it, by its script, else by its name.
pub(super) fn known(thread: SeenThread, whereabouts: &[Whereabouts]) -> Known {
    let at = whereabouts.iter().find(|at| at.thread.tid == thread.tid);
    let library = at.and_then(|at| at.start.as_deref()).and_then(library);
    if let Some((_, owner, bearing)) = library {
        return Known { owner: Some(owner), bearing: *bearing };
    }
    if at.is_some_and(|at| at.ends_at_forks) {
        return Known { owner: Some("gunicorn's control socket's"), bearing: Bearing::Ended };
    }
    if at.is_some_and(is_idle_of_gevent) {
        return Known { owner: Some("gevent's pool's"), bearing: Bearing::Renewed };
    }
    // jemalloc stops its threads by pthread_atfork (`jemalloc_prefork`), and gives them a name of their own.
    let is_jemalloc = thread.comm.bytes() == JEMALLOC.as_bytes();
    let bearing = if is_jemalloc { Bearing::Handled } else { Bearing::Unknown };
    Known { owner: owner(thread.comm), bearing }
}

/// The library of that path.
fn library(path: &str) -> Option<&'static (&'static str, &'static str, Bearing)> {
    let name = path.rsplit('/').next().unwrap_or_default();
    LIBRARIES.iter().find(|(part, ..)| {
        if *part == "openblas" {
            name.starts_with("lib") && name.contains(part)
        } else {
            name.starts_with(part)
        }
    })
}

/// Whether a thread of gevent's pool waits for work: then it holds nothing that a child could miss. One that works may
/// be in any library.
fn is_idle_of_gevent(at: &Whereabouts) -> bool {
    let is_in = |frame: Option<&Frame>, file: &str| {
        frame.and_then(|frame| frame.module.as_deref()).is_some_and(|module| module.ends_with(file))
    };
    let in_pool = at.script.iter().any(|frame| is_in(Some(frame), "/gevent/threadpool.py"));
    in_pool && is_in(at.script.first(), "/gevent/_threading.py")
}

/// The threads for a sentence: `libuv-worker x4, flush; among them libuv's`.
pub(super) fn described(seen: &Inventory) -> String {
    let named = name_threads(&seen.threads, &seen.occupations);
    let owned = || seen.threads.iter().map(|thread| known(*thread, &seen.whereabouts).owner);
    let mut owners: Vec<&str> = Vec::new();
    for owner in owned().flatten() {
        if !owners.contains(&owner) {
            owners.push(owner);
        }
    }
    match owners.as_slice() {
        [] => named,
        [only] if owned().all(|owner| owner.is_some()) => format!("{named}, {only}"),
        several => format!("{named}; among them {}", several.join(", ")),
    }
}

/// Who started a thread of that name.
fn owner(comm: Comm) -> Option<&'static str> {
    let begins = |starts: &&[&str]| starts.iter().any(|start| comm.bytes().starts_with(start.as_bytes()));
    KNOWN.iter().find(|(_, starts)| begins(starts)).map(|(owner, _)| *owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: u32, comm: &str) -> SeenThread {
        SeenThread { tid, comm: comm.into() }
    }

    fn at(tid: u32, start: Option<&str>, script: &[&str]) -> Whereabouts {
        let frame = |file: &&str| Frame { module: Some((*file).to_owned()), ..Frame::default() };
        Whereabouts {
            thread: thread(tid, "python"),
            start: start.map(str::to_owned),
            native: Vec::new(),
            script: script.iter().map(frame).collect(),
            ends_at_forks: false,
        }
    }

    #[test]
    fn known_threads_are_named_with_whose_they_are() {
        let threads = ["libuv-worker", "libuv-worker", "flush", "rdk:main"].map(|comm| thread(2, comm));
        let described = |threads: &[SeenThread]| {
            described(&Inventory { threads: threads.to_vec(), ..Inventory::default() })
        };
        assert_eq!(described(&threads), "libuv-worker x2, flush, rdk:main; among them libuv's, librdkafka's");
        assert_eq!(described(&threads[2..3]), "flush");
        assert_eq!(described(&threads[..2]), "libuv-worker x2, libuv's");
        let bearing = |comm| known(thread(2, comm), &[]).bearing;
        assert_eq!(bearing("jemalloc_bg_thd"), Bearing::Handled);
        assert_eq!(bearing("jemalloc"), Bearing::Unknown);
    }

    #[test]
    fn a_thread_is_judged_by_the_library_that_started_it() {
        let bearing = |start| known(thread(2, "python"), &[at(2, Some(start), &[])]).bearing;
        assert_eq!(bearing("/v/numpy.libs/libscipy_openblas64_-32a4b2a6.so"), Bearing::Handled);
        assert_eq!(bearing("/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"), Bearing::Handled);
        // What lies beside it, and an OpenBLAS that leaves its threads to GCC's OpenMP.
        assert_eq!(bearing("/usr/lib/x86_64-linux-gnu/openblas-openmp/libother.so"), Bearing::Unknown);
        assert_eq!(bearing("/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0"), Bearing::Awaited);
        assert_eq!(bearing("/usr/lib/llvm-14/lib/libomp.so.5"), Bearing::Handled);
        assert_eq!(bearing("/opt/intel/lib/libiomp5.so"), Bearing::Handled);
        assert_eq!(bearing("/usr/bin/python3.11"), Bearing::Unknown);
        // Another thread's start says nothing of this one.
        let other = at(3, Some("/v/libopenblas.so.0"), &[]);
        assert_eq!(known(thread(2, "python"), &[other]).bearing, Bearing::Unknown);
    }

    #[test]
    fn a_thread_of_gevents_pool_is_renewed_only_while_it_is_idle() {
        let (queue, pool) = ("/v/gevent/_threading.py", "/v/gevent/threadpool.py");
        let bearing = |script: &[&str]| known(thread(2, "python"), &[at(2, None, script)]).bearing;
        assert_eq!(bearing(&[queue, queue, pool, pool]), Bearing::Renewed);
        assert_eq!(bearing(&["/usr/lib/python3.11/socket.py", pool]), Bearing::Unknown);
        assert_eq!(bearing(&[pool]), Bearing::Unknown);
        assert_eq!(bearing(&[queue]), Bearing::Unknown);
    }

    #[test]
    fn no_name_is_longer_than_the_kernel_keeps() {
        assert!(KNOWN.iter().all(|(_, starts)| starts.iter().all(|start| start.len() <= 15)));
    }
}
