//! Recordings: replayed they give the same findings, and what is no recording is refused.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary,
    daemon::Daemon,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    host::needs_bpf,
    program::Program,
    recording::{Replay, replay},
    runner::Tests,
    tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_tail_replayed_gives_the_same_findings,
        a_replay_says_what_the_tail_said,
        a_truncated_recording_is_replayed_up_to_the_cut,
        a_file_that_is_no_recording_is_refused,
        a_recording_is_told_and_never_written_over,
    ])
    .and(
        // These compare all that a daemon says of the host.
        Tests::alone(tests![a_daemon_replayed_gives_the_same_findings, a_replay_says_what_the_daemon_wrote,]),
    )
}

/// What makes a finding the same: all but the place in its output.
fn findings(events: &[Event]) -> Vec<Value> {
    let essence = |event: &Event| {
        let finding = event.finding()?;
        Some(json!([
            finding.hazard(),
            finding.state(),
            finding.severity(),
            finding.program(),
            finding.parent_pid(),
            finding.pid(),
            finding.id(),
            finding.thread_names(),
            finding.signals(),
            finding.repeats(),
        ]))
    };
    events.iter().filter_map(essence).collect()
}

fn child(program: &mut Program) -> Result<i64> {
    let told = program.next_json()?;
    told.get("child").and_then(Value::as_i64).with_context(|| format!("no child in {told}"))
}

/// Makes findings of every kind: threads, signals, and one that is withdrawn.
fn unsafe_forks(tail: &mut Forkwatch, programs: &mut [Program; 3]) -> Result<()> {
    for program in &mut *programs {
        program.release()?;
    }
    for program in &mut *programs {
        let child = child(program)?;
        tail.wait_for("the finding", |event| event.finding().is_some() && event.pid() == Some(child))?;
    }
    let [_, _, late] = programs;
    late.step()?;
    tail.wait_for("the withdrawal", |event| {
        event.finding().is_some_and(|finding| finding.state() == "resolved")
    })?;
    Ok(())
}

/// Under names of their own: a daemon sees the same of other tests, and would count them as repeats.
fn programs(prefix: &str) -> Result<[Program; 3]> {
    let hold = |fixture, name| fixture::hold_as(fixture, &format!("{prefix}-{name}"), &[]);
    Ok([hold("mt_fork", "threads")?, hold("pending_signals", "signals")?, hold("mt_fork_exec_late", "late")?])
}

/// Records a tail of unsafe forks; gives back its events.
fn record(file: &Path) -> Result<Vec<Event>> {
    let mut programs = programs("fw-tail")?;
    let mut arguments = vec!["--record".to_owned(), file.display().to_string()];
    arguments.extend(programs.iter().flat_map(|program| ["--pid".to_owned(), program.pid().to_string()]));
    let mut tail = Forkwatch::tail(arguments)?;
    unsafe_forks(&mut tail, &mut programs)?;
    Ok(tail.stop()?.0)
}

/// Replays all of a recording.
fn whole(file: &Path) -> Result<Vec<Event>> {
    let Replay { code, events, stderr } = replay(file)?;
    ensure!(code == Some(0), "the replay ended with {code:?}: {stderr}");
    Ok(events)
}

fn recording() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recording");
    Ok((folder, file))
}

fn a_tail_replayed_gives_the_same_findings() -> Result<()> {
    let (_folder, file) = recording()?;
    let live = record(&file)?;
    let replayed = whole(&file)?;
    ensure!(findings(&live).len() == 4, "three findings and a withdrawal: {live:#?}");
    ensure!(findings(&live) == findings(&replayed), "live {live:#?}, replayed {replayed:#?}");
    let events = |events: &[Event]| -> Vec<Event> {
        // A tail's assessments come beside its events.
        let others =
            events.iter().filter(|event| event.finding().is_none() && event.action() != "assessment");
        others.cloned().collect()
    };
    ensure!(events(&live).len() == events(&replayed).len(), "live {live:#?}, replayed {replayed:#?}");
    Ok(())
}

fn a_daemon_replayed_gives_the_same_findings() -> Result<()> {
    let (_folder, file) = recording()?;
    let file_name = file.to_str().context("not UTF-8")?;
    let mut daemon = Daemon::start("", &["--events", "stdout", "--record", file_name])?;
    unsafe_forks(&mut daemon.forkwatch, &mut programs("fw-daemon")?)?;
    let (live, _) = daemon.forkwatch.stop()?;
    let replayed = whole(&file)?;
    ensure!(findings(&live).len() >= 4, "three findings and a withdrawal: {:#?}", findings(&live));
    ensure!(
        findings(&live) == findings(&replayed),
        "live {:#?}, replayed {:#?}",
        findings(&live),
        findings(&replayed)
    );
    Ok(())
}

/// A tail that writes to a file, and records.
struct Told {
    tail: Child,
    stderr: BufReader<ChildStderr>,
    file: PathBuf,
}

impl Told {
    /// Returns when it watches the programs.
    fn start(form: &str, folder: &Path, programs: &[Program]) -> Result<Self> {
        needs_bpf()?;
        let file = folder.join("told");
        let pids = programs.iter().flat_map(|program| ["--pid".to_owned(), program.pid().to_string()]);
        let mut tail = Command::new(binary::forkwatch()?)
            .args(["tail", "--output", form, "--record"])
            .arg(folder.join("recording"))
            .args(pids)
            .stdout(fs::File::create(&file)?)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start forkwatch")?;
        let mut stderr = BufReader::new(tail.stderr.take().context("no pipe")?);
        let mut line = String::new();
        while !line.contains("ready") {
            line.clear();
            ensure!(stderr.read_line(&mut line)? > 0, "it has ended before it was ready");
        }
        Ok(Self { tail, stderr, file })
    }

    /// Waits until this stands so many times in what it has told.
    fn wait_for(&self, what: &str, times: usize) -> Result<()> {
        let told =
            || fs::read_to_string(&self.file).map(|text| (text.matches(what).count() >= times).then_some(()));
        until(&format!("{what:?} to be told"), || Ok(told()?))
    }

    /// Ends it. What it has told on stdout, and on stderr since it was ready.
    fn stop(mut self) -> Result<(String, String)> {
        kill(Pid::from_raw(self.tail.id().cast_signed()), Signal::SIGINT)?;
        let mut said = String::new();
        self.stderr.read_to_string(&mut said)?;
        let status = self.tail.wait()?;
        ensure!(status.success(), "the tail ended with {status}: {said}");
        Ok((fs::read_to_string(&self.file)?, said))
    }
}

/// To the byte, with its times, its numbers and what was asked of `/proc` beside the events.
fn a_replay_says_what_the_tail_said() -> Result<()> {
    for (form, finding, withdrawal, beside) in [
        ("columns", "multithreaded-fork #", "RESOLVED", "a fork would be"),
        (
            "json",
            "\"hazard\":\"multithreaded-fork\"",
            "\"state\":\"resolved\"",
            "\"thread_names\":[\"metrics-push",
        ),
    ] {
        let (folder, recording) = recording()?;
        let mut programs = programs(&format!("fw-{form}"))?;
        let told = Told::start(form, folder.path(), &programs)?;
        for program in &mut programs {
            program.release()?;
            child(program)?;
        }
        told.wait_for(finding, 2)?;
        let [_, _, late] = &mut programs;
        late.step()?;
        told.wait_for(withdrawal, 1)?;
        told.wait_for(beside, 1)?;
        let (live, said) = told.stop()?;
        let arguments = ["--output", form, "--time", "relative"];
        let replayed =
            Command::new(binary::forkwatch()?).arg("replay").arg(recording).args(arguments).output()?;
        let summary = String::from_utf8_lossy(&replayed.stderr);
        ensure!(replayed.status.success(), "{}: {summary}", replayed.status);
        let replayed = String::from_utf8_lossy(&replayed.stdout);
        ensure!(live == replayed, "{form}, live:\n{live}\nreplayed:\n{replayed}");
        ensure!(said.contains(&*summary) && summary.contains("forks"), "live: {said}, replayed: {summary}");
    }
    Ok(())
}

/// The daemon's JSON is the tail's.
fn a_replay_says_what_the_daemon_wrote() -> Result<()> {
    let (folder, recording) = recording()?;
    let file = folder.path().join("events");
    let names = [&file, &recording].map(|path| path.display().to_string());
    let [events, recording_name] = names.each_ref().map(String::as_str);
    let daemon = Daemon::start("", &["--events", events, "--record", recording_name])?;
    let mut programs = programs("fw-events")?;
    for program in &mut programs {
        program.release()?;
        child(program)?;
    }
    let told = || fs::read_to_string(&file).map(|text| text.contains("fw-events-signa").then_some(()));
    until("the daemon to write events", || Ok(told()?))?;
    daemon.forkwatch.stop()?;
    let replayed =
        Command::new(binary::forkwatch()?).arg("replay").arg(recording).args(["-o", "json"]).output()?;
    let (live, replayed) = (fs::read_to_string(&file)?, String::from_utf8_lossy(&replayed.stdout));
    let differs = live.lines().zip(replayed.lines()).find(|(live, replayed)| live != replayed);
    ensure!(live == replayed, "{} and {} bytes, {differs:?}", live.len(), replayed.len());
    Ok(())
}

fn a_truncated_recording_is_replayed_up_to_the_cut() -> Result<()> {
    let (_folder, file) = recording()?;
    record(&file)?;
    let all = findings(&whole(&file)?);
    let text = fs::read(&file)?;
    for (what, length, saying) in [
        ("in its last line", text.len() - 3, "cut off"),
        ("in its middle", text.len() / 2, "cut off"),
        ("in its header", 20, "no"),
        ("to nothing", 0, "empty"),
    ] {
        let cut = file.with_extension("cut");
        fs::write(&cut, text.get(..length).context("too short")?)?;
        let Replay { code, events, stderr } = replay(&cut)?;
        ensure!(code == Some(1) && stderr.contains(saying), "cut {what}: {code:?} and {stderr}");
        let found = findings(&events);
        ensure!(all.starts_with(&found), "cut {what}, other findings: {found:#?}");
        ensure!(length + 3 < text.len() || found.len() >= 3, "cut {what}, only {found:#?}");
    }
    Ok(())
}

fn a_file_that_is_no_recording_is_refused() -> Result<()> {
    let (_folder, file) = recording()?;
    for text in ["# a shopping list\n", "{\"format\":\"something.else/1\"}\n", "\0\u{1}\u{2}\n"] {
        fs::write(&file, text)?;
        let Replay { code, events, stderr } = replay(&file)?;
        ensure!(code == Some(1) && events.is_empty(), "{text:?}: {code:?} and {events:?}");
        ensure!(stderr.contains("not a recording"), "{text:?} was refused with {stderr}");
    }
    fs::write(&file, "{\"format\":\"forkwatch.recording/99\"}\n")?;
    let newer = replay(&file)?;
    ensure!(newer.code == Some(1) && newer.stderr.contains("forkwatch.recording/99"), "{}", newer.stderr);
    let absent = replay(Path::new("/no/such/recording"))?;
    ensure!(absent.code == Some(1) && absent.stderr.contains("/no/such/recording"), "{}", absent.stderr);
    Ok(())
}

fn a_recording_is_told_and_never_written_over() -> Result<()> {
    let (_folder, file) = recording()?;
    let name = file.display().to_string();
    let said = |tail: Forkwatch| tail.stop().map(|(_, said)| said);
    let first = said(Forkwatch::tail(["--record", &name])?)?;
    ensure!(first.contains(&format!("in {name}: `forkwatch replay {name}`")), "it does not say so: {first}");
    let recorded = fs::read(&file)?;
    let again = Command::new(binary::forkwatch()?).args(["--record", &name]).output()?;
    let said = String::from_utf8_lossy(&again.stderr);
    ensure!(again.status.code() == Some(1) && said.contains("not overwritten"), "{}: {said}", again.status);
    ensure!(fs::read(&file)? == recorded, "the recording has changed");
    Ok(())
}
