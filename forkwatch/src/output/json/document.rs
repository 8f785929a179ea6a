//! The shape of a document. Names are those of the Elastic Common Schema (ECS) 8 where it has them; all others stand
//! under `forkwatch`. What is not known, or does not apply, is absent.

use schemars::JsonSchema;
use serde::Serialize;

pub use super::{own::*, own_worker::*, thread::Thread};

/// One event of forkwatch.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "forkwatch.event/1")]
pub struct Document {
    /// Name and version of this schema. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.event/1"))]
    pub schema: &'static str,
    /// When it happened: RFC 3339, UTC, nanoseconds.
    #[serde(rename = "@timestamp")]
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: String,
    /// What happened.
    pub event: EventFields,
    /// On which host.
    pub host: Host,
    /// The process it happened to: the child of a fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The container that the forker runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// The systemd unit that the forker runs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Why a system call failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorFields>,
    /// What ECS has no name for.
    pub forkwatch: Forkwatch,
}

/// ECS `event`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventFields {
    /// `alert` for findings.
    pub kind: Kind,
    /// Always `process`.
    pub category: [Category; 1],
    /// What kind of change it was.
    #[serde(rename = "type")]
    pub types: [Type; 1],
    /// What happened.
    pub action: Action,
    /// Numbers the documents of one output of one run from 0, in the order in which they were written.
    pub sequence: u64,
    /// `failure` for a system call that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Nanoseconds that a system call took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<u64>,
}

/// ECS `event.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something happened.
    Event,
    /// Something is wrong.
    Alert,
}

/// ECS `event.category`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// About a process.
    Process,
}

/// ECS `event.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// A process or thread began, or failed to.
    Start,
    /// A process replaced its program.
    Change,
    /// A process ended.
    End,
    /// Nothing changed.
    Info,
}

/// ECS `event.outcome`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The call or the process failed.
    Failure,
}

/// ECS `event.action`: which part of `forkwatch` is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A process was created.
    Fork,
    /// A process replaced its program.
    Exec,
    /// A forked and never exec'd process ended.
    Exit,
    /// A thread was created.
    Thread,
    /// A system call of the clone family failed.
    CloneFailure,
    /// A fork was found to be unsafe, or such a finding is over.
    Finding,
    /// Events were lost: the stream has a gap.
    EventsLost,
    /// `forkwatch rescue` has released a lock in a child that hung, or tried to.
    Rescued,
    /// A process that is to be watched was looked at when the watch began.
    Assessment,
    /// A server has forked a worker.
    WorkerForked,
    /// A worker waits for work, for the first time.
    WorkerReady,
    /// A signal has asked a worker to end.
    WorkerStopping,
    /// A worker has ended.
    WorkerExited,
    /// A worker has taken the place of another that had ended.
    WorkerReplaced,
    /// A worker has written a line to its standard output or error.
    WorkerOutput,
    /// Workers have written what is not told.
    WorkerOutputLost,
}

/// ECS `host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// The host's name, as `uname -n` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The boot during which it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
}

/// ECS `host.boot`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// The kernel's random id of the boot.
    pub id: String,
}

/// ECS `process`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its pid: the kernel's tgid.
    pub pid: u32,
    /// Names the process on all hosts and for all times: the first 16 hexadecimal digits of the boot id, the pid,
    /// and the start in clock ticks of 10 ms since boot (field 22 of `/proc/PID/stat`), with `-` between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// Its comm (of a fork: the forking thread's, which the child has inherited; of a thread: the creator's).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it started.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub start: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub end: Option<String>,
    /// The code it exited with; absent where a signal killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The path of its executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Its command line: at most 32 arguments and 4096 bytes of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Its real user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The thread it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<Thread>,
    /// The process that forked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Process>>,
}

/// ECS `user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The uid, as text.
    pub id: String,
}

/// ECS `container`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its id, or its name with LXC.
    pub id: String,
}

/// ECS `service`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The systemd unit: `gunicorn.service`.
    pub name: String,
}

/// ECS `error`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorFields {
    /// The error's name: `EAGAIN`.
    pub code: String,
    /// What it means.
    pub message: String,
}
