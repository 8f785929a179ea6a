//! A tail that shows what it looks at, and its recording.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    binary,
    event::Event,
    fixture,
    host::needs_bpf,
    program::{Launch, Program},
    recording::{answers, replay},
};

/// A forkwatch that shows in columns what becomes of a program's children, and records.
///
/// The program's children and those of a sentinel beside it are judged in the order of their forks.
pub(super) struct Look {
    program: i64,
    tail: Program,
    sentinel: Program,
    folder: TempDir,
}

/// What it saw.
pub(super) struct Seen {
    /// The events of the recording that are about the program's children.
    pub(super) events: Vec<Event>,
    /// What was looked at.
    evidence: Vec<Value>,
}

impl Look {
    /// Watches a held program.
    pub(super) fn at(program: &Program) -> Result<Self> {
        needs_bpf()?;
        let mut sentinel = fixture::hold("sentinel", &[])?;
        let folder = tempfile::tempdir()?;
        let pids = [program.pid(), sentinel.pid()];
        let forkwatch = binary::forkwatch()?;
        let mut tail = Program::hold(|_| {
            Ok(Launch::new(forkwatch)
                .args(["tail", "--color", "never"])
                .args(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]))
                .args(["--record".into(), file(&folder)]))
        })?;
        tail.release()?;
        tail.said("ready")?;
        sentinel.release()?;
        Ok(Self { program: program.pid().into(), tail, sentinel, folder })
    }

    /// Waits for the line of this event about this process.
    pub(super) fn shows(&mut self, event: &str, pid: i64) -> Result<()> {
        let pid = pid.to_string();
        self.tail.wait_for(&format!("{event} of {pid}"), |tail| {
            Ok(tail.output().lines().any(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next() == Some(event) && words.next() == Some(&pid)
            }))
        })
    }

    /// Waits for a finding of this hazard.
    pub(super) fn reports(&mut self, hazard: &str) -> Result<()> {
        self.tail.said(&format!(" {hazard} "))
    }

    /// Waits until every fork and every use of a connection so far has been judged: until a child forked now has
    /// lived on for the grace. That is as long as it takes to tell a short message from a farewell.
    pub(super) fn has_judged(&mut self) -> Result<()> {
        self.sentinel.step()?;
        let fork = self.sentinel.next_json()?;
        let child = fork.get("child").and_then(Value::as_i64).context("the sentinel names no child")?;
        self.shows("lives", child)
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Result<Seen> {
        self.tail.end(Some(Signal::SIGINT))?;
        self.sentinel.end(None)?;
        let file = PathBuf::from(file(&self.folder));
        let mut events = replay(&file)?.events;
        events.retain(|event| event.parent_pid() == Some(self.program));
        Ok(Seen { events, evidence: answers(&file)? })
    }
}

fn file(folder: &TempDir) -> std::ffi::OsString {
    folder.path().join("recording").into()
}

impl Seen {
    /// How many connections of its parent's this child was seen to hold; absent where nobody looked.
    pub(super) fn shared_by(&self, child: i64) -> Option<usize> {
        let sockets = self.evidence.iter().filter_map(|evidence| evidence.get("sockets"));
        let of_child = |seen: &&Value| seen.pointer("/child/tgid").and_then(Value::as_i64) == Some(child);
        let shared =
            sockets.filter(of_child).filter_map(|seen| Some(seen.pointer("/seen/shared")?.as_array()?.len()));
        shared.max()
    }
}
