//! Whose threads are these?

use super::super::name_threads;
use crate::model::{evidence::SeenThread, process::Comm};

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

/// Whether a thread's library stops it before a fork and takes its locks: jemalloc does so by `pthread_atfork`
/// (`jemalloc_prefork`).
pub(super) fn is_fork_safe(comm: Comm) -> bool {
    comm.bytes() == JEMALLOC.as_bytes()
}

/// The threads for a sentence: `libuv-worker x4, flush; among them libuv's`.
pub(super) fn described(threads: &[SeenThread]) -> String {
    let named = name_threads(threads.iter().map(|thread| thread.comm));
    let mut owners: Vec<&str> = Vec::new();
    for owner in threads.iter().filter_map(|thread| owner(thread.comm)) {
        if !owners.contains(&owner) {
            owners.push(owner);
        }
    }
    if owners.is_empty() { named } else { format!("{named}; among them {}", owners.join(", ")) }
}

/// Who started a thread of that name.
fn owner(comm: Comm) -> Option<&'static str> {
    let begins = |starts: &&[&str]| starts.iter().any(|start| comm.bytes().starts_with(start.as_bytes()));
    KNOWN.iter().find(|(_, starts)| begins(starts)).map(|(owner, _)| *owner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_threads_are_named_with_whose_they_are() {
        let threads = ["libuv-worker", "libuv-worker", "flush", "rdk:main"]
            .map(|comm| SeenThread { tid: 2, comm: comm.into() });
        assert_eq!(described(&threads), "libuv-worker x2, flush, rdk:main; among them libuv's, librdkafka's");
        assert_eq!(described(&threads[2..3]), "flush");
        assert!(is_fork_safe("jemalloc_bg_thd".into()) && !is_fork_safe("jemalloc".into()));
    }

    #[test]
    fn no_name_is_longer_than_the_kernel_keeps() {
        assert!(KNOWN.iter().all(|(_, starts)| starts.iter().all(|start| start.len() <= 15)));
    }
}
