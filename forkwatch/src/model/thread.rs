//! A thread, as one who looks at its process sees it.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, escape},
    stack::Frame,
};

/// A thread of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenThread {
    /// Its tid in the root pid namespace.
    pub tid: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
}

/// What a thread is called in its own program, and where it was seen to be: what the kernel does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occupation {
    /// Its tid in the root pid namespace.
    pub tid: u32,
    /// The name that its program gave it, safe for a terminal: that of CPython's `threading.Thread`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The innermost call that is its script's own; of a thread without a script, the innermost named function outside of
    /// the C library.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub at: Option<Frame>,
    /// The queue that it takes from and was seen to wait at: the address of an object of the module `queue` of `CPython`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue: Option<u64>,
}

/// What is known of a thread among those of its process.
pub fn occupation(tid: u32, occupations: &[Occupation]) -> Option<&Occupation> {
    occupations.iter().find(|occupation| occupation.tid == tid)
}

impl SeenThread {
    /// The name that its program gave it; else what the kernel calls it. Safe for a terminal.
    pub fn name(&self, occupations: &[Occupation]) -> String {
        let own = occupation(self.tid, occupations).and_then(|occupation| occupation.name.clone());
        own.unwrap_or_else(|| self.comm.to_string())
    }
}

impl Occupation {
    /// Where the thread is, for a sentence: `holder (b.py:4)`, `rd_kafka_broker_serve (librdkafka.so.1)`.
    pub fn place(&self) -> Option<String> {
        let call = self.at.as_ref()?;
        let function = escape(call.function.as_ref()?.as_bytes());
        let Some(file) = call.module.as_deref().map(file_name) else { return Some(function) };
        let line = call.line.map_or_else(String::new, |line| format!(":{line}"));
        Some(format!("{function} ({}{line})", escape(file.as_bytes())))
    }
}

/// The last part of a path; with the folder where the name of the file says nothing.
fn file_name(path: &str) -> &str {
    let Some((folders, name)) = path.rsplit_once('/') else { return path };
    if matches!(name, "__init__.py" | "__main__.py") {
        let from = folders.rfind('/').map_or(0, |slash| slash + 1);
        return path.get(from..).unwrap_or(name);
    }
    name
}
