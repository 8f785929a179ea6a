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
    /// Which thread, by its tid and comm.
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

/// Files whose code waits for the loops of scripts.
const WAITS: [&str; 6] = [
    "/selectors.py",
    "/twisted/internet/epollreactor.py",
    "/trio/_core/_io_epoll.py",
    "/kombu/utils/eventio.py",
    "/eventlet/hubs/poll.py",
    "/eventlet/hubs/epolls.py",
];

/// Files whose code calls the loop of a library for a script.
const CALLS: [&str; 2] = ["/gevent/libuv/loop.py", "/gevent/_ffi/loop.py"];

/// What lies between a loop of C and the kernel, and the call itself.
const INNER: [&str; 7] =
    ["epoll_wait", "epoll_pwait", "epoll_pwait2", "syscall", "uv__io_poll", "epoll_poll", "epoll_dispatch"];

/// The loops that run, one a thread: of two that are in each other the one that is shared, else the outer one.
pub fn running_loops(seen: &Inventory) -> impl Iterator<Item = RunningLoop<'_>> {
    seen.whereabouts.iter().filter_map(RunningLoop::of)
}

impl<'a> RunningLoop<'a> {
    /// The loop that a thread is in, if it is in one that is known.
    pub fn of(at: &'a Whereabouts) -> Option<Self> {
        in_script(at).or_else(|| in_native(at)).or_else(|| in_tokio(at))
    }

    /// The same, where the loop itself waits for events: a function that it calls may wait for something else.
    pub fn that_waits(at: &'a Whereabouts) -> Option<Self> {
        let running = Self::of(at)?;
        let innermost = at.script.iter().position(|frame| known(frame).is_some());
        let below = at.script.get(..innermost.unwrap_or(0)).unwrap_or_default();
        let all_in = |files: &[&str]| {
            let is_in = |frame: &Frame| {
                frame.module.as_deref().is_some_and(|module| files.iter().any(|file| module.ends_with(file)))
            };
            below.iter().all(is_in)
        };
        let by_script = !below.is_empty() && all_in(&WAITS);
        let by_library = all_in(&CALLS) && is_below(&at.native);
        (by_script || by_library).then_some(running)
    }
}

/// The loop of a script that a call belongs to.
fn known(frame: &Frame) -> Option<&'static Script> {
    let (function, module) = (frame.function.as_deref()?, frame.module.as_deref()?);
    // Since CPython 3.11 the class stands before it.
    let name = function.rsplit('.').next()?;
    SCRIPTS.iter().find(|known| module.ends_with(known.file) && known.functions.contains(&name))
}

fn in_script(at: &Whereabouts) -> Option<RunningLoop<'_>> {
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

/// The loop of a library that a call belongs to.
fn of_library(frame: &Frame) -> Option<&'static str> {
    let exported = |function: &str| NATIVE.iter().find(|(_, functions)| functions.contains(&function));
    let of = frame.function.as_deref().and_then(exported).map(|(of, _)| *of);
    let within = |part: &str| frame.module.as_deref().is_some_and(|module| module.contains(part));
    match of {
        // gevent brings libev and libuv of its own.
        Some(_) if within("/gevent/") => Some("gevent"),
        // So does uvloop, which in some versions exports no name; but whoever waits in its code is in its loop.
        _ if within("/uvloop/loop.") => Some("uvloop"),
        of => of,
    }
}

fn in_native(at: &Whereabouts) -> Option<RunningLoop<'_>> {
    at.native.iter().rev().find_map(|frame| {
        let of = of_library(frame)?;
        let manner = if of == "gevent" { Manner::Renewed } else { Manner::Shared };
        let function = if of == "uvloop" { "run_forever" } else { frame.function.as_deref()? };
        Some(RunningLoop { thread: at.thread, of, function, manner })
    })
}

/// Whether the innermost loop of a library waits itself: between it and the system call lies nothing but code of the same
/// library. In a program that has the library built in, its functions are known by their names.
fn is_below(native: &[Frame]) -> bool {
    let is_loop = |frame: &Frame| of_library(frame).is_some() || is_tokio(frame);
    let Some(at) = native.iter().position(is_loop) else { return false };
    let library = native.get(at).and_then(|frame| frame.module.as_deref());
    native.iter().take(at).all(|frame| {
        let name = frame.function.as_deref().unwrap_or_default();
        let is_known =
            INNER.iter().any(|known| name.split('.').next() == Some(known)) || name.contains("mio::");
        let is_of_library =
            frame.module.as_deref() == library && library.is_some_and(|path| path.contains(".so"));
        is_known || is_of_library
    })
}

/// Tokio's functions have its path in their names, and which of them are left the compiler decides.
fn is_tokio(frame: &Frame) -> bool {
    frame.function.as_deref().is_some_and(|name| name.contains("tokio::runtime::"))
}

/// A thread of Tokio's that waits for work is in no loop.
fn in_tokio(at: &Whereabouts) -> Option<RunningLoop<'_>> {
    let call = at.native.first()?.function.as_deref()?;
    let frame = at.native.iter().rev().find(|frame| call.starts_with("epoll_") && is_tokio(frame))?;
    let function = frame.function.as_deref()?;
    Some(RunningLoop { thread: at.thread, of: "Tokio", function, manner: Manner::Shared })
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

    fn place(script: &[(&str, &str)], native: &[(&str, &str)]) -> Whereabouts {
        Whereabouts {
            thread: SeenThread { tid: 7, comm: "app".into() },
            start: None,
            native: frames(native),
            script: frames(script),
            ends_at_forks: false,
        }
    }

    fn found(script: &[(&str, &str)], native: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let at = place(script, native);
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
        let exported = [("uv_run", "/venv/uvloop/loop.cpython-311-x86_64-linux-gnu.so")];
        assert_eq!(found(&[], &exported), Some(("uvloop", "run_forever".to_owned())));
        let park = "tokio::runtime::driver::Driver::park";
        let parked = |call| found(&[], &[(call, "/lib/libc.so.6"), (park, "/srv/app"), ("main", "/srv/app")]);
        assert_eq!(parked("epoll_wait"), Some(("Tokio", park.to_owned())));
        assert_eq!(parked("syscall"), None);
    }
    #[test]
    fn a_function_that_a_loop_calls_waits_for_something_else() {
        let waits = |script: &[(&str, &str)], native: &[(&str, &str)]| {
            RunningLoop::that_waits(&place(script, native)).map(|running| running.of)
        };
        let base = "/usr/lib/python3.11/asyncio/base_events.py";
        let select = ("EpollSelector.select", "/usr/lib/python3.11/selectors.py");
        let run = [("BaseEventLoop._run_once", base), ("BaseEventLoop.run_forever", base)];
        assert_eq!(waits(&[&[select][..], &run].concat(), &[]), Some("asyncio"));
        let handle = ("Handle._run", "/usr/lib/python3.11/asyncio/events.py");
        assert_eq!(waits(&[&[select, ("jobs", "/srv/app.py"), handle][..], &run].concat(), &[]), None);
        assert_eq!(waits(&[&[handle][..], &run].concat(), &[]), None);
        assert_eq!(waits(&run, &[]), None);
        let (wait, uv) = (("epoll_pwait", "/lib/libc.so.6"), ("uv_run", "/usr/lib/libuv.so.1"));
        assert_eq!(waits(&[], &[wait, ("uv__io_poll", "/usr/lib/libuv.so.1"), uv]), Some("libuv"));
        assert_eq!(waits(&[], &[wait, ("on_timer", "/srv/app"), uv]), None);
        let built_in = ("uv_run", "/srv/app");
        assert_eq!(waits(&[], &[wait, ("uv__io_poll.part.0", "/srv/app"), built_in]), Some("libuv"));
        assert_eq!(waits(&[], &[wait, ("on_timer", "/srv/app"), built_in]), None);
        let (mio, tokio) = ("mio::poll::Poll::poll", "tokio::runtime::driver::Driver::park");
        assert_eq!(waits(&[], &[wait, (mio, "/srv/app"), (tokio, "/srv/app")]), Some("Tokio"));
        assert_eq!(waits(&[], &[wait, ("app::serve", "/srv/app"), (tokio, "/srv/app")]), None);
        // asyncio.run of a loop that is uvloop's.
        let runner = [("Runner.run", "/usr/lib/python3.11/asyncio/runners.py"), ("<module>", "/srv/app.py")];
        let uvloop = ("uv_run", "/venv/uvloop/loop.cpython-311-x86_64-linux-gnu.so");
        assert_eq!(waits(&runner, &[wait, uvloop]), Some("asyncio"));
        assert_eq!(waits(&runner, &[wait, ("poll", "/usr/bin/python3.11"), uvloop]), None);
    }
}
