//! Reads a finding back from its document, to show it as it was shown when it was found.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::model::{
    finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
    process::{Comm, ProcessKey, Program},
    provenance::Provenance,
    signals::SignalSet,
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// The finding of a document of the schema `forkwatch.event/1`, and which parts of its evidence a later edition must have
/// written, as they stand there. None where it is no such document. Times since the boot are not in it: they are 0.
pub fn read_finding(document: &Value, hazard: HazardId) -> Option<(Finding, Vec<(String, Value)>)> {
    let found = document.pointer("/forkwatch/finding")?;
    let process = document.get("process")?;
    // Where nobody knows who forked it, there is no parent.
    let forker = process.get("parent").unwrap_or(process);
    let program = Program {
        comm: comm(forker),
        exe: text(forker, "/executable").map(Into::into),
        cmdline: part(forker, "/args").unwrap_or_default(),
        unit: text(document, "/service/name").map(str::to_owned),
        container: text(document, "/container/id").map(str::to_owned),
        cgroup: text(document, "/forkwatch/cgroup/path").map(str::to_owned),
        uid: uid(forker),
        provenance: document.pointer("/forkwatch/provenance").map(|seen| Provenance {
            namespaces: part(seen, "/namespaces"),
            executable: part(seen, "/executable").unwrap_or_default(),
            login: text(seen, "/login").and_then(|login| login.parse().ok()),
        }),
    };
    let mut unknown = Vec::new();
    let facts = facts(found.get("evidence").unwrap_or(&Value::Null), &mut unknown);
    let finding = Finding {
        at: BootTime::default(),
        number: found.get("number").and_then(Value::as_u64).unwrap_or_default(),
        hazard,
        state: match text(found, "/state") {
            Some("suspected") => State::Suspected,
            Some("unknown") => State::Unknown,
            _ => State::Confirmed,
        },
        certainty: part(found, "/certainty").unwrap_or(Certainty::Heuristic),
        severity: part(found, "/severity").unwrap_or(Severity::Info),
        summary: text(found, "/summary").unwrap_or_default().to_owned(),
        parent: key(forker),
        program,
        program_name: text(found, "/program").unwrap_or_default().to_owned(),
        child: key(process),
        child_comm: comm(process),
        child_uid: process.get("parent").and(uid(process)),
        facts,
        remedy: part(found, "/remedy").unwrap_or(Remedy { text: String::new(), link: String::new() }),
        repeats: found.get("repeats").and_then(Value::as_u64).unwrap_or_default(),
    };
    Some((finding, unknown))
}

fn facts(evidence: &Value, unknown: &mut Vec<(String, Value)>) -> Facts {
    let threads: Vec<Value> = part(evidence, "/threads").unwrap_or_default();
    let known = |thread: &Value| {
        let (tid, at, name) = (tid(thread)?, part(thread, "/at"), text(thread, "/own_name"));
        let is_known = at.is_some() || name.is_some();
        is_known.then(|| Occupation { tid, name: name.map(str::to_owned), at, queue: None })
    };
    let seen = |thread: &Value| Some(SeenThread { tid: tid(thread)?, comm: comm(thread) });
    let signals: Vec<String> = part(evidence, "/signals").unwrap_or_default();
    let mut facts = Facts {
        threads: threads.iter().filter_map(seen).collect(),
        thread_count: part(evidence, "/thread_count"),
        occupations: threads.iter().filter_map(known).collect(),
        signals: SignalSet::named(&signals),
        age: part(evidence, "/age_ns"),
        unnamed: part(evidence, "/unnamed").unwrap_or_default(),
        ..Facts::default()
    };
    for (name, value) in evidence.as_object().into_iter().flatten() {
        let is_read = match name.as_str() {
            "threads" | "thread_count" | "signals" | "age_ns" | "unnamed" | "again" => true,
            "lock" => take(value, &mut facts.lock),
            "connection" => take(value, &mut facts.connection),
            "history" => take(value, &mut facts.history),
            "end" => take(value, &mut facts.end),
            "leak" => take(value, &mut facts.leak),
            "held" => take(value, &mut facts.held),
            "notes" => take(value, &mut facts.notes),
            _ => false,
        };
        if !is_read {
            unknown.push((name.clone(), value.clone()));
        }
    }
    facts
}

/// Reads a part into its place; false where it cannot be read.
fn take<T: DeserializeOwned>(value: &Value, place: &mut T) -> bool {
    serde_json::from_value(value.clone()).map(|read| *place = read).is_ok()
}

fn part<T: DeserializeOwned>(of: &Value, pointer: &str) -> Option<T> {
    serde_json::from_value(of.pointer(pointer)?.clone()).ok()
}

fn text<'a>(of: &'a Value, pointer: &str) -> Option<&'a str> {
    of.pointer(pointer)?.as_str()
}

fn comm(of: &Value) -> Comm {
    text(of, "/name").map_or_else(Comm::default, Comm::from)
}

fn uid(of: &Value) -> Option<u32> {
    text(of, "/user/id")?.parse().ok()
}

fn tid(of: &Value) -> Option<u32> {
    of.get("id")?.as_u64()?.try_into().ok()
}

/// The pid, and the start in clock ticks that the name of the process ends with.
fn key(of: &Value) -> ProcessKey {
    let ticks = text(of, "/entity_id").and_then(|name| name.rsplit('-').next()?.parse().ok());
    let pid = of.get("pid").and_then(Value::as_u64).and_then(|pid| pid.try_into().ok());
    ProcessKey { tgid: pid.unwrap_or_default(), start: BootTime::from_ticks(ticks.unwrap_or_default()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{json::finding, samples};

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let of = samples::finding();
        let document = serde_json::to_value(finding(&samples::context(), 0, &of)).unwrap();
        let (read, unknown) = read_finding(&document, of.hazard).unwrap();
        assert_eq!(unknown, []);
        assert_eq!(Finding { at: of.at, ..read }, of);
    }

    #[test]
    fn what_a_later_edition_wrote_is_kept_as_it_is() {
        let mut document =
            serde_json::to_value(finding(&samples::context(), 0, &samples::finding())).unwrap();
        let evidence = document.pointer_mut("/forkwatch/finding/evidence").unwrap().as_object_mut().unwrap();
        evidence.insert("lock".to_owned(), serde_json::json!({ "proof": "a new one" }));
        evidence.insert("weather".to_owned(), Value::from("fine"));
        let (read, unknown) = read_finding(&document, samples::finding().hazard).unwrap();
        assert_eq!(unknown.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["lock", "weather"]);
        assert_eq!(read.facts.threads.len(), 3);
        assert!(read_finding(&Value::Null, samples::finding().hazard).is_none());
    }
}
