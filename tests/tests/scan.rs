//! `forkwatch scan`: what it finds of what has gone wrong before it came, what it leaves alone, and what it says of
//! what it may not look at. In a pid namespace with a `/proc` of its own nothing else is in the way.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use forkwatch_tests::{
    binary,
    event::Event,
    fixture,
    host::{needs_root, skip, workspace},
    process,
    program::{Launch, Program, copy_program},
    provided::provided,
    runner::Tests,
    schema, tests,
    wait::{until, until_within},
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        scan_finds_what_hung_before,
        scan_fits_a_terminal,
        scan_counts_who_has_not_waited_for_long_enough,
        scan_finds_a_leaked_pipe,
        scan_is_not_kept_waiting_by_a_file_that_never_answers,
        scan_blames_nobody_who_only_took_a_child_over,
        scan_leaves_look_alikes_alone,
        scan_says_what_it_may_not_look_at,
    ])
}

/// A program that is the first in a pid namespace of its own, and all it makes.
struct Namespace {
    program: Program,
    told: Value,
    first: i32,
}

impl Namespace {
    fn of(program: PathBuf, arguments: &[&str]) -> Result<Self> {
        needs_root()?;
        let mut program = Program::hold(|_| {
            Ok(Launch::new("/usr/bin/unshare")
                .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
                .args([program])
                .args(arguments.iter().copied())
                .env("PYTHONPATH", workspace().join("tests/fixtures/python"))
                .env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
        program.release()?;
        let told = program.next_json()?;
        let first = process::descendants(program.pid()).first().context("nobody is in the namespace")?.pid;
        Ok(Self { program, told, first })
    }

    fn fixture(name: &str, arguments: &[&str]) -> Result<Self> {
        Self::of(fixture::fixture(name)?, arguments)
    }

    fn scan(&self, arguments: &[&str]) -> Result<Output> {
        self.scanning(arguments)?.output().context("cannot run nsenter")
    }

    fn scanning(&self, arguments: &[&str]) -> Result<Command> {
        self.scanning_after("500ms", arguments)
    }

    fn scanning_after(&self, stuck_after: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("/usr/bin/nsenter");
        command
            .args(["--target", &self.first.to_string(), "--pid", "--mount"])
            .arg(binary::forkwatch()?.canonicalize()?)
            .args(["scan", "--stuck-after", stuck_after])
            .args(arguments);
        Ok(command)
    }

    fn child(&self) -> Result<i64> {
        self.told.get("child").and_then(Value::as_i64).with_context(|| format!("no child in {}", self.told))
    }

    /// A fixture whose child wants its lock by now.
    fn stuck(name: &str) -> Result<Self> {
        Self::stuck_with(name, &[])
    }

    fn stuck_with(name: &str, arguments: &[&str]) -> Result<Self> {
        let namespace = Self::fixture(name, arguments)?;
        let lock = namespace.told.get("lock").and_then(Value::as_str).context("no lock")?;
        let lock = u64::from_str_radix(lock.trim_start_matches("0x"), 16)?;
        until("the child to wait for the lock", || {
            let children = process::descendants(namespace.first);
            Ok(children.iter().any(|child| process::waits_for(child.pid, lock)).then_some(()))
        })?;
        Ok(namespace)
    }

    fn end(mut self) -> Result<()> {
        self.program.end(None).map(drop)
    }
}

fn document(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no document, but: {}", String::from_utf8_lossy(&output.stderr)))
}

fn findings(document: &Value) -> Result<Vec<Event>> {
    let findings = document.get("findings").and_then(Value::as_array).context("no findings")?;
    findings.iter().map(|finding| schema::event(&finding.to_string()).map(Event)).collect()
}

fn scan_finds_what_hung_before() -> Result<()> {
    for (name, proof, certainty, thread) in [
        ("orphan_mutex", "owner", "certain", Some("metrics-push")),
        ("orphan_semaphore", "no-catcher", "strong", None),
        ("multithreaded_child_mutex", "owner", "certain", Some("db-reaper")),
    ] {
        let namespace = Namespace::stuck(name)?;
        let output = namespace.scan(&["-o", "json"])?;
        let document = document(&output)?;
        ensure!(output.status.code() == Some(10), "{name}: {}: {document:#}", output.status);
        ensure!(document.get("schema").is_some_and(|schema| schema == "forkwatch.scan/1"), "{document:#}");
        let events = findings(&document)?;
        let [event] = events.as_slice() else { anyhow::bail!("{name}: not one finding: {document:#}") };
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.hazard() == "orphaned-lock" && finding.number() == Some(1), "{event:#?}");
        ensure!(event.pid() == Some(namespace.child()?), "{name}: wrong child: {event:#?}");
        ensure!(event.text("/forkwatch/finding/evidence/lock/proof") == proof, "{name}: {event:#?}");
        ensure!(finding.certainty() == certainty, "{name}: {event:#?}");
        ensure!(finding.thread_names() == thread.into_iter().collect::<Vec<_>>(), "{name}: {event:#?}");
        namespace.end()?;
    }
    Ok(())
}

fn scan_fits_a_terminal() -> Result<()> {
    let namespace = Namespace::stuck("orphan_mutex")?;
    let output = namespace.scan(&[])?;
    let text = String::from_utf8(output.stdout).context("not UTF-8")?;
    ensure!(output.status.code() == Some(10), "{}: {text}", output.status);
    ensure!(text.contains("metrics-push") && text.contains("1 proven"), "{text}");
    let long = text.lines().find(|line| line.chars().count() > 80);
    ensure!(long.is_none(), "longer than 80 columns: {long:?}");
    namespace.end()
}

fn scan_counts_who_has_not_waited_for_long_enough() -> Result<()> {
    let namespace = Namespace::stuck("orphan_semaphore")?;
    let output = namespace.scanning_after("1h", &["-o", "json"])?.output().context("cannot run nsenter")?;
    let document = document(&output)?;
    ensure!(output.status.code() == Some(0), "{}: {document:#}", output.status);
    ensure!(findings(&document)?.is_empty(), "{document:#}");
    ensure!(document.get("waiting").is_some_and(|waiting| waiting == 1), "{document:#}");
    let text = namespace.scanning_after("1h", &[])?.output().context("cannot run nsenter")?.stdout;
    let text = String::from_utf8(text).context("not UTF-8")?;
    ensure!(text.contains("1 child waits for a lock as if stuck"), "{text}");
    namespace.end()
}

/// Who else holds a pipe can be told in the first pid namespace alone.
fn scan_finds_a_leaked_pipe() -> Result<()> {
    needs_root()?;
    if fs::read_link("/proc/self/ns/pid")?.as_os_str() != "pid:[4026531836]" {
        return skip("the tests run in a pid namespace of their own");
    }
    let mut program = fixture::hold("leaked_pipe", &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    let event = until("the scan to find it", || {
        let output = Command::new(binary::forkwatch()?).args(["scan", "-o", "json"]).output()?;
        let leaked = |event: &Event| {
            event.pid() == Some(child)
                && event.finding().is_some_and(|finding| finding.hazard() == "leaked-pipe")
        };
        Ok(findings(&document(&output)?)?.into_iter().find(leaked))
    })?;
    ensure!(event.finding().is_some_and(|finding| finding.certainty() == "strong"), "{event:#?}");
    program.end(None).map(drop)
}

/// A page of that file lies below the lock, so that whoever looks for the object which the lock belongs to comes upon it.
fn scan_is_not_kept_waiting_by_a_file_that_never_answers() -> Result<()> {
    let namespace = Namespace::stuck("silent_file")?;
    let said = tempfile::tempfile().context("cannot make a temporary file")?;
    let mut scan = namespace
        .scanning(&["-o", "json"])?
        .stdout(said.try_clone()?)
        .spawn()
        .context("cannot run nsenter")?;
    let ended = until_within(Duration::from_secs(10), "the scan to end", || Ok(scan.try_wait()?));
    if ended.is_err() {
        // With the file system goes what it keeps waiting.
        namespace.end()?;
        scan.kill()?;
        scan.wait()?;
        ended?;
        bail!("the scan was kept waiting");
    }
    let mut text = String::new();
    (&said).seek(SeekFrom::Start(0))?;
    (&said).read_to_string(&mut text)?;
    let events = findings(&serde_json::from_str(&text).with_context(|| format!("no document: {text}"))?)?;
    let found = events.iter().find(|event| event.pid() == namespace.child().ok());
    let event = found.with_context(|| format!("the child was not found: {text}"))?;
    let certainty = event.finding().context("it is a finding")?.certainty();
    ensure!(certainty == "certain", "{event:#?}");
    namespace.end()
}

fn scan_blames_nobody_who_only_took_a_child_over() -> Result<()> {
    for arguments in [&[][..], &["threads"]] {
        let namespace = Namespace::stuck_with("adopted", arguments)?;
        // A wait that is not explained for sure is told once it has lasted for thirty times as long.
        let event = until("the child to be found", || {
            let scan = namespace.scanning_after("100ms", &["-o", "json"])?.output()?;
            let found = findings(&document(&scan)?)?.into_iter();
            Ok(found.into_iter().find(|event| event.pid() == namespace.child().ok()))
        })?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.state() == "suspected", "{arguments:?}: {event:#?}");
        ensure!(event.parent_pid().is_none(), "{arguments:?}: a process is blamed: {event:#?}");
        ensure!(finding.summary().contains("forked by an unknown process"), "{arguments:?}: {event:#?}");
        namespace.end()?;
    }
    Ok(())
}

fn scan_leaves_look_alikes_alone() -> Result<()> {
    let script = workspace().join("tests/fixtures/python/stuck.py").display().to_string();
    let mut namespaces = Vec::new();
    for (name, arguments) in [
        ("forker_held", &[][..]),
        ("shared_semaphore", &["mutex"]),
        ("waits_for_own_thread", &[]),
        ("timed_wait", &[]),
        ("idle_workers", &[]),
        ("traced_child", &[]),
    ] {
        namespaces.push((name, Namespace::fixture(name, arguments)?));
    }
    for case in ["event_with_handler", "event_of_parent", "shared_semaphore"] {
        namespaces.push((case, Namespace::of(provided("python3")?, &[&script, case])?));
    }
    for (name, namespace) in namespaces {
        let output = namespace.scan(&["-o", "json"])?;
        let document = document(&output)?;
        ensure!(output.status.code() == Some(0), "{name}: {}: {document:#}", output.status);
        ensure!(findings(&document)?.is_empty(), "{name}: {document:#}");
        let unexeced = document.get("unexeced").and_then(Value::as_u64);
        ensure!(unexeced > Some(0), "{name}: the child was not seen: {document:#}");
        ensure!(
            document.get("unread").is_some_and(|unread| unread == &Value::Array(Vec::new())),
            "{document:#}"
        );
        namespace.end()?;
    }
    Ok(())
}

fn scan_says_what_it_may_not_look_at() -> Result<()> {
    /// `nobody`, who may not look at what is root's.
    const NOBODY: u32 = 65534;
    needs_root()?;
    let mut program = fixture::hold("orphan_mutex", &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").cloned().context("no child")?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("forkwatch");
    copy_program(&binary::forkwatch()?, &copy)?;
    let scan = |arguments: &[&str]| {
        let mut command = Command::new(&copy);
        command.arg("scan").args(arguments).uid(NOBODY).gid(NOBODY).output().context("cannot run forkwatch")
    };
    let output = scan(&["-o", "json"])?;
    let document = document(&output)?;
    ensure!(output.status.code() == Some(0), "{}: {document:#}", output.status);
    let unread = document.get("unread").and_then(Value::as_array).context("no unread")?;
    let about =
        unread.iter().find(|unread| unread.get("pid") == Some(&child)).context("the child is not told of")?;
    let why = about.get("why").and_then(Value::as_str).unwrap_or_default();
    ensure!(why.contains("CAP_SYS_PTRACE") || why.contains("root"), "it does not say what would help: {why}");
    let text = String::from_utf8(scan(&[])?.stdout).context("not UTF-8")?;
    ensure!(text.contains("Not looked at"), "{text}");
    let long = text.lines().find(|line| line.chars().count() > 80);
    ensure!(long.is_none(), "longer than 80 columns: {long:?}");
    program.end(None).map(drop)
}
