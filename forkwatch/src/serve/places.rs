//! Who has a place among the connections, and who loses it to a newcomer.
//!
//! There are so many at a time. When all are taken, a new client gets that of the one that has been silent for longest:
//! first of those that have not asked yet, then of those that have been answered and do not read it. So clients that say
//! nothing, however many, keep nobody out. Those who are to stay, because they listen to what happens, lose theirs only
//! where nobody else has one.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// How long after its request a client keeps its place in any case. An answer takes up to two seconds where a part of
/// forkwatch hangs.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// All places for clients of a server.
#[derive(Clone)]
pub struct Places {
    answer_time: Duration,
    permits: Arc<Semaphore>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// Those that have not asked yet, the first come first.
    silent: BTreeMap<u64, Arc<Notify>>,
    /// Those that have, with the time of their request.
    asked: BTreeMap<u64, (Instant, Arc<Notify>)>,
    /// Those that are to stay.
    staying: BTreeMap<u64, Arc<Notify>>,
    /// Those that were told to go, and have not gone yet.
    leaving: BTreeSet<u64>,
}

/// A client's place. It is free again when this is dropped.
pub struct Place {
    number: u64,
    lost: Arc<Notify>,
    taken: Arc<Mutex<Taken>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    /// Makes places for so many connections.
    pub fn new(count: usize) -> Self {
        Self { answer_time: ANSWER_TIME, permits: Arc::new(Semaphore::new(count)), taken: Arc::default() }
    }

    /// A place for a client that has come. Waits for one only where all others have just asked.
    pub async fn take(&self) -> Option<Place> {
        let is_full = self.permits.available_permits() == 0;
        // It frees its place as soon as it gets a turn: until then nobody else is to lose his.
        let is_freed = is_full && (self.end_silent() || self.is_one_leaving());
        let mut permit = pin!(Arc::clone(&self.permits).acquire_owned());
        let slow = if is_freed { Instant::now() + self.answer_time } else { self.slow() };
        let permit = tokio::select! {
            biased;
            permit = &mut permit => permit,
            () = tokio::time::sleep_until(slow) => {
                // One is enough here, too.
                self.end_slowest();
                permit.await
            }
        };
        // An error would mean that the semaphore was closed, which nothing does.
        let permit = permit.ok()?;
        let lost = Arc::new(Notify::new());
        let mut taken = lock(&self.taken);
        taken.next += 1;
        let number = taken.next;
        taken.silent.insert(number, Arc::clone(&lost));
        drop(taken);
        Some(Place { number, lost, taken: Arc::clone(&self.taken), _permit: permit })
    }

    /// Ends the connection that has been silent for longest. Whether there is one.
    pub(super) fn end_silent(&self) -> bool {
        let mut taken = lock(&self.taken);
        let Some((number, lost)) = taken.silent.pop_first() else { return false };
        taken.leaving.insert(number);
        lost.notify_one();
        true
    }

    fn is_one_leaving(&self) -> bool {
        !lock(&self.taken).leaving.is_empty()
    }

    /// When the next one of those that have asked may lose its place; at once where all are to stay.
    fn slow(&self) -> Instant {
        let since = lock(&self.taken).asked.values().map(|(since, _)| *since).min();
        since.map_or_else(Instant::now, |since| since + self.answer_time)
    }

    /// Ends the connection that asked first, or one that was to stay where there are no others.
    fn end_slowest(&self) {
        let mut taken = lock(&self.taken);
        let first = taken.asked.iter().min_by_key(|(_, (since, _))| *since).map(|(number, _)| *number);
        let slowest = first.and_then(|number| Some((number, taken.asked.remove(&number)?.1)));
        let goes = match slowest {
            None if taken.silent.is_empty() => taken.staying.pop_first(),
            slowest => slowest,
        };
        if let Some((number, lost)) = goes {
            taken.leaving.insert(number);
            lost.notify_one();
        }
    }

    /// Waits until all are free.
    pub(super) async fn all_free(&self, count: usize) {
        // An error would mean that the semaphore was closed, which nothing does.
        drop(self.permits.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await);
    }
}

impl Place {
    /// Notes that the client has asked: it is not silent any more.
    pub fn has_asked(&self) {
        let mut taken = lock(&self.taken);
        if let Some(lost) = taken.silent.remove(&self.number) {
            taken.asked.insert(self.number, (Instant::now(), lost));
        }
    }

    /// Notes that the answer takes as long as the client wants, so that others lose their places first.
    pub fn stays(&self) {
        let mut taken = lock(&self.taken);
        if let Some((_, lost)) = taken.asked.remove(&self.number) {
            taken.staying.insert(self.number, lost);
        }
    }

    /// Ready when the place is another's.
    pub async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        taken.silent.remove(&self.number);
        taken.asked.remove(&self.number);
        taken.staying.remove(&self.number);
        taken.leaving.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a place has become another's.
    fn is_lost(place: &Place) -> bool {
        let mut lost = pin!(place.lost());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        lost.as_mut().poll(&mut context).is_ready()
    }

    #[tokio::test]
    async fn the_longest_silent_loses_its_place_to_a_newcomer() {
        let places = Places::new(2);
        let (first, second) = (places.take().await.unwrap(), places.take().await.unwrap());
        first.has_asked();
        assert!(!is_lost(&first) && !is_lost(&second));
        let third = tokio::spawn({
            let places = places.clone();
            async move { places.take().await.unwrap() }
        });
        second.lost().await;
        drop(second);
        let third = third.await.unwrap();
        assert!(!is_lost(&first) && !is_lost(&third));
    }

    #[tokio::test]
    async fn who_has_asked_keeps_his_place_for_a_time() {
        let places = Places { answer_time: Duration::from_millis(50), ..Places::new(2) };
        let (first, second) = (places.take().await.unwrap(), places.take().await.unwrap());
        let began = Instant::now();
        second.has_asked();
        first.has_asked();
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await.is_some() }
        });
        second.lost().await;
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert!(!is_lost(&first) && !newcomer.is_finished());
        drop(second);
        assert!(newcomer.await.unwrap());
    }

    #[tokio::test]
    async fn who_stays_keeps_his_place_however_many_come_and_say_nothing() {
        let places = Places { answer_time: Duration::from_millis(50), ..Places::new(2) };
        let (listener, mut silent) = (places.take().await.unwrap(), places.take().await.unwrap());
        listener.has_asked();
        listener.stays();
        for _ in 0..300 {
            let newcomer = tokio::spawn({
                let places = places.clone();
                async move { places.take().await.unwrap() }
            });
            silent.lost().await;
            drop(silent);
            silent = newcomer.await.unwrap();
            assert!(!is_lost(&listener));
        }
        // One that has asked goes before it, too.
        silent.has_asked();
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await.unwrap() }
        });
        silent.lost().await;
        assert!(!is_lost(&listener));
        drop(silent);
        let other = newcomer.await.unwrap();
        other.has_asked();
        other.stays();
        // Where all stay, the first goes: nobody is kept out for good.
        let newcomer = tokio::spawn({
            let places = places.clone();
            async move { places.take().await.is_some() }
        });
        listener.lost().await;
        drop(listener);
        assert!(newcomer.await.unwrap() && !is_lost(&other));
    }

    #[tokio::test]
    async fn a_silent_one_that_goes_is_enough_though_others_have_asked_long_ago() {
        let places = Places { answer_time: Duration::from_millis(1), ..Places::new(2) };
        let (asked, silent) = (places.take().await.unwrap(), places.take().await.unwrap());
        asked.has_asked();
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(2) {
            tokio::task::yield_now().await;
        }
        let newcomer = tokio::spawn({
            let places = Places { answer_time: ANSWER_TIME, ..places.clone() };
            async move { places.take().await.is_some() }
        });
        silent.lost().await;
        assert!(!is_lost(&asked));
        drop(silent);
        assert!(newcomer.await.unwrap() && !is_lost(&asked));
    }
}
