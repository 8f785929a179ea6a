//! An event as hooks see it: its document, and what that says.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    config::hook::{Placeholder, Told, Values},
    host,
    model::time::TICK,
};

/// An event of the watch, and what hooks are chosen by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The document of `forkwatch.event/1`, on one line.
    pub(super) line: Arc<str>,
    /// What the criteria of hooks compare.
    pub(super) told: Told,
    process: Option<Identity>,
    parent: Option<Identity>,
}

/// A process, and no other of that pid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    /// Its start in clock ticks since boot.
    ticks: Option<u64>,
}

/// Whether a process that an event is about is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Still {
    There,
    Gone,
    /// It is hidden from us.
    Unseen,
}

impl Event {
    /// Reads a document; none where it is no event's.
    pub(super) fn read(line: &str) -> Option<Self> {
        let document: Value = serde_json::from_str(line).ok()?;
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let process = Identity::at(&document, "/process");
        let parent = Identity::at(&document, "/process/parent");
        let unit = text("/service/name");
        let names = ["/process/name", "/process/parent/name", "/forkwatch/finding/program"];
        let uid = text("/process/parent/user/id").or_else(|| text("/process/user/id"));
        let told = Told {
            action: text("/event/action")?,
            hazard: text("/forkwatch/finding/hazard"),
            certainty: text("/forkwatch/finding/certainty"),
            severity: text("/forkwatch/finding/severity"),
            state: text("/forkwatch/finding/state"),
            server: text("/forkwatch/worker/server"),
            names: names.into_iter().filter_map(text).collect(),
            uid: uid.and_then(|uid| uid.parse().ok()),
            how: document.pointer("/forkwatch/worker/end").map(how),
            // What a user's service manager has started has a slash in its unit, or no unit of the system's at all.
            is_of_user: text("/forkwatch/provenance/owner").as_deref() == Some("user")
                || unit.as_deref().is_some_and(|unit| unit.starts_with("user@")),
            unit,
        };
        Some(Self { line: line.into(), told, process, parent })
    }

    /// Whether the process that a value names is still the one that the event is about.
    pub(super) fn is_still(&self, placeholder: Placeholder) -> Still {
        let identity = match placeholder {
            Placeholder::Pid => &self.process,
            Placeholder::Parent => &self.parent,
            _ => return Still::There,
        };
        identity.as_ref().map_or(Still::Unseen, Identity::is_still)
    }
}

impl Values for Event {
    fn value(&self, placeholder: Placeholder) -> Option<String> {
        match placeholder {
            Placeholder::Pid => self.process.as_ref().map(|process| process.pid.to_string()),
            Placeholder::Parent => self.parent.as_ref().map(|parent| parent.pid.to_string()),
            Placeholder::Uid => self.told.uid.map(|uid| uid.to_string()),
            Placeholder::Action => Some(self.told.action.clone()),
            Placeholder::Hazard => self.told.hazard.clone(),
            Placeholder::State => self.told.state.clone(),
            Placeholder::Certainty => self.told.certainty.clone(),
            Placeholder::Severity => self.told.severity.clone(),
        }
        .filter(|value| is_plain(value))
    }
}

/// Whether it is a word of forkwatch's: no option, and nothing that a shell would take for more than a word.
fn is_plain(value: &str) -> bool {
    value.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// How a worker ended, as `/api/v1/servers` has it.
fn how(end: &Value) -> String {
    match (end.get("exit_code").and_then(Value::as_u64), end.get("signal").and_then(Value::as_str)) {
        (Some(code), _) => format!("code {code}"),
        (None, signal) => signal.unwrap_or("signal").to_owned(),
    }
}

impl Identity {
    fn at(document: &Value, pointer: &str) -> Option<Self> {
        let process = document.pointer(pointer)?;
        let pid = process.get("pid").and_then(Value::as_u64).and_then(|pid| u32::try_from(pid).ok())?;
        // Its pid would mean a whole group of processes, or all, to kill(2).
        if pid < 2 {
            return None;
        }
        let entity = process.get("entity_id").and_then(Value::as_str);
        let ticks = entity.and_then(|entity| entity.rsplit('-').next()).and_then(|ticks| ticks.parse().ok());
        Some(Self { pid, ticks })
    }

    fn is_still(&self) -> Still {
        let Some(ticks) = self.ticks else { return Still::Unseen };
        match host::find(self.pid) {
            Ok(found) if found.key.start.0 / TICK == ticks => Still::There,
            Err(_) if host::exists(self.pid) && !has_ended(self.pid) => Still::Unseen,
            Ok(_) | Err(_) => Still::Gone,
        }
    }
}

/// Whether it is a process that nobody has waited for yet.
fn has_ended(pid: u32) -> bool {
    matches!(host::find(pid), Err(host::ScanError::Zombie { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_that_a_watch_writes_are_understood() {
        let lines = include_str!("../output/json/golden.jsonl");
        let events: Vec<Event> = lines.lines().map(|line| Event::read(line).unwrap()).collect();
        let of = |action: &str| events.iter().find(|event| event.told.action == action).unwrap();
        let finding = of("finding");
        assert_eq!(finding.told.hazard.as_deref(), Some("multithreaded-fork"));
        assert_eq!(
            (finding.told.unit.as_deref(), finding.told.uid, finding.told.names.as_slice()),
            (Some("gunicorn.service"), Some(33), ["gunicorn"; 3].map(str::to_owned).as_slice())
        );
        assert_eq!(finding.value(Placeholder::Pid).as_deref(), Some("4244"));
        assert_eq!(finding.value(Placeholder::Parent).as_deref(), Some("4100"));
        let exited = of("worker_exited");
        assert_eq!(
            (exited.told.server.as_deref(), exited.told.how.as_deref()),
            (Some("gunicorn"), Some("SIGKILL"))
        );
        assert_eq!(exited.value(Placeholder::Hazard), None);
    }

    #[test]
    fn nothing_that_could_be_an_option_or_a_group_of_processes_becomes_an_argument() {
        let line = r#"{"event": {"action": "finding"}, "process": {"pid": 0, "parent": {"pid": 1}},
            "forkwatch": {"finding": {"hazard": "--all", "state": "a b", "severity": "", "certainty": "certain"}}}"#;
        let event = Event::read(line).unwrap();
        for placeholder in [
            Placeholder::Pid,
            Placeholder::Parent,
            Placeholder::Hazard,
            Placeholder::State,
            Placeholder::Severity,
        ] {
            assert_eq!(event.value(placeholder), None, "{placeholder:?}");
        }
        assert_eq!(event.value(Placeholder::Certainty).as_deref(), Some("certain"));
    }

    #[test]
    fn a_pid_that_was_given_to_another_process_is_gone() {
        let own = std::process::id();
        let start = host::find(own).unwrap().key.start.0 / TICK;
        let event = |ticks: u64| {
            let line = format!(
                r#"{{"event": {{"action": "finding"}}, "process": {{"pid": {own}, "entity_id": "0ec2-{own}-{ticks}"}}}}"#
            );
            Event::read(&line).unwrap()
        };
        assert_eq!(event(start).is_still(Placeholder::Pid), Still::There);
        assert_eq!(event(start + 1).is_still(Placeholder::Pid), Still::Gone);
        assert_eq!(event(start).is_still(Placeholder::Parent), Still::Unseen);
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        let line = format!(
            r#"{{"event": {{"action": "finding"}}, "process": {{"pid": {pid}, "entity_id": "0ec2-{pid}-7"}}}}"#
        );
        assert_eq!(Event::read(&line).unwrap().is_still(Placeholder::Pid), Still::Gone);
    }

    #[test]
    fn what_is_no_event_is_none() {
        for line in ["", "{}", "[1]", "{\"event\": {}}", "\u{0}"] {
            assert_eq!(Event::read(line), None, "{line}");
        }
    }
}
