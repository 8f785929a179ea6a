//! Whose question is answered next, so that a thousand children of one user do not keep another's one waiting.
//!
//! Users share the reader's time alike, of each user the units, and of each unit the families: next is whoever has had
//! least. Of a whole CPU the reader takes no more than a small part on average; and who has taken little lately need not
//! wait for those who have taken much.
//!
//! What proves that a child hangs, or is gone a moment later, comes before what can wait: of what may be taken at once a
//! quarter is left for it. Of so many questions one is of those that can wait, where any do.
//!
//! Searches take long, and nothing is proven by them: one comes when nothing else is asked, or when it has waited for a
//! while, and only as long as half of what may be taken at once is left for what is asked next.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

/// Questions that may wait.
const MOST_WAITING: usize = 4096;
/// After this time, half of what was had is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// Searches that may wait, and for how long: whoever asked then does without.
const MOST_SEARCHES: usize = 64;
const SEARCH_WAITS: Duration = Duration::from_secs(2);
/// How long one lets questions pass: what it finds says less of the fork, the later it comes.
const SEARCH_YIELDS: Duration = Duration::from_millis(100);
/// How often it is seen whether a search may begin, or has waited for too long.
const SEARCH_LOOK: Duration = Duration::from_millis(100);
/// After so many other questions one of those comes that can wait.
const TURNS: u32 = 16;
/// Users whose allowance is remembered.
const MOST_USERS: usize = 4096;

/// What may be taken of a CPU: so many parts in a thousand on average, and so much at once.
#[derive(Clone, Copy)]
struct Rate {
    per_mille: u32,
    at_once: Duration,
}

/// By the whole reader. Sweeps, which are paced by what they take, come on top: together less than a twentieth.
const ALL: Rate = Rate { per_mille: 30, at_once: Duration::from_millis(800) };
/// For one user's processes, whatever others have had.
const ONE_USER: Rate = Rate { per_mille: 10, at_once: Duration::from_millis(300) };

/// On whose account a question goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Account {
    /// The uid.
    pub user: u64,
    /// The unit among the user's.
    pub unit: u64,
    /// The family within it.
    pub family: u64,
}

/// The account of looks at the whole host. Real ones are numbers of users, and two that stand for nobody.
const WHOLE_HOST: u64 = u64::MAX - 2;

impl Account {
    /// That of a look at the whole host to which a process of this account gave rise. It costs what there is on the host:
    /// on the user's own account it would keep all looks at its processes waiting. Users share it alike.
    #[must_use]
    pub const fn of_whole_host(self) -> Self {
        Self { user: WHOLE_HOST, unit: self.user, family: self.family }
    }

    const fn path(self) -> [u64; 3] {
        [self.user, self.unit, self.family]
    }
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// This question is asked now, on this account.
    Ask(Account, T),
    /// Something waits, and has to wait for so long.
    Wait(Duration),
    /// Nothing waits.
    Nothing,
}

/// A search that waits.
struct Search<T> {
    account: Account,
    item: T,
    since: Instant,
}

/// Questions that wait.
pub struct Shares<T> {
    root: Share<(Account, T)>,
    /// Those that can wait.
    patient: Share<(Account, T)>,
    /// How many others have come since the last of these.
    turns: u32,
    searches: Vec<Search<T>>,
    all: Allowance,
    users: HashMap<u64, Allowance>,
    halved: Instant,
}

impl<T> Shares<T> {
    /// Without any.
    pub fn new(now: Instant) -> Self {
        Self {
            root: Share::new(3),
            patient: Share::new(3),
            turns: 0,
            searches: Vec::new(),
            all: Allowance::new(ALL, now),
            users: HashMap::new(),
            halved: now,
        }
    }

    /// How many wait.
    pub const fn waiting(&self) -> usize {
        self.root.waiting + self.patient.waiting + self.searches.len()
    }

    /// Lets one wait. Where there is no room, one of those that have most waiting is let go, be it this one: it is
    /// given back.
    pub fn put(&mut self, account: Account, item: T) -> Option<T> {
        self.root.put(&account.path(), (account, item));
        if self.root.waiting > MOST_WAITING { self.root.let_go().map(|(_, item)| item) } else { None }
    }

    /// The same for one that can wait.
    pub fn put_patient(&mut self, account: Account, item: T) -> Option<T> {
        self.patient.put(&account.path(), (account, item));
        if self.patient.waiting > MOST_WAITING { self.patient.let_go().map(|(_, item)| item) } else { None }
    }

    /// Lets a search wait. Where there is no room, the last of whoever has most waiting is given back.
    pub fn put_search(&mut self, account: Account, item: T, now: Instant) -> Option<T> {
        self.searches.push(Search { account, item, since: now });
        if self.searches.len() <= MOST_SEARCHES {
            return None;
        }
        let of = |user: u64| self.searches.iter().filter(|search| search.account.user == user).count();
        let crowded = self.searches.iter().map(|search| search.account.user).max_by_key(|user| of(*user))?;
        let last = self.searches.iter().rposition(|search| search.account.user == crowded)?;
        Some(self.searches.remove(last).item)
    }

    /// A search that has waited for too long, taken out.
    pub fn late(&mut self, now: Instant) -> Option<T> {
        let is_late = |search: &Search<T>| now.saturating_duration_since(search.since) >= SEARCH_WAITS;
        let place = self.searches.iter().position(is_late)?;
        Some(self.searches.remove(place).item)
    }

    /// The next one that may be asked.
    pub fn next(&mut self, now: Instant) -> Next<T> {
        if let Some(search) = self.next_search(SEARCH_YIELDS, now) {
            return search;
        }
        let next = self.next_look(now);
        if self.searches.is_empty() || matches!(next, Next::Ask(..)) {
            return next;
        }
        if matches!(next, Next::Nothing)
            && let Some(search) = self.next_search(Duration::ZERO, now)
        {
            return search;
        }
        match next {
            Next::Wait(wait) => Next::Wait(wait.min(SEARCH_LOOK)),
            _ => Next::Wait(SEARCH_LOOK),
        }
    }

    /// One of the searches that have waited for so long, of whoever has had least.
    fn next_search(&mut self, waited: Duration, now: Instant) -> Option<Next<T>> {
        let root = &self.root;
        let had = |(_, search): &(usize, &Search<T>)| root.had_by(search.account.user);
        let is_due =
            |(_, search): &(usize, &Search<T>)| now.saturating_duration_since(search.since) >= waited;
        let (place, _) = self.searches.iter().enumerate().filter(is_due).min_by_key(had)?;
        if !self.all.is_ample(now) {
            return None;
        }
        let Search { account, item, .. } = self.searches.remove(place);
        Some(Next::Ask(account, item))
    }

    fn next_look(&mut self, now: Instant) -> Next<T> {
        if self.root.waiting + self.patient.waiting == 0 {
            return Next::Nothing;
        }
        if now.saturating_duration_since(self.halved) >= HALF_LIFE {
            self.halved = now;
            self.root.halve();
            self.patient.halve();
        }
        let is_their_turn = self.turns >= TURNS;
        let mut shortest = Duration::MAX;
        for is_patient in [is_their_turn, !is_their_turn] {
            match self.take(is_patient, now) {
                Ok((account, item)) => {
                    self.turns = if is_patient { 0 } else { self.turns.saturating_add(1) };
                    return Next::Ask(account, item);
                }
                Err(wait) => shortest = shortest.min(wait),
            }
        }
        Next::Wait(shortest)
    }

    /// Takes from whoever has had least of those that need not wait; an error says how long all have to.
    fn take(&mut self, is_patient: bool, now: Instant) -> Result<(Account, T), Duration> {
        let share = if is_patient { &mut self.patient } else { &mut self.root };
        if share.waiting == 0 {
            return Err(Duration::MAX);
        }
        let kept = if is_patient { ALL.at_once / 4 } else { Duration::ZERO };
        let of_all = self.all.wait(kept, now);
        let users = &mut self.users;
        share.take(&mut |user: u64| {
            let has_had_little = users.get_mut(&user).is_none_or(|allowance| allowance.is_ample(now));
            of_all.filter(|_| !has_had_little)
        })
    }

    /// Notes what a question has taken of a CPU.
    pub fn charge(&mut self, account: Account, taken: Duration, now: Instant) {
        self.root.charge(&account.path(), taken);
        self.patient.charge(&account.path(), taken);
        self.all.charge(taken, now);
        if self.users.len() >= MOST_USERS {
            self.users.retain(|_, allowance| !allowance.is_whole(now));
        }
        self.users.entry(account.user).or_insert_with(|| Allowance::new(ONE_USER, now)).charge(taken, now);
    }
}

/// What may still be taken.
struct Allowance {
    rate: Rate,
    /// In nanoseconds; less than nothing where the last took more than there was.
    left: i64,
    at: Instant,
}

impl Allowance {
    fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: signed(rate.at_once), at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = signed(now.saturating_duration_since(self.at));
        let gained = passed.saturating_mul(i64::from(self.rate.per_mille)) / 1000;
        self.left = self.left.saturating_add(gained).min(signed(self.rate.at_once));
        self.at = now;
    }

    fn charge(&mut self, taken: Duration, now: Instant) {
        self.refill(now);
        self.left = self.left.saturating_sub(signed(taken));
    }

    /// How long to wait until something may be taken and so much is left; absent where it may now.
    fn wait(&mut self, kept: Duration, now: Instant) -> Option<Duration> {
        self.refill(now);
        let left = self.left.saturating_sub(signed(kept));
        let lacking = u64::try_from(left.saturating_neg().saturating_add(1)).ok().filter(|_| left < 0)?;
        Some(Duration::from_nanos(lacking.saturating_mul(1000) / u64::from(self.rate.per_mille.max(1)) + 1))
    }

    /// Whether more than half of what may be taken at once is left.
    fn is_ample(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left > signed(self.rate.at_once) / 2
    }

    fn is_whole(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left >= signed(self.rate.at_once)
    }
}

fn signed(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// One of those who share, and those whom it shares with in turn.
struct Share<T> {
    had: Duration,
    waiting: usize,
    of: Of<T>,
}

enum Of<T> {
    Shares(usize, BTreeMap<u64, Share<T>>),
    Items(VecDeque<T>),
}

impl<T> Share<T> {
    const fn new(levels: usize) -> Self {
        let of = if levels == 0 { Of::Items(VecDeque::new()) } else { Of::Shares(levels, BTreeMap::new()) };
        Self { had: Duration::ZERO, waiting: 0, of }
    }

    fn put(&mut self, path: &[u64], item: T) {
        self.waiting += 1;
        match (&mut self.of, path.split_first()) {
            (Of::Shares(levels, shares), Some((first, rest))) => {
                let below = levels.saturating_sub(1);
                shares.entry(*first).or_insert_with(|| Self::new(below)).put(rest, item);
            }
            (Of::Items(items), _) => items.push_back(item),
            // Every path is as long as there are levels.
            (Of::Shares(..), None) => self.waiting -= 1,
        }
    }

    /// Takes from whoever has had least and need not wait; an error says how long all have to.
    fn take(&mut self, wait: &mut dyn FnMut(u64) -> Option<Duration>) -> Result<T, Duration> {
        let taken = match &mut self.of {
            Of::Items(items) => items.pop_front().ok_or(Duration::MAX),
            Of::Shares(_, shares) => {
                let mut shortest = Duration::MAX;
                let next = shares
                    .iter_mut()
                    .filter(|(_, share)| share.waiting > 0)
                    .filter(|(name, _)| match wait(**name) {
                        Some(time) => {
                            shortest = shortest.min(time);
                            false
                        }
                        None => true,
                    })
                    .min_by_key(|(_, share)| share.had);
                // Only users are made to wait.
                next.map_or(Err(shortest), |(_, share)| share.take(&mut |_| None))
            }
        }?;
        self.waiting -= 1;
        Ok(taken)
    }

    /// What one of those has had that share at this level.
    fn had_by(&self, name: u64) -> Duration {
        match &self.of {
            Of::Shares(_, shares) => shares.get(&name).map_or(Duration::ZERO, |share| share.had),
            Of::Items(_) => self.had,
        }
    }

    /// Lets the youngest go of whoever has most waiting.
    fn let_go(&mut self) -> Option<T> {
        let gone = match &mut self.of {
            Of::Items(items) => items.pop_back(),
            Of::Shares(_, shares) => shares.values_mut().max_by_key(|share| share.waiting)?.let_go(),
        }?;
        self.waiting -= 1;
        Some(gone)
    }

    fn charge(&mut self, path: &[u64], taken: Duration) {
        self.had += taken;
        if let (Of::Shares(_, shares), Some((first, rest))) = (&mut self.of, path.split_first())
            && let Some(share) = shares.get_mut(first)
        {
            share.charge(rest, taken);
        }
    }

    /// Forgets half of what was had, and those of whom nothing is left to remember.
    fn halve(&mut self) {
        self.had /= 2;
        if let Of::Shares(_, shares) = &mut self.of {
            shares.values_mut().for_each(Self::halve);
            shares.retain(|_, share| share.waiting > 0 || share.had > Duration::from_micros(10));
        }
    }
}

#[cfg(test)]
mod tests;
