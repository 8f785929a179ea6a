//! Says which process is looked into, to whoever wants to know why an answer does not come.

use std::sync::{
    OnceLock,
    atomic::{AtomicU32, Ordering},
};

static WORD: OnceLock<&'static AtomicU32> = OnceLock::new();

/// Has it said there from now on: the tgid.
pub fn attend_at(word: &'static AtomicU32) {
    let _ = WORD.set(word);
}

/// Says that a process is looked into: to be called before anything that it may keep waiting.
pub(super) fn attend_to(tgid: u32) {
    if let Some(word) = WORD.get() {
        word.store(tgid, Ordering::Relaxed);
    }
}
