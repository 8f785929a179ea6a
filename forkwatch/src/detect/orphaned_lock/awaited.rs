//! What a thread waits for, as its calls say: a lock of its own script, something that another thread brings, or nothing
//! in particular, until somebody needs it.

use crate::{
    detect::calls::{is, module_starts, name_of},
    model::{
        lock::{Place, ThreadAt},
        stack::{Frame, Stack},
    },
};

/// What the calls of a waiting thread say.
#[derive(Clone, Copy)]
pub(super) enum Told {
    /// It is parked until it is needed: an idle worker, or somebody who waits for an event.
    Parked,
    /// It waits for what another thread brings.
    Awaits(&'static Awaited),
    /// Neither: as far as they say, it wants a lock.
    Nothing,
    /// They cannot be read.
    Unknown,
}

/// Something that another thread brings.
pub(super) struct Awaited {
    /// What it is, after "waits for".
    pub(super) what: &'static str,
    /// Who would bring it, in the plural.
    pub(super) bringers: &'static str,
    /// Whether a thread that is there is one of these.
    pub(super) brings: fn(&ThreadAt) -> bool,
    /// Whether a program may wait for it with no thread in mind.
    pub(super) parks: Parks,
    /// Whether it is clear enough in a child of several threads who would bring it.
    pub(super) in_any_child: bool,
}

/// When a program may wait with no thread in mind that would end it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parks {
    /// Nobody does.
    Never,
    /// One that has signal handlers.
    WithHandlers,
    /// Any: it may as well be parked until it is killed.
    Always,
}

static FUTURE: Awaited = Awaited {
    what: "the result of a task that was handed to another thread (`Future.result`)",
    bringers: "threads of the pool or event loop",
    brings: |thread| {
        thread.runs(&[
            ("", "concurrent/futures/thread.py"),
            ("", "concurrent/futures/process.py"),
            ("run_forever", "asyncio/base_events.py"),
            ("_run_once", "asyncio/base_events.py"),
        ])
    },
    parks: Parks::Never,
    in_any_child: true,
};
static POOL_RESULT: Awaited = Awaited {
    what: "the result of a `multiprocessing.Pool`",
    bringers: "threads of the pool that hand results out",
    brings: |thread| thread.runs(&[("_handle_results", "multiprocessing/pool.py")]),
    parks: Parks::Never,
    in_any_child: true,
};
static IMPORT: Awaited = Awaited {
    what: "a module that another thread imports (the lock of its import)",
    bringers: "threads that import it",
    brings: |thread| thread.runs(&[("", IMPORTS)]),
    parks: Parks::Never,
    in_any_child: true,
};
static QUEUE_TASKS: Awaited = Awaited {
    what: "the tasks of a queue to be done (`Queue.join`)",
    bringers: "threads that work on the queue",
    brings: |_| true,
    parks: Parks::Never,
    in_any_child: false,
};
static QUEUE_ITEM: Awaited = Awaited {
    what: "an item of a queue (`Queue.get`)",
    bringers: "threads that fill the queue",
    brings: |_| true,
    parks: Parks::WithHandlers,
    in_any_child: false,
};
static QUEUE_ROOM: Awaited = Awaited {
    what: "room in a full queue (`Queue.put`)",
    bringers: "threads that empty the queue",
    brings: |thread| thread.runs(&[("get", "/queue.py")]),
    parks: Parks::Never,
    in_any_child: false,
};
static THREAD_END: Awaited = Awaited {
    what: "a thread to end (`Thread.join`)",
    bringers: "threads that it waits for",
    brings: |_| true,
    parks: Parks::Never,
    in_any_child: false,
};
static CONDITION: Awaited = Awaited {
    what: "a condition to be notified (`Condition.wait`)",
    bringers: "threads that would notify it",
    brings: |_| true,
    parks: Parks::Always,
    in_any_child: false,
};
static NATIVE_CONDITION: Awaited = Awaited {
    what: "a condition variable to be signalled (pthread_cond_wait)",
    bringers: "threads that would signal it",
    brings: |_| true,
    parks: Parks::Always,
    in_any_child: false,
};
static CONDITION_WAITERS: Awaited = Awaited {
    what: "the waiters of a condition variable, which it wants to destroy (pthread_cond_destroy), to leave it",
    bringers: "threads that wait at it",
    brings: |thread| {
        thread.calls(&["pthread_cond_wait", "pthread_cond_timedwait", "pthread_cond_clockwait"], &[])
    },
    parks: Parks::Never,
    in_any_child: false,
};
static BARRIER: Awaited = Awaited {
    what: "other threads to reach a barrier (pthread_barrier_wait)",
    bringers: "threads that would reach it",
    brings: |_| true,
    parks: Parks::Never,
    in_any_child: false,
};
static OPENMP: Awaited = Awaited {
    what: "the threads of OpenMP's pool",
    bringers: "threads of the pool",
    brings: |thread| thread.calls(&[], &OPENMP_LIBRARIES),
    parks: Parks::Never,
    in_any_child: true,
};
static RAYON: Awaited = Awaited {
    what: "the threads of rayon's pool",
    bringers: "threads of the pool",
    brings: |thread| thread.calls(&["rayon_core::"], &[]),
    parks: Parks::Never,
    in_any_child: true,
};
static TOKIO: Awaited = Awaited {
    what: "a task of a Tokio runtime",
    bringers: "workers of the runtime",
    brings: |thread| {
        thread.thread.comm.bytes().starts_with(b"tokio-r") || thread.calls(&["tokio::runtime::"], &[])
    },
    parks: Parks::Never,
    in_any_child: true,
};
static KAFKA: Awaited = Awaited {
    what: "an answer of librdkafka's threads",
    bringers: "threads of librdkafka",
    brings: |thread| thread.thread.comm.bytes().starts_with(b"rdk:"),
    parks: Parks::Never,
    in_any_child: true,
};
static UV: Awaited = Awaited {
    what: "a thread of libuv's",
    bringers: "threads of libuv",
    brings: |thread| thread.calls(&["uv__", "uv_"], &[]),
    parks: Parks::Always,
    in_any_child: true,
};

/// Where CPython's imports are, in its own words: it is part of the interpreter.
const IMPORTS: &str = "importlib._bootstrap>";

/// Of GCC, LLVM and Intel.
const OPENMP_LIBRARIES: [&str; 3] = ["libgomp", "libomp", "libiomp5"];

/// Functions in which a thread waits for a spin lock (absl/base/internal/spinlock.cc and `spinlock_wait.h`, gperftools'
/// src/base/spinlock.cc and `spinlock_internal.h`).
const SPINS: [&str; 4] = ["SpinLock::SlowLock", "SpinLockDelay", "SpinLock::SpinLoop", "SpinLockWait"];

/// Functions at the beginning of threads that serve a pool: such a thread is idle, and waits for work.
const SERVANTS: [&str; 6] = [
    "gomp_thread_start",
    "__kmp_launch_worker",
    "rayon_core::registry::ThreadBuilder::run",
    "rayon_core::registry::WorkerThread::wait_until_cold",
    "tokio::runtime::scheduler::multi_thread::worker::run",
    "tokio::runtime::blocking::pool::Inner::run",
];

/// Calls of Python's library, from which a script waits for what another thread brings: function, end of the file's path.
static CALLS: [((&str, &str), &Awaited); 14] = [
    // `_ModuleLock.acquire`: since 3.3 each module has a lock, which its import holds.
    (("acquire", IMPORTS), &IMPORT),
    (("result", "concurrent/futures/_base.py"), &FUTURE),
    (("exception", "concurrent/futures/_base.py"), &FUTURE),
    (("wait", "concurrent/futures/_base.py"), &FUTURE),
    (("as_completed", "concurrent/futures/_base.py"), &FUTURE),
    (("get", "multiprocessing/pool.py"), &POOL_RESULT),
    (("wait", "multiprocessing/pool.py"), &POOL_RESULT),
    (("next", "multiprocessing/pool.py"), &POOL_RESULT),
    (("join", "/queue.py"), &QUEUE_TASKS),
    (("get", "/queue.py"), &QUEUE_ITEM),
    (("put", "/queue.py"), &QUEUE_ROOM),
    (("join", "/Queue.py"), &QUEUE_TASKS),
    (("get", "/Queue.py"), &QUEUE_ITEM),
    (("put", "/Queue.py"), &QUEUE_ROOM),
];

/// Functions of libraries, by how their names begin.
static FUNCTIONS: [(&str, &Awaited); 13] = [
    ("rayon_core::", &RAYON),
    ("tokio::", &TOKIO),
    ("rd_kafka_", &KAFKA),
    ("uv_cond_wait", &UV),
    ("uv_sem_wait", &UV),
    ("uv_barrier_wait", &UV),
    ("uv_thread_join", &UV),
    ("pthread_cond_destroy", &CONDITION_WAITERS),
    ("__pthread_cond_destroy", &CONDITION_WAITERS),
    ("pthread_cond_wait", &NATIVE_CONDITION),
    ("__pthread_cond_wait", &NATIVE_CONDITION),
    ("pthread_barrier_wait", &BARRIER),
    ("__pthread_barrier_wait", &BARRIER),
];

/// What the calls of the waiting thread say, in a child that has this one thread alone, or others.
pub(super) fn told(place: &Place, is_alone: bool) -> Told {
    let script = place.script.as_ref().map_or(Told::Nothing, of_script);
    let told = match (script, of_native(&place.stack)) {
        (Told::Nothing, native) | (Told::Unknown, native @ (Told::Awaits(_) | Told::Parked)) => native,
        (script, _) => script,
    };
    match told {
        // Idle workers wait in the same way, and any of the others may bring it.
        Told::Awaits(awaited) if !is_alone => {
            let is_there = place.others.iter().any(awaited.brings);
            if awaited.in_any_child && !is_there { told } else { Told::Parked }
        }
        told => told,
    }
}

/// Whether a thread is in a function that takes a lock whose words may not say so: glibc's read-write lock, which readers
/// hold without a name, and the guard of a static variable of C++'s that another thread makes
/// (`__cxa_guard_acquire`, libstdc++-v3/libsupc++/guard.cc).
pub(super) fn wants_lock(place: &Place) -> bool {
    const TAKES: [&str; 4] =
        ["pthread_rwlock_rdlock", "pthread_rwlock_wrlock", "__pthread_rwlock_", "__cxa_guard_acquire"];
    place
        .stack
        .frames
        .iter()
        .filter_map(name_of)
        .any(|function| TAKES.iter().any(|name| function.starts_with(name)))
}

/// Whether a thread is in a function that waits for a spin lock: Abseil's or gperftools', as the inlined namespace and the
/// library's own name around them vary.
pub(super) fn wants_spin_lock(place: &Place) -> bool {
    let is_one = |function: &str| SPINS.iter().any(|name| function.contains(name));
    place.stack.frames.iter().filter_map(name_of).any(is_one)
}

/// The thread that the parent kept and that would bring it: it does this for others now.
pub(super) fn bringer<'a>(place: &'a Place, awaited: &Awaited, parent: u32) -> Option<&'a ThreadAt> {
    place.behind.iter().filter(|thread| thread.thread.tid != parent).find(|thread| (awaited.brings)(thread))
}

fn of_script(script: &Stack) -> Told {
    if script.frames.is_empty() {
        return Told::Unknown;
    }
    let is_wait = |frame: Option<&Frame>| frame.is_some_and(|frame| is(frame, "wait", "/threading.py"));
    let is_own =
        |frame: &&Frame| frame.module.as_deref().is_some_and(|module| module.ends_with("/threading.py"));
    let inner = script.frames.iter().take_while(is_own);
    // CPython marks the threads of a forked child as ended that did not come along, so that it waits for one of its own.
    if inner.clone().any(|frame| is(frame, "join", "/threading.py")) {
        return Told::Awaits(&THREAD_END);
    }
    // Whoever enters a lock, or takes it again after a wait, wants that lock.
    let takes = |frame| {
        ["__enter__", "acquire", "_acquire_restore"].iter().any(|name| is(frame, name, "/threading.py"))
    };
    if script.frames.first().is_some_and(takes) {
        return Told::Nothing;
    }
    let count = inner.count();
    let caller = script.frames.get(count);
    let known =
        caller.and_then(|caller| CALLS.iter().find(|((function, file), _)| is(caller, function, file)));
    if let Some((_, awaited)) = known {
        return Told::Awaits(awaited);
    }
    if count == 0 {
        // The loop of an executor's idle thread.
        let idle = caller.is_some_and(|caller| is(caller, "_worker", "concurrent/futures/thread.py"));
        return if idle { Told::Parked } else { Told::Nothing };
    }
    // `Event.wait`, which calls `Condition.wait`: parked until somebody sets the event.
    if is_wait(script.frames.first()) && is_wait(script.frames.get(1)) {
        return Told::Parked;
    }
    if is_wait(script.frames.first()) { Told::Awaits(&CONDITION) } else { Told::Nothing }
}

fn of_native(stack: &Stack) -> Told {
    if stack.frames.is_empty() {
        return Told::Unknown;
    }
    let functions = || stack.frames.iter().filter_map(name_of);
    if functions().any(|function| SERVANTS.iter().any(|servant| function.starts_with(servant))) {
        return Told::Parked;
    }
    if stack.frames.iter().any(|frame| module_starts(frame, &OPENMP_LIBRARIES)) {
        return Told::Awaits(&OPENMP);
    }
    // `_queue.SimpleQueue`, which waits within C.
    if stack.frames.iter().any(|frame| module_starts(frame, &["_queue."]))
        || functions().any(|function| function.starts_with("_queue_SimpleQueue"))
    {
        return Told::Awaits(&QUEUE_ITEM);
    }
    let known = FUNCTIONS.iter().find(|(start, _)| functions().any(|function| function.starts_with(start)));
    known.map_or(Told::Nothing, |(_, awaited)| Told::Awaits(awaited))
}
