//! Room for the parser that goes deepest, which is the one of C++ names.

/// Of the thread that a test runs it on; a reader's one thread has as much.
#[cfg(test)]
pub(super) const STACK: usize = 8 * 1024 * 1024;

/// What `work` returns. Whoever waits for it ends the reader, and all that it does, where that takes too long.
pub(super) fn run<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    Ok(work())
}
