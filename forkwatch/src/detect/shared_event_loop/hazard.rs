//! `shared-event-loop`: an event loop runs in two processes, on one epoll instance.
//!
//! That both wait in it is a fact of the kernel's. That it is a fault follows where the instance has something in it that
//! only the program itself sets off: a socket pair or pipe to itself, an eventfd, a timer. Such a wake-up is meant for the
//! one that caused it, and goes to either. Servers whose processes share listening sockets on purpose have none there.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_CLEARED, fork_check::RunningLoop},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        event_loop::{EmptiedLoop, SharedLoop},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{ProcessKey, escape},
        program_name::called,
        stack::Frame,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("shared-event-loop"),
    title: "An event loop runs in a child as well as in the process that forked it",
    what: "An epoll instance is not copied at a fork: parent and child have the same one. If the child goes on in the \
           inherited event loop, the kernel hands each event to one of the two, whichever waits. Bytes go to the \
           wrong process, a wake-up for one is taken by the other, a timer fires in both, and what one removes from \
           the loop, as it does when it closes it, the other never hears of again.",
    detection: "A child that lives on without exec is looked at when its grace is over, then ever less often, up to \
                about every two minutes. If one of its threads sleeps in an epoll instance, the kernel is asked \
                (kcmp) whether it is the one that a thread of its parent sleeps in at the same moment, or of another \
                child of that. It is reported if the instance watches something that only the program itself sets off: a \
                socket pair or a pipe to itself, an eventfd, a timerfd or a signalfd. The stack tells whose loop it is. \
                The same is asked of threads that sleep in an io_uring. It is also reported if the parent has one thread, which sleeps without end in an instance that watches \
                nothing; if a known loop of the parent's lacks the wake-up that it always watches; and if the parent's \
                instance loses, from one look to the next, what the parent has open still, while all its threads slept. \
                And it is reported if the signals that a child handles are told to the parent's asyncio loop (up to \
                Python 3.11): its table of handlers has asyncio's, and it has the socket that the loop reads.",
    certainty: Certainty::Certain,
    certainty_reason: "The kernel says that both slept in one instance at one moment, and none has exec'd since the \
                       fork. It is certain where it is a known loop that waits there, whose makers rule that out. In \
                       a loop of the program's own it is suspected: wake-ups may be meant for all, as one that stops \
                       every worker is. In a known loop without any wake-up it is information: nothing may be lost. \
                       That a child took something from the instance in which its parent waits is concluded from what \
                       is missing there, and from the parent's sleep: strong. So is that two wait in one io_uring. What \
                       follows from a child's signal handlers is heuristic: it may have taken the wake-up back.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "Servers whose processes wait in one instance that watches nothing but sockets, on purpose.",
        "A child that inherits the instance and never waits in it, such as a worker of multiprocessing.",
        "A child that makes a loop of its own, or whose loop is renewed at the fork: gevent.fork, uv_loop_fork, \
         ev_loop_fork, event_reinit.",
        "A child that has exec'd: subprocess, the start methods spawn and forkserver.",
        "Processes that share memory or all descriptors by clone(2): they are like threads.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man7/epoll.7.html",
        "https://docs.libuv.org/en/v1.x/loop.html#c.uv_loop_fork",
    ],
    watches: "event loops that run in a process and in its forked children",
    sees: &[
        (Aspect::Descriptors, Wanted::Each),
        (Aspect::Details, Wanted::Each),
        (Aspect::Calls, Wanted::Each),
        (Aspect::Sharing, Wanted::Each),
        (Aspect::Memory, Wanted::Helps),
    ],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// Two processes that wait in one instance.
pub(super) struct Case<'a> {
    pub(super) child: ProcessKey,
    /// The forker, or another child of it.
    pub(super) other: ProcessKey,
    pub(super) forker: ProcessKey,
    /// Whether the fork was seen.
    pub(super) was_seen: bool,
    /// Nanoseconds since the child began.
    pub(super) age: u64,
    pub(super) shared: &'a SharedLoop,
}

/// The verdict; none where nothing speaks for a fault.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    let shared = case.shared;
    if shared.is_ring {
        return Some(judge_ring(case));
    }
    let running = RunningLoop::that_waits(&shared.whereabouts);
    let own = shared.instance.watched.saturating_sub(shared.instance.outside);
    let who = case.who();
    let (state, certainty, severity, summary) = match (&running, own) {
        (None, 0) => return None,
        (Some(running), 0) => {
            let of = running.of;
            let summary =
                format!("{who} both run on in one {of} loop: which of them gets an event is chance");
            (State::Suspected, Certainty::Heuristic, Severity::Info, summary)
        }
        (Some(running), _) => {
            let of = running.of;
            let summary = format!(
                "{who} both run on in one {of} loop: each takes wake-ups and events that are meant for the other, and \
                 timers fire in both"
            );
            (HAZARD.state, HAZARD.certainty, HAZARD.severity, summary)
        }
        (None, _) => {
            let summary = format!(
                "{who} both wait in one epoll instance, which watches wake-ups of the program's own: unless they are \
                 meant for all, each takes what is meant for the other"
            );
            (State::Suspected, Certainty::Heuristic, Severity::Warning, summary)
        }
    };
    let notes = notes(shared, own, running.as_ref());
    let facts = Facts { age: Some(case.age), notes, ..Facts::default() };
    let remedy = running.map_or_else(general, |running| Ecosystem::of(running.of));
    Some(Verdict { state, certainty, severity, summary, facts, remedy })
}

/// The verdict about two that wait in one `io_uring`.
fn judge_ring(case: &Case<'_>) -> Verdict {
    let SharedLoop { waits, other_waits, instance, whereabouts, .. } = case.shared;
    let (one, other, fd) = (waits.thread.tid, other_waits.thread.tid, instance.fd);
    let slept = format!("threads {one} and {other} slept in io_uring descriptor {fd} at the same moment");
    let summary = format!(
        "{} both wait in one io_uring: each completion goes to whichever takes it first, whoever has asked for it",
        case.who()
    );
    let notes = [slept].into_iter().chain(place(&whereabouts.script, None)).collect();
    Verdict {
        state: HAZARD.state,
        certainty: Certainty::Strong,
        severity: HAZARD.severity,
        summary,
        facts: Facts { age: Some(case.age), notes, ..Facts::default() },
        remedy: Ecosystem::of(RING),
    }
}

/// What [`ECOSYSTEMS`] calls it.
const RING: &str = "io_uring";

/// The verdict about a process that waits without end in an instance that watches nothing.
pub(super) fn judge_emptied(
    child: ProcessKey,
    forker: ProcessKey,
    age: u64,
    emptied: &EmptiedLoop,
) -> Verdict {
    let (name, child, forker) = (called(&emptied.program), child.tgid, forker.tgid);
    let at = emptied.waits.epoll.map_or_else(String::new, |fd| format!(" in epoll descriptor {fd}"));
    let note = format!("thread {} sleeps{at} without a time limit", emptied.waits.thread.tid);
    Verdict {
        state: HAZARD.state,
        certainty: Certainty::Strong,
        severity: HAZARD.severity,
        summary: format!(
            "{name} (pid {forker}) waits for good in an epoll instance that watches nothing any more: what a forked \
             child, such as {child}, removes from the instance that it inherits is removed for both"
        ),
        facts: Facts { age: Some(age), notes: vec![note], ..Facts::default() },
        remedy: general(),
    }
}

impl Case<'_> {
    fn who(&self) -> String {
        let (name, child) = (called(&self.shared.program), self.child.tgid);
        let (forker, other) = (self.forker.tgid, self.other.tgid);
        if self.other != self.forker {
            format!("{other} and {child}, forked by {name} (pid {forker}),")
        } else if self.was_seen {
            format!("{name} (pid {forker}) and its forked child {child}")
        } else {
            format!("{name} (pid {forker}) and the forked process {child}")
        }
    }
}

/// What it rests on, as phrases.
fn notes(shared: &SharedLoop, own: u32, running: Option<&RunningLoop<'_>>) -> Vec<String> {
    let SharedLoop { waits, other_waits, instance, whereabouts, .. } = shared;
    let (one, other, fd) = (waits.thread.tid, other_waits.thread.tid, instance.fd);
    let slept = format!("threads {one} and {other} slept in epoll descriptor {fd} at the same moment");
    let watched = match instance.watched {
        1 => "the 1 descriptor".to_owned(),
        watched => format!("the {watched} descriptors"),
    };
    let watched =
        format!("of {watched} that it watches, {own} can be set off by nobody but the program itself");
    [slept, watched].into_iter().chain(place(&whereabouts.script, running)).collect()
}

/// Where the script went into a loop; where it waits, if that is no loop that is known.
fn place(script: &[Frame], running: Option<&RunningLoop<'_>>) -> Option<String> {
    let Some(running) = running else {
        return Some(format!("the child waits in {}", line(script.first()?)?));
    };
    let is_loop = |frame: &Frame| frame.function.as_deref() == Some(running.function);
    let caller = script.iter().rposition(is_loop).map_or(0, |outermost| outermost + 1);
    Some(format!("the child went into the loop at {}", line(script.get(caller)?)?))
}

/// `main (/srv/app.py:12)`.
fn line(frame: &Frame) -> Option<String> {
    let module = frame.module.as_ref()?;
    let line = frame.line.map_or_else(String::new, |line| format!(":{line}"));
    let function = frame.function.as_deref().unwrap_or("?");
    Some(format!("{} ({}{line})", escape(function.as_bytes()), escape(module.as_bytes())))
}

/// What the users of an event loop have to change.
pub(super) struct Ecosystem {
    /// Whom the advice is for.
    whom: &'static str,
    /// What [`RunningLoop`] calls their loops.
    names: &'static [&'static str],
    advice: &'static str,
    link: &'static str,
}

impl Ecosystem {
    pub(super) fn of(name: &str) -> Remedy {
        let known = ECOSYSTEMS.iter().find(|known| known.names.contains(&name));
        known.map_or_else(general, |known| remedy(known.advice, known.link))
    }
}

static ECOSYSTEMS: [Ecosystem; 12] = [
    Ecosystem {
        whom: "asyncio and uvloop",
        names: &["asyncio", "uvloop"],
        advice: "Fork before the loop is made, or start workers by multiprocessing's method spawn or forkserver, or by \
                 asyncio.create_subprocess_exec. A child that must be forked inside of the loop never returns to it: \
                 it does its work there, with a loop of its own (asyncio.run), and ends with os._exit. It does not \
                 close the old loop.",
        link: "https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods",
    },
    Ecosystem {
        whom: "gevent",
        names: &["gevent"],
        advice: "Fork through gevent, which renews the loop in the child: gevent.os.fork, or os.fork and \
                 multiprocessing once monkey.patch_all() has run. Where C code forks, call gevent.reinit() first thing \
                 in the child.",
        link: "https://www.gevent.org/api/gevent.os.html",
    },
    Ecosystem {
        whom: "Eventlet",
        names: &["Eventlet"],
        advice: "Fork before the hub is used, or call eventlet.hubs.use_hub() first thing in the child, which makes a \
                 new one.",
        link: "https://eventlet.readthedocs.io/en/latest/hubs.html",
    },
    Ecosystem {
        whom: "Twisted",
        names: &["Twisted"],
        advice: "Start processes with reactor.spawnProcess, which execs; or fork before the reactor is imported. A \
                 reactor cannot be renewed in a child.",
        link: "https://docs.twisted.org/en/stable/core/howto/process.html",
    },
    Ecosystem {
        whom: "Tornado",
        names: &["Tornado"],
        advice: "Call tornado.process.fork_processes before anything makes an IOLoop, and start the loop in each child.",
        link: "https://www.tornadoweb.org/en/stable/process.html",
    },
    Ecosystem {
        whom: "Trio and Curio",
        names: &["Trio", "Curio"],
        advice: "Fork before the loop is started, or start a program (trio.run_process) or workers by multiprocessing's \
                 method spawn. Neither supports a fork inside of its loop.",
        link: "https://trio.readthedocs.io/en/stable/reference-io.html#spawning-subprocesses",
    },
    Ecosystem {
        whom: "Celery (kombu)",
        names: &["kombu", "Celery"],
        advice: "Make a new hub in the child before it serves anything: \
                 kombu.asynchronous.set_event_loop(kombu.asynchronous.Hub()).",
        link: "https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.asynchronous.hub.html",
    },
    Ecosystem {
        whom: "libuv",
        names: &["libuv"],
        advice: "Call uv_loop_fork(loop) right after the fork in the child, before anything else of libuv. Programs of \
                 Node start others instead (child_process, cluster).",
        link: "https://docs.libuv.org/en/v1.x/loop.html#c.uv_loop_fork",
    },
    Ecosystem {
        whom: "libev",
        names: &["libev"],
        advice: "Call ev_loop_fork(loop) in the child, before the loop runs again, or make the loop with \
                 EVFLAG_FORKCHECK.",
        link: "https://metacpan.org/dist/EV/view/libev/ev.pod",
    },
    Ecosystem {
        whom: "libevent",
        names: &["libevent"],
        advice: "Call event_reinit(base) in the child, before the loop runs again.",
        link: "https://libevent.org/libevent-book/Ref2_eventbase.html",
    },
    Ecosystem {
        whom: "io_uring",
        names: &[RING],
        advice: "Make the ring after the fork, in each process its own. A child that inherits one closes its descriptor and \
                 does not touch its memory: liburing's io_uring_ring_dontfork keeps that from it.",
        link: "https://man7.org/linux/man-pages/man7/io_uring.7.html",
    },
    Ecosystem {
        whom: "Tokio",
        names: &["Tokio"],
        advice: "Fork before the runtime is built, or exec in the child (tokio::process). A forked child makes a \
                 runtime of its own, outside of the old one, which it neither enters nor drops.",
        link: "https://docs.rs/tokio/latest/tokio/runtime/struct.Runtime.html",
    },
];

pub(super) fn general() -> Remedy {
    remedy(
        "Make the loop, and its epoll instance, after the fork, in each process its own; or exec in the child. A child \
         that does not go on in the loop closes its descriptors and removes nothing from it: EPOLL_CTL_DEL works on \
         the parent's, too.",
        "https://man7.org/linux/man-pages/man2/epoll_ctl.2.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let known = ECOSYSTEMS.iter().map(|known| (known.whom, remedy(known.advice, known.link)));
    known.chain([("any program", general())]).collect()
}
