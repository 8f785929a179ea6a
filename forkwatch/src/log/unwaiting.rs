//! Writes to what nobody need read: a line that would have to wait for its reader is lost, and how many were is said
//! afterwards.

use std::{
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU64, Ordering},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing_subscriber::fmt::MakeWriter;

use super::line::Style;

/// As much as a pipe has room for when it says that it can be written to (pipe(7)).
const STEP: usize = 4096;

/// Writes to what need not be read, and never waits for it.
pub(super) struct Unwaiting<F> {
    out: F,
    style: Style,
    /// Lines that found no room.
    lost: AtomicU64,
}

impl<F> Unwaiting<F> {
    pub(super) const fn new(out: F, style: Style) -> Self {
        Self { out, style, lost: AtomicU64::new(0) }
    }
}

impl<'a, F, W> MakeWriter<'a> for Unwaiting<F>
where
    F: Fn() -> W + 'a,
    W: io::Write + AsFd,
{
    type Writer = Attempt<'a, W>;

    fn make_writer(&'a self) -> Self::Writer {
        Attempt { out: (self.out)(), style: self.style, lost: &self.lost }
    }
}

/// Writes a line if it need not wait.
pub(super) struct Attempt<'a, W> {
    out: W,
    style: Style,
    lost: &'a AtomicU64,
}

impl<W: io::Write + AsFd> Attempt<'_, W> {
    /// Whether a step can be written now. Where that cannot be told it is tried.
    fn has_room(&self) -> bool {
        let mut asked = [PollFd::new(self.out.as_fd(), PollFlags::POLLOUT)];
        poll(&mut asked, PollTimeout::ZERO) != Ok(0)
    }

    fn write_line(&mut self, line: &[u8]) -> io::Result<bool> {
        for (number, step) in line.chunks(STEP).enumerate() {
            if !self.has_room() {
                // What is missing of a line that was begun shows by itself.
                return Ok(number > 0);
            }
            self.out.write_all(step)?;
        }
        Ok(true)
    }
}

impl<W: io::Write + AsFd> io::Write for Attempt<'_, W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && self.write_line(self.style.of_lost(lost).as_bytes())? {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        if !self.write_line(line)? {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
