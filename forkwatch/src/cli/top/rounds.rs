//! Which server is visited next, when, and whether anything is new there. Pure: it is told the time, and how to look.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{cli::inspect::Family, host::Runs, model::process::ProcessKey};

/// The shortest time between two visits to a server.
const SHORTEST: Duration = Duration::from_secs(1);
/// What has not run is looked at after so long anyway: others may have copied memory that it shares with them.
const ANYWAY: Duration = Duration::from_secs(60);
/// All visits together take one part in so many of the time, however many servers are on the screen.
const SHARE: u32 = 300;
/// Beyond that, so much at once: a screen that has just come up fills at once.
const BURST: Duration = Duration::from_millis(200);

/// What is known of the servers that are visited in turn.
pub(super) struct Rounds {
    visits: HashMap<ProcessKey, Visit>,
    /// Time that visits may still take, and when that was so; less than nothing after one that took long.
    left: i128,
    at: Instant,
}

/// The last visit to a server.
struct Visit {
    at: Instant,
    /// The last one with a look, and which processes were seen then.
    looked: Instant,
    processes: Vec<u32>,
    /// How often these had run before.
    runs: Option<Runs>,
}

/// What a visit has shown.
pub(super) enum Visited {
    /// None of the server's processes has run since the last look.
    AsBefore,
    /// This; nothing where the server is gone.
    Seen(Option<Family>),
}

impl Rounds {
    /// Nothing was visited yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { visits: HashMap::new(), left: nanoseconds(BURST), at: now }
    }

    /// The one of these masters whose server is due: the first one that was not visited yet, else the one that was visited
    /// longest ago. If it is not time yet, how long to wait; nothing where there is nobody to visit.
    pub(super) fn next(
        &mut self,
        wanted: &[ProcessKey],
        now: Instant,
    ) -> Result<ProcessKey, Option<Duration>> {
        self.visits.retain(|master, _| wanted.contains(master));
        let earned = nanoseconds(now.saturating_duration_since(self.at)) / i128::from(SHARE);
        (self.left, self.at) = ((self.left + earned).min(nanoseconds(BURST)), now);
        let last = |master: &&ProcessKey| self.visits.get(master).map(|visit| visit.at);
        let Some(next) = wanted.iter().min_by_key(last) else { return Err(None) };
        let due = last(&next).map_or(now, |last| last + SHORTEST);
        let lacking = u64::try_from(-self.left.min(0)).unwrap_or(u64::MAX);
        let pause =
            due.saturating_duration_since(now).max(Duration::from_nanos(lacking).saturating_mul(SHARE));
        if pause.is_zero() { Ok(*next) } else { Err(Some(pause)) }
    }

    /// Counts what a visit took.
    pub(super) fn spend(&mut self, took: Duration) {
        self.left -= nanoseconds(took);
    }

    /// Visits a server: looks at it, and gives what was seen, unless none of its processes has run since the last look.
    pub(super) fn visit(
        &mut self,
        master: ProcessKey,
        now: Instant,
        runs: impl Fn(&[u32]) -> Option<Runs>,
        look: &mut impl FnMut(ProcessKey) -> Option<Family>,
    ) -> Visited {
        let before = self.visits.remove(&master);
        // Counted before the look: what runs meanwhile is looked at again.
        let counted = before.as_ref().filter(|visit| !visit.processes.is_empty());
        let counted = counted.and_then(|visit| runs(&visit.processes));
        if let Some(visit) = &before
            && counted.is_some()
            && counted == visit.runs
            && now.saturating_duration_since(visit.looked) < ANYWAY
        {
            self.visits.extend(before.map(|visit| (master, Visit { at: now, ..visit })));
            return Visited::AsBefore;
        }
        let family = look(master);
        let processes: Vec<u32> =
            family.iter().flat_map(|family| &family.processes).map(|member| member.pid).collect();
        let is_same = before.is_some_and(|visit| visit.processes == processes);
        self.visits
            .insert(master, Visit { at: now, looked: now, processes, runs: counted.filter(|_| is_same) });
        Visited::Seen(family)
    }
}

fn nanoseconds(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
