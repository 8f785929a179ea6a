//! Asks everything that waits to end, at once.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Mutex,
};

use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::pipe2,
};

/// Readable, and hung up, once everything is to end: a pipe whose other end is closed then.
#[derive(Debug)]
pub(super) struct Stop {
    end: OwnedFd,
    other: Mutex<Option<OwnedFd>>,
}

impl Stop {
    pub(super) fn new() -> io::Result<Self> {
        let (end, other) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { end, other: Mutex::new(Some(other)) })
    }

    /// Asks everything to end.
    pub(super) fn ask(&self) {
        self.other.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    }

    /// Whether that was asked within so many milliseconds.
    pub(super) fn is_asked_within(&self, wait: PollTimeout) -> bool {
        let mut asked = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut asked, wait), Ok(ready) if ready > 0)
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked_within(PollTimeout::ZERO)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_asked_once_and_for_all() {
        let stop = Stop::new().unwrap();
        assert!(!stop.is_asked());
        stop.ask();
        stop.ask();
        assert!(stop.is_asked() && stop.is_asked_within(PollTimeout::NONE));
    }
}
