//! What an event loop says about a fork.

use super::{
    Reason, Weight,
    loops::{Manner, RunningLoop, running_loops},
    words::{GEVENT_OS, OF_GEVENT, counted},
};
use crate::{
    detect::multithreaded_fork::BY_DESIGN,
    model::{
        inventory::{Events, Inventory, Waiting},
        process::escape,
        thread::SeenThread,
    },
    remedy::remedy,
};

/// Servers that fork from their event loop, and whose children close or leave it.
const LOOPS_BY_DESIGN: [&str; 2] = ["postgres", "systemd"];
/// The same, by how their names begin: a version follows.
const LOOPS_BY_DESIGN_START: [&str; 2] = ["uwsgi", "php-fpm"];

/// The reason that the event loop is, running or not.
pub(super) fn event_loop(seen: &Inventory, name: &str) -> Option<Reason> {
    let judged = judge_loop(seen, name)?;
    let remedy = match judged.manner {
        Manner::ForksByDesign => remedy(
            "Nothing, as long as no module enters the loop in the child or changes what it watches.",
            "https://man7.org/linux/man-pages/man7/epoll.7.html",
        ),
        Manner::Renewed => remedy(OF_GEVENT, GEVENT_OS),
        Manner::Shared => remedy(
            "Fork before the loop starts, or have workers exec (posix_spawn, subprocess, the start method \
             forkserver or spawn). Where it must be fork, the child first renews the loop: uv_loop_fork, \
             event_reinit, ev_loop_fork; asyncio has nothing of the kind.",
            "https://docs.libuv.org/en/v1.x/loop.html#c.uv_loop_fork",
        ),
    };
    let why = match judged.manner {
        Manner::Renewed => {
            "gevent renews its loop in the child. But the greenlets are copied, too: what they wait for goes on in \
             both processes, each of which serves what was meant for one, once the child enters the loop."
        }
        Manner::Shared | Manner::ForksByDesign => {
            "A child gets the same instance, not one of its own: what it adds or removes there it changes for the \
             parent, each takes events that were meant for the other, and a loop that was entered goes on in both."
        }
    };
    Some(Reason { id: "event-loop", weight: judged.weight, what: judged.what, why, remedy })
}

/// What is to be said of the event loop.
struct JudgedLoop {
    weight: Weight,
    what: String,
    manner: Manner,
}

fn judge_loop(seen: &Inventory, name: &str) -> Option<JudgedLoop> {
    let events = &seen.events;
    let count =
        |count: u32, what: &str| (count > 0).then(|| format!("{what} {}", counted(count, "instance")));
    // A loop of Python's waits in one instance.
    let ended =
        seen.whereabouts.iter().filter(|at| at.ends_at_forks && RunningLoop::of(at).is_some()).count();
    let epoll = events.epoll.saturating_sub(u32::try_from(ended).unwrap_or(u32::MAX));
    let instances: Vec<String> =
        [count(epoll, "epoll:"), count(events.io_uring, "io_uring:")].into_iter().flatten().collect();
    let instances = instances.join(", ");
    let judged = |weight, what, manner| Some(JudgedLoop { weight, what, manner });
    // One that is shared weighs more than one that is renewed.
    let running = lasting_loops(seen).min_by_key(|running| running.manner != Manner::Shared);
    if let Some(running) = running {
        let waits = events.waiting.iter().any(|waiting| waiting.thread.tid == running.thread.tid);
        let does = if waits { "waits" } else { "is busy" };
        let thread = format!("thread {} ({})", running.thread.tid, running.thread.comm);
        let (of, function) = (running.of, escape(running.function.as_bytes()));
        return match running.manner {
            Manner::Shared => judged(
                Weight::Unsafe,
                format!("an event loop runs ({of}): {thread} {does} in its {function}"),
                running.manner,
            ),
            Manner::Renewed => judged(
                Weight::Warning,
                format!("gevent's event loop runs: {thread} {does} in it"),
                running.manner,
            ),
            Manner::ForksByDesign => judged(
                Weight::Info,
                format!("{of} {does} ({thread}); it forks out of its loop by design"),
                running.manner,
            ),
        };
    }
    if instances.is_empty() {
        return None;
    }
    if forks_by_design(name) {
        let what =
            format!("an event loop is there ({instances}); this server's children leave it alone by design");
        return judged(Weight::Info, what, Manner::ForksByDesign);
    }
    if seen.has_gevent {
        let what = format!("gevent's event loop is there ({instances})");
        return judged(Weight::Warning, what, Manner::Renewed);
    }
    let mut waiting = events.waiting.iter().filter(|waiting| !ends(waiting.thread, seen)).peekable();
    let first = waiting.peek().copied();
    let what = match (waiting.find(|waiting| watches_others(waiting, events)), first) {
        (Some(Waiting { thread, .. }), _) => {
            let what = format!(
                "an event loop runs ({instances}): thread {} ({}) waits in it",
                thread.tid, thread.comm
            );
            return judged(Weight::Unsafe, what, Manner::Shared);
        }
        (None, Some(Waiting { thread, .. })) => format!(
            "there are means for an event loop ({instances}); thread {} ({}) waits there, but for nobody beside the \
             process itself",
            thread.tid, thread.comm
        ),
        (None, None) => format!(
            "there are means for an event loop ({instances}), but no thread waits there, and none was seen in the \
             code of a known loop"
        ),
    };
    judged(Weight::Warning, what, Manner::Shared)
}

/// Whether it is known whose loop it is, so that the stacks could tell nothing new.
pub(super) fn is_known(seen: &Inventory, name: &str) -> bool {
    seen.has_gevent || forks_by_design(name) || lasting_loops(seen).next().is_some()
}

/// The loops that run and that a fork would find.
fn lasting_loops(seen: &Inventory) -> impl Iterator<Item = RunningLoop<'_>> {
    running_loops(seen).filter(|running| !ends(running.thread, seen))
}

/// Whether a thread ends before each fork, and its loop with it.
fn ends(thread: SeenThread, seen: &Inventory) -> bool {
    seen.whereabouts.iter().any(|at| at.thread == thread && at.ends_at_forks)
}

fn forks_by_design(name: &str) -> bool {
    BY_DESIGN.contains(&name)
        || LOOPS_BY_DESIGN.contains(&name)
        || LOOPS_BY_DESIGN_START.iter().any(|start| name.starts_with(start))
}

/// Whether somebody outside of the process can set off what a thread waits for. What was not looked into may be
/// anything.
fn watches_others(waiting: &Waiting, events: &Events) -> bool {
    let Some(fd) = waiting.epoll else { return true };
    let instance = events.instances.iter().find(|instance| instance.fd == fd);
    instance.is_none_or(|instance| instance.outside > 0)
}
