//! The hooks that there are, whether they are on, and how often they have run.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use jiff::Timestamp;

use super::{How, Ran, event::Event, rates::Rates};
use crate::config::hook::{Hook, Hooks};

/// A hook, and what has become of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hook: Hook,
    enabled: AtomicBool,
    rates: Mutex<Rates>,
    counts: Mutex<Counts>,
}

/// What is counted of a hook.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) timed_out: u64,
    /// Not run, because the process had ended.
    pub(super) gone: u64,
    /// Not run, because it had run as often as it may.
    pub(super) left_out: u64,
    /// The last run, when it ended.
    pub(super) last: Option<(Timestamp, Ran)>,
}

impl Entry {
    fn new(hook: Hook) -> Self {
        let rates = Rates::new(hook.at_most, Instant::now());
        Self {
            enabled: AtomicBool::new(hook.enabled),
            rates: Mutex::new(rates),
            counts: Mutex::default(),
            hook,
        }
    }

    /// The same of a file that was read anew: what was counted stays, and so does what somebody has switched, unless the
    /// file says something else than before.
    fn anew(&self, hook: Hook) -> Self {
        let enabled = if hook.enabled == self.hook.enabled { self.is_enabled() } else { hook.enabled };
        let counts = self.counts();
        let new = Self { enabled: AtomicBool::new(enabled), counts: Mutex::new(counts), ..Self::new(hook) };
        if new.hook.at_most == self.hook.at_most {
            std::mem::swap(&mut *lock(&new.rates), &mut *lock(&self.rates));
        }
        new
    }

    pub(super) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    pub(super) fn switch(&self, on: bool) {
        self.enabled.store(on, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    /// Notes a run.
    pub(super) fn note(&self, ran: &Ran) {
        let mut counts = lock(&self.counts);
        match ran.how {
            How::Good => counts.good += 1,
            How::TimedOut => counts.timed_out += 1,
            How::Gone(_) => counts.gone += 1,
            How::Code(_) | How::Signal(_) | How::Failed(_) => counts.failed += 1,
            How::Stopped => {}
        }
        counts.last = Some((Timestamp::now(), ran.clone()));
    }

    /// Whether it is to run for an event, which counts.
    fn wants(&self, event: &Event) -> bool {
        if !self.is_enabled() || !self.hook.criteria.fit(&event.told) {
            return false;
        }
        if lock(&self.rates).take(event.told.uid, Instant::now()) {
            return true;
        }
        let mut counts = lock(&self.counts);
        counts.left_out += 1;
        if counts.left_out.is_power_of_two() {
            let (hook, so_far) = (&self.hook.name, counts.left_out);
            tracing::warn!(
                hook,
                so_far,
                "has run as often as it may for this user ({}), and is left out",
                self.hook.at_most.shown()
            );
        }
        false
    }
}

/// All hooks, in the order in which they run.
#[derive(Debug, Default)]
pub(super) struct Book(RwLock<Arc<[Arc<Entry>]>>);

impl Book {
    /// Those of a file.
    pub(super) fn new(hooks: Hooks) -> Self {
        Self(RwLock::new(hooks.0.into_iter().map(|hook| Arc::new(Entry::new(hook))).collect()))
    }

    /// Takes on those of a file that was read anew.
    pub(super) fn replace(&self, hooks: Hooks) {
        let old = self.all();
        let known = |hook: &Hook| old.iter().find(|entry| entry.hook.name == hook.name);
        let entry = |hook: Hook| {
            Arc::new(match known(&hook) {
                Some(entry) => entry.anew(hook),
                None => Entry::new(hook),
            })
        };
        let new = hooks.0.into_iter().map(entry).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
    }

    pub(super) fn all(&self) -> Arc<[Arc<Entry>]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<Entry>> {
        self.all().iter().find(|entry| entry.hook.name == name).cloned()
    }

    /// Those that are to run for an event.
    pub(super) fn wanting(&self, event: &Event) -> Vec<Arc<Entry>> {
        self.all().iter().filter(|entry| entry.wants(event)).cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn hooks(text: &str) -> Hooks {
        Hooks::parse("test.toml", text).unwrap()
    }

    fn hook(name: &str, more: &str) -> String {
        format!("[[hook]]\nname = \"{name}\"\non = [\"finding\"]\nexec = [\"/bin/true\"]\n{more}\n")
    }

    fn finding(uid: u32) -> Event {
        let line = format!(
            r#"{{"event": {{"action": "finding"}}, "process": {{"pid": 7, "parent": {{"pid": 6, "user": {{"id": "{uid}"}}}}}},
                "forkwatch": {{"finding": {{"hazard": "orphaned-lock", "state": "confirmed"}}}}}}"#
        );
        Event::read(&line).unwrap()
    }

    fn names(entries: &[Arc<Entry>]) -> Vec<&str> {
        entries.iter().map(|entry| entry.hook.name.as_str()).collect()
    }

    #[test]
    fn what_was_switched_off_does_not_run_and_what_runs_too_often_is_left_out() {
        let text = hook("a", "at_most = \"2/1h\"") + &hook("b", "enabled = false") + &hook("c", "");
        let book = Book::new(hooks(&text));
        assert_eq!(names(&book.wanting(&finding(33))), ["c", "a"]);
        book.find("b").unwrap().switch(true);
        book.find("c").unwrap().switch(false);
        assert_eq!(names(&book.wanting(&finding(33))), ["b", "a"]);
        assert_eq!(names(&book.wanting(&finding(33))), ["b"]);
        assert_eq!(names(&book.wanting(&finding(34))), ["b", "a"], "another user has runs of its own");
        assert_eq!(book.find("a").unwrap().counts().left_out, 1);
        assert!(book.find("d").is_none());
    }

    #[test]
    fn a_file_that_is_read_anew_changes_what_it_changes_alone() {
        let book = Book::new(hooks(&(hook("a", "at_most = \"1/1h\"") + &hook("b", ""))));
        book.find("b").unwrap().switch(false);
        book.wanting(&finding(33));
        let ran = Ran { how: How::Code(3), took: Duration::from_secs(1), output: String::new(), written: 0 };
        book.find("a").unwrap().note(&ran);
        book.replace(hooks(&(hook("a", "at_most = \"1/1h\"") + &hook("b", "") + &hook("c", ""))));
        assert_eq!(names(&book.wanting(&finding(33))), ["c"], "b is off, and a has run as often as it may");
        assert_eq!(book.find("a").unwrap().counts().failed, 1);
        book.replace(hooks(&hook("b", "enabled = false")));
        book.replace(hooks(&hook("b", "enabled = true")));
        assert_eq!(names(&book.wanting(&finding(33))), ["b"], "now the file says so");
    }
}
