//! Connections that are over before anybody looks, and children that use one after the other.

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    host::workspace,
    program::{Launch, Program},
    provided::provided,
    runner::Tests,
    tests,
    watched::Watched,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_child_whose_word_has_a_connection_reset_is_told_of,
        children_that_use_a_connection_one_after_the_other_are_told_of_once_it_is_over,
        a_farewell_of_a_child_that_has_used_the_connection_is_suspected,
    ])
}

const USED: &str = "shared-connection";
const CLOSED: &str = "shared-connection-closed";

/// Watches this case of the script.
fn watch(case: &'static str) -> Result<Watched> {
    Watched::start(Program::hold(|_| {
        let python = Launch::new(provided("python")?.join("bin/python"));
        let script = workspace().join("tests/fixtures/python/ended_connection.py").into_os_string();
        Ok(python.args([script, case.into()]).env("PYTHONDONTWRITEBYTECODE", "1"))
    })?)
}

/// The same, once it is known that its first child shares the connection. Gives what it says in the end.
fn watch_later_children(case: &'static str) -> Result<(Watched, Value)> {
    let mut watched = watch(case)?;
    watched.program.next_json()?;
    watched.judged()?;
    watched.program.step()?;
    let told = watched.program.next_json()?;
    Ok((watched, told))
}

fn reports(watched: &mut Watched, hazard: &'static str) -> Result<Event> {
    let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.hazard() == hazard);
    watched.forkwatch.wait_for(hazard, is_it)
}

/// Checks what a finding says, and how sure it is.
fn says(event: &Event, certainty: &str, words: &[&str]) -> Result<()> {
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.certainty() == certainty, "{event:#?}");
    for part in words {
        ensure!(finding.summary().contains(part), "no {part:?} in {event:#?}");
    }
    Ok(())
}

fn a_child_whose_word_has_a_connection_reset_is_told_of() -> Result<()> {
    let mut watched = watch("reset_at_once")?;
    watched.program.next_json()?;
    let event = reports(&mut watched, CLOSED)?;
    let finding = event.finding().context("it is a finding")?;
    // That it said something is known only where the programs were attached by then.
    ensure!(["strong", "heuristic"].contains(&finding.certainty()), "{event:#?}");
    ensure!(finding.summary().contains("an unknown server"), "{event:#?}");
    watched.stop().map(drop)
}

fn children_that_use_a_connection_one_after_the_other_are_told_of_once_it_is_over() -> Result<()> {
    let (mut watched, told) = watch_later_children("one_after_the_other")?;
    let event = reports(&mut watched, USED)?;
    says(&event, "strong", &["used it, then its child", "now it is over"])?;
    ensure!(event.finding().and_then(Finding::pid) == told.get("last").and_then(Value::as_i64), "{event:#?}");
    // Nothing is said of the connection on which that went well.
    let events = watched.stop()?;
    let findings: Vec<&Event> = events.iter().filter(|event| event.finding().is_some()).collect();
    ensure!(findings.len() == 1, "{findings:#?}");
    Ok(())
}

fn a_farewell_of_a_child_that_has_used_the_connection_is_suspected() -> Result<()> {
    let (mut watched, _) = watch_later_children("farewell_after_use")?;
    let event = reports(&mut watched, CLOSED)?;
    says(&event, "heuristic", &["when it ended, the connection was over"])?;
    watched.stop().map(drop)
}
