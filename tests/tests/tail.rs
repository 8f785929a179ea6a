//! `forkwatch tail` as a user meets it: columns, filters, limits, endings.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    host::{needs_bpf, needs_root},
    process,
    program::{Launch, Program},
    runner::Tests,
    tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        columns_escape_hostile_names,
        a_closed_pipe_ends_it_cleanly,
        a_pid_that_does_not_exist_is_refused,
        it_begins_with_what_check_and_scan_see,
        it_ends_after_count_lines,
        it_ends_after_its_duration,
        it_attaches_to_descendants_that_exist_already,
        two_at_once_see_the_same,
        nonsense_is_a_usage_error,
        without_privileges_it_says_so,
    ])
}

/// Runs forkwatch to its end.
fn run(arguments: &[&str]) -> Result<Output> {
    needs_bpf()?;
    Command::new(binary::forkwatch()?)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("cannot run forkwatch")
}

/// Checks how it ended, and that it said this.
fn ended(output: &Output, code: i32, saying: &str) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {}: {stderr}", output.status);
    ensure!(stderr.contains(saying), "did not say {saying:?}: {stderr}");
    Ok(())
}

/// A tail in columns of one held program, ready, with its output in pipes.
fn columns(program: &Program) -> Result<std::process::Child> {
    needs_bpf()?;
    let mut child = Command::new(binary::forkwatch()?)
        .args(["tail", "--color", "never", "--pid", &program.pid().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stderr = BufReader::new(child.stderr.take().context("no pipe")?);
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        ensure!(stderr.read_line(&mut line)? > 0, "it ended before it was ready");
    }
    child.stderr = Some(stderr.into_inner());
    Ok(child)
}

fn it_begins_with_what_check_and_scan_see() -> Result<()> {
    // One whose child hangs already, beside the thread that took its mutex: in columns, then as a document.
    let mut program = fixture::hold("orphan_mutex", &[])?;
    program.release()?;
    let told = program.next_json()?;
    let number = |key: &str| told.get(key).and_then(serde_json::Value::as_i64);
    let child = i32::try_from(number("child").context("no child")?)?;
    let lock = told.get("lock").and_then(|lock| lock.as_str()?.strip_prefix("0x")).context("no lock")?;
    let lock = u64::from_str_radix(lock, 16)?;
    program.wait_for("the child to wait for the mutex", |_| Ok(process::waits_for(child, lock)))?;
    let pid = program.pid();
    let mut forkwatch = columns(&program)?;
    let mut stdout = BufReader::new(forkwatch.stdout.take().context("no pipe")?);
    let mut text = String::new();
    while !text.contains("forkwatch check") {
        ensure!(stdout.read_line(&mut text)? > 0, "it ended early: {text}");
    }
    kill(Pid::from_raw(forkwatch.id().cast_signed()), Signal::SIGINT)?;
    ensure!(forkwatch.wait()?.code() == Some(0));
    ensure!(text.contains(&format!("(pid {pid}): a fork would be unsafe now")), "{text}");
    ensure!(text.contains("  unsafe   1 other thread runs: ") && text.contains("may be stuck"), "{text}");
    ensure!(text.contains(&format!("  waits    {child}: a finding comes once")), "{text}");
    ensure!(text.lines().all(|line| line.len() <= 80), "{text}");

    let mut forkwatch = Forkwatch::tail_pids(&[pid])?;
    let standing = forkwatch.wait_for_standing(pid)?;
    ensure!(standing.text("/forkwatch/assessment/verdict") == "unsafe", "{standing:#?}");
    ensure!(standing.text("/forkwatch/assessment/reasons/0/id") == "threads", "{standing:#?}");
    let stuck = standing.0.pointer("/forkwatch/assessment/stuck_children");
    ensure!(stuck == Some(&serde_json::json!([child])), "{standing:#?}");
    forkwatch.stop().map(drop)
}

fn columns_escape_hostile_names() -> Result<()> {
    let mut program = fixture::hold("hostile_comm", &[])?;
    let mut tail = columns(&program)?;
    let mut lines = BufReader::new(tail.stdout.take().context("no pipe")?);
    program.release()?;
    let mut output = Vec::new();
    while !String::from_utf8_lossy(&output).contains("multithreaded-fork") {
        ensure!(lines.read_until(b'\n', &mut output)? > 0, "it ended before the finding");
    }
    kill(Pid::from_raw(tail.id().cast_signed()), Signal::SIGINT)?;
    lines.read_to_end(&mut output)?;
    ensure!(tail.wait()?.code() == Some(0), "Ctrl-C is a clean end");
    let shown = String::from_utf8(output).context("not UTF-8")?;
    ensure!(
        !shown.chars().any(|character| character.is_control() && character != '\n'),
        "unescaped: {shown:?}"
    );
    ensure!(shown.contains(r"\x1b"), "the escape is not shown: {shown:?}");
    Ok(())
}

fn a_closed_pipe_ends_it_cleanly() -> Result<()> {
    let mut program = fixture::hold("fork_storm", &["2", "200"])?;
    let mut tail = columns(&program)?;
    drop(tail.stdout.take());
    program.release()?;
    let status = until("tail to notice the closed pipe", || Ok(tail.try_wait()?))?;
    ensure!(status.code() == Some(0), "a closed pipe is a clean end, not {status}");
    Ok(())
}

fn a_pid_that_does_not_exist_is_refused() -> Result<()> {
    // One more than the largest that the kernel can give out (PID_MAX_LIMIT).
    let output = run(&["tail", "--pid", "4194305"])?;
    ensure!(matches!(output.status.code(), Some(1 | 2)), "ended with {}", output.status);
    ended(&output, output.status.code().unwrap_or_default(), "4194305")
}

fn it_ends_after_count_lines() -> Result<()> {
    let mut program = fixture::hold("fork_storm", &["1", "50"])?;
    let pid = program.pid().to_string();
    let mut tail = Forkwatch::tail(["--pid", &pid, "-n", "7"])?;
    program.release()?;
    let status = tail.ended()?;
    ensure!(status.code() == Some(0), "ended with {status}");
    ensure!(tail.events().len() == 7, "{} events instead of 7", tail.events().len());
    Ok(())
}

fn it_ends_after_its_duration() -> Result<()> {
    ended(&run(&["tail", "--duration", "300ms", "--comm", "no such comm"])?, 0, "")
}

fn it_attaches_to_descendants_that_exist_already() -> Result<()> {
    let mut shell = Program::hold(|_| {
        // A background job's own stdin is /dev/null.
        let script = "exec 3<&0; \"$0\" <&3 & wait";
        Ok(Launch::new("/bin/sh").args(["-c".into(), script.into(), fixture::fixture("sentinel")?]))
    })?;
    shell.release()?;
    shell.wait_for("the sentinel's thread", |shell| {
        let family = process::descendants(shell.pid());
        Ok(family.iter().any(|member| process::thread_names(member.pid).len() == 2))
    })?;
    let mut tail = Forkwatch::tail_pids(&[shell.pid()])?;
    shell.step()?;
    let child = shell.next_json()?.get("child").and_then(serde_json::Value::as_i64);
    tail.wait_for("the finding", |event| event.finding().is_some() && event.pid() == child)?;
    tail.stop().map(drop)
}

fn two_at_once_see_the_same() -> Result<()> {
    let mut program = fixture::hold("generations", &[])?;
    let first = Forkwatch::tail_pids(&[program.pid()])?;
    let second = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    program.next_json()?;
    program.end(None)?;
    let forks = |tail: Forkwatch| -> Result<Vec<Option<i64>>> {
        let (events, _) = tail.stop()?;
        Ok(events.iter().filter(|event| event.action() == "fork").map(Event::pid).collect())
    };
    let (first, second) = (forks(first)?, forks(second)?);
    ensure!(first.len() == 3 && first == second, "{first:?} and {second:?}");
    Ok(())
}

fn nonsense_is_a_usage_error() -> Result<()> {
    for arguments in [&["tail", "--pid", "x"][..], &["tail", "--no-such-option"], &["tail", "-o", "xml"]] {
        let output = Command::new(binary::forkwatch()?).args(arguments).output()?;
        ended(&output, 2, arguments.last().copied().unwrap_or_default())?;
    }
    Ok(())
}

fn without_privileges_it_says_so() -> Result<()> {
    needs_root()?;
    // setpriv is util-linux, which every Debian has.
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary::forkwatch()?)
        .args(["tail", "--duration", "1s"])
        .output()
        .context("cannot run setpriv")?;
    ended(&output, 3, "CAP_BPF")
}
