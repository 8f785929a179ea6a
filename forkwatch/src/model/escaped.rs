//! A forked process that runs on in the code of the process that forked it.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, Program},
    stack::Frame,
    time::BootTime,
};

/// What a forked process, and the process that forked it, wait in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EscapedSeen {
    /// The forked process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// They cannot be compared, for this reason.
    Unreadable(String),
    /// They do not both wait for children, or in different calls, or it cannot be told whether these are different.
    Apart,
    /// Each waits for children of its own, in one and the same call.
    SameCall(Box<SameCall>),
}

/// A call in which two processes wait for children of theirs, one of them for the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SameCall {
    /// When they were looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in both.
    pub program: Program,
    /// The calls of both, innermost first: of the script where one runs.
    pub frames: Vec<Frame>,
}
