//! Event loops that run: those whose code a thread is in, whatever it does there at the moment.

use crate::model::{
    inventory::{Inventory, Whereabouts},
    stack::Frame,
    thread::SeenThread,
};

/// What a fork out of a running loop comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The child goes on in a loop that is the parent's too.
    Shared,
    /// Its makers renew it in the child.
    Renewed,
    /// It is there to fork, and its children leave it.
    ForksByDesign,
}

/// An event loop that a thread is in.
#[derive(Clone, Copy, Debug)]
pub struct RunningLoop<'a> {
    /// The thread.
    pub thread: SeenThread,
    /// Whose loop it is.
    pub of: &'static str,
    /// The function of the loop, as its author called it.
    pub function: &'a str,
    /// What a fork out of it comes to.
    pub(super) manner: Manner,
}

/// Functions of a script that return only when their loop has ended.
struct Script {
    of: &'static str,
    /// How the path of the file ends.
    file: &'static str,
    functions: &'static [&'static str],
    manner: Manner,
}

const fn script(of: &'static str, file: &'static str, functions: &'static [&'static str]) -> Script {
    Script { of, file, functions, manner: Manner::Shared }
}

const FORK_SERVER: &str = "/multiprocessing/forkserver.py";

/// The loops of Python. Those written in C are known by what they are called through, or by [`NATIVE`].
static SCRIPTS: [Script; 15] = [
    script("asyncio", "/asyncio/base_events.py", &["run_forever", "_run_once", "run_until_complete"]),
    script("asyncio", "/asyncio/runners.py", &["run"]),
    script("uvloop", "/uvloop/__init__.py", &["run"]),
    script("Twisted", "/twisted/internet/base.py", &["mainLoop", "run"]),
    script("Twisted", "/twisted/internet/_glibbase.py", &["run"]),
    script("Twisted", "/twisted/internet/asyncioreactor.py", &["run"]),
    script("Tornado", "/tornado/ioloop.py", &["start"]),
    script("Trio", "/trio/_core/_run.py", &["run", "unrolled_run"]),
    script("Curio", "/curio/kernel.py", &["run", "_kernel_loop"]),
    script("kombu", "/kombu/asynchronous/hub.py", &["run_forever", "run_once", "create_loop"]),
    script("Celery", "/celery/worker/loops.py", &["asynloop"]),
    script("asyncore", "/asyncore.py", &["loop"]),
    script("Eventlet", "/eventlet/hubs/hub.py", &["run"]),
    Script { of: "gevent", file: "/gevent/hub.py", functions: &["run"], manner: Manner::Renewed },
    Script {
        of: "multiprocessing's fork server",
        file: FORK_SERVER,
        functions: &["main"],
        manner: Manner::ForksByDesign,
    },
];

/// The same in libraries of C, by the names that they export.
static NATIVE: [(&str, &[&str]); 5] = [
    ("libuv", &["uv_run"]),
    ("libev", &["ev_run", "ev_loop"]),
    ("libevent", &["event_base_loop", "event_base_dispatch"]),
    ("GLib", &["g_main_loop_run", "g_main_context_iteration"]),
    ("systemd's sd-event", &["sd_event_loop", "sd_event_run"]),
];

/// The loops that run, one a thread: of two that are in each other the one that is shared, else the outer one.
pub fn running_loops(seen: &Inventory) -> impl Iterator<Item = RunningLoop<'_>> {
    seen.whereabouts
        .iter()
        .filter_map(|one| in_script(one).or_else(|| in_native(one)).or_else(|| in_uvloop(one)))
}

fn in_script(at: &Whereabouts) -> Option<RunningLoop<'_>> {
    let known = |frame: &Frame| {
        let (function, module) = (frame.function.as_deref()?, frame.module.as_deref()?);
        // Since CPython 3.11 the class stands before it.
        let name = function.rsplit('.').next()?;
        SCRIPTS.iter().find(|known| module.ends_with(known.file) && known.functions.contains(&name))
    };
    // A child of the fork server has its calls below its own.
    let is_served = at.script.iter().any(|frame| {
        let (function, module) = (frame.function.as_deref(), frame.module.as_deref());
        function == Some("_serve_one") && module.is_some_and(|module| module.ends_with(FORK_SERVER))
    });
    let mut found: Vec<RunningLoop<'_>> = at
        .script
        .iter()
        .rev()
        .filter_map(|frame| {
            let known = known(frame).filter(|known| known.file != FORK_SERVER || !is_served)?;
            let function = frame.function.as_deref()?;
            Some(RunningLoop { thread: at.thread, of: known.of, function, manner: known.manner })
        })
        .collect();
    // A stable sort: the outer one of equals stays before the other.
    found.sort_by_key(|running| running.manner != Manner::Shared);
    found.into_iter().next()
}

fn in_native(at: &Whereabouts) -> Option<RunningLoop<'_>> {
    at.native.iter().rev().find_map(|frame| {
        let function = frame.function.as_deref()?;
        let (of, _) = NATIVE.iter().find(|(_, functions)| functions.contains(&function))?;
        // gevent brings libev and libuv of its own.
        if frame.module.as_deref().is_some_and(|module| module.contains("/gevent/")) {
            return Some(RunningLoop { thread: at.thread, of: "gevent", function, manner: Manner::Renewed });
        }
        Some(RunningLoop { thread: at.thread, of, function, manner: Manner::Shared })
    })
}

/// uvloop exports no name, but whoever calls into it from Python and waits there for events is in its loop.
fn in_uvloop(at: &Whereabouts) -> Option<RunningLoop<'_>> {
    let module =
        |frame: &Frame| frame.module.as_deref().is_some_and(|module| module.contains("/uvloop/loop."));
    at.native.iter().any(module).then_some(RunningLoop {
        thread: at.thread,
        of: "uvloop",
        function: "run_forever",
        manner: Manner::Shared,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(calls: &[(&str, &str)]) -> Vec<Frame> {
        let frame = |(function, module): &(&str, &str)| Frame {
            function: Some((*function).to_owned()),
            module: Some((*module).to_owned()),
            ..Frame::default()
        };
        calls.iter().map(frame).collect()
    }

    fn found(script: &[(&str, &str)], native: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let at = Whereabouts {
            thread: SeenThread { tid: 7, comm: "app".into() },
            start: None,
            native: frames(native),
            script: frames(script),
        };
        let seen = Inventory { whereabouts: vec![at], ..Inventory::default() };
        running_loops(&seen).next().map(|running| (running.of, running.function.to_owned()))
    }

    #[test]
    fn a_loop_is_known_by_its_function_and_file() {
        let base = "/usr/lib/python3.11/asyncio/base_events.py";
        let busy = [
            ("handle", "/srv/app.py"),
            ("_run_once", base),
            ("run_forever", base),
            ("<module>", "/srv/app.py"),
        ];
        assert_eq!(found(&busy, &[]), Some(("asyncio", "run_forever".to_owned())));
        let newer = [("BaseEventLoop.run_forever", base), ("<module>", "/srv/app.py")];
        assert_eq!(found(&newer, &[]), Some(("asyncio", "BaseEventLoop.run_forever".to_owned())));
        // Functions of that name elsewhere, and others of that file, are no loop.
        assert_eq!(found(&[("run_forever", "/srv/app.py")], &[]), None);
        assert_eq!(found(&[("create_task", base)], &[]), None);
        assert_eq!(found(&[("run", "/srv/myasyncio/runners.py")], &[]), None);
    }

    #[test]
    fn of_loops_in_each_other_the_outer_one_counts() {
        let twisted = [
            ("_run_once", "/usr/lib/python3.11/asyncio/base_events.py"),
            ("run", "/venv/lib/python3.11/site-packages/twisted/internet/base.py"),
        ];
        assert_eq!(found(&twisted, &[]), Some(("Twisted", "run".to_owned())));
    }

    #[test]
    fn a_child_of_the_fork_server_is_not_the_server() {
        let file = "/usr/lib/python3.11/multiprocessing/forkserver.py";
        let server = [("select", "/usr/lib/python3.11/selectors.py"), ("main", file)];
        assert_eq!(found(&server, &[]), Some(("multiprocessing's fork server", "main".to_owned())));
        let child = [("work", "/srv/app.py"), ("_serve_one", file), ("main", file)];
        assert_eq!(found(&child, &[]), None);
        let base = "/usr/lib/python3.11/asyncio/base_events.py";
        let busy = [("BaseEventLoop.run_forever", base), ("_serve_one", file), ("main", file)];
        assert_eq!(found(&busy, &[]), Some(("asyncio", "BaseEventLoop.run_forever".to_owned())));
    }

    #[test]
    fn a_loop_of_c_is_known_by_its_exported_name() {
        let node =
            [("epoll_pwait", "/lib/libc.so.6"), ("uv_run", "/usr/lib/libuv.so.1"), ("main", "/usr/bin/node")];
        assert_eq!(found(&[], &node), Some(("libuv", "uv_run".to_owned())));
        assert_eq!(found(&[], &[("main", "/usr/bin/app")]), None);
        let uvloop =
            [("epoll_pwait", "/lib/libc.so.6"), ("f", "/venv/uvloop/loop.cpython-311-x86_64-linux-gnu.so")];
        assert_eq!(found(&[], &uvloop), Some(("uvloop", "run_forever".to_owned())));
    }
}
