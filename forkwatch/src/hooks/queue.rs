//! What waits to be run: so much, and no more.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

/// Most events that wait, and bytes of their documents.
pub(super) const MOST: usize = 256;
const MOST_BYTES: usize = 16 << 20;

/// Waiting jobs. What does not fit is lost, and counted.
#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<(usize, T)>,
    bytes: usize,
    lost: u64,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let state = State { waiting: VecDeque::new(), bytes: 0, lost: 0, is_closed: false };
        Self { state: Mutex::new(state), filled: Condvar::new() }
    }

    /// Adds a job of so many bytes. Where there is no room, gives how many have been lost.
    pub(super) fn add(&self, bytes: usize, job: T) -> Result<(), u64> {
        let mut state = self.lock();
        if state.is_closed || state.waiting.len() >= MOST || state.bytes.saturating_add(bytes) > MOST_BYTES {
            state.lost += 1;
            return Err(state.lost);
        }
        state.bytes += bytes;
        state.waiting.push_back((bytes, job));
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for a job; none once it is closed.
    pub(super) fn next(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some((bytes, job)) = state.waiting.pop_front() {
                state.bytes = state.bytes.saturating_sub(bytes);
                return Some(job);
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many wait, and how many were lost.
    pub(super) fn count(&self) -> (usize, u64) {
        let state = self.lock();
        (state.waiting.len(), state.lost)
    }

    /// Nothing is taken or given any more. Gives how many are left.
    pub(super) fn close(&self) -> usize {
        let mut state = self.lock();
        state.is_closed = true;
        let left = state.waiting.len();
        state.waiting.clear();
        drop(state);
        self.filled.notify_all();
        left
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let queue = Queue::new();
        for number in 0..MOST {
            queue.add(1, number).unwrap();
        }
        assert_eq!((queue.add(1, 999), queue.add(1, 999)), (Err(1), Err(2)));
        assert_eq!(queue.next(), Some(0));
        queue.add(1, 1000).unwrap();
        assert_eq!(queue.count(), (MOST, 2));
        assert_eq!(queue.close(), MOST);
        assert_eq!((queue.next(), queue.add(1, 1)), (None, Err(3)));
        let queue = Queue::new();
        queue.add(MOST_BYTES, 0).unwrap();
        assert_eq!(queue.add(1, 1), Err(1));
        queue.next();
        queue.add(1, 1).unwrap();
    }

    #[test]
    fn whoever_waits_is_woken_by_a_job_and_by_the_end() {
        let queue = std::sync::Arc::new(Queue::new());
        let waits = std::sync::Arc::clone(&queue);
        let waiter = std::thread::spawn(move || (waits.next(), waits.next()));
        queue.add(1, 7).unwrap();
        while queue.count().0 > 0 {
            std::thread::yield_now();
        }
        queue.close();
        assert_eq!(waiter.join().unwrap(), (Some(7), None));
    }
}
