//! `forkwatch check` names the locks that threads hold now, and with `--for` how often they do.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{binary, fixture, program::Program, python::Python, runner::Tests, tests, wait::until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        check_names_the_locks_that_threads_hold,
        check_is_silent_about_locks_that_are_free,
        check_tells_how_often_a_lock_is_held,
        looking_ends_early_by_ctrl_c_or_with_the_process,
    ])
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> Option<u64> {
    value.pointer(path).and_then(Value::as_u64)
}

fn check(pid: i32, arguments: &[&str]) -> Result<Child> {
    Command::new(binary::forkwatch()?)
        .args(["check", &pid.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run forkwatch")
}

/// What is said on standard output; the exit code is that of an unsafe fork.
fn said(child: Child) -> Result<String> {
    let output = child.wait_with_output()?;
    ensure!(output.status.code() == Some(10), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn document(pid: i32, arguments: &[&str]) -> Result<Value> {
    let arguments: Vec<&str> = ["-o", "json"].iter().chain(arguments).copied().collect();
    serde_json::from_str(&said(check(pid, &arguments)?)?).context("no document")
}

fn reasons(document: &Value) -> impl Iterator<Item = &Value> {
    let reasons = document.pointer("/reasons").and_then(Value::as_array);
    reasons.into_iter().flatten().filter(|reason| text(reason, "/id") == "held-lock")
}

/// A fixture whose thread `metrics-push` holds a lock; and what it told.
fn holder(mode: &str) -> Result<(Program, Value)> {
    let mut program = fixture::hold("carried_locks", &[mode])?;
    program.release()?;
    let told = program.next_json()?;
    Ok((program, told))
}

fn check_names_the_locks_that_threads_hold() -> Result<()> {
    for (mode, kind, name) in [("", "mutex", "registry"), ("write", "read-write", "")] {
        let (mut program, told) = holder(mode)?;
        let document = document(program.pid(), &[])?;
        let locks = document.pointer("/facts/held_locks").and_then(Value::as_array);
        let lock = locks.into_iter().flatten().find(|lock| text(lock, "/address") == text(&told, "/lock"));
        let lock = lock.with_context(|| format!("{told}: {document:#}"))?;
        ensure!((text(lock, "/kind"), text(lock, "/name")) == (kind, name), "{lock:#}");
        ensure!(text(lock, "/owner/name") == "metrics-push", "{lock:#}");
        ensure!(number(lock, "/owner/tid") == number(&told, "/holder"), "{lock:#}");
        let what = reasons(&document).map(|reason| text(reason, "/what")).collect::<Vec<_>>().join("\n");
        ensure!(what.starts_with("held at this moment: ") && what.contains("by metrics-push ("), "{what}");
        ensure!(mode == "write" || what.contains("`registry` in carried_locks"), "{what}");
        program.end(None)?;
    }
    Ok(())
}

fn check_is_silent_about_locks_that_are_free() -> Result<()> {
    let (mut program, _) = holder("free")?;
    let document = document(program.pid(), &[])?;
    let locks = document.pointer("/facts/held_locks").and_then(Value::as_array);
    ensure!(locks.is_some_and(Vec::is_empty) && reasons(&document).next().is_none(), "{document:#}");
    program.end(None).map(drop)
}

fn check_tells_how_often_a_lock_is_held() -> Result<()> {
    let (_, mut program) = Python::system()?.hold_script("busy_lock.py", "half")?;
    program.release()?;
    program.next_json()?;
    // A machine that has much else to do looks less often.
    let document = until("the lock to be seen held and free", || {
        let document = document(program.pid(), &["--for", "2s"])?;
        let locks = document.pointer("/facts/sampling/locks").and_then(Value::as_array);
        let is_half = |lock: &Value| {
            number(lock, "/held")
                .is_some_and(|held| held > 0 && number(lock, "/looks").is_some_and(|looks| held < looks))
        };
        Ok(locks.is_some_and(|locks| locks.iter().any(is_half)).then_some(document))
    })?;
    let locks = document.pointer("/facts/sampling/locks").and_then(Value::as_array);
    let locks = locks.context("no locks")?;
    let recursive = locks.iter().find(|lock| text(lock, "/kind") == "recursive").context("no RLock")?;
    ensure!(
        text(recursive, "/by/0/own_name") == "metrics-push"
            || text(recursive, "/by/0/name") == "metrics-push",
        "{recursive:#}"
    );
    let what = reasons(&document).map(|reason| text(reason, "/what")).collect::<Vec<_>>().join("\n");
    let words =
        ["a threading.RLock is held ", " % of the time by metrics-push (", ": a fork by another thread has "];
    ensure!(words.iter().all(|words| what.contains(words)) && what.contains(" to copy it locked"), "{what}");
    let sampling = document.pointer("/facts/sampling").context("no sampling")?;
    ensure!(number(sampling, "/looks") > Some(0) && number(sampling, "/searches") > Some(0), "{sampling:#}");
    ensure!(sampling.pointer("/ended").is_none(), "{sampling:#}");
    // The looks cost no more than they may: a tenth of a processor each, and the searches as much, and the first search.
    let [took, lasted] = ["/cpu_ns", "/duration_ns"].map(|path| number(sampling, path).unwrap_or_default());
    ensure!(took < lasted, "{sampling:#}");
    program.end(None).map(drop)
}

/// Whether the command has begun to look: then Ctrl-C no longer ends it.
fn looks(child: &Child) -> Result<Option<()>> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = u64::from_str_radix(blocked.context("no mask")?.trim(), 16)?;
    Ok((blocked >> (Signal::SIGINT as i32 - 1) & 1 == 1).then_some(()))
}

fn looking_ends_early_by_ctrl_c_or_with_the_process() -> Result<()> {
    let (mut program, _) = holder("")?;
    for (is_process, words) in
        [(false, "Ctrl-C was pressed".to_owned()), (true, format!("process {} has ended", program.pid()))]
    {
        let child = check(program.pid(), &["--for", "10min"])?;
        until("it to look", || looks(&child))?;
        if is_process {
            program.end(Some(Signal::SIGKILL))?;
        } else {
            kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT)?;
        }
        let said = said(child)?;
        let line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(line.contains(&format!("ended early: {words}")), "{said}");
        ensure!(
            said.lines().filter(|line| !line.contains("https://")).all(|line| line.len() <= 80),
            "{said}"
        );
    }
    Ok(())
}
