//! Where a thread is.

use crate::model::{process::ProcessKey, stack::Stack};

/// The stack of a thread.
pub(super) fn of_thread(process: ProcessKey, tid: u32) -> Stack {
    let _ = (process, tid);
    Stack::absent("stacks are not read")
}

/// The stack of the script that a thread's interpreter runs.
pub(super) fn of_script(process: ProcessKey, tid: u32) -> Option<Stack> {
    let _ = (process, tid);
    None
}

/// The variable that covers an address.
pub(super) fn symbol(process: ProcessKey, address: u64) -> Option<String> {
    let _ = (process, address);
    None
}
