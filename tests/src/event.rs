//! Events as forkwatch writes them: the one place that knows the field names.

use serde_json::Value;

/// One event of `forkwatch.event/1`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(pub Value);

impl Event {
    /// What stands at a JSON pointer.
    fn at(&self, pointer: &str) -> &Value {
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// The text at a JSON pointer; empty where there is none.
    pub fn text(&self, pointer: &str) -> &str {
        self.at(pointer).as_str().unwrap_or_default()
    }

    /// `fork`, `exec`, `exit`, `finding` or `events_lost`.
    pub fn action(&self) -> &str {
        self.text("/event/action")
    }

    /// The process it is about: the child.
    pub fn pid(&self) -> Option<i64> {
        self.at("/process/pid").as_i64()
    }

    /// The child's comm.
    pub fn name(&self) -> &str {
        self.text("/process/name")
    }

    /// The process that forked it.
    pub fn parent_pid(&self) -> Option<i64> {
        self.at("/process/parent/pid").as_i64()
    }

    /// How the process was made: `copying`, `vfork`, `shared-memory`.
    pub fn kind(&self) -> &str {
        self.text("/forkwatch/fork/kind")
    }

    /// Forks since the last exec.
    pub fn generation(&self) -> Option<u64> {
        self.at("/forkwatch/fork/generation").as_u64()
    }

    /// Live threads of the forker.
    pub fn threads(&self) -> Option<u64> {
        self.at("/forkwatch/fork/threads").as_u64()
    }

    /// How many events an `events_lost` is about.
    pub fn lost(&self) -> Option<u64> {
        self.at("/forkwatch/lost/count").as_u64()
    }

    /// Why an `events_lost` lost them.
    pub fn loss_reason(&self) -> &str {
        self.text("/forkwatch/lost/reason")
    }

    /// The CPU that reported it, and its number among that CPU's.
    pub fn origin(&self) -> Option<(u64, u64)> {
        let origin = self.at("/forkwatch/origin");
        origin.get("cpu")?.as_u64().zip(origin.get("sequence")?.as_u64())
    }

    /// Its number among the documents of its output.
    pub fn sequence(&self) -> Option<u64> {
        self.at("/event/sequence").as_u64()
    }

    /// The signals that were pending at a fork.
    pub fn pending_signals(&self) -> Vec<&str> {
        let signals = self.at("/forkwatch/fork/pending_signals").as_array();
        signals.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The child's pid in its innermost pid namespace.
    pub fn namespace_pid(&self) -> Option<u64> {
        self.at("/forkwatch/fork/namespace_pid").as_u64()
    }

    /// The thread that called exec, if it was not the main one.
    pub fn from_thread(&self) -> Option<i64> {
        self.at("/forkwatch/exec/from_thread").as_i64()
    }

    /// What `forkwatch.exit` says.
    pub fn exit(&self) -> &Value {
        self.at("/forkwatch/exit")
    }

    /// The code that a process exited with.
    pub fn exit_code(&self) -> Option<i64> {
        self.at("/process/exit_code").as_i64()
    }

    /// The user of the process.
    pub fn user(&self) -> &str {
        self.text("/process/user/id")
    }

    /// The new thread.
    pub fn thread(&self) -> Option<i64> {
        self.at("/process/thread/id").as_i64()
    }

    /// It as a finding, if it is one.
    pub fn finding(&self) -> Option<Finding<'_>> {
        (self.action() == "finding").then_some(Finding(self))
    }
}

/// A finding in an event.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'a>(&'a Event);

impl<'a> Finding<'a> {
    /// The id of what is wrong: `multithreaded-fork`.
    pub fn hazard(self) -> &'a str {
        self.0.text("/forkwatch/finding/hazard")
    }

    /// `suspected`, `confirmed` or `resolved`.
    pub fn state(self) -> &'a str {
        self.0.text("/forkwatch/finding/state")
    }

    /// `info`, `warning` or `critical`.
    pub fn severity(self) -> &'a str {
        self.0.text("/forkwatch/finding/severity")
    }

    /// `certain`, `strong` or `heuristic`.
    pub fn certainty(self) -> &'a str {
        self.0.text("/forkwatch/finding/certainty")
    }

    /// How it ended, if it is resolved.
    pub fn resolution(self) -> &'a str {
        self.0.text("/forkwatch/finding/resolution")
    }

    /// One plain sentence.
    pub fn summary(self) -> &'a str {
        self.0.text("/forkwatch/finding/summary")
    }

    /// What to change.
    pub fn remedy(self) -> &'a str {
        self.0.text("/forkwatch/finding/remedy/text")
    }

    /// Its number among the findings of the run.
    pub fn number(self) -> Option<u64> {
        self.0.at("/forkwatch/finding/number").as_u64()
    }

    /// The lock that it is about.
    pub fn lock(self) -> &'a Value {
        self.0.at("/forkwatch/finding/evidence/lock")
    }

    /// Further facts.
    pub fn notes(self) -> Vec<&'a str> {
        self.evidence("notes").filter_map(Value::as_str).collect()
    }

    /// Number that the finding and its resolution share.
    pub fn id(self) -> &'a Value {
        self.0.at("/forkwatch/finding/id")
    }

    /// How many times the program did the same since the last report.
    pub fn repeats(self) -> u64 {
        self.0.at("/forkwatch/finding/repeats").as_u64().unwrap_or_default()
    }

    /// The name that the program goes by.
    pub fn program(self) -> &'a str {
        self.0.text("/forkwatch/finding/program")
    }

    /// The forker.
    pub fn parent_pid(self) -> Option<i64> {
        self.0.parent_pid()
    }

    /// The child.
    pub fn pid(self) -> Option<i64> {
        self.0.pid()
    }

    /// The comms of the threads it blames.
    pub fn thread_names(self) -> Vec<&'a str> {
        let comm = |thread: &'a Value| thread.get("name").and_then(Value::as_str);
        self.evidence("threads").filter_map(comm).collect()
    }

    /// The tids of the threads it blames.
    pub fn thread_ids(self) -> Vec<i64> {
        self.evidence("threads").filter_map(|thread| thread.get("id")?.as_i64()).collect()
    }

    /// The signals it is about.
    pub fn signals(self) -> Vec<&'a str> {
        self.evidence("signals").filter_map(Value::as_str).collect()
    }

    /// The entries of a list in its evidence; none where there is no such list.
    pub fn evidence(self, name: &str) -> impl Iterator<Item = &'a Value> {
        let list = self.0.at("/forkwatch/finding/evidence").get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    }
}
