//! What a worker has from its master and has not renewed: connections, and threads that it lacks.

use std::path::Path;

use super::hazard::{HAZARD, RENEWS};
use crate::{
    core::Verdict,
    detect::{
        fork_check::is_missed,
        thread_names::{name_threads, pattern},
    },
    model::{
        connection::{Peer, SharedSocket},
        finding::Facts,
        inheritance::Inheritance,
        inventory::Whereabouts,
        process::ProcessKey,
        program_name::program_name,
        thread::SeenThread,
    },
    remedy::{connection::Connection, ecosystem, service},
    workers::servers::Server,
};

/// Celery's master connects to its broker for itself, and leaves the connections to whatever it forks later.
const WITH_CONNECTIONS: [&str; 2] = ["gunicorn", "uWSGI"];
/// Packages whose threads the master has for itself.
const OF_SERVERS: [&str; 4] = ["/gunicorn/", "/celery/", "/kombu/", "/billiard/"];

/// Whether it is known what the workers of a server would have to renew.
pub(super) fn is_judged(server: &Server) -> bool {
    is_one_of(server, &RENEWS)
}

fn is_one_of(server: &Server, names: &[&str]) -> bool {
    server.known && names.iter().any(|name| server.name.ends_with(name))
}

/// What to say of a worker that has renewed nothing; none where nothing was to be renewed, or something was.
pub(super) fn judge(
    server: &Server,
    (master, worker): (ProcessKey, ProcessKey),
    seen: &Inheritance,
) -> Option<Verdict> {
    let threads = threads(seen);
    let connections = if is_one_of(server, &WITH_CONNECTIONS) { connections(seen) } else { Vec::new() };
    if has_renewed(&threads, &connections, seen) {
        return None;
    }
    let lacks = (!threads.is_empty()).then(|| {
        let named = name_threads(&threads, &seen.occupations);
        format!("has none of the threads that the master had at the fork ({named}), and none of their names")
    });
    let holds = connections.first().map(|first| {
        let more = match connections.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let service = service(&first.peer).map_or_else(String::new, |service| format!("{service} at "));
        format!(
            "holds the master's connection to {service}{}{more}, and has none of its own there",
            first.peer
        )
    });
    let words: Vec<String> = lacks.into_iter().chain(holds).collect();
    let remedy = match connections.first() {
        _ if words.is_empty() => return None,
        Some(first) if threads.is_empty() => {
            Connection::new(&first.peer, Vec::new(), seen.libraries.clone(), &seen.program).remedy()
        }
        _ => ecosystem::advice(&seen.program, &threads, &seen.occupations),
    };
    let summary = format!(
        "{} (pid {}) forked {}, a worker that has renewed nothing: it {}",
        program_name(&seen.program),
        master.tgid,
        worker.tgid,
        words.join("; and it "),
    );
    Some(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts {
            thread_count: u32::try_from(threads.len()).ok().filter(|count| *count > 0),
            occupations: seen.occupations.clone(),
            threads,
            ..Facts::default()
        },
        remedy,
    })
}

/// Threads of the master that a child of it lacks and that the application may miss.
fn threads(seen: &Inheritance) -> Vec<SeenThread> {
    let at = |thread: &SeenThread| seen.whereabouts.iter().find(|at| at.thread == *thread);
    let exe = seen.program.exe.as_deref();
    let is_of_application = |thread: &SeenThread| at(thread).is_some_and(|at| runs_application(at, exe));
    let missed = |thread: &&SeenThread| is_of_application(thread) && is_missed(**thread, &seen.whereabouts);
    seen.threads.iter().filter(missed).copied().collect()
}

/// Connections of the application that both hold.
fn connections(seen: &Inheritance) -> Vec<&SharedSocket> {
    seen.connections.iter().filter(|socket| is_of_client(socket)).collect()
}

/// Whether the worker has a thread, or a connection, in place of one of these.
fn has_renewed(threads: &[SeenThread], connections: &[&SharedSocket], seen: &Inheritance) -> bool {
    let own: Vec<String> = seen.own_threads.iter().map(|name| pattern(name)).collect();
    threads.iter().any(|thread| own.contains(&pattern(&thread.name(&seen.occupations))))
        || connections.iter().any(|socket| seen.own_peers.contains(&socket.peer))
}

/// Whether a thread is the application's, or a library's for it, and not the server's own: that one is in the code of the
/// server.
fn runs_application(at: &Whereabouts, exe: Option<&Path>) -> bool {
    let outermost = at.script.iter().rev().find(|frame| !frame.is_of_interpreter());
    match outermost.and_then(|frame| frame.module.as_deref()) {
        Some(module) => !OF_SERVERS.iter().any(|package| module.contains(package)),
        // All of its calls are the interpreter's own, as those of an idle thread of a pool are.
        None if !at.script.is_empty() => true,
        None => at.start.as_deref().zip(exe).is_some_and(|(start, exe)| Path::new(start) != exe),
    }
}

/// Whether a connection is one that an application makes as a client. Of sockets in the file system those of known services
/// count: the others are the system's log, its bus and its manager.
fn is_of_client(SharedSocket { peer, accepted, .. }: &SharedSocket) -> bool {
    matches!(peer, Peer::Tcp(_)) && !accepted || service(peer).is_some()
}
