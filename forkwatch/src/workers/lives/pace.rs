//! When a child is looked at.

use std::time::Duration;

use crate::{model::time::BootTime, workers::servers::LONG};

/// What is forked only to exec has done so by then, and so have most jobs ended.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(20);
/// While one is expected to wait for work soon.
pub(super) const SAMPLE: Duration = Duration::from_millis(25);
/// That is expected of it for so long.
pub(super) const SAMPLED_FOR: Duration = Duration::from_secs(60);
/// Most that are looked at so often at a time; all others:
pub(super) const MOST_SAMPLED: usize = 64;
pub(super) const CROWDED: Duration = Duration::from_millis(500);
/// Children of a program that is no known server that are looked at together.
pub(super) const A_FEW: usize = 8;
/// After that time.
const SELDOM: Duration = Duration::from_secs(5);
const SELDOM_FOR: Duration = Duration::from_secs(600);
const RARELY: Duration = Duration::from_secs(60);
/// A wait has begun between two looks that are no farther apart.
pub(super) const EXACT: Duration = Duration::from_millis(100);
/// A question that is not answered by then is put again.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// How long after its first look a worker is looked at once more for its title.
pub(super) const TITLED: Duration = Duration::from_secs(2);
/// How long one must have lived that may have been forked for something else.
pub(super) const SETTLED: Duration = Duration::from_secs(1);
/// How long a child of a server's must have lived.
pub(super) const LIVES: Duration = Duration::from_millis(100);
/// One that is forked so soon after another's end takes its place.
pub(super) const REPLACES_WITHIN: Duration = Duration::from_secs(60);

/// When it is seen, after an end, which children the master has: servers start another at once, or after a second.
pub(super) const RELISTED: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(300),
    Duration::from_millis(1100),
    Duration::from_secs(3),
];

/// What is known of a child when its next look is planned.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing of the child")]
pub(super) struct Pace {
    /// Whether its forker is a server whose workers can be seen to wait for work.
    pub(super) expected: bool,
    /// Whether it has been seen to.
    pub(super) ready: bool,
    /// Whether it is known for a worker.
    pub(super) worker: bool,
    /// Whether too many are looked at often.
    pub(super) crowded: bool,
}

impl Pace {
    /// When a child that was forked then is looked at after a look now, if at all; and whether closely.
    pub(super) fn next(self, forked: BootTime, now: BootTime) -> Option<(BootTime, bool)> {
        let age = now.since(forked);
        let settles = [SETTLED, LONG].into_iter().find(|time| age < *time);
        let settles = settles.map(|time| (forked + time, true));
        match self {
            Self { ready: true, worker: true, .. } => None,
            Self { ready: true, .. } | Self { expected: false, .. } => settles,
            Self { crowded: true, .. } if age < SAMPLED_FOR => Some((now + CROWDED, false)),
            _ if age < SAMPLED_FOR => Some((now + SAMPLE, false)),
            _ if age < SELDOM_FOR => Some((now + SELDOM, true)),
            _ => Some((now + RARELY, true)),
        }
    }
}
