//! Containers: forkwatch in one, and programs in one that are watched from the host.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use forkwatch::release::Release;
use forkwatch_tests::{binary, event::Event, forkwatch::Forkwatch, process};

use crate::{
    command::{document_of, end, ensure_has, said},
    doctor::checks_of,
    proofs::{SOON, check_owner},
    role::contained,
    runner::Test,
    work::{PROGRAM, THREAD_NAME, Work},
};

pub(crate) const ALL: &[Test] = &[
    ("in a pid namespace it refuses", in_a_pid_namespace),
    ("a program in a pid namespace is named and its lock proven", a_program_in_a_pid_namespace),
];

fn in_a_pid_namespace() -> Result<()> {
    let forkwatch = binary::forkwatch()?;
    let output = end(contained(&forkwatch).args(["-d", "1ms"]))?;
    ensure_has(&said(&output, 3)?, &["not the host's pid namespace", "--pid=host"])?;
    let (code, document) = document_of(&end(contained(&forkwatch).args(["doctor", "-o", "json"]))?)?;
    ensure!(code == Some(3), "doctor ended with {code:?}: {document:#}");
    let missing = ("pid-namespace".to_owned(), "missing".to_owned());
    ensure!(checks_of(&document).contains(&missing), "{document:#}");
    Ok(())
}

fn a_program_in_a_pid_namespace() -> Result<()> {
    let mut work = Work::hold_in(&mut contained(PROGRAM), "hang")?;
    let outside = work.pid().to_string();
    let mut forkwatch = Forkwatch::tail(["--pid", &outside].iter().chain(&SOON))?;
    work.begin()?;
    let first = process::descendants(work.pid().cast_signed()).first().context("nobody is in there")?.pid;
    let event = forkwatch.wait_for("the finding orphaned-lock", |event| {
        event.parent_pid() == Some(first.into())
            && event.finding().is_some_and(|found| found.hazard() == "orphaned-lock")
    })?;
    let found = event.finding().context("it is a finding")?;
    check_owner(found)?;
    // The lock has the owner's tid of in there; what is told is the host's.
    for tid in found.thread_ids() {
        let comm = fs::read_to_string(format!("/proc/{first}/task/{tid}/comm"));
        ensure!(comm.as_ref().is_ok_and(|comm| comm.trim() == THREAD_NAME), "thread {tid} is {comm:?}");
    }
    let child = event.pid().context("it has no child")?;
    let status = fs::read_to_string(format!("/proc/{child}/status")).context("the child is gone")?;
    let own = status.lines().find_map(|line| line.strip_prefix("NSpid:")).context("no NSpid")?;
    let own: u64 = own.split_whitespace().next_back().context("an empty NSpid")?.parse()?;
    let fork = |other: &Event| other.action() == "fork" && other.pid() == Some(child);
    let fork = forkwatch.wait_for("its fork", fork)?;
    // The verifier lets it be read since the array of a pid's numbers has no declared length.
    let told = (Release::running() >= Release(6, 1)).then_some(own);
    ensure!(fork.namespace_pid() == told, "it is {own} in there: {fork:#?}");
    work.end()?;
    forkwatch.stop().map(drop)
}
