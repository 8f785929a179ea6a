//! Which threads of a process wait for a lock, and who holds it.

use crate::model::{lock::LocksSeen, process::ProcessKey, time::BootTime};

/// See [`crate::model::evidence::Request::Locks`].
pub(super) fn locks(
    child: ProcessKey,
    parent: Option<ProcessKey>,
    forked_at: Option<BootTime>,
    forking_tid: Option<u32>,
) -> LocksSeen {
    let _ = (child, parent, forked_at, forking_tid);
    LocksSeen::Gone
}
