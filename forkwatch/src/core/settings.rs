//! How the core judges.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    core::suppress::SuppressRule,
    model::{defaults, stack::Stacks, time::BootTime},
};

/// Delays below this would have the core turn in circles.
const SHORTEST: Duration = Duration::from_millis(1);
/// Nobody waits for longer. The core multiplies delays, and a product of these is still a duration.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// As many as the kernel has pids at most (`PID_MAX_LIMIT`, include/linux/threads.h).
const CHILDREN: RangeInclusive<usize> = 1..=1 << 22;

/// Why settings that come from outside cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A delay that nobody can mean.
    #[error("its {name} is {value:?}, and {LONGEST:?} is the longest that can be")]
    Delay {
        /// The name of the setting, as the configuration has it.
        name: &'static str,
        /// The delay that was given.
        value: Duration,
    },
    /// More children than there can be, or none.
    #[error("its max_children is {0}, and must be from {least} to {most}", least = CHILDREN.start(), most = CHILDREN.end())]
    Children(usize),
}

/// How the core judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How long a child may take to exec or exit. At least 1 ms.
    pub grace: Duration,
    /// How long after a fork the parent's threads are looked at. At least 1 ms.
    pub recheck: Duration,
    /// How often repeats of one finding are summed up at most. At least 1 ms.
    pub summary_interval: Duration,
    /// Whether each child that hangs is reported when it is found, and not summed up with those of the same program.
    #[serde(default)]
    pub tell_each: bool,
    /// Users of whose programs each finding is reported when it is found, at most so many of a program as of children that
    /// hang: somebody waits for it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tell_each_of: Vec<u32>,
    /// How long a wait must have been seen without a change before it is reported, where the lock names its owner.
    /// Other proofs take 2.5, 10 or 30 times as long.
    pub stuck_after: Duration,
    /// How often all processes are looked at for forked children that no event told of; none for never.
    pub sweep_interval: Option<Duration>,
    /// How often a child that lives on is looked at by the clock for descriptors left behind, at most: every 30 s. At
    /// least 1 ms.
    pub leak_interval: Duration,
    /// How long a child must have been seen to sleep on a pipe before its holders are looked for: 1 s.
    pub pipe_patience: Duration,
    /// How the stacks of stuck threads may be had.
    pub stacks: Stacks,
    /// What the operator accepts.
    #[serde(alias = "allow")]
    pub suppress: Vec<SuppressRule>,
    /// Most children that are followed at a time: 65536.
    pub max_children: usize,
    /// Whether the lives of servers' workers are followed and told.
    #[serde(default)]
    pub workers: bool,
    /// Whether this is a snapshot of what is there, by who cannot watch: each process is looked at twice at most, and how
    /// long a wait has lasted is what the kernel tells.
    #[serde(default)]
    pub snapshot: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: defaults::GRACE,
            recheck: defaults::RECHECK,
            summary_interval: defaults::SUMMARY_INTERVAL,
            tell_each: false,
            tell_each_of: Vec::new(),
            stuck_after: defaults::STUCK_AFTER,
            sweep_interval: None,
            leak_interval: Duration::from_secs(30),
            pipe_patience: Duration::from_secs(1),
            stacks: Stacks::default(),
            suppress: Vec::new(),
            max_children: 1 << 16,
            workers: false,
            snapshot: false,
        }
    }
}

impl Settings {
    /// A pause that saves work, or lets others have their turn; a snapshot makes none.
    pub fn pause(&self, usual: Duration) -> Duration {
        if self.snapshot { Duration::ZERO } else { usual }
    }

    /// Since when a thread is known to wait that was seen to wait now and has not run for so long, as the kernel tells.
    pub fn waits_since(&self, seen: BootTime, slept: Option<u64>) -> BootTime {
        let before = slept.filter(|_| self.snapshot).unwrap_or_default();
        BootTime(seen.0.saturating_sub(before))
    }

    /// Refuses what no watch was ever made with: for settings that a file tells.
    pub fn check(&self) -> Result<(), SettingsError> {
        let too_long = self.delays().into_iter().find(|(_, value)| *value > LONGEST);
        if let Some((name, value)) = too_long {
            return Err(SettingsError::Delay { name, value });
        }
        if CHILDREN.contains(&self.max_children) {
            Ok(())
        } else {
            Err(SettingsError::Children(self.max_children))
        }
    }

    /// All of them, by name.
    fn delays(&self) -> [(&'static str, Duration); 7] {
        [
            ("grace", self.grace),
            ("recheck", self.recheck),
            ("summary_interval", self.summary_interval),
            ("stuck_after", self.stuck_after),
            ("sweep_interval", self.sweep_interval.unwrap_or_default()),
            ("leak_interval", self.leak_interval),
            ("pipe_patience", self.pipe_patience),
        ]
    }

    /// Without delays that are too short or too long, whoever made them.
    pub(super) fn bounded(self) -> Self {
        let bound = |delay: Duration| delay.clamp(SHORTEST, LONGEST);
        Self {
            grace: bound(self.grace),
            recheck: bound(self.recheck),
            summary_interval: bound(self.summary_interval),
            stuck_after: bound(self.stuck_after),
            sweep_interval: self.sweep_interval.map(bound),
            leak_interval: bound(self.leak_interval),
            pipe_patience: self.pipe_patience.min(LONGEST),
            max_children: self.max_children.min(*CHILDREN.end()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The settings, each with one delay that is as long as a duration can be.
    fn endless() -> Vec<(&'static str, Settings)> {
        let endless = Duration::MAX;
        let usual = Settings::default;
        vec![
            ("grace", Settings { grace: endless, ..usual() }),
            ("recheck", Settings { recheck: endless, ..usual() }),
            ("summary_interval", Settings { summary_interval: endless, ..usual() }),
            ("stuck_after", Settings { stuck_after: endless, ..usual() }),
            ("sweep_interval", Settings { sweep_interval: Some(endless), ..usual() }),
            ("leak_interval", Settings { leak_interval: endless, ..usual() }),
            ("pipe_patience", Settings { pipe_patience: endless, ..usual() }),
        ]
    }

    #[test]
    fn what_nobody_can_mean_is_refused_by_name() {
        assert_eq!(Settings::default().check(), Ok(()));
        assert_eq!(Settings { sweep_interval: Some(LONGEST), ..Settings::default() }.check(), Ok(()));
        for (name, settings) in endless() {
            assert_eq!(settings.check(), Err(SettingsError::Delay { name, value: Duration::MAX }));
        }
        for max_children in [0, usize::MAX] {
            let message = Settings { max_children, ..Settings::default() }.check().unwrap_err().to_string();
            assert!(message.contains("must be from 1 to 4194304"), "{message}");
        }
    }

    #[test]
    fn every_delay_stands_in_the_list() {
        let value = serde_json::to_value(Settings { sweep_interval: Some(LONGEST), ..Settings::default() });
        let value = value.unwrap();
        let fields = value.as_object().unwrap();
        let delays: Vec<_> =
            fields.iter().filter(|(_, value)| value.get("nanos").is_some()).map(|(name, _)| name).collect();
        assert_eq!(delays.len(), 7, "{delays:?}");
        let settings = Settings::default();
        for (name, _) in settings.delays() {
            assert!(delays.iter().any(|delay| *delay == name), "{name}");
        }
    }
}
