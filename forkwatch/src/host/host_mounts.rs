//! The mounts of the host, read anew only when they have changed: there may be thousands.

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{
    answering::{self, Answering},
    mountinfo,
};

/// The first process is the host.
const HOST: &str = "/proc/1/mountinfo";

/// The list, as it was read last.
static LIST: Mutex<Option<List>> = Mutex::new(None);

struct List {
    /// Tells of every change since it was opened (`mounts_poll`, `fs/proc_namespace.c`).
    file: File,
    ids: HashSet<u32>,
    text: String,
    answering: Answering,
}

/// What `look` finds in the mounts as they are now: their ids, the list itself, and which of them answer for sure.
pub(super) fn with<T>(look: impl FnOnce(&HashSet<u32>, &str, &Answering) -> T) -> io::Result<T> {
    let mut list = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    let current = match list.take().filter(List::is_unchanged) {
        Some(current) => current,
        None => List::read()?,
    };
    let found = look(&current.ids, &current.text, &current.answering);
    *list = Some(current);
    Ok(found)
}

/// Forgets the list of a process that this one was forked from: its file was closed.
pub(super) fn begin_anew() {
    std::mem::forget(LIST.lock().unwrap_or_else(PoisonError::into_inner).take());
}

impl List {
    fn read() -> io::Result<Self> {
        // Those of the first process, or where that may not be looked at those of forkwatch itself. Opened before they
        // are read, so that no change goes unnoticed.
        let (file, text) = match File::open(HOST) {
            Ok(file) => (file, mountinfo::read_of(1)?),
            Err(_) => (File::open(mountinfo::PATH)?, mountinfo::read()?),
        };
        let ids = mountinfo::entries(&text).map(|mount| mount.id).collect();
        let answering = Answering::of(&text, true, answering::own());
        Ok(Self { file, ids, text, answering })
    }

    fn is_unchanged(&self) -> bool {
        let mut asked = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        match poll(&mut asked, PollTimeout::ZERO) {
            Ok(_) => asked.iter().all(|one| {
                one.revents().is_some_and(|news| !news.intersects(PollFlags::POLLPRI | PollFlags::POLLERR))
            }),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_changed_is_not_read_again() {
        let list = List::read().unwrap();
        // Others may mount meanwhile, but not all the time.
        let is_kept = (0..100).any(|_| List::read().unwrap().is_unchanged());
        assert!(is_kept && !list.ids.is_empty() && list.text.contains(" / "));
        assert_eq!(with(|ids, text, _| (ids.is_empty(), text.is_empty())).unwrap(), (false, false));
    }
}
