//! How often children that live on are looked at.

use std::{collections::HashMap, time::Duration};

use crate::model::time::{BootTime, nanoseconds};

/// The longest time between two looks at a child. One that may get stuck, and is busy, is looked at more often: a server
/// such as gunicorn kills a worker that hangs after 30 s, and by then it must be known why.
pub(super) const LONGEST: Duration = Duration::from_secs(30);
/// The shortest time between two looks at a child.
pub(super) const SHORTEST: Duration = Duration::from_secs(1);
/// A child is looked at again after this part of the time since something about it changed.
const PART: u32 = 4;

/// Most children that are looked at in a second; those that are due beyond it are looked at later. It bounds what
/// thousands of them can cost, however often each ought to be looked at.
const MOST_LOOKS: u32 = 500;
/// Looks that each user's children have in any case, so that thousands of another's keep nobody's waiting.
const LOOKS_OF_USER: u32 = 100;

/// How many children were looked at in the present second.
#[derive(Default)]
pub(super) struct Pace {
    second: BootTime,
    looks: u32,
    of_users: HashMap<Option<u32>, u32>,
}

impl Pace {
    /// Takes one look at a child of this user's, if there is one left in this second.
    pub(super) fn take(&mut self, user: Option<u32>, now: BootTime) -> bool {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.looks) = (now, 0);
            self.of_users.clear();
        }
        let of_user = self.of_users.entry(user).or_default();
        *of_user += 1;
        self.looks += 1;
        self.looks <= MOST_LOOKS || *of_user <= LOOKS_OF_USER
    }
}

/// How long to wait for the next look, where nothing has changed for so long.
pub(super) fn pause(unchanged: Duration) -> Duration {
    (unchanged / PART).clamp(SHORTEST, LONGEST)
}

/// How soon to look again at a child that may get stuck at any time: within a second, as long as this is a small part of
/// one processor (a look takes 35 us), and within 5 s in any case. Where threads wait, a look takes some more.
pub(super) fn soon(children: usize, has_waits: bool) -> Duration {
    /// Looks in a second that take 0.3 % of a processor.
    const CHEAP: u32 = 85;
    const AT_MOST: Duration = Duration::from_secs(5);
    let crowd = u32::try_from(children).unwrap_or(u32::MAX);
    let soon = SHORTEST.saturating_mul(crowd) / CHEAP;
    soon.max(if has_waits { SHORTEST * 2 } else { SHORTEST }).min(AT_MOST)
}

/// When to look next, some time before a pause is over: where that is long, at a moment that others look at too, so that
/// one wake-up does for all of them.
pub(super) fn together(now: BootTime, pause: Duration) -> BootTime {
    /// From which pause on, and how far apart these moments are.
    const MOMENTS: [(Duration, Duration); 2] =
        [(Duration::from_secs(20), Duration::from_secs(5)), (Duration::from_secs(1), Duration::from_secs(1))];
    let due = now + pause;
    let apart = MOMENTS.into_iter().find(|(from, _)| pause >= *from).map(|(_, apart)| nanoseconds(apart));
    apart.map_or(due, |apart| BootTime(due.0 - due.0 % apart))
}
