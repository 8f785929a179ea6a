//! What the filters let through: what was asked for and nothing else. A recording holds all that came through the
//! ring, so it shows what the kernel side itself kept back.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    cgroup::Cgroup,
    event::Event,
    fixture,
    forkwatch::{Forkwatch, or_skip_without_clone_calls},
    host::needs_root,
    program::Program,
    recording::{self, Record},
    runner::Tests,
    tests,
};
use nix::unistd::User;
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        pids_let_those_families_through_alone,
        a_uid_lets_its_own_forks_through_alone,
        a_cgroup_lets_itself_and_those_below_it_through_alone,
        a_comm_shows_forkers_and_new_programs_of_that_name_alone,
        unsafe_shows_findings_and_lets_hazardous_forks_through_alone,
        threads_are_shown_one_by_one,
        failed_clone_calls_are_those_of_the_family_alone,
    ])
}

/// A tail that also records.
struct Recorded {
    tail: Forkwatch,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Recorded {
    fn start(arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("recording");
        let record = ["--record", file.to_str().context("not UTF-8")?];
        let started = Forkwatch::tail(record.iter().chain(arguments));
        let tail = if arguments.contains(&"--clone-calls") {
            or_skip_without_clone_calls(started)
        } else {
            started
        }?;
        Ok(Self { tail, file, _folder: folder })
    }

    /// Ends it; gives back what it showed and what came through the ring.
    fn stop(self) -> Result<(Vec<Event>, Vec<Record>)> {
        let (events, _) = self.tail.stop()?;
        Ok((events, recording::records(&self.file)?))
    }
}

/// A fixture and the pids of all processes it has made, itself included.
struct Family {
    program: Program,
    members: BTreeSet<i64>,
}

/// Three generations, each of which forks once.
fn generations() -> Result<Program> {
    fixture::hold("generations", &[])
}

fn run(mut program: Program) -> Result<Family> {
    program.release()?;
    let told = program.next_json()?;
    let children = told.get("children").and_then(Value::as_array).context("no children")?;
    let members = children.iter().filter_map(Value::as_i64).chain([i64::from(program.pid())]).collect();
    Ok(Family { program, members })
}

/// Runs held programs at once, waits until their forks are shown and they have ended; gives back who was in them.
fn run_wanted(tail: &mut Recorded, programs: Vec<Program>) -> Result<BTreeSet<i64>> {
    let mut families = programs.into_iter().map(run).collect::<Result<Vec<_>>>()?;
    for family in &mut families {
        family.program.end(None)?;
    }
    let members: BTreeSet<i64> = families.iter().flat_map(|family| family.members.iter().copied()).collect();
    let forks = members.len() - families.len();
    let shown =
        |events: &[Event], action: &str| events.iter().filter(|event| event.action() == action).count();
    tail.tail.wait_until("all forks and exits", |events| {
        shown(events, "fork") >= forks && shown(events, "exit") >= forks
    })?;
    Ok(members)
}

/// Checks that what was shown, and what came through the ring, is about these processes and nobody else.
fn only(tail: Recorded, wanted: &BTreeSet<i64>) -> Result<()> {
    let (events, records) = tail.stop()?;
    let stranger = events.iter().find(|event| event.pid().is_none_or(|pid| !wanted.contains(&pid)));
    ensure!(stranger.is_none(), "nobody asked for {stranger:#?}");
    let stranger = records.iter().find(|record| record.pid().is_none_or(|pid| !wanted.contains(&pid)));
    ensure!(stranger.is_none(), "came through the ring: {:#?}", stranger.map(|record| &record.fields));
    ensure!(!records.is_empty(), "nothing was recorded");
    Ok(())
}

fn pids_let_those_families_through_alone() -> Result<()> {
    let (one, other) = (generations()?, generations()?);
    let pids = [one.pid().to_string(), other.pid().to_string()];
    let mut tail = Recorded::start(&["--pid", &pids[0], "--pid", &pids[1]])?;
    let mut unwanted = run(generations()?)?;
    unwanted.program.end(None)?;
    let wanted = run_wanted(&mut tail, vec![one, other])?;
    only(tail, &wanted)
}

fn a_uid_lets_its_own_forks_through_alone() -> Result<()> {
    needs_root()?;
    // A user that nothing else here runs as.
    let uid = User::from_name("bin")?.context("there is no user bin")?.uid;
    let wanted = fixture::hold_for("bin", "generations")?;
    let mut tail = Recorded::start(&["--uid", &uid.to_string()])?;
    let mut unwanted = run(generations()?)?;
    unwanted.program.end(None)?;
    let wanted = run_wanted(&mut tail, vec![wanted])?;
    let shown = tail.tail.events();
    let forks = || shown.iter().filter(|event| event.action() == "fork");
    ensure!(forks().all(|fork| fork.user() == uid.to_string()), "the wrong user: {shown:#?}");
    only(tail, &wanted)
}

fn a_cgroup_lets_itself_and_those_below_it_through_alone() -> Result<()> {
    needs_root()?;
    let above = Cgroup::make("above")?;
    let below = above.child("below")?;
    let beside = Cgroup::make("above-and-beyond")?;
    let (in_above, in_below, in_beside) = (generations()?, generations()?, generations()?);
    above.add(in_above.pid())?;
    below.add(in_below.pid())?;
    beside.add(in_beside.pid())?;
    let mut tail = Recorded::start(&["--cgroup", &above.path])?;
    let mut lower = Recorded::start(&["--cgroup", &below.path])?;
    for unwanted in [in_beside, generations()?] {
        run(unwanted)?.program.end(None)?;
    }
    let in_below = run_wanted(&mut lower, vec![in_below])?;
    let mut wanted = run_wanted(&mut tail, vec![in_above])?;
    wanted.extend(&in_below);
    only(lower, &in_below)?;
    only(tail, &wanted)
}

fn a_comm_shows_forkers_and_new_programs_of_that_name_alone() -> Result<()> {
    // Unlike any other name on this host, and of the length that the kernel keeps.
    let mut forker = fixture::hold_as("generations", "fw-comm-forker", &[])?;
    let mut execer = fixture::hold("mt_fork_exec", &[])?;
    let pids = [forker.pid().to_string(), execer.pid().to_string()];
    let family = ["--pid", &pids[0], "--pid", &pids[1]];
    let mut forkers = Forkwatch::tail(family.iter().chain(&["--comm", "fw-comm-*"]))?;
    let mut programs = Forkwatch::tail(family.iter().chain(&["--comm", "c?t"]))?;
    execer.release()?;
    let child = execer.next_json()?.get("child").and_then(Value::as_i64);
    execer.end(None)?;
    forker.release()?;
    let parent = i64::from(forker.pid());
    forker.end(None)?;

    let ends = |events: &[Event]| events.iter().filter(|event| event.action() == "exit").count();
    forkers.wait_until("the ends of three generations", |events| ends(events) == 3)?;
    let (events, _) = forkers.stop()?;
    ensure!(events.len() == 6, "three forks and their ends, and nothing else: {events:#?}");
    ensure!(events.iter().any(|event| event.parent_pid() == Some(parent)), "the wrong forker: {events:#?}");

    programs.wait_for("the new program", |event| event.action() == "exec" && event.pid() == child)?;
    let (events, _) = programs.stop()?;
    ensure!(events.len() == 1, "an exec and nothing else: {events:#?}");
    Ok(())
}

fn unsafe_shows_findings_and_lets_hazardous_forks_through_alone() -> Result<()> {
    let mut hazardous = fixture::hold("mt_fork", &[])?;
    let mut plain = fixture::hold("fork_storm", &["1", "50"])?;
    let pids = [hazardous.pid().to_string(), plain.pid().to_string()];
    let mut tail = Recorded::start(&["--unsafe", "--pid", &pids[0], "--pid", &pids[1]])?;
    plain.release()?;
    plain.next_json()?;
    plain.end(None)?;
    hazardous.release()?;
    let child = hazardous.next_json()?.get("child").and_then(Value::as_i64);
    tail.tail.wait_for("the finding", |event| event.pid() == child)?;
    let (events, records) = tail.stop()?;
    hazardous.end(None)?;
    ensure!(events.iter().all(|event| event.finding().is_some()), "more than findings: {events:#?}");
    let [fork] = records.as_slice() else {
        anyhow::bail!("{} records for one hazardous fork", records.len());
    };
    ensure!(fork.kind == "fork" && fork.child() == child, "the wrong record: {:#?}", fork.fields);
    Ok(())
}

fn threads_are_shown_one_by_one() -> Result<()> {
    const THREADS: usize = 2000;
    let mut program = fixture::hold("thread_storm", &[&THREADS.to_string()])?;
    let pid = program.pid();
    let mut tail = Recorded::start(&["--threads", "--pid", &pid.to_string()])?;
    program.release()?;
    program.next_json()?;
    tail.tail.wait_until("all threads", |events| events.len() >= THREADS)?;
    program.end(None)?;
    let (events, records) = tail.stop()?;
    ensure!(events.len() == THREADS, "{} events for {THREADS} threads", events.len());
    let is_one = |event: &Event| event.action() == "thread" && event.pid() == Some(pid.into());
    ensure!(events.iter().all(|event| is_one(event) && event.thread().is_some()), "not threads of it alone");
    ensure!(records.len() == THREADS, "{} records for {THREADS} threads", records.len());
    Ok(())
}

fn failed_clone_calls_are_those_of_the_family_alone() -> Result<()> {
    let (mut wanted, mut unwanted) =
        (fixture::hold("clone_failure", &[])?, fixture::hold("clone_failure", &[])?);
    let mut tail = Recorded::start(&["--clone-calls", "--pid", &wanted.pid().to_string()])?;
    for program in [&mut unwanted, &mut wanted] {
        program.release()?;
        program.next_json()?;
    }
    let pid = i64::from(wanted.pid());
    tail.tail
        .wait_for("the failure", |event| event.action() == "clone_failure" && event.pid() == Some(pid))?;
    for program in [&mut unwanted, &mut wanted] {
        program.end(None)?;
    }
    only(tail, &BTreeSet::from([pid]))
}
