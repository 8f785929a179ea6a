//! Children that wait for a lock that nobody releases are found, with all that there is to say of them; those that
//! only look so are not.

use std::{collections::BTreeSet, ops::RangeInclusive, process::Command};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    crowd::{Crowd, Member},
    event::{Event, Finding},
    fixture,
    host::{needs_root, skip},
    process,
    program::Program,
    provided::provided,
    python::Python,
    runner::Tests,
    tests,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        locks_of_c_programs_are_found_with_their_owners,
        a_lock_in_a_pid_namespace_names_its_owner,
        a_pool_of_openmp_without_its_threads_is_found,
        locks_of_python_are_found_with_the_line_that_waits,
        locks_held_at_the_fork_are_found_among_threads_of_the_child,
        a_lock_wanted_before_exec_names_the_parent_that_waits,
        c_programs_that_only_look_stuck_are_silent,
        python_programs_that_only_look_stuck_are_silent,
        threads_of_python_that_only_look_stuck_are_silent,
    ])
}

const LOCK: &str = "orphaned-lock";
const LOST: &str = "waits-for-lost-thread";

/// A fixture whose child gets stuck, and what is to be said of it.
struct Hang {
    fixture: &'static str,
    arguments: &'static [&'static str],
    proof: &'static str,
    certainty: &'static str,
    /// Whether the fork alone can be to blame.
    is_settled: bool,
    /// Comm of the thread that owns the lock, where the lock names it.
    owner: Option<&'static str>,
    /// Comm of the waiting thread; absent where it is the child's main thread.
    waiter: Option<&'static str>,
    waiters: u64,
    /// The variable; absent where only debugging symbols would tell. And how the name of its mapping ends, where that is not
    /// the fixture's.
    symbol: Option<&'static str>,
    mapping: Option<&'static str>,
    /// Functions on the stack of the waiting thread, in this order, among others.
    frames: &'static [&'static str],
}

const HANG: Hang = Hang {
    fixture: "",
    arguments: &[],
    proof: "owner",
    certainty: "certain",
    is_settled: true,
    owner: None,
    waiter: None,
    waiters: 1,
    symbol: Some("lock"),
    mapping: None,
    frames: &["take", "main"],
};

const HANGS: [Hang; 14] = [
    Hang { fixture: "orphan_mutex", owner: Some("metrics-push"), ..HANG },
    // A signal handler has no business with a mutex.
    Hang { fixture: "orphan_mutex", arguments: &["handler"], owner: Some("metrics-push"), ..HANG },
    // Before it there is nothing that can be read.
    Hang {
        fixture: "orphan_mutex",
        arguments: &["first"],
        owner: Some("metrics-push"),
        symbol: None,
        mapping: Some(""),
        ..HANG
    },
    Hang { fixture: "orphan_rwlock", owner: Some("cache-writer"), ..HANG },
    Hang {
        fixture: "orphan_rwlock",
        arguments: &["read"],
        owner: Some("cache-writer"),
        frames: &["take_to_read", "main"],
        ..HANG
    },
    Hang { fixture: "orphan_semaphore", proof: "no-catcher", certainty: "strong", ..HANG },
    Hang {
        fixture: "multithreaded_child_mutex",
        owner: Some("db-reaper"),
        waiter: Some("puma-worker"),
        frames: &["take", "worker"],
        ..HANG
    },
    Hang {
        fixture: "self_deadlock",
        proof: "self-owned",
        owner: Some("self_deadlock"),
        frames: &["relock", "main"],
        ..HANG
    },
    Hang {
        fixture: "cond_living_notifier",
        arguments: &["lost"],
        proof: "frames",
        certainty: "strong",
        is_settled: false,
        symbol: Some("changed"),
        frames: &["await", "main"],
        ..HANG
    },
    Hang {
        fixture: "condition_waiter",
        proof: "frames",
        certainty: "strong",
        symbol: Some("changed"),
        frames: &["pthread_cond_destroy", "tear_down", "main"],
        ..HANG
    },
    Hang {
        fixture: "condition_waiter",
        arguments: &["handler"],
        proof: "frames",
        certainty: "strong",
        symbol: Some("changed"),
        frames: &["pthread_cond_destroy", "tear_down", "main"],
        ..HANG
    },
    Hang {
        fixture: "queue_lll",
        proof: "queue",
        certainty: "strong",
        is_settled: false,
        waiter: Some("request-1"),
        waiters: 2,
        symbol: None,
        mapping: Some("libc.so.6"),
        frames: &["convert", "worker"],
        ..HANG
    },
    Hang {
        fixture: "queue_lll",
        arguments: &["main"],
        proof: "no-catcher",
        certainty: "strong",
        symbol: None,
        mapping: Some("libc.so.6"),
        frames: &["convert", "main"],
        ..HANG
    },
    Hang { fixture: "preexec_lock", owner: Some("audit-log"), frames: &["take", "become", "main"], ..HANG },
];

impl Hang {
    fn hold(&self) -> Result<(String, Program)> {
        hold(self.fixture, self.arguments)
    }

    fn check(&self, member: &Member, event: &Event) -> Result<()> {
        let finding = event.finding().context("it is a finding")?;
        let lock = finding.lock();
        let same = |what: &str, is: &str, expected: &str| {
            ensure!(is == expected, "{}: {what} {is:?} is not {expected:?}: {event:#?}", member.name);
            Ok(())
        };
        same("parent", &number(finding.parent_pid()), &number(member.number("parent").ok()))?;
        same("program", finding.program(), &member.name)?;
        let (state, severity) =
            if self.is_settled { ("confirmed", "critical") } else { ("suspected", "warning") };
        same("hazard", finding.hazard(), if self.proof == "frames" { LOST } else { LOCK })?;
        same("state", finding.state(), state)?;
        same("severity", finding.severity(), severity)?;
        same("proof", text(lock, "/proof"), self.proof)?;
        same("certainty", finding.certainty(), self.certainty)?;
        same("waiting threads", &number(at(lock, "/waiting_threads").as_i64()), &number(Some(self.waiters)))?;
        if let Ok(address) = member.text("lock") {
            // Of a condition variable the futex word is not the first.
            let apart = hexadecimal(text(lock, "/address"))?.wrapping_sub(hexadecimal(address)?);
            ensure!(apart < 48, "{}: not the lock: {event:#?}", member.name);
        }
        if let Some(symbol) = self.symbol {
            same("symbol", text(lock, "/symbol"), symbol)?;
        }
        let mapping = self.mapping.unwrap_or(self.fixture);
        ensure!(
            text(lock, "/mapping/name").ends_with(mapping),
            "{}: not in {mapping}: {event:#?}",
            member.name
        );
        self.check_owner(member, finding)?;
        self.check_waiter(member, finding)?;
        ensure!(
            ordered(&functions(at(lock, "/stack")), self.frames),
            "{}: wrong stack: {event:#?}",
            member.name
        );
        ensure!(finding.remedy().contains("Fork before any thread starts"), "{}: {event:#?}", member.name);
        Ok(())
    }

    /// The owner is named in the sentence, in the facts about the lock, and among the threads.
    fn check_owner(&self, member: &Member, finding: Finding<'_>) -> Result<()> {
        if let Ok(waiter) = member.number("waiter") {
            ensure!(finding.thread_ids() == [waiter], "{}: not of {waiter}: {finding:#?}", member.name);
        }
        let Some(owner) = self.owner else {
            ensure!(at(finding.lock(), "/owner").is_null(), "{}: an owner: {finding:#?}", member.name);
            return Ok(());
        };
        let is_forker = self.proof == "self-owned";
        let tid = if is_forker { member.number("parent")? } else { member.number("holder")? };
        ensure!(
            at(finding.lock(), "/owner/id").as_i64() == Some(tid)
                && text(finding.lock(), "/owner/name") == owner
                && !functions(at(finding.lock(), "/owner/doing/stack")).is_empty()
                && finding.thread_ids() == [tid]
                && finding.thread_names() == [owner],
            "{}: not the owner {tid} ({owner}): {finding:#?}",
            member.name
        );
        let named = format!("{owner} ({tid})");
        ensure!(is_forker || finding.summary().contains(&named), "{}: {}", member.name, finding.summary());
        Ok(())
    }

    fn check_waiter(&self, member: &Member, finding: Finding<'_>) -> Result<()> {
        let tid = at(finding.lock(), "/waiting_thread").as_i64().context("no waiting thread")?;
        let child = member.child()?;
        let comm = std::fs::read_to_string(format!("/proc/{child}/task/{tid}/comm"))?;
        let is_it = self.waiter.map_or(tid == child, |waiter| comm.trim_end() == waiter);
        ensure!(is_it, "{}: {tid} ({}) is not the waiter: {finding:#?}", member.name, comm.trim_end());
        Ok(())
    }
}

/// A fixture under a name of its own, held before its exec: what happens in a program of the same name later is only
/// counted. A name that the kernel cut off would not be its own.
fn hold(fixture: &str, arguments: &[&str]) -> Result<(String, Program)> {
    let name = match arguments {
        [] => fixture.to_owned(),
        [argument, ..] => format!("{fixture:.10}-{argument:.4}"),
    };
    let program = fixture::hold_as(fixture, &name, arguments)?;
    Ok((name, program))
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}

fn number(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

fn hexadecimal(text: &str) -> Result<u64> {
    Ok(u64::from_str_radix(text.trim_start_matches("0x"), 16)?)
}

/// The functions of a stack, the innermost first.
fn functions(stack: &Value) -> Vec<&str> {
    let frames = at(stack, "/frames").as_array();
    frames.into_iter().flatten().filter_map(|frame| frame.get("function")?.as_str()).collect()
}

/// Whether the second list is part of the first, in its order.
fn ordered(all: &[&str], some: &[&str]) -> bool {
    let mut all = all.iter();
    some.iter().all(|one| all.any(|other| other == one))
}

fn locks_of_c_programs_are_found_with_their_owners() -> Result<()> {
    let mut crowd = Crowd::start(HANGS.iter().map(Hang::hold).collect::<Result<_>>()?)?;
    for (index, hang) in HANGS.iter().enumerate() {
        let event = crowd.stuck_of(index)?;
        hang.check(crowd.member(index)?, &event)?;
    }
    crowd.forkwatch.stop().map(drop)
}

/// Here the lock names its owner by a tid of the namespace, and the finding by one of this host.
fn a_lock_in_a_pid_namespace_names_its_owner() -> Result<()> {
    needs_root()?;
    let mut crowd = Crowd::start(vec![hold("orphan_pidns", &[])?])?;
    let member = crowd.member(0)?;
    let family = process::descendants(member.program.pid());
    let [first, child] = family.as_slice() else { anyhow::bail!("not two descendants: {family:?}") };
    let (first, child) = (*first, *child);
    let event = crowd.stuck(child.pid.into())?;
    let finding = event.finding().context("it is a finding")?;
    let inside = crowd.member(0)?.number("holder_inside")?;
    ensure!(finding.parent_pid() == Some(first.pid.into()), "wrong parent: {event:#?}");
    ensure!(finding.certainty() == "certain" && text(finding.lock(), "/proof") == "owner", "{event:#?}");
    ensure!(at(finding.lock(), "/owner/id").as_i64() == Some(inside), "wrong owner: {event:#?}");
    ensure!(finding.thread_names() == ["metrics-push"], "wrong thread: {event:#?}");
    let [tid] = finding.thread_ids()[..] else { anyhow::bail!("not one thread: {event:#?}") };
    let comm = std::fs::read_to_string(format!("/proc/{}/task/{tid}/comm", first.pid))?;
    ensure!(comm == "metrics-push\n", "{tid} is no tid of this host: {event:#?}");
    crowd.forkwatch.stop().map(drop)
}

fn a_pool_of_openmp_without_its_threads_is_found() -> Result<()> {
    let library = Command::new(provided("cc")?).arg("-print-file-name=libgomp.so").output()?;
    if !library.stdout.starts_with(b"/") {
        return skip("needs libgomp, which comes with gcc");
    }
    let mut crowd = Crowd::start(vec![hold("openmp_pool", &[])?])?;
    let event = crowd.stuck_of(0)?;
    let finding = event.finding().context("it is a finding")?;
    let lock = finding.lock();
    ensure!(text(lock, "/proof") == "frames" && finding.certainty() == "strong", "{event:#?}");
    ensure!(finding.hazard() == LOST && finding.state() == "confirmed", "{event:#?}");
    ensure!(finding.remedy().contains("OpenMP"), "{event:#?}");
    // The library itself has no symbols here; its modules are named all the same.
    ensure!(text(lock, "/stack/frames/0/module").contains("/libgomp.so"), "wrong stack: {event:#?}");
    crowd.forkwatch.stop().map(drop)
}

/// A case of `stuck.py` whose child gets stuck, and where in the script.
struct ScriptHang {
    case: &'static str,
    function: &'static str,
    /// What is said where the frames of the version are known: hazard, proof, certainty and state.
    known: (&'static str, &'static str, &'static str, &'static str),
    /// Whether the words say something where they are not.
    by_words: bool,
    /// Versions in which it gets stuck.
    versions: RangeInclusive<(u32, u32)>,
}

const SCRIPT_HANG: ScriptHang = ScriptHang {
    case: "lock",
    function: "want_lock",
    known: (LOCK, "no-catcher", "strong", "confirmed"),
    by_words: true,
    versions: (2, 7)..=(3, 99),
};

const SCRIPT_HANGS: [ScriptHang; 9] = [
    SCRIPT_HANG,
    ScriptHang { case: "rlock", function: "want_rlock", ..SCRIPT_HANG },
    // Since 3.7 logging renews its locks in the child (python/cpython#50970).
    ScriptHang { case: "log_handler", function: "want_log", versions: (2, 7)..=(3, 6), ..SCRIPT_HANG },
    ScriptHang {
        case: "queue",
        function: "want_job",
        known: (LOST, "frames", "strong", "confirmed"),
        ..SCRIPT_HANG
    },
    ScriptHang {
        case: "inherited_executor",
        function: "want_result",
        known: (LOST, "frames", "strong", "confirmed"),
        versions: (3, 2)..=(3, 99),
        ..SCRIPT_HANG
    },
    ScriptHang {
        case: "importing",
        function: "want_module",
        known: (LOST, "frames", "strong", "confirmed"),
        by_words: false,
        versions: (3, 7)..=(3, 99),
    },
    // As servers' workers have them: signal handlers, and threads of their own.
    ScriptHang {
        case: "lock_with_handler",
        known: (LOCK, "differential", "strong", "confirmed"),
        by_words: false,
        versions: (3, 11)..=(3, 12),
        ..SCRIPT_HANG
    },
    ScriptHang {
        case: "executor_with_handler",
        function: "want_result",
        known: (LOST, "frames", "strong", "confirmed"),
        by_words: false,
        versions: (3, 11)..=(3, 12),
    },
    ScriptHang {
        case: "executor_with_helper",
        function: "want_result",
        known: (LOST, "frames", "strong", "suspected"),
        by_words: false,
        versions: (3, 11)..=(3, 12),
    },
];

/// In a child with threads of its own, where what was held right after the fork decides.
const AMONG_THREADS: ScriptHang = ScriptHang {
    case: "lock_with_helper",
    known: (LOCK, "held-at-fork", "strong", "confirmed"),
    by_words: false,
    versions: (3, 7)..=(3, 99),
    ..SCRIPT_HANG
};

impl ScriptHang {
    fn is_told_of(&self, python: &Python) -> bool {
        self.versions.contains(&python.version) && (self.by_words || python.has_known_frames())
    }
}

/// Versions that are watched at once: each has several programs.
const VERSIONS_AT_ONCE: usize = 6;

fn locks_of_python_are_found_with_the_line_that_waits() -> Result<()> {
    Python::all()?.chunks(VERSIONS_AT_ONCE).try_for_each(locks_of_these_are_found)
}

fn locks_of_these_are_found(pythons: &[Python]) -> Result<()> {
    let cases = pythons.iter().flat_map(|python| {
        SCRIPT_HANGS.iter().filter(|hang| hang.is_told_of(python)).map(move |hang| (python, hang))
    });
    these_are_found(&cases.collect::<Vec<_>>())
}

/// The memory of each is searched: not of many at once.
fn locks_held_at_the_fork_are_found_among_threads_of_the_child() -> Result<()> {
    const AT_ONCE: usize = 3;
    // An RLock names its owner by the address of the thread, which the helper's thread has by now: the C library gives it
    // what a thread has left that is not there any more. So the words fit two stories.
    let recursive = ScriptHang {
        case: "rlock_with_helper",
        function: "want_rlock",
        known: (LOCK, "differential", "heuristic", "suspected"),
        ..AMONG_THREADS
    };
    let both = ScriptHang { case: "lock_with_both", ..AMONG_THREADS };
    let (system, all) = (Python::system()?, Python::all()?);
    let of_each = all.iter().filter(|python| AMONG_THREADS.is_told_of(python));
    let mut cases: Vec<_> = of_each.map(|python| (python, &AMONG_THREADS)).collect();
    cases.extend([(&system, &recursive), (&system, &both)]);
    cases.chunks(AT_ONCE).try_for_each(these_are_found)
}

fn these_are_found(cases: &[(&Python, &ScriptHang)]) -> Result<()> {
    let programs = cases.iter().map(|(python, hang)| python.hold(hang.case)).collect::<Result<_>>()?;
    let mut crowd = Crowd::start(programs)?;
    for (index, (python, hang)) in cases.iter().enumerate() {
        let event = crowd.stuck_of(index)?;
        let name = &crowd.member(index)?.name;
        let finding = event.finding().context("it is a finding")?;
        let lock = finding.lock();
        ensure!(finding.program() == name, "{name}: {event:#?}");
        let script = at(lock, "/script");
        let frames = functions(script);
        let waits = |function: &&str| function.rsplit('.').next() == Some(hang.function);
        if python.has_known_frames() {
            let is = (finding.hazard(), text(lock, "/proof"), finding.certainty(), finding.state());
            ensure!(is == hang.known, "{name}: {is:?}: {event:#?}");
            ensure!(frames.iter().any(waits), "{name}: wrong frames: {event:#?}");
        } else {
            ensure!(text(lock, "/proof") == "no-catcher", "{name}: {event:#?}");
            ensure!(
                finding.certainty() == "heuristic" && finding.state() == "suspected",
                "{name}: {event:#?}"
            );
            ensure!(text(script, "/missing").contains("py-spy dump --pid"), "{name}: {event:#?}");
        }
    }
    crowd.forkwatch.stop().map(drop)
}

fn a_lock_wanted_before_exec_names_the_parent_that_waits() -> Result<()> {
    let programs = vec![hold("preexec_lock", &[])?, Python::system()?.hold("preexec")?];
    let mut crowd = Crowd::start(programs)?;
    for index in 0..crowd.members.len() {
        let parent = crowd.member(index)?.program.pid();
        let event = crowd.forkwatch.wait_for("a child that is stuck before its exec", |event| {
            let is_lock = event.finding().is_some_and(|finding| finding.hazard() == "orphaned-lock");
            is_lock && event.parent_pid() == Some(parent.into())
        })?;
        let finding = event.finding().context("it is a finding")?;
        let blocks = at(finding.lock(), "/blocks").as_array().cloned().unwrap_or_default();
        let reads = |block: &Value| {
            text(block, "/what") == "pipe" && at(block, "/reader").as_i64() == Some(parent.into())
        };
        ensure!(blocks.iter().any(reads), "the parent is not named: {event:#?}");
        let says = format!("whose end process {parent} waits for");
        ensure!(finding.notes().iter().any(|note| note.contains(&says)), "{event:#?}");
        // Python's own way there has a remedy of its own.
        let is_of_python = finding.program() != "preexec_lock";
        ensure!(finding.remedy().contains("preexec_fn") == is_of_python, "{event:#?}");
    }
    crowd.forkwatch.stop().map(drop)
}

fn c_programs_that_only_look_stuck_are_silent() -> Result<()> {
    let look_alikes: [(&str, &[&str]); 9] = [
        ("forker_held", &[]),
        ("cond_living_notifier", &[]),
        ("shared_semaphore", &[]),
        ("shared_semaphore", &["mutex"]),
        ("waits_for_own_thread", &[]),
        ("timed_wait", &[]),
        ("idle_workers", &[]),
        ("traced_child", &[]),
        ("traced_child", &["stop"]),
    ];
    let programs = look_alikes.iter().map(|(fixture, arguments)| hold(fixture, arguments));
    Crowd::start(programs.collect::<Result<_>>()?)?.expect_silence(|_, _| false)
}

fn python_programs_that_only_look_stuck_are_silent() -> Result<()> {
    /// What tells these from a hang is how the frames of a script say it, which differs between versions.
    const EVENTS: [&str; 4] =
        ["event", "event_with_handler", "event_of_parent", "event_of_parent_with_handler"];
    /// These the kernel tells.
    const OTHERS: [&str; 12] = [
        "pause",
        "sigwait",
        "sleep",
        "timed_lock",
        "join",
        "executor",
        "busy_executor",
        "idle_consumers",
        "simple_queue",
        "event_loop",
        "shared_semaphore",
        "pool",
    ];
    let system = Python::system()?;
    let mut programs = OTHERS.map(|case| system.hold(case)).into_iter().collect::<Result<Vec<_>>>()?;
    let mut doubtful = BTreeSet::new();
    for python in Python::all()? {
        for case in EVENTS {
            let (name, program) = python.hold(case)?;
            if !python.has_known_frames() {
                doubtful.insert(name.clone());
            }
            programs.push((name, program));
        }
    }
    // Without the frames, parked and forgotten look the same.
    let may_be = |name: &str, finding: Finding<'_>| {
        doubtful.contains(name)
            && finding.hazard() == "orphaned-lock"
            && finding.certainty() == "heuristic"
            && finding.severity() == "warning"
    };
    Crowd::start(programs)?.expect_silence(may_be)
}

/// Where threads of the parent held locks, threads of the child are idle, or wait for one of its own.
fn threads_of_python_that_only_look_stuck_are_silent() -> Result<()> {
    let system = Python::system()?;
    let cases = ["consumers_of_condition", "lock_of_own_thread", "idle_consumers"];
    let programs = cases.iter().map(|case| system.hold(case)).collect::<Result<_>>()?;
    Crowd::start(programs)?.expect_silence(|_, _| false)
}
