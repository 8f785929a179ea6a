//! forkwatch for users who may less than root.

use anyhow::{Context as _, Result, ensure};
use forkwatch::release::Release;
use forkwatch_tests::{
    binary,
    event::{Event, Finding},
    forkwatch::Forkwatch,
    host::skip,
};
use nix::{
    mount::{MsFlags, mount},
    sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit},
};

use crate::{
    command::{document_of, end, ensure_has, said},
    doctor::{Kernel, checks_of, detectors_of},
    proofs::{SOON, check_owner, check_owner_as},
    role::{USER, command_as},
    runner::Test,
    tests::finding,
    work::{PROGRAM, THREAD_NAME, Work},
    world::within,
};

pub(crate) const ALL: &[Test] = &[
    ("without capabilities it says which are missing", without_capabilities),
    ("doctor says that capabilities are missing", doctor_without_capabilities),
    ("with two capabilities a user watches all, and sees what is the user's own", a_user_watches),
    ("a limit of locked memory is told with its remedies", a_limit_of_locked_memory),
    ("the locks of other users' programs are proven", other_users_programs_are_seen),
    ("doctor says what is not seen without CAP_SYS_PTRACE", doctor_without_ptrace),
    ("where /proc hides processes the user's own are judged", with_hidden_processes),
];

/// What a user may lock in memory where nothing is configured, in bytes (`MLOCK_LIMIT` of linux/resource.h).
const LITTLE: u64 = 64 << 10;

/// What loading needs.
const TWO: &[&str] = &["CAP_BPF", "CAP_PERFMON"];

fn without_capabilities() -> Result<()> {
    for user in ["0", USER] {
        for arguments in [&["-d", "1ms"][..], &["daemon"], &["demo"]] {
            let output = end(command_as(user, &[], binary::forkwatch()?).args(arguments))?;
            ensure_has(&said(&output, 3)?, &["without CAP_BPF and CAP_PERFMON.", "as root", "setcap"])?;
        }
    }
    let output = end(command_as(USER, &["CAP_BPF"], binary::forkwatch()?).args(["-d", "1ms"]))?;
    ensure_has(&said(&output, 3)?, &["without CAP_PERFMON."])
}

fn doctor_without_capabilities() -> Result<()> {
    let output = end(command_as(USER, &[], binary::forkwatch()?).args(["doctor", "-o", "json"]))?;
    let (code, document) = document_of(&output)?;
    ensure!(code == Some(3), "it ended with {code:?}: {document:#}");
    for (name, status) in [("type-information", "ok"), ("capabilities", "missing"), ("programs", "unknown")] {
        ensure!(checks_of(&document).contains(&(name.to_owned(), status.to_owned())), "{name}: {document:#}");
    }
    let detectors = detectors_of(&document);
    ensure!(detectors.len() > 10 && detectors.iter().all(|(_, state)| state == "off"), "{detectors:?}");
    Ok(())
}

/// What the service has.
const FOUR: &[&str] = &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];

fn other_users_programs_are_seen() -> Result<()> {
    with_locked_memory(RLIM_INFINITY, || {
        let mut command = command_as(USER, FOUR, binary::forkwatch()?);
        proves(Forkwatch::start(command.args(["tail", "-o", "json"]).args(SOON))?, Work::hold("hang")?)
    })?;
    proves(Forkwatch::tail(SOON)?, Work::hold_in(&mut command_as(USER, &[], PROGRAM), "hang")?)
}

/// The lock's words are in the memory of the program.
fn proves(mut forkwatch: Forkwatch, mut work: Work) -> Result<()> {
    work.begin()?;
    let event = finding(&mut forkwatch, "orphaned-lock", &work)?;
    check_owner(event.finding().context("it is a finding")?)?;
    work.end()?;
    forkwatch.stop().map(drop)
}

/// One that a user runs, who has what loading needs.
fn tail() -> Result<Forkwatch> {
    let mut command = command_as(USER, TWO, binary::forkwatch()?);
    Forkwatch::start(command.args(["tail", "-o", "json"]).args(SOON))
}

fn a_user_watches() -> Result<()> {
    with_locked_memory(RLIM_INFINITY, all_and_its_own)
}

fn all_and_its_own() -> Result<()> {
    let mut forkwatch = tail()?;
    let roots = Work::start("hang")?;
    let event = finding(&mut forkwatch, "multithreaded-fork", &roots)?;
    let names = event.finding().map(Finding::thread_names);
    ensure!(names == Some(vec![THREAD_NAME]), "the threads are {names:?}");
    let mut own = Work::hold_in(&mut command_as(USER, &[], PROGRAM), "hang")?;
    own.begin()?;
    let event = finding(&mut forkwatch, "orphaned-lock", &own)?;
    let found = event.finding().context("it is a finding")?;
    // Root's program is the same, and as large: that it does not use the user's memory cannot be found out.
    let certainty = found.certainty();
    let is_told = found.notes().iter().any(|note| note.contains("whether another process uses its memory"));
    ensure!(certainty == "certain" || certainty == "strong" && is_told, "{found:#?}");
    check_owner_as(certainty, found)?;
    let root = Some(roots.pid().into());
    for work in [roots, own] {
        work.end()?;
    }
    let (events, said) = forkwatch.stop()?;
    ensure_has(&said, &["without CAP_SYS_PTRACE", "other users"])?;
    let mut of_roots = events.iter().filter_map(Event::finding).filter(|found| found.parent_pid() == root);
    ensure!(!of_roots.any(|found| found.hazard() == "orphaned-lock"), "it saw root's memory: {events:#?}");
    Ok(())
}

/// Runs a test whose programs may lock so much memory. Before Linux 5.11 that is where eBPF tables are.
fn with_locked_memory(limit: u64, test: impl FnOnce() -> Result<()>) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit)?;
    let result = test();
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard)?;
    result
}

fn a_limit_of_locked_memory() -> Result<()> {
    if Release::running() >= Release(5, 11) {
        return skip("this kernel counts eBPF by cgroup, not as locked memory");
    }
    with_locked_memory(LITTLE, || {
        let remedies = ["ulimit -l", "LimitMEMLOCK=infinity", "CAP_SYS_RESOURCE"];
        let output = end(command_as(USER, TWO, binary::forkwatch()?).args(["-d", "1ms"]))?;
        ensure_has(&said(&output, 1)?, &remedies)?;
        let output = end(command_as(USER, TWO, binary::forkwatch()?).args(["doctor", "-o", "json"]))?;
        let (code, document) = document_of(&output)?;
        ensure!(code == Some(1), "doctor ended with {code:?}: {document:#}");
        for (name, status) in [("locked-memory", "limited"), ("programs", "missing")] {
            ensure!(checks_of(&document).contains(&(name.to_owned(), status.to_owned())), "{document:#}");
        }
        let more = [TWO, &["CAP_SYS_RESOURCE"]].concat();
        let output = end(command_as(USER, &more, binary::forkwatch()?).args(["-d", "1ms"]))?;
        ensure_has(&said(&output, 0)?, &["ready"])
    })
}

/// The states of the detectors for a user with what loading needs.
fn doctor() -> Result<Vec<(String, String)>> {
    let mut command = command_as(USER, TWO, binary::forkwatch()?);
    let (code, document) = document_of(&end(command.args(["doctor", "-o", "json"]))?)?;
    ensure!(code == Some(0), "it ended with {code:?}: {document:#}");
    let ptrace = ("ptrace".to_owned(), "limited".to_owned());
    ensure!(checks_of(&document).contains(&ptrace), "{document:#}");
    Ok(detectors_of(&document))
}

fn doctor_without_ptrace() -> Result<()> {
    with_locked_memory(RLIM_INFINITY, as_without_ptrace)
}

fn as_without_ptrace() -> Result<()> {
    let (kernel, detectors) = (Kernel::running()?, doctor()?);
    ensure!(detectors.len() > 10, "{detectors:?}");
    for (name, state) in &detectors {
        let expected = match (name.as_str(), kernel.state(name)) {
            ("clone-calls", _) if kernel.functions => "on",
            // The ids of tracepoints are for root to read.
            ("clone-calls", _) | (_, "off") => "off",
            // What the kernel side sees alone, or `/proc` shows to everybody.
            ("crash-loop" | "unreaped-children", state) => state,
            // What they conclude from wants a look at every process of the host.
            ("leaked-pipe" | "pinned-listener" | "nobody-accepts", _) => "undecided",
            _ => "limited",
        };
        ensure!(state == expected, "{name} is not {expected}: {detectors:?}");
    }
    Ok(())
}

fn with_hidden_processes() -> Result<()> {
    let hide = || {
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=2"))
            .context("cannot mount /proc with hidepid")
    };
    let watch = || {
        let detectors = doctor()?;
        let (_clone_calls, hazards) = detectors.split_last().context("it knows of no detector")?;
        ensure!(hazards.iter().all(|(_, state)| state != "on"), "{detectors:?}");
        let mut forkwatch = tail()?;
        let roots = Work::start("threads")?;
        let mut own = Work::hold_in(&mut command_as(USER, &[], PROGRAM), "threads")?;
        own.begin()?;
        finding(&mut forkwatch, "multithreaded-fork", &own)?;
        let hidden = Some(roots.pid().into());
        for work in [roots, own] {
            work.end()?;
        }
        let (events, _) = forkwatch.stop()?;
        let mut found = events.iter().filter_map(Event::finding);
        ensure!(!found.any(|found| found.parent_pid() == hidden), "it judged what is hidden: {events:#?}");
        Ok(())
    };
    with_locked_memory(RLIM_INFINITY, || within(hide, watch))
}
