//! `--kernel-log`: what the programs in the kernel decide, line by line, and how many lines were lost.

use std::{
    fs::{self, File},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, fixture, forkwatch::Forkwatch, host::needs_bpf, process, program::Program, runner::Tests, tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) fn tests() -> Tests {
    // What others do on the host is in the log too, and must not fill it.
    Tests::alone(tests![
        the_decisions_about_a_program_that_forks_are_told,
        only_those_named_speak,
        a_daemon_says_it_too_with_the_target,
        lines_that_find_no_room_are_counted,
        doctor_tries_it,
    ])
}

/// What every line of it has before its text.
const MARK: &str = "kernel log: ";

/// The lines of the kernel log, without what stands before their text.
fn lines(stderr: &str) -> Vec<&str> {
    stderr.lines().filter_map(|line| line.split_once(MARK)).map(|(_, text)| text).collect()
}

/// Ends a storm's wait, and gives back once all its children have ended.
fn storm(program: &mut Program) -> Result<()> {
    program.release()?;
    program.next_json().map(drop)
}

/// The number that the last line gives under this name.
fn total(lines: &[&str], name: &str) -> Result<u64> {
    let last = lines.last().context("there is no line")?;
    let value = last.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    Ok(value.with_context(|| format!("no {name} in the last line: {last}"))?.parse()?)
}

fn the_decisions_about_a_program_that_forks_are_told() -> Result<()> {
    const FORKS: usize = 10;
    let mut watched = fixture::hold("fork_storm", &["1", &FORKS.to_string()])?;
    let mut other = fixture::hold("fork_storm", &["1", "1"])?;
    let forkwatch = Forkwatch::tail(["--kernel-log", "--pid", &watched.pid().to_string()])?;
    storm(&mut watched)?;
    storm(&mut other)?;
    let (_, stderr) = forkwatch.stop()?;
    let lines = lines(&stderr);
    // One of them forks the others.
    let forks: Vec<&str> =
        lines.iter().copied().filter(|line| line.contains(" told, hazards 0 program=fork")).collect();
    ensure!(forks.len() > FORKS, "{} forks told of {FORKS} and one: {stderr}", forks.len());
    for fork in &forks {
        // "process 7: fork of 8 told, …".
        let child = fork.split_whitespace().nth(4).context("no child")?;
        for decision in [
            format!("process {child}: entered into the family, generation "),
            format!("process {child}: end told, status 0 program=exit"),
        ] {
            ensure!(lines.iter().any(|line| line.starts_with(&decision)), "no line {decision:?}: {stderr}");
        }
    }
    let refused =
        format!("process {}: not told, it is not of the processes asked for program=fork", other.pid());
    ensure!(lines.contains(&refused.as_str()), "no line {refused:?}: {stderr}");
    for tried in ["switched on: the senders of signals", "switched off: the senders of signals"] {
        ensure!(lines.contains(&tried), "no line {tried:?}: {stderr}");
    }
    ensure!((total(&lines, "lost")?, total(&lines, "malformed")?) == (0, 0), "{:?}", lines.last());
    ensure!(total(&lines, "lines")? >= 3 * FORKS as u64, "{:?}", lines.last());
    Ok(())
}

fn only_those_named_speak() -> Result<()> {
    let mut program = fixture::hold("fork_storm", &["1", "5"])?;
    let forkwatch = Forkwatch::tail(["--kernel-log=exit,exec", "--pid", &program.pid().to_string()])?;
    storm(&mut program)?;
    let (_, stderr) = forkwatch.stop()?;
    let lines = lines(&stderr);
    let (last, said) = lines.split_last().context("there is no line")?;
    ensure!(last.starts_with("ended lines="), "{last}");
    ensure!(said.iter().any(|line| line.ends_with(" program=exit")), "{stderr}");
    let others: Vec<_> = said
        .iter()
        // Of forkwatch itself, which no option names.
        .filter(|line| !line.starts_with("switched o"))
        .filter(|line| !line.ends_with(" program=exit") && !line.ends_with(" program=exec"))
        .collect();
    ensure!(others.is_empty(), "others speak: {others:?}");
    Ok(())
}

fn a_daemon_says_it_too_with_the_target() -> Result<()> {
    let mut program = fixture::hold("fork_storm", &["1", "5"])?;
    let forkwatch =
        Forkwatch::daemon(["--kernel-log=fork", "--log.format=json", "--web.listen-address=127.0.0.1:0"])?;
    storm(&mut program)?;
    let (_, stderr) = forkwatch.stop()?;
    let said = format!("process {}: fork of ", program.pid());
    let line = stderr.lines().find(|line| line.contains(&said));
    let line: serde_json::Value = serde_json::from_str(line.with_context(|| format!("not said: {stderr}"))?)?;
    ensure!(line.get("target").is_some_and(|target| target == "forkwatch::kernel_log"), "{line}");
    ensure!(line.get("program").is_some_and(|program| program == "fork"), "{line}");
    Ok(())
}

/// A tail whose log goes to a file, which always has room.
struct Logging {
    child: Child,
    log: std::path::PathBuf,
}

impl Logging {
    fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.child.id().cast_signed()), signal)?)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_that_find_no_room_are_counted() -> Result<()> {
    needs_bpf()?;
    let mut program = fixture::hold("fork_storm", &["1", "5000"])?;
    let log = program.folder().join("kernel.log");
    let child = Command::new(binary::forkwatch()?)
        .args(["tail", "--kernel-log", "--unsafe"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()?;
    let mut logging = Logging { child, log };
    until("forkwatch to be ready", || Ok(logging.log()?.contains("ready").then_some(())))?;
    // It takes nothing out meanwhile, and the ring holds some thousand lines.
    logging.signal(Signal::SIGSTOP)?;
    let pid = logging.child.id().cast_signed();
    until("forkwatch to stop", || Ok(process::is_stopped(pid).then_some(())))?;
    storm(&mut program)?;
    logging.signal(Signal::SIGCONT)?;
    logging.signal(Signal::SIGINT)?;
    let status = until("forkwatch to end", || Ok(logging.child.try_wait()?))?;
    ensure!(status.success(), "{status}");
    let stderr = logging.log()?;
    let lines = lines(&stderr);
    let (read, lost) = (total(&lines, "lines")?, total(&lines, "lost")?);
    ensure!(read > 1000 && lost > 1000, "{read} read, {lost} lost");
    // Each child is told of as not told when it is forked, and when it ends.
    ensure!(read + lost >= 10_000, "{read} read and {lost} lost");
    ensure!(total(&lines, "malformed")? == 0, "{:?}", lines.last());
    let warned = lines.iter().any(|line| line.starts_with("lines found no room, and are missing lost="));
    ensure!(warned, "no warning");
    Ok(())
}

fn doctor_tries_it() -> Result<()> {
    needs_bpf()?;
    let output =
        Command::new(binary::forkwatch()?).args(["doctor", "--kernel-log", "-o", "json"]).output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let checks = report.get("checks").and_then(serde_json::Value::as_array).context("no checks")?;
    let check = checks.iter().find(|check| check.get("id").is_some_and(|id| id == "kernel-log"));
    let check = check.with_context(|| format!("not tried: {report}"))?;
    ensure!(check.get("status").is_some_and(|status| status == "ok"), "{check}");
    let found = check.get("found").and_then(serde_json::Value::as_str).unwrap_or_default();
    let lines = found.split_whitespace().next().and_then(|lines| lines.parse::<u64>().ok());
    ensure!(lines.is_some_and(|lines| lines > 0), "{found}");
    Ok(())
}
