//! What must hold on every kernel.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Result, bail, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    forkwatch::Forkwatch,
    host::skip,
    kernel::{lets_functions_be_watched, tells_tracepoint_ids},
    metrics, process,
};

use crate::{
    command::{ensure_has, run, said},
    runner::Test,
    work::{STORM, THREAD_NAME, Work},
};

pub(crate) const ALL: &[Test] = &[
    ("it loads and its self-test passes", it_loads),
    ("a fork beside a thread is found", a_fork_beside_a_thread_is_found),
    ("a pending signal is found", a_pending_signal_is_found),
    ("a clean fork is silent", a_clean_fork_is_silent),
    ("kinds and outcomes are told apart", kinds_and_outcomes_are_told_apart),
    ("counts equal the kernel's own", counts_equal_the_kernels_own),
    ("clone calls are counted exactly", clone_calls_are_counted_exactly),
    ("a refused fork names its limit", a_refused_fork_names_its_limit),
    ("an idle host lets it sleep", an_idle_host_lets_it_sleep),
];

/// Where a daemon listens.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10047);

/// Has one judge soon whether a child lives on.
const QUICK: [&str; 2] = ["--grace", "100ms"];

fn it_loads() -> Result<()> {
    ensure_has(&said(&run(&["--duration", "1ms"])?, 0)?, &["ready"])
}

/// The finding of a hazard by a program.
pub(crate) fn finding(forkwatch: &mut Forkwatch, hazard: &str, work: &Work) -> Result<Event> {
    forkwatch.wait_for(&format!("the finding {hazard}"), |event| {
        event
            .finding()
            .is_some_and(|found| found.hazard() == hazard && found.parent_pid() == Some(work.pid().into()))
    })
}

/// Nobody but these tests runs here, so that the host can be made idle.
fn an_idle_host_lets_it_sleep() -> Result<()> {
    /// Longer than the time between two sweeps of `/proc`.
    const WINDOW: Duration = Duration::from_secs(12);
    /// What the tests before have left behind may end in the first.
    const WINDOWS: usize = 3;
    let forkwatch = Forkwatch::daemon(["--web.listen-address", &ADDRESS.to_string()])?;
    let mut woken = Vec::new();
    for _ in 0..WINDOWS {
        let before = process::times_slept(forkwatch.pid());
        thread::sleep(WINDOW);
        let after = process::times_slept(forkwatch.pid());
        woken.push((before, after));
        if before.is_some() && before == after {
            return forkwatch.stop().map(drop);
        }
    }
    bail!("it slept this often, before and after each {WINDOW:?}: {woken:?}")
}

fn a_fork_beside_a_thread_is_found() -> Result<()> {
    let mut forkwatch = Forkwatch::tail(QUICK)?;
    let work = Work::start("threads")?;
    let event = finding(&mut forkwatch, "multithreaded-fork", &work)?;
    let names = event.finding().map(Finding::thread_names);
    ensure!(names == Some(vec![THREAD_NAME]), "the threads are {names:?}");
    work.end()?;
    forkwatch.stop().map(drop)
}

fn a_pending_signal_is_found() -> Result<()> {
    let mut forkwatch = Forkwatch::tail(QUICK)?;
    let work = Work::start("pending")?;
    let event = finding(&mut forkwatch, "pending-signals", &work)?;
    let signals = event.finding().map(Finding::signals);
    ensure!(signals == Some(vec!["SIGUSR1"]), "the signals are {signals:?}");
    work.end()?;
    forkwatch.stop().map(drop)
}

/// Children of a process with threads that exec or end in time, and one of a process without that lives on.
fn a_clean_fork_is_silent() -> Result<()> {
    let mut forkwatch = Forkwatch::tail(QUICK)?;
    let clean = Work::start("clean")?;
    let alone = Work::start("alone")?;
    // Judged after them.
    let unsafe_one = Work::start("threads")?;
    finding(&mut forkwatch, "multithreaded-fork", &unsafe_one)?;
    let pids = [&clean, &alone].map(|work| Some(i64::from(work.pid())));
    for work in [clean, alone, unsafe_one] {
        work.end()?;
    }
    let (events, _) = forkwatch.stop()?;
    let of_clean = |event: &&Event| pids.contains(&event.parent_pid());
    ensure!(
        events.iter().filter(of_clean).filter(|event| event.action() == "fork").count() == 3,
        "not all forks were seen: {events:#?}"
    );
    let found: Vec<_> = events.iter().filter(of_clean).filter(|event| event.finding().is_some()).collect();
    ensure!(found.is_empty(), "found: {found:#?}");
    Ok(())
}

fn kinds_and_outcomes_are_told_apart() -> Result<()> {
    let mut forkwatch = Forkwatch::tail(["--threads"])?;
    let work = Work::start("kinds")?;
    let parent = i64::from(work.pid());
    work.end()?;
    let of_parent = |event: &Event| match event.action() {
        "thread" => event.pid() == Some(parent),
        _ => event.parent_pid() == Some(parent),
    };
    // Records come in order, so all others are there with the last one.
    forkwatch.wait_for("the last end", |event| of_parent(event) && word(event) == "exit code 8")?;
    let (events, _) = forkwatch.stop()?;
    let seen: Vec<String> = events.iter().filter(|event| of_parent(event)).map(word).collect();
    let wanted = [
        "fork copying",
        "exec copying",
        "fork copying",
        "exit code 7",
        "fork copying",
        "exit SIGKILL",
        "fork vfork",
        "exec vfork",
        "thread",
        "fork shared-memory",
        "exit code 8",
    ];
    ensure!(seen == wanted, "seen were {seen:?}");
    Ok(())
}

/// An event in two words.
fn word(event: &Event) -> String {
    match event.action() {
        "fork" => format!("fork {}", event.kind()),
        "exec" => format!("exec {}", event.text("/forkwatch/exec/fork_kind")),
        "exit" => match event.0.pointer("/process/exit_code") {
            Some(code) => format!("exit code {code}"),
            None => format!("exit {}", event.text("/forkwatch/exit/signal")),
        },
        other => other.to_owned(),
    }
}

/// What a storm adds to a daemon's metrics, and to the kernel's own count.
struct Growth {
    before: (metrics::Scrape, f64),
    after: (metrics::Scrape, f64),
}

impl Growth {
    fn of_a_storm() -> Result<Self> {
        let before = metrics::both(ADDRESS)?;
        Work::start("storm")?.end()?;
        Ok(Self { before, after: metrics::both(ADDRESS)? })
    }

    fn of(&self, metric: &str, label: &str) -> f64 {
        self.after.0.sum(metric, label) - self.before.0.sum(metric, label)
    }

    fn forks(&self, kind: &str) -> f64 {
        self.of("forkwatch_forks_total", &format!("kind=\"{kind}\""))
    }
}

/// Counts are whole numbers.
fn differ(one: f64, other: f64) -> bool {
    (one - other).abs() > 0.5
}

fn counts_equal_the_kernels_own() -> Result<()> {
    let forkwatch = Forkwatch::daemon(["--web.listen-address", &ADDRESS.to_string()])?;
    let growth = Growth::of_a_storm()?;
    let kernel = growth.after.1 - growth.before.1;
    let counted = growth.of("forkwatch_forks_total", "");
    ensure!(!differ(counted, kernel), "the kernel counts {kernel} new tasks, forkwatch {counted}");
    for kind in ["fork", "thread", "vfork"] {
        let counted = growth.forks(kind);
        ensure!(counted >= f64::from(STORM), "{counted} of {STORM} counted as {kind}");
    }
    let dropped = growth.after.0.sum("forkwatch_events_dropped_total", "");
    ensure!(!differ(dropped, 0.0), "{dropped} records were dropped");
    forkwatch.stop().map(drop)
}

/// By what clone calls are watched here.
fn hook_of_clone_calls() -> Result<&'static str> {
    if lets_functions_be_watched()? {
        Ok("fexit on kernel_clone")
    } else if tells_tracepoint_ids() {
        Ok("system call tracepoints of")
    } else {
        skip("this kernel refuses fentry, and the ids of tracepoints")
    }
}

fn clone_calls_are_counted_exactly() -> Result<()> {
    let hook = hook_of_clone_calls()?;
    let forkwatch = Forkwatch::daemon(["--clone-calls", "--web.listen-address", &ADDRESS.to_string()])?;
    let growth = Growth::of_a_storm()?;
    for (call, made) in [
        ("fork", growth.forks("fork")),
        ("thread", growth.forks("thread")),
        ("sharing", growth.forks("vfork") + growth.forks("shared-memory")),
    ] {
        let calls = growth.of("forkwatch_clone_call_duration_seconds_count", &format!("kind=\"{call}\""));
        ensure!(made >= f64::from(STORM), "{made} of {STORM} made as {call}");
        ensure!(!differ(calls, made), "{calls} calls counted as {call}, but {made} made");
    }
    let (_, said) = forkwatch.stop()?;
    ensure_has(&said, &[hook])
}

fn a_refused_fork_names_its_limit() -> Result<()> {
    hook_of_clone_calls()?;
    let mut forkwatch = Forkwatch::tail(["--clone-calls"])?;
    let work = Work::start("limit")?;
    let failure = forkwatch.wait_for("the failed call", |event| {
        event.action() == "clone_failure" && event.pid() == Some(work.pid().into())
    })?;
    let found = (failure.text("/error/code"), failure.text("/forkwatch/clone_failure/cause"));
    ensure!(found == ("EAGAIN", "rlimit-nproc"), "error and cause are {found:?}");
    work.end()?;
    forkwatch.stop().map(drop)
}
