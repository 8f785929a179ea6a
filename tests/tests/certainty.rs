//! Nothing certain is said that a program could make wrong: of locks that a child has taken itself, and of memory that
//! another process uses as well.

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    crowd::Crowd,
    event::{Event, Finding},
    fixture,
    program::Program,
    python::Python,
    recording,
    runner::Tests,
    tests,
};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_lock_that_the_child_took_itself_is_not_blamed_on_the_fork,
        a_lock_of_python_that_the_child_took_itself_is_told_as_its_own,
        a_lock_that_another_process_can_release_is_not_called_orphaned,
    ])
}

const LOCK: &str = "orphaned-lock";

fn hold(fixture: &str, alias: &str, arguments: &[&str]) -> Result<(String, Program)> {
    Ok((alias.to_owned(), fixture::hold_as(fixture, alias, arguments)?))
}

fn tells_both_stories(finding: Finding<'_>) -> bool {
    finding.state() == "suspected"
        && finding.severity() == "warning"
        && finding.certainty() != "certain"
        && finding.summary().contains("at the fork")
        && !finding.summary().contains("in vain")
}

fn a_lock_that_the_child_took_itself_is_not_blamed_on_the_fork() -> Result<()> {
    // Of these, the words alone cannot tell who took the lock.
    const DOUBTFUL: [(&str, &[&str]); 4] = [
        ("own-semaphore", &["semaphore"]),
        ("own-handler", &["semaphore", "handler"]),
        ("own-ended", &["ended"]),
        ("own-bare", &["bare"]),
    ];
    let mut programs = Vec::new();
    for (name, arguments) in DOUBTFUL {
        programs.push(hold("own_deadlock", name, arguments)?);
    }
    programs.push(hold("own_deadlock", "own-mutex", &["mutex"])?);
    let mut crowd = Crowd::start(programs)?;
    for (index, (name, _)) in DOUBTFUL.iter().enumerate() {
        let event = crowd.stuck_of(index)?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(tells_both_stories(finding), "{name}: {event:#?}");
    }
    // The mutex names the waiting child itself.
    let doubtful = |name: &str| DOUBTFUL.iter().any(|(doubtful, _)| *doubtful == name);
    crowd.expect_silence(|name, finding| {
        doubtful(name) && finding.hazard() == LOCK && tells_both_stories(finding)
    })
}

/// It was seen free right after the fork, so that one story is left.
fn a_lock_of_python_that_the_child_took_itself_is_told_as_its_own() -> Result<()> {
    let python = Python::system()?;
    let programs = vec![python.hold("own_lock")?, python.hold("own_lock_with_handler")?];
    let mut crowd = Crowd::start(programs)?;
    for index in 0..crowd.members.len() {
        let event = crowd.stuck_of(index)?;
        let finding = event.finding().context("it is a finding")?;
        let is = (finding.state(), finding.certainty(), finding.severity());
        ensure!(is == ("suspected", "heuristic", "warning"), "{event:#?}");
        ensure!(finding.summary().contains("the child itself has taken it since"), "{event:#?}");
        ensure!(!finding.summary().contains("thread of the parent"), "{event:#?}");
    }
    crowd.forkwatch.stop().map(drop)
}

fn a_lock_that_another_process_can_release_is_not_called_orphaned() -> Result<()> {
    let mut crowd = Crowd::start(vec![
        hold("memory_sharer", "sharer-lives", &[])?,
        hold("memory_sharer", "sharer-ended", &["ended"])?,
    ])?;
    let child = crowd.member(0)?.child()?;
    // The kernel told of the one that has ended: it may have taken the lock.
    let event = crowd.stuck_of(1)?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.certainty() == "strong" && finding.state() == "confirmed", "{event:#?}");
    ensure!(!finding.summary().contains("in vain"), "{event:#?}");
    let (events, recording) = crowd.finish()?;
    let places = recording::evidence(&recording, "place")?;
    let shared = places.iter().any(|line| {
        line.pointer("/child/tgid").and_then(serde_json::Value::as_i64) == Some(child)
            && line.pointer("/seen/memory/shared/0").is_some()
    });
    ensure!(shared, "nobody was seen to use the memory of {child}: {places:#?}");
    let is_about = |event: &&Event| {
        event.pid() == Some(child) && event.finding().is_some_and(|finding| finding.hazard() == LOCK)
    };
    let wrong = events.iter().find(is_about);
    ensure!(wrong.is_none(), "{wrong:#?}");
    Ok(())
}
