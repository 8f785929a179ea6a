//! What must hold on every kernel.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary,
    bpf::programs,
    event::{Event, Finding},
    forkwatch::Forkwatch,
    guest::runner::Test,
    metrics,
    wait::until,
};
use nix::sys::signal::Signal;

use crate::work::{STORM, THREAD_NAME, Work};

/// All of them.
pub(crate) const ALL: &[Test] = &[
    ("it loads and its self-test passes", it_loads),
    ("a fork beside a thread is found", a_fork_beside_a_thread_is_found),
    ("a pending signal is found", a_pending_signal_is_found),
    ("kinds and outcomes are told apart", kinds_and_outcomes_are_told_apart),
    ("counts equal the kernel's own", counts_equal_the_kernels_own),
    ("clone calls are counted exactly", clone_calls_are_counted_exactly),
    ("a refused fork names its limit", a_refused_fork_names_its_limit),
    ("nothing stays after SIGKILL", nothing_stays_after_sigkill),
];

/// Where a daemon listens.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10047);

/// Runs forkwatch to its end.
pub(crate) fn run(arguments: &[&str]) -> Result<Output> {
    let program = binary::forkwatch()?;
    Command::new(program).args(arguments).stdin(Stdio::null()).output().context("cannot run forkwatch")
}

/// Checks that it ended well; gives what it said on stderr.
fn succeeded(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(0), "ended with {}: {said}", output.status);
    Ok(said)
}

fn it_loads() -> Result<()> {
    let said = succeeded(&run(&["--duration", "1ms"])?)?;
    ensure!(said.contains("ready"), "said {said}");
    Ok(())
}

fn tail() -> Result<Forkwatch> {
    Forkwatch::tail([""; 0])
}

/// The finding of a hazard by a program.
pub(crate) fn finding(forkwatch: &mut Forkwatch, hazard: &str, work: &Work) -> Result<Event> {
    forkwatch.wait_for(&format!("the finding {hazard}"), |event| {
        event
            .finding()
            .is_some_and(|found| found.hazard() == hazard && found.parent_pid() == Some(work.pid().into()))
    })
}

fn a_fork_beside_a_thread_is_found() -> Result<()> {
    let mut forkwatch = tail()?;
    let work = Work::start("threads")?;
    let event = finding(&mut forkwatch, "multithreaded-fork", &work)?;
    let names = event.finding().map(Finding::thread_names);
    ensure!(names == Some(vec![THREAD_NAME]), "the threads are {names:?}");
    work.end()?;
    forkwatch.stop().map(drop)
}

fn a_pending_signal_is_found() -> Result<()> {
    let mut forkwatch = tail()?;
    let work = Work::start("pending")?;
    let event = finding(&mut forkwatch, "pending-signals", &work)?;
    let signals = event.finding().map(Finding::signals);
    ensure!(signals == Some(vec!["SIGUSR1"]), "the signals are {signals:?}");
    work.end()?;
    forkwatch.stop().map(drop)
}

fn kinds_and_outcomes_are_told_apart() -> Result<()> {
    let mut forkwatch = tail()?;
    let work = Work::start("kinds")?;
    let parent = i64::from(work.pid());
    work.end()?;
    let of_parent = |event: &Event| event.parent_pid() == Some(parent);
    // Records come in order, so all others are there with the last one.
    forkwatch.wait_for("the last exec", |event| of_parent(event) && word(event) == "exec vfork")?;
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
    for kind in ["copying", "thread", "vfork"] {
        let counted = growth.forks(kind);
        ensure!(counted >= f64::from(STORM), "{counted} of {STORM} counted as {kind}");
    }
    let shed = growth.after.0.sum("forkwatch_events_shed_total", "");
    ensure!(!differ(shed, 0.0), "{shed} records were shed");
    forkwatch.stop().map(drop)
}

fn clone_calls_are_counted_exactly() -> Result<()> {
    let forkwatch = Forkwatch::daemon(["--clone-calls", "--web.listen-address", &ADDRESS.to_string()])?;
    let growth = Growth::of_a_storm()?;
    for (call, made) in [
        ("copying", growth.forks("copying")),
        ("thread", growth.forks("thread")),
        ("sharing", growth.forks("vfork") + growth.forks("shared-memory")),
    ] {
        let calls = growth.of("forkwatch_clone_call_seconds_count", &format!("kind=\"{call}\""));
        ensure!(made >= f64::from(STORM), "{made} of {STORM} made as {call}");
        ensure!(!differ(calls, made), "{calls} calls counted as {call}, but {made} made");
    }
    let (_, said) = forkwatch.stop()?;
    ensure!(said.contains("fexit on kernel_clone"), "not watched by fentry and fexit: {said}");
    Ok(())
}

fn a_refused_fork_names_its_limit() -> Result<()> {
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

fn nothing_stays_after_sigkill() -> Result<()> {
    // Nothing else loads programs here, and the kernel frees those of earlier tests in its own time.
    let none_left = || until("all programs to be gone", || Ok(programs()?.is_empty().then_some(())));
    none_left()?;
    let mut forkwatch = Forkwatch::tail(["--clone-calls"])?;
    let loaded = programs()?.len();
    ensure!(loaded >= 6, "{loaded} programs while it watches");
    forkwatch.signal(Signal::SIGKILL)?;
    forkwatch.ended()?;
    none_left()
}
