//! Tries a hook with an event that was made up, about a process that may be killed.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use serde_json::json;

use super::{Ran, event::Event, runner, stop::Stop};
use crate::{
    config::hook::Hook,
    host::{self, ScanError},
    output::Context,
};

/// Why a hook cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The process that the event is to be about cannot be had.
    #[error("cannot start the process that the test is about (sleep): {0}")]
    Start(#[from] io::Error),
    /// It cannot be found.
    #[error("cannot find the process that the test is about: {0}")]
    Find(#[from] ScanError),
    /// The event was not understood.
    #[error("the event of the test cannot be read")]
    Event,
}

/// The process that the event is about: a hook that kills it, or looks into it, harms nobody.
struct Sleeper(Child);

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have been killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a hook now, whatever it is for, with a finding that says that it is a test.
pub fn try_out(hook: &Hook) -> Result<Ran, TrialError> {
    try_until(hook, &Stop::new()?)
}

/// The same, as long as nobody asks everything to end.
pub(super) fn try_until(hook: &Hook, stop: &Stop) -> Result<Ran, TrialError> {
    let mut sleep = Command::new("sleep");
    sleep.arg("100000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let sleeper = Sleeper(sleep.spawn()?);
    let event = event(&hook.name, sleeper.0.id())?;
    Ok(runner::run(hook, &event, true, stop))
}

fn event(name: &str, pid: u32) -> Result<Event, TrialError> {
    let context = Context {
        host_name: host::clock::host_name(),
        boot_id: host::clock::boot_id(),
        ..Context::default()
    };
    let process = host::find(pid)?;
    let own = host::find(std::process::id())?;
    let entity = context.entity_id(process.key);
    let document = json!({
        "schema": "forkwatch.event/1",
        "@timestamp": format!("{:.9}", jiff::Timestamp::now()),
        "event": { "kind": "alert", "category": ["process"], "type": ["info"], "action": "finding", "sequence": 0 },
        "host": { "name": context.host_name, "boot": { "id": context.boot_id } },
        "process": {
            "pid": pid,
            "entity_id": entity,
            "name": "sleep",
            "parent": {
                "pid": own.key.tgid,
                "entity_id": context.entity_id(own.key),
                "name": "forkwatch",
                "args": ["forkwatch", "hook", "test", name],
                "user": { "id": nix::unistd::getuid().to_string() },
            },
        },
        "forkwatch": {
            "finding": {
                "id": format!("orphaned-lock/{}", entity.unwrap_or_default()),
                "number": 0,
                "hazard": "orphaned-lock",
                "state": "confirmed",
                "certainty": "certain",
                "severity": "critical",
                "summary": format!("This is a test of the hook {name}: nothing is wrong."),
                "program": "forkwatch hook test",
                "repeats": 0,
                "evidence": { "notes": ["made up by forkwatch hook test"] },
                "remedy": {
                    "text": "Nothing is to be done.",
                    "link": "https://github.com/forkwatch/forkwatch/blob/main/docs/hooks.md",
                },
            },
        },
    });
    Event::read(&document.to_string()).ok_or(TrialError::Event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::hook::Hooks, hooks::How};

    fn hook(exec: &str) -> Hook {
        let text =
            format!("[[hook]]\nname = \"tried\"\non = [\"rescued\"]\nenabled = false\nexec = {exec}\n");
        Hooks::parse("x", &text).unwrap().0.remove(0)
    }

    #[test]
    fn a_hook_is_tried_whatever_it_is_for_and_may_kill_what_it_is_told() {
        let ran =
            try_out(&hook(r#"["/bin/sh", "-c", "cat; echo; echo $FORKWATCH_TEST; kill -9 {pid}"]"#)).unwrap();
        assert_eq!(ran.how, How::Good, "{}", ran.output);
        assert!(
            ran.output.contains("This is a test of the hook tried") && ran.output.ends_with('1'),
            "{}",
            ran.output
        );
    }

    #[test]
    fn the_event_of_a_test_is_one_of_the_schema() {
        let own = std::process::id();
        let event = event("x", own).unwrap();
        let schema = crate::output::json::schema();
        let document: serde_json::Value = serde_json::from_str(&event.line).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<String> = validator.iter_errors(&document).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
}
