//! Recordings of `--record`, read from outside, and replayed.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{binary, event::Event, schema};

/// A record that came through the ring, as a recording has it.
pub struct Record {
    /// `fork`, `exec`, `exit`, `thread`, ...
    pub kind: String,
    /// All it says.
    pub fields: Value,
}

impl Record {
    /// The process it is about: for a fork the forker.
    pub fn pid(&self) -> Option<i64> {
        let key = if self.kind == "fork" { "/parent/tgid" } else { "/process/tgid" };
        self.fields.pointer(key).or_else(|| self.fields.get("tgid"))?.as_i64()
    }

    /// The child of a fork.
    pub fn child(&self) -> Option<i64> {
        self.fields.pointer("/child/tgid")?.as_i64()
    }
}

/// The records of a recording, in order; everything that came through the ring is there.
pub fn records(path: &Path) -> Result<Vec<Record>> {
    let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    let mut records = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let event = line.get("event").and_then(Value::as_object);
        records.extend(
            event
                .into_iter()
                .flatten()
                .map(|(kind, fields)| Record { kind: kind.clone(), fields: fields.clone() }),
        );
    }
    Ok(records)
}

/// All answers of this kind in a recording, in order, without the word that says which kind it is.
pub fn evidence(text: &str, kind: &str) -> Result<Vec<Value>> {
    let mut answers = Vec::new();
    for line in text.lines() {
        let mut line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        let answer = line.pointer_mut(&format!("/evidence/{kind}"));
        answers.extend(answer.map(Value::take));
    }
    Ok(answers)
}

/// The answers that a recording has to what forkwatch asked the host, in order.
pub fn answers(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let lines = lines.collect::<Result<Vec<_>, _>>().context("not JSON")?;
    Ok(lines.into_iter().filter_map(|mut line| Some(line.get_mut("evidence")?.take())).collect())
}

/// What a replay came to.
pub struct Replay {
    /// The exit code; absent where a signal ended it.
    pub code: Option<i32>,
    /// All events, each checked against the schema.
    pub events: Vec<Event>,
    /// What it said on stderr.
    pub stderr: String,
}

/// Runs `forkwatch replay FILE -o json`.
pub fn replay(path: &Path) -> Result<Replay> {
    let output = Command::new(binary::forkwatch()?)
        .arg("replay")
        .arg(path)
        .args(["-o", "json"])
        .output()
        .context("cannot run forkwatch")?;
    let text = String::from_utf8(output.stdout).context("not UTF-8")?;
    Ok(Replay {
        code: output.status.code(),
        events: text.lines().map(|line| schema::event(line).map(Event)).collect::<Result<_>>()?,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
