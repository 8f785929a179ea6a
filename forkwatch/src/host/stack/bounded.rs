//! Work on another process's memory, on a thread of its own: that process can make a read of its memory wait as long
//! as it likes (userfaultfd(2), FUSE), and what it keeps there may break a parser of others.

use std::{
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// The slowest honest case is a program with a million symbols.
const PATIENCE: Duration = Duration::from_secs(2);
/// Threads that may hang at the same time before no more are started.
const MAX_AT_WORK: usize = 16;

/// Room for the parser that goes deepest, which is the one of C++ names.
pub(super) const STACK: usize = 8 * 1024 * 1024;

static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// What `work` returns, or why there is nothing. A thread that hangs is left behind and ends when its read does.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let place = Place::take().ok_or("other processes keep reads of their memory waiting")?;
    let (send, receive) = mpsc::sync_channel(1);
    let work = move || {
        let _place = place;
        let _ = send.send(work());
    };
    let thread = thread::Builder::new()
        .name("stack".to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|error| format!("no thread can be started to look: {error}"))?;
    match receive.recv_timeout(PATIENCE) {
        Ok(done) => {
            // Its memory is given back before this returns.
            let _ = thread.join();
            Ok(done)
        }
        Err(RecvTimeoutError::Timeout) => Err(format!("looking took longer than {PATIENCE:?}")),
        Err(RecvTimeoutError::Disconnected) => {
            Err("looking failed: that is a defect of forkwatch".to_owned())
        }
    }
}

/// One of the places at work.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        AT_WORK
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < MAX_AT_WORK).then_some(count + 1)
            })
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        AT_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}
