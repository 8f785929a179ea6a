//! The cases, as data. A new fixture is a line here.

use anyhow::Result;

use super::{Case, Start, Step};
use crate::{
    program::Program,
    scenario::{
        Scenario,
        faulty::{self, crash_a_worker, kill_a_worker},
    },
};

const THREADS: &str = "multithreaded-fork";
/// Told in place of that where a thread held something.
const HELD: &str = "held-locks";
const PENDING: &str = "pending-signals";
const BLOCKED: &str = "blocked-signals";
const LOCK: &str = "orphaned-lock";
const KILLED: &str = "worker-killed-while-stuck";
const CRASHES: &str = "crash-loop";
const UNREAPED: &str = "unreaped-children";
const LOST: &str = "lost-threads";
const AWAITS: &str = "waits-for-lost-thread";
const PIPE: &str = "leaked-pipe";
const LISTENER: &str = "pinned-listener";
const ACCEPTS: &str = "nobody-accepts";

const LOOP: &str = "shared-event-loop";
const LEFT: &str = "lock-left-behind";
const RANDOM: &str = "duplicated-random";
const OFFSET: &str = "shared-offset";
const DATABASE: &str = "shared-database-file";
const UNFLUSHED: &str = "unflushed-output";
const ESCAPED: &str = "escaped-child";
const SHARED: &str = "shared-connection";
const ABANDONED: &str = "abandoned-semaphore";
const RESULT: &str = "lost-result";
const REPLACED: &str = "worker-not-replaced";
const CLOSED: &str = "shared-connection-closed";
const SETUP: &str = "server-setup";
const READY: &str = "worker-not-ready";

/// Looked for twice a minute only, and once the forker is known to have stayed.
pub(super) const SLOW: [&str; 2] = [LISTENER, ACCEPTS];

/// A C fixture that is done with what it does once it has said so.
const fn c(
    name: &'static str,
    arguments: &'static [&'static str],
    truth: &'static [&'static str],
    look_alike: &'static [&'static str],
) -> Case {
    Case { start: Start::C(name, arguments), truth, look_alike, step: Step::None }
}

/// A Python fixture.
const fn python(
    name: &'static str,
    argument: &'static str,
    truth: &'static [&'static str],
    look_alike: &'static [&'static str],
) -> Case {
    Case { start: Start::Python(name, argument), truth, look_alike, step: Step::None }
}

pub(super) const FIXTURES: &[Case] = &[
    // A fork beside threads, and what is none or harmless.
    c("mt_fork", &[], &[THREADS], &[HELD, LOCK]),
    c("hostile_comm", &[], &[THREADS], &[]),
    Case { step: Step::Later, ..c("stopped_child", &[], &[THREADS], &[]) },
    Case { step: Step::Once(THREADS), ..c("mt_fork_exec_late", &[], &[], &[THREADS]) },
    c("mt_fork_exec", &[], &[], &[THREADS]),
    c("join_before_fork", &[], &[], &[THREADS]),
    c("vfork_exec", &[], &[], &[THREADS]),
    c("exec_from_thread", &[], &[], &[THREADS]),
    c("shared_memory", &[], &[], &[THREADS]),
    c("generations", &[], &[], &[THREADS]),
    c("daemonise", &[], &[], &[THREADS]),
    c("daemon_threads", &[], &[THREADS], &[HELD, LOCK]),
    c("daemon_threads", &["twice"], &[THREADS], &[HELD, LOCK]),
    c("io_uring_worker", &[], &[], &[THREADS]),
    c("pid_namespace", &[], &[], &[THREADS]),
    c("fork_storm", &["4", "500"], &[], &[THREADS]),
    c("thread_storm", &["2000"], &[], &[THREADS]),
    // Signals.
    c("pending_signals", &[], &[PENDING], &[]),
    c("posix_spawn_masked", &[], &[], &[PENDING, BLOCKED]),
    c("pthread_create_storm", &[], &[], &[PENDING]),
    c("blocked_at_exec", &[], &[BLOCKED], &[]),
    c("blocked_but_signalfd", &[], &[], &[BLOCKED]),
    // Locks.
    c("orphan_mutex", &[], &[HELD, LOCK], &[THREADS]),
    c("orphan_rwlock", &[], &[HELD, LOCK], &[THREADS]),
    c("orphan_rwlock", &["read"], &[HELD, LOCK], &[THREADS]),
    c("orphan_semaphore", &[], &[THREADS, LOCK], &[]),
    c("orphan_pidns", &[], &[HELD, LOCK], &[THREADS]),
    c("queue_lll", &[], &[THREADS, LOCK], &[]),
    c("queue_lll", &["main"], &[THREADS, LOCK], &[]),
    c("self_deadlock", &[], &[THREADS, LOCK], &[]),
    c("spin_lock", &[], &[THREADS, LOCK], &[]),
    c("spin_lock", &["timer"], &[THREADS], &[LOCK, AWAITS]),
    c("preexec_lock", &[], &[HELD, LOCK], &[THREADS]),
    c("multithreaded_child_mutex", &[], &[HELD, LOCK], &[THREADS]),
    c("orphan_mutex", &["handler"], &[HELD, LOCK], &[THREADS, AWAITS]),
    c("cond_living_notifier", &["lost"], &[THREADS, AWAITS], &[LOCK]),
    c("cond_living_notifier", &[], &[THREADS], &[LOCK, AWAITS]),
    c("condition_waiter", &[], &[THREADS, AWAITS], &[LOCK]),
    c("condition_waiter", &["handler"], &[THREADS, AWAITS], &[LOCK]),
    c("condition_waiter", &["exit"], &[THREADS, AWAITS], &[LOCK]),
    c("daemon_lock", &[], &[HELD, LOCK], &[THREADS, AWAITS]),
    c("daemon_lock", &["twice"], &[HELD, LOCK], &[THREADS, AWAITS]),
    c("idle_workers", &[], &[THREADS], &[LOCK, AWAITS]),
    c("forker_held", &[], &[THREADS], &[HELD, LOCK]),
    c("shared_semaphore", &[], &[THREADS], &[LOCK]),
    c("shared_semaphore", &["mutex"], &[THREADS], &[LOCK]),
    c("waits_for_own_thread", &[], &[THREADS], &[HELD, LOCK, AWAITS]),
    c("own_deadlock", &["mutex"], &[THREADS], &[HELD, LOCK]),
    c("memory_sharer", &[], &[HELD], &[THREADS, LOCK]),
    c("memory_sharer", &["ended"], &[HELD, LOCK], &[THREADS]),
    python("locks.py", "lock", &[THREADS, LOCK], &[]),
    // Locks that nobody wants yet.
    c("carried_locks", &[], &[HELD], &[THREADS, LOCK]),
    c("carried_locks", &["write"], &[HELD], &[THREADS, LOCK]),
    c("carried_locks", &["anew"], &[THREADS], &[HELD, LOCK]),
    c("carried_locks", &["free"], &[THREADS], &[HELD, LOCK]),
    python("carried.py", "buffer", &[HELD], &[THREADS, LOCK]),
    python("carried.py", "recursive", &[HELD], &[THREADS, LOCK]),
    python("carried.py", "stdout", &[THREADS], &[HELD, LOCK]),
    python("carried.py", "lookalike", &[THREADS], &[HELD, LOCK]),
    // Parked for ever, and on purpose as far as can be told.
    python("locks.py", "event", &[THREADS], &[LOCK, AWAITS]),
    python("locks.py", "queue", &[THREADS, AWAITS], &[LOCK]),
    python("locks.py", "own-thread", &[THREADS], &[LOCK, AWAITS]),
    python("locks.py", "signal", &[THREADS], &[LOCK, AWAITS]),
    python("locks.py", "timeout", &[THREADS], &[LOCK, AWAITS]),
    python("locks.py", "free", &[THREADS], &[LOCK, AWAITS]),
    Case { step: Step::Once(LOCK), ..c("kills_stuck", &[], &[HELD, LOCK, KILLED], &[THREADS]) },
    Case { step: Step::Once(LOCK), ..c("kills_stuck", &["ends"], &[HELD, LOCK], &[THREADS, KILLED]) },
    // Connections.
    Case { step: Step::Later, ..c("shared_connection", &["talk"], &[SHARED], &[CLOSED]) },
    Case { step: Step::Later, ..c("shared_connection", &["shutdown"], &[CLOSED], &[SHARED]) },
    Case { step: Step::Later, ..c("shared_connection", &["close"], &[], &[SHARED, CLOSED]) },
    // Event loops.
    python("shared_loop.py", "asyncio", &[LOOP], &[]),
    python("shared_loop.py", "workers", &[LOOP], &[]),
    python("shared_loop.py", "epoll", &[LOOP], &[]),
    python("shared_loop.py", "closed", &[LOOP], &[]),
    python("shared_loop.py", "emptied", &[LOOP], &[]),
    python("shared_loop.py", "listeners", &[], &[LOOP]),
    python("shared_loop.py", "unused", &[], &[LOOP]),
    python("shared_loop.py", "own", &[], &[LOOP]),
    python("shared_loop.py", "spawned", &[], &[LOOP]),
    python("shared_loop.py", "gevent", &[], &[LOOP]),
    python("shared_loop.py", "libev", &[], &[LOOP]),
    // Locks on files.
    c("left_lock", &["closed"], &[LEFT], &[]),
    c("left_lock", &["ended"], &[LEFT], &[]),
    c("left_lock", &["daemon"], &[LEFT], &[]),
    c("left_lock", &["held"], &[], &[LEFT]),
    c("left_lock", &["own"], &[], &[LEFT]),
    c("left_lock", &["posix"], &[], &[LEFT]),
    c("left_lock", &["nobody"], &[], &[LEFT]),
    // Random numbers.
    python("duplicated_random.py", "object", &[RANDOM], &[]),
    python("duplicated_random.py", "seeded_before", &[RANDOM], &[]),
    python("duplicated_random.py", "numpy", &[RANDOM], &[]),
    python("duplicated_random.py", "pool", &[RANDOM], &[]),
    python("duplicated_random.py", "module", &[], &[RANDOM]),
    python("duplicated_random.py", "reseeded", &[], &[RANDOM]),
    python("duplicated_random.py", "alone", &[], &[RANDOM]),
    python("duplicated_random.py", "unused", &[], &[RANDOM]),
    python("duplicated_random.py", "system", &[], &[RANDOM]),
    // Open files, and databases in them.
    python("shared_file.py", "archive", &[OFFSET], &[]),
    python("shared_file.py", "both", &[OFFSET], &[]),
    python("shared_file.py", "queue", &[OFFSET], &[]),
    python("shared_file.py", "one", &[], &[OFFSET]),
    python("shared_file.py", "anew", &[], &[OFFSET]),
    python("shared_file.py", "pread", &[], &[OFFSET]),
    python("shared_file.py", "log", &[], &[OFFSET]),
    python("shared_file.py", "sqlite", &[DATABASE], &[OFFSET]),
    Case { step: Step::Later, ..python("shared_file.py", "closed", &[DATABASE], &[OFFSET]) },
    python("shared_file.py", "closed_at_once", &[DATABASE], &[OFFSET]),
    python("shared_file.py", "unused", &[], &[DATABASE, OFFSET]),
    python("shared_file.py", "own", &[], &[DATABASE, OFFSET]),
    // Output in buffers.
    c("unflushed", &["unwritten"], &[UNFLUSHED], &[]),
    c("unflushed", &["written"], &[UNFLUSHED], &[]),
    c("unflushed", &["flushed"], &[], &[UNFLUSHED]),
    c("unflushed", &["own"], &[], &[UNFLUSHED]),
    c("unflushed", &["unbuffered"], &[], &[UNFLUSHED]),
    // Children that run on in their parent's code.
    c("escaped_child", &["all"], &[ESCAPED], &[]),
    c("escaped_child", &["each"], &[ESCAPED], &[]),
    c("escaped_child", &["recursion"], &[], &[ESCAPED]),
    c("escaped_child", &["chain"], &[], &[ESCAPED]),
    c("escaped_child", &["workers"], &[], &[ESCAPED]),
    python("escaped_child.py", "returns", &[ESCAPED], &[]),
    python("escaped_child.py", "raises", &[ESCAPED], &[]),
    python("escaped_child.py", "recursion", &[], &[ESCAPED]),
    python("escaped_child.py", "workers", &[], &[ESCAPED]),
    python("escaped_child.py", "nested", &[], &[ESCAPED]),
    // Ends of children.
    c("crash_loop", &[], &[CRASHES], &[]),
    c("crash_loop", &["0"], &[], &[CRASHES]),
    c("crash_loop", &["together"], &[], &[CRASHES]),
    c("jobs", &["2000"], &[], &[CRASHES]),
    c("killed_children", &["20"], &[], &[CRASHES, KILLED]),
    c("ends", &[], &[], &[CRASHES]),
    c("unreaped", &[], &[UNREAPED], &[]),
    c("unreaped", &["ignored"], &[], &[UNREAPED]),
    Case { step: Step::Later, ..c("unreaped", &["late"], &[], &[UNREAPED]) },
    // What a killed member leaves its family waiting for.
    Case { step: Step::Later, ..c("abandoned_mutex", &[], &[ABANDONED], &[]) },
    Case { step: Step::Later, ..c("abandoned_mutex", &["robust"], &[], &[ABANDONED]) },
    Case { step: Step::Later, ..c("abandoned_mutex", &["free"], &[], &[ABANDONED]) },
    Case { step: Step::Later, ..c("abandoned_mutex", &["semaphore"], &[], &[ABANDONED]) },
    Case {
        step: Step::Later,
        ..python("killed_pool.py", "lock", &[THREADS, ABANDONED], &[RESULT, REPLACED])
    },
    Case { step: Step::Later, ..python("killed_pool.py", "job", &[THREADS, RESULT], &[ABANDONED, REPLACED]) },
    Case {
        step: Step::Later,
        ..python("killed_pool.py", "door", &[THREADS], &[ABANDONED, RESULT, REPLACED])
    },
    Case {
        step: Step::Later,
        ..python("killed_pool.py", "timeout", &[THREADS], &[ABANDONED, RESULT, REPLACED])
    },
    Case { step: Step::Later, ..python("killed_pool.py", "executor", &[], &[ABANDONED, RESULT, REPLACED]) },
    // Threads that do not come along.
    c("lost_thread", &[], &[THREADS, LOST], &[]),
    c("lost_thread", &["restarted"], &[THREADS], &[LOST]),
    c("lost_thread", &["idle"], &[THREADS], &[LOST]),
    c("lost_thread", &["own"], &[THREADS], &[LOST]),
    c("lost_client", &[], &[THREADS, LOST], &[LOCK, AWAITS]),
    c("lost_client", &["own"], &[THREADS], &[LOST, LOCK, AWAITS]),
    // Descriptors that do.
    c("leaked_pipe", &[], &[PIPE], &[]),
    c("leaked_pipe", &["two"], &[PIPE], &[]),
    c("leaked_pipe", &["write"], &[PIPE], &[]),
    c("pool_pipe", &[], &[], &[PIPE]),
    c("self_pipe", &[], &[], &[PIPE]),
    c("self_pipe", &["opened"], &[], &[PIPE]),
    Case { step: Step::Later, ..c("pool_pipe", &["closed"], &[PIPE], &[]) },
    Case { step: Step::Later, ..python("pipe_eof.py", "kept", &[PIPE], &[]) },
    Case { step: Step::Later, ..python("pipe_eof.py", "closed", &[], &[PIPE]) },
    Case { step: Step::Later, ..c("kept_pipe", &[], &[THREADS, PIPE], &[]) },
    Case { step: Step::Later, ..c("kept_pipe", &["exec"], &[THREADS, PIPE], &[]) },
    Case { step: Step::Later, ..c("kept_pipe", &["both"], &[THREADS, PIPE], &[]) },
    Case { step: Step::Later, ..c("kept_pipe", &["idle"], &[THREADS], &[PIPE]) },
    c("popen_leak", &[], &[PIPE], &[]),
    c("popen_leak", &["unwaited"], &[], &[PIPE]),
    c("pipes_on_purpose", &["pipeline"], &[], &[PIPE]),
    c("pipes_on_purpose", &["kept"], &[], &[PIPE]),
    c("pipes_on_purpose", &["closed"], &[], &[PIPE]),
    c("pipes_on_purpose", &["opened"], &[], &[PIPE]),
    c("pipes_on_purpose", &["shared"], &[], &[PIPE]),
    Case { step: Step::WhenOld, ..c("pinned_listener", &["pause"], &[LISTENER], &[]) },
    Case { step: Step::WhenOld, ..c("pinned_listener", &["queued"], &[LISTENER], &[]) },
    Case { step: Step::WhenOld, ..c("pinned_listener", &["unix", "socket"], &[LISTENER], &[]) },
    Case { step: Step::WhenOld, ..c("pinned_listener", &["accept"], &[], &[LISTENER]) },
    Case { step: Step::WhenOld, ..c("pinned_listener", &["serve"], &[], &[LISTENER]) },
    Case { step: Step::WhenOld, ..c("pinned_listener", &["watch"], &[], &[LISTENER]) },
    Case { step: Step::Later, ..c("lost_acceptor", &[], &[THREADS, ACCEPTS], &[LISTENER]) },
    Case { step: Step::Later, ..c("lost_acceptor", &["restarted"], &[THREADS], &[ACCEPTS, LISTENER]) },
    Case { step: Step::Later, ..c("lost_acceptor", &["alone"], &[], &[ACCEPTS, LISTENER]) },
    // A daemon: its parent has ended at once.
    Case { step: Step::Later, ..c("pinned_listener", &["daemon"], &[], &[LISTENER]) },
];

/// A server to which nothing happens.
const fn server(
    scenario: &'static Scenario,
    truth: &'static [&'static str],
    look_alike: &'static [&'static str],
) -> Case {
    Case { start: Start::Server(scenario, |_| Ok(())), truth, look_alike, step: Step::None }
}

/// One to which this happens once its workers are known.
const fn later(happens: fn(&mut Program) -> Result<()>, case: Case) -> Case {
    let start = match case.start {
        Start::Server(scenario, _) => Start::Server(scenario, happens),
        start => start,
    };
    Case { start, step: Step::Later, ..case }
}

/// Servers whose workers are not replaced, lack what they need, or never come to wait for work; and what looks so.
pub(super) const SERVERS: &[Case] = &[
    server(&faulty::NO_MASTER, &[SETUP], &[READY, REPLACED]),
    server(&faulty::THREADS_OFF, &[SETUP], &[READY, REPLACED]),
    server(&faulty::GUNICORN_WAITS, &[READY], &[SETUP, REPLACED]),
    server(&faulty::UWSGI_WAITS, &[READY], &[SETUP, REPLACED]),
    server(&faulty::GUNICORN_IS_SLOW, &[], &[SETUP, READY, REPLACED]),
    // Without a master nobody waits for a worker that has ended, either.
    later(kill_a_worker, server(&faulty::NO_MASTER_AND_A_KILL, &[SETUP, REPLACED, UNREAPED], &[READY])),
    later(crash_a_worker, server(&faulty::NO_MASTER_AND_A_CRASH, &[SETUP, REPLACED, UNREAPED], &[READY])),
    later(kill_a_worker, server(&faulty::MASTER_AND_A_KILL, &[], &[SETUP, READY, REPLACED])),
];

/// What is wrong with a real program: of one that is not right, that it forks beside threads.
pub(super) fn truth(scenario: &Scenario) -> &'static [&'static str] {
    if scenario.expected.is_empty() { &[] } else { &[THREADS] }
}

/// Real programs have all that forks leave behind: locks, pipes, connections, children that end.
pub(super) fn look_alike(truth: &[&str]) -> &'static [&'static str] {
    const ALL: &[&str] = &[
        THREADS, HELD, PENDING, BLOCKED, LOCK, AWAITS, SHARED, CLOSED, LOOP, KILLED, CRASHES, UNREAPED, LOST,
        PIPE, ABANDONED, RESULT, REPLACED, LEFT, RANDOM, OFFSET, DATABASE, UNFLUSHED, ESCAPED, SETUP, READY,
    ];
    // Of one that forks beside threads both tell.
    if truth.contains(&THREADS) { ALL.get(2..).unwrap_or_default() } else { ALL }
}
