//! A finding as a daemon tells it, made into one again.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ours::identity;
use crate::{
    detect,
    model::{
        finding::{Facts, Finding, Remedy, State},
        process::{Comm, ProcessKey, Program},
        resolution::Resolution,
        thread::SeenThread,
        time::BootTime,
    },
    output::Context,
};

/// Reads the document of a finding; none where it is no finding's, or one of a hazard that this version does not know.
pub(super) fn finding(document: &Value, context: &Context) -> Option<Finding> {
    let found = document.pointer("/forkwatch/finding")?;
    let child = process(document.get("process")?)?;
    let parent = document.pointer("/process/parent").and_then(process).unwrap_or(child);
    let text =
        |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let comm = |pointer: &str| Comm::new(text(document, pointer).unwrap_or_default().as_bytes());
    let at: jiff::Timestamp = text(document, "/@timestamp")?.parse().ok()?;
    let at = i64::try_from(at.as_nanosecond()).ok()?.checked_sub(context.wall_offset)?;
    let arguments = document.pointer("/process/parent/args").and_then(Value::as_array);
    let program = Program {
        comm: comm("/process/parent/name"),
        exe: text(document, "/process/parent/executable").map(Into::into),
        cmdline: arguments.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        unit: text(document, "/service/name"),
        container: text(document, "/container/id"),
        cgroup: text(document, "/forkwatch/cgroup/path"),
        uid: text(document, "/process/parent/user/id").and_then(|uid| uid.parse().ok()),
        provenance: None,
    };
    let state = match found.get("state")?.as_str()? {
        "resolved" => {
            let how = found.get("resolution")?.as_str()?;
            State::Resolved(Resolution::ALL.into_iter().find(|one| one.name() == how)?)
        }
        _ => read(found, "/state")?,
    };
    Some(Finding {
        at: BootTime(u64::try_from(at).ok()?),
        number: found.get("number")?.as_u64()?,
        hazard: detect::find(found.get("hazard")?.as_str()?)?.id,
        state,
        certainty: read(found, "/certainty")?,
        severity: read(found, "/severity")?,
        summary: text(found, "/summary")?,
        parent,
        program,
        program_name: text(found, "/program")?,
        child,
        child_comm: comm("/process/name"),
        child_uid: None,
        facts: facts(found.get("evidence").unwrap_or(&Value::Null)),
        remedy: Remedy { text: text(found, "/remedy/text")?, link: text(found, "/remedy/link")? },
        repeats: found.get("repeats")?.as_u64()?,
    })
}

fn process(value: &Value) -> Option<ProcessKey> {
    identity(value.get("pid")?.as_u64()?, value.get("entity_id")?.as_str()?)
}

/// What this version understands of the evidence.
fn facts(evidence: &Value) -> Facts {
    let threads = evidence.get("threads").and_then(Value::as_array);
    let thread = |thread: &Value| {
        let name = thread.get("own_name").or_else(|| thread.get("name"))?.as_str()?;
        Some(SeenThread {
            tid: u32::try_from(thread.get("id")?.as_u64()?).ok()?,
            comm: Comm::new(name.as_bytes()),
        })
    };
    Facts {
        threads: threads.into_iter().flatten().filter_map(thread).collect(),
        thread_count: read(evidence, "/thread_count"),
        age: read(evidence, "/age_ns"),
        lock: read(evidence, "/lock"),
        connection: read(evidence, "/connection"),
        history: read(evidence, "/history"),
        end: read(evidence, "/end"),
        leak: read(evidence, "/leak"),
        held: read(evidence, "/held").unwrap_or_default(),
        notes: read(evidence, "/notes").unwrap_or_default(),
        ..Facts::default()
    }
}

fn read<T: DeserializeOwned>(value: &Value, pointer: &str) -> Option<T> {
    T::deserialize(value.pointer(pointer)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{json, samples};

    #[test]
    fn what_a_daemon_tells_is_what_it_has_found() {
        let context = samples::context();
        for finding in [samples::finding(), samples::resolved()] {
            let document = serde_json::to_value(json::finding(&context, 0, &finding)).unwrap();
            let read = super::finding(&document, &context).unwrap();
            assert_eq!(
                (
                    read.number,
                    read.hazard,
                    read.state,
                    read.certainty,
                    read.severity,
                    &read.summary,
                    read.repeats
                ),
                (
                    finding.number,
                    finding.hazard,
                    finding.state,
                    finding.certainty,
                    finding.severity,
                    &finding.summary,
                    finding.repeats
                )
            );
            assert_eq!(
                (read.child, read.parent, &read.remedy),
                (finding.child, finding.parent, &finding.remedy)
            );
            assert_eq!(read.facts.lock, finding.facts.lock);
            assert_eq!(read.facts.notes, finding.facts.notes);
            assert_eq!(read.facts.threads.len(), finding.facts.threads.len());
            assert_eq!(read.program.cmdline, finding.program.cmdline);
        }
    }

    #[test]
    fn what_is_no_finding_is_none() {
        let context = samples::context();
        for text in ["{}", "[]", r#"{"process": {"pid": 7}, "forkwatch": {"finding": {}}}"#] {
            assert_eq!(finding(&serde_json::from_str(text).unwrap(), &context), None, "{text}");
        }
    }
}
