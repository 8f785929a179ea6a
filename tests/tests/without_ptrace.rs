//! Commands as root without `CAP_SYS_PTRACE`, as containers run them: each does what it can, and says what is missing.

use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary, fixture, forkwatch::Forkwatch, host::needs_root, program::Program, runner::Tests, tests,
};
use nix::sys::signal::Signal;
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        check_tells_the_threads_and_what_it_could_not_look_at,
        inspect_tells_the_processes_and_what_it_could_not_look_at,
        rescue_releases_nothing_and_says_why,
        tail_does_not_claim_that_a_child_goes_on,
    ])
}

/// What stands in a message about something that root may not do here.
const LACKS: &str = "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, of which this root lacks";

fn reduced() -> Result<Command> {
    needs_root()?;
    // setpriv is util-linux, which every Debian has.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]).arg(binary::forkwatch()?);
    Ok(command)
}

fn run(arguments: &[&str]) -> Result<Output> {
    reduced()?.args(arguments).output().context("cannot run setpriv")
}

/// All that was said, as one line.
fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&both).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A program whose child hangs for a lock that a thread of the program holds, and the pid of the child.
fn stuck() -> Result<(Program, i64)> {
    let mut program = fixture::hold("orphan_mutex", &[])?;
    program.release()?;
    let told = program.next_json()?;
    let child = told.get("child").and_then(Value::as_i64).context("no child")?;
    Ok((program, child))
}

fn check_tells_the_threads_and_what_it_could_not_look_at() -> Result<()> {
    let (mut program, _) = stuck()?;
    let output = run(&["check", &program.pid().to_string()])?;
    let said = said(&output);
    ensure!(output.status.code() == Some(10), "{said}");
    ensure!(said.contains("unsafe 1 other thread runs: metrics-push"), "{said}");
    ensure!(said.contains("unknown calls: ") && said.contains(LACKS), "{said}");
    program.end(None).map(drop)
}

fn inspect_tells_the_processes_and_what_it_could_not_look_at() -> Result<()> {
    let (mut program, _) = stuck()?;
    let output = run(&["inspect", &program.pid().to_string()])?;
    let said = said(&output);
    ensure!(output.status.code() == Some(3), "{said}");
    ensure!(said.contains("thread metrics-push: not known") && said.contains(LACKS), "{said}");
    ensure!(said.contains("would be unsafe"), "{said}");
    program.end(None).map(drop)
}

fn rescue_releases_nothing_and_says_why() -> Result<()> {
    let (mut program, child) = stuck()?;
    let output = run(&["rescue", "--dry-run", &child.to_string()])?;
    let said = said(&output);
    ensure!(output.status.code() == Some(11), "{:?}: {said}", output.status);
    ensure!(said.contains("Nothing was released") && said.contains(LACKS), "{said}");
    program.end(None).map(drop)
}

fn tail_does_not_claim_that_a_child_goes_on() -> Result<()> {
    let (mut program, _) = stuck()?;
    let pid = program.pid();
    let mut forkwatch = Forkwatch::start(reduced()?.args(["tail", "-o", "json", "--pid", &pid.to_string()]))?;
    let standing = forkwatch.wait_for_standing(pid)?;
    let assessment = standing.0.pointer("/forkwatch/assessment").context("no assessment")?;
    ensure!(assessment.get("unseen_children").and_then(Value::as_u64) == Some(1), "{assessment}");
    ensure!(assessment.get("stuck_children").is_none(), "{assessment}");
    ensure!(forkwatch.stderr().contains("without CAP_SYS_PTRACE"), "{}", forkwatch.stderr());
    forkwatch.signal(Signal::SIGINT)?;
    forkwatch.ended()?;
    program.end(None).map(drop)
}
