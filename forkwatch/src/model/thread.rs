//! A thread, as one who looks at its process sees it.

use serde::{Deserialize, Serialize};

use super::process::Comm;

/// A thread of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenThread {
    /// Its tid in the root pid namespace.
    pub tid: u32,
    /// Its comm.
    pub comm: Comm,
}
