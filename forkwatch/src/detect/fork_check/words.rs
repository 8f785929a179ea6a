//! Words that several reasons have.

/// How a program of gevent is to fork.
pub(super) const OF_GEVENT: &str = "Fork through gevent: gevent.os.fork, or os.fork and multiprocessing once monkey.patch_all() has run. Start \
     workers before greenlets serve anything.";
/// Where that is said.
pub(super) const GEVENT_OS: &str = "https://www.gevent.org/api/gevent.os.html";

/// `1 thread`, `2 threads`.
pub(super) fn counted(count: u32, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
