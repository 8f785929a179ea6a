//! Between a watch and those who ask it while it runs: what they are told as it happens, what they ask, and what is counted
//! for them. Whoever listens slowly is dropped; the watch never waits for a listener.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::model::{followed::Followed, rescued::RescueReport};

/// Most listeners at a time.
pub const MOST_LISTENERS: usize = 16;
/// Of these, places for the local socket alone.
const KEPT_FOR_LOCAL: usize = 4;
/// Lines that wait for a listener before it is dropped.
const QUEUE: usize = 256;
/// Questions that wait for the watch.
const QUESTIONS: usize = 16;

/// What somebody asks the watch itself, or tells it.
pub enum Question {
    /// Which children it follows.
    Followed(oneshot::Sender<Vec<Followed>>),
    /// A lock was released in one of them, or that was tried.
    Rescued(Box<RescueReport>),
    /// An output has something to tell that does not come through the watch: it is told that a batch is over.
    Nudge,
}

/// Where the watch is asked, and where it hears that.
pub fn questions() -> (mpsc::Sender<Question>, mpsc::Receiver<Question>) {
    mpsc::channel(QUESTIONS)
}

/// What was seen since the watch began.
#[derive(Debug, Default)]
pub struct Tally {
    /// Forks that were told one by one.
    pub forks: AtomicU64,
    /// What could not be judged.
    pub undecided: AtomicU64,
    /// Records that were lost.
    pub lost: AtomicU64,
    /// Processes and connections that were not followed to their end, because too much happened at once.
    pub given_up: AtomicU64,
    /// Findings that rules accept.
    pub accepted: AtomicU64,
}

impl Tally {
    /// Adds to one of the counts.
    pub fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }

    /// What one of the counts is now.
    pub fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

/// What a listener wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wants {
    /// Findings, and what becomes of them.
    Findings,
    /// Also the lives of servers' workers, rescues, and losses: all but what each process does.
    Notable,
    /// Everything that is told one by one.
    All,
}

/// Everybody who listens. Clones share them.
#[derive(Clone, Default)]
pub struct Bus(Arc<Mutex<Vec<Listener>>>, Awaited);

/// Users who wait for each finding of their own programs. Clones share them.
#[derive(Clone, Default)]
pub struct Awaited(Arc<(AtomicU64, Mutex<Vec<u32>>)>);

/// One who waits, for as long as this lives.
pub struct Waits {
    awaited: Awaited,
    uid: u32,
}

impl Awaited {
    /// Changes whenever they do.
    pub fn version(&self) -> u64 {
        self.0.0.load(Ordering::Acquire)
    }

    /// Their uids.
    pub fn users(&self) -> Vec<u32> {
        let mut users = self.lock().clone();
        users.sort_unstable();
        users.dedup();
        users
    }

    fn waits(&self, uid: u32) -> Waits {
        self.lock().push(uid);
        self.0.0.fetch_add(1, Ordering::Release);
        Waits { awaited: self.clone(), uid }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u32>> {
        self.0.1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut users = self.awaited.lock();
        if let Some(place) = users.iter().position(|uid| *uid == self.uid) {
            users.swap_remove(place);
        }
        drop(users);
        self.awaited.0.0.fetch_add(1, Ordering::Release);
    }
}

struct Listener {
    wants: Wants,
    lines: mpsc::Sender<Arc<str>>,
    dropped: Arc<Notify>,
}

impl Bus {
    /// The most that anybody wants to hear; none where nobody listens.
    pub fn wanted(&self) -> Option<Wants> {
        let mut listeners = self.lock();
        listeners.retain(|listener| !listener.lines.is_closed());
        listeners.iter().map(|listener| listener.wants).max()
    }

    /// Tells everybody who wants to hear such a line, a JSON document without a line break.
    pub fn tell(&self, kind: Wants, line: &Arc<str>) {
        self.lock().retain(|listener| {
            if listener.wants < kind {
                return true;
            }
            let told = listener.lines.try_send(Arc::clone(line)).is_ok();
            if !told {
                listener.dropped.notify_one();
            }
            told
        });
    }

    /// Listens from now on; none where too many do. Some places are kept for those who come by the local socket: nobody
    /// else can take them all.
    pub fn listen(&self, wants: Wants, is_local: bool) -> Option<Listening> {
        let mut listeners = self.lock();
        listeners.retain(|listener| !listener.lines.is_closed());
        let most = if is_local { MOST_LISTENERS } else { MOST_LISTENERS - KEPT_FOR_LOCAL };
        if listeners.len() >= most {
            return None;
        }
        let (sender, lines) = mpsc::channel(QUEUE);
        let dropped = Arc::new(Notify::new());
        listeners.push(Listener { wants, lines: sender, dropped: Arc::clone(&dropped) });
        Some(Listening { lines, dropped, _waits: None })
    }

    /// The users who wait for each finding of their own programs.
    pub fn awaited(&self) -> Awaited {
        self.1.clone()
    }

    /// Has this listener wait for each finding of this user's programs.
    #[must_use]
    pub fn each_of(&self, listening: Listening, uid: u32) -> Listening {
        Listening { _waits: Some(self.1.waits(uid)), ..listening }
    }

    /// Tells everybody that nothing more comes.
    pub fn close(&self) {
        self.lock().drain(..).for_each(|listener| listener.dropped.notify_one());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener's end.
pub struct Listening {
    lines: mpsc::Receiver<Arc<str>>,
    dropped: Arc<Notify>,
    _waits: Option<Waits>,
}

impl Listening {
    /// The next line; none once the listener was dropped, or the watch has ended.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Arc<str>>> {
        self.lines.poll_recv(context)
    }

    /// Is notified once the listener was dropped.
    pub fn dropped(&self) -> Arc<Notify> {
        Arc::clone(&self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn next(listening: &mut Listening) -> Poll<Option<String>> {
        let line = listening.poll(&mut Context::from_waker(Waker::noop()));
        line.map(|line| line.map(|line| line.to_string()))
    }

    #[test]
    fn each_hears_what_it_wants_and_a_slow_one_is_dropped() {
        let bus = Bus::default();
        assert_eq!(bus.wanted(), None);
        let mut findings = bus.listen(Wants::Findings, true).unwrap();
        assert_eq!(bus.wanted(), Some(Wants::Findings));
        let mut all = bus.listen(Wants::All, true).unwrap();
        assert_eq!(bus.wanted(), Some(Wants::All));
        let mut notable = bus.listen(Wants::Notable, true).unwrap();
        bus.tell(Wants::All, &"event".into());
        bus.tell(Wants::Notable, &"worker".into());
        bus.tell(Wants::Findings, &"finding".into());
        assert_eq!(next(&mut findings), Poll::Ready(Some("finding".to_owned())));
        assert_eq!(next(&mut findings), Poll::Pending);
        assert_eq!(next(&mut notable), Poll::Ready(Some("worker".to_owned())));
        drop(notable);
        assert_eq!(next(&mut all), Poll::Ready(Some("event".to_owned())));
        for _ in 0..=QUEUE {
            bus.tell(Wants::All, &"event".into());
        }
        assert_eq!(bus.wanted(), Some(Wants::Findings), "the other one is left");
        let mut lines = 0;
        while next(&mut all) != Poll::Ready(None) {
            lines += 1;
        }
        assert_eq!(lines, QUEUE);
        bus.close();
        assert_eq!(next(&mut findings), Poll::Ready(None));
    }

    #[test]
    fn a_user_waits_as_long_as_he_listens() {
        let bus = Bus::default();
        let (awaited, before) = (bus.awaited(), bus.awaited().version());
        let listen = || bus.each_of(bus.listen(Wants::Findings, true).unwrap(), 1000);
        let (first, second) = (listen(), listen());
        assert_eq!(awaited.users(), [1000]);
        assert_ne!(awaited.version(), before);
        drop(first);
        assert_eq!(awaited.users(), [1000], "he listens twice");
        drop(second);
        assert!(awaited.users().is_empty());
    }

    #[test]
    fn there_are_so_many_and_whoever_leaves_makes_room() {
        let bus = Bus::default();
        let mut all: Vec<_> = (0..MOST_LISTENERS).map(|_| bus.listen(Wants::All, true).unwrap()).collect();
        assert!(bus.listen(Wants::All, true).is_none());
        all.pop();
        assert!(bus.listen(Wants::All, false).is_none(), "this place is kept");
        all.push(bus.listen(Wants::All, true).unwrap());
        all.pop();
        assert!(bus.listen(Wants::All, true).is_some());
    }
}
