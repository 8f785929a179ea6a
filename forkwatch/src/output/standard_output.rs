//! Events as lines to standard output, which nobody need read.
//!
//! A pipe that is full keeps whoever writes to it waiting for good, and with it the watch, its metrics and its end. So a
//! thread of its own writes, out of a buffer. While somebody reads, nothing is lost: a full buffer is waited for. Where
//! that has taken too long, events are lost and counted until half of the buffer has been read.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Bytes that wait to be read, at most: some ten thousand events.
const CAPACITY: usize = 8 << 20;
/// How long a full buffer is waited for, in all, until half of it has been read.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that are handed to the thread at once.
const CHUNK: usize = 64 << 10;
/// Bytes that are written at once: what has been read shows in such steps.
const STEP: usize = 4 << 10;
/// Longest that the end waits for what is being read still, and for a reader to go on.
const LONGEST_END: Duration = Duration::from_secs(3);
const END_PATIENCE: Duration = Duration::from_millis(300);

/// Standard output, or what stands for it.
pub struct StandardOutput {
    shared: Arc<Shared>,
    /// Lines that have not been handed over yet.
    chunk: Vec<u8>,
    /// For how long a full buffer is still waited for.
    patience: Duration,
    lost: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes handed over and not written yet.
    waiting: usize,
    /// Events that end in them.
    events: usize,
    /// Why nothing more is written.
    failed: Option<io::Error>,
    /// Whether nothing more will come.
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change for so long at most.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0
    }
}

impl StandardOutput {
    /// Begins to write, on a thread of its own.
    pub fn start() -> io::Result<Self> {
        // Its own buffer would be written out once more at the end of the program, which might then never come.
        Self::to(File::from(io::stdout().as_fd().try_clone_to_owned()?))
    }

    fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        thread::Builder::new().name("stdout".to_owned()).spawn(move || write(&own, out))?;
        Ok(Self { shared, chunk: Vec::new(), patience: PATIENCE, lost: 0 })
    }

    /// Appends an event, `line` being its JSON without a line break. Says whether there was room; if not, it is lost,
    /// and the log tells so once until there is room again. An error is why nothing can be written any more.
    pub fn append(&mut self, line: &str) -> io::Result<bool> {
        let has_room = self.wait_for_room(line.len() + 1)?;
        if has_room {
            self.chunk.extend_from_slice(line.as_bytes());
            self.chunk.push(b'\n');
            if self.chunk.len() >= CHUNK {
                self.flush()?;
            }
        }
        self.tell(has_room);
        Ok(has_room)
    }

    /// Hands over what has been appended.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.failed {
            return Err(copy(error));
        }
        if !self.chunk.is_empty() {
            state.waiting += self.chunk.len();
            state.events += events(&self.chunk);
            state.chunks.push_back(std::mem::take(&mut self.chunk));
            self.shared.changed.notify_all();
        }
        Ok(())
    }

    /// Whether there is room for so many bytes, which is waited for as long as there is patience.
    fn wait_for_room(&mut self, size: usize) -> io::Result<bool> {
        let mut state = self.shared.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(copy(error));
            }
            let held = state.waiting + self.chunk.len();
            if held <= CAPACITY / 2 {
                self.patience = PATIENCE;
            }
            // One that is larger than the buffer has it for itself.
            if held == 0 || held + size <= CAPACITY {
                return Ok(self.patience > Duration::ZERO || self.lost == 0);
            }
            if self.patience.is_zero() {
                return Ok(false);
            }
            let began = Instant::now();
            state = self.shared.wait(state, self.patience);
            self.patience = self.patience.saturating_sub(began.elapsed());
        }
    }

    fn tell(&mut self, has_room: bool) {
        match (has_room, self.lost) {
            (true, 0) => {}
            (true, lost) => {
                tracing::warn!(lost, "standard output is read again: events were lost to it");
                self.lost = 0;
            }
            (false, lost) => {
                if lost == 0 {
                    tracing::warn!(
                        "standard output is not read, or not fast enough: events are lost to it until it is"
                    );
                }
                self.lost += 1;
            }
        }
    }
}

impl Drop for StandardOutput {
    /// Waits for the last to be written, as long as somebody reads.
    fn drop(&mut self) {
        // What failed before has been told.
        let _ = self.flush();
        let began = Instant::now();
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.changed.notify_all();
        while state.waiting > 0 && state.failed.is_none() && began.elapsed() < LONGEST_END {
            let before = state.waiting;
            let looked = Instant::now();
            state = self.shared.wait(state, END_PATIENCE);
            if state.waiting == before && looked.elapsed() >= END_PATIENCE {
                break;
            }
        }
        if state.events > 0 && state.failed.is_none() {
            tracing::warn!(
                lost = state.events,
                "nobody reads standard output: the last events are lost to it"
            );
        }
    }
}

/// Writes what is handed over, until nothing more comes.
fn write(shared: &Shared, mut out: impl Write) {
    let mut state = shared.lock();
    loop {
        let Some(chunk) = state.chunks.pop_front() else {
            if state.closed {
                return;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        drop(state);
        let mut result = Ok(());
        for step in chunk.chunks(STEP) {
            result = out.write_all(step);
            let mut state = shared.lock();
            state.waiting = state.waiting.saturating_sub(step.len());
            state.events = state.events.saturating_sub(events(step));
            if result.is_err() {
                break;
            }
            shared.changed.notify_all();
        }
        state = shared.lock();
        if let Err(error) = result {
            state.failed = Some(error);
            shared.changed.notify_all();
            return;
        }
    }
}

/// How many events end in these bytes.
fn events(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count().saturating_sub(1)
}

/// An error is told to everybody who asks.
fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests;
