//! A reader for somebody who asks the same again and again, beside the one that answers the watch. It is not replaced: where
//! it does not answer, its work is over, and the watch goes on.

use std::{
    io,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use super::{
    frame, patience,
    question::{Answer, Answered, Question},
};

/// A reader that may copy what lies in pipes. Dropping it ends that, unless it hangs: then it ends with the starter.
#[derive(Debug)]
pub struct Ear {
    pid: u32,
    socket: UnixStream,
}

impl Ear {
    pub(super) const fn new(pid: u32, socket: UnixStream) -> Self {
        Self { pid, socket }
    }

    /// Asks, and waits for the answer so long at most.
    pub fn ask(&self, question: &Question, most: Duration) -> io::Result<Answer> {
        frame::send(&self.socket, question)?;
        if !patience::wait(&self.socket, self.pid, most, None)? {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a look was not over in time"));
        }
        let answered: Option<Answered> = frame::receive(&self.socket, Some(Instant::now() + most))?;
        answered.map(|answered| answered.answer).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
