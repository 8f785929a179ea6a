//! Sets of signals, and their names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A set of signals 1 to 64 as the kernel keeps it: signal `n` is bit `n - 1`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignalSet(pub u64);

/// Names of the standard signals on x86 and arm64, from 1 (signal(7)).
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The name of a signal: `SIGTERM`, `SIGRTMIN+3` (as glibc counts, from 34), or its number.
pub fn signal_name(signal: u32) -> String {
    let index = usize::try_from(signal).ok().and_then(|number| number.checked_sub(1));
    match index.and_then(|index| NAMES.get(index)) {
        Some(name) => (*name).to_owned(),
        None if signal == 34 => "SIGRTMIN".to_owned(),
        None if (35..=64).contains(&signal) => format!("SIGRTMIN+{}", signal - 34),
        None => format!("signal {signal}"),
    }
}

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);

    /// The set of these signals; numbers outside 1 to 64 are left out.
    pub fn of(signals: &[u32]) -> Self {
        Self(
            signals
                .iter()
                .filter_map(|signal| signal.checked_sub(1).and_then(|bit| 1_u64.checked_shl(bit)))
                .fold(0, |set, bit| set | bit),
        )
    }

    /// Whether it holds no signal.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether it holds the signal.
    pub fn contains(self, signal: u32) -> bool {
        !self.and(Self::of(&[signal])).is_empty()
    }

    /// The signals of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The signals of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The signals of this set that are not in the other.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether everything that can be blocked is: what glibc sets for a moment around `posix_spawn`,
    /// `pthread_create` and, in newer versions, `fork`. `SIGKILL` and `SIGSTOP` cannot be blocked, and 32 and 33
    /// are glibc's own.
    pub fn is_all_blockable(self) -> bool {
        self.or(Self::of(&[9, 19, 32, 33])).0 == u64::MAX
    }

    /// The signals' numbers, ascending.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (1..=64).filter(move |signal| self.0 >> (signal - 1) & 1 == 1)
    }

    /// The set of the signals with these names, as [`signal_name`] writes them; others are left out.
    pub fn named(names: &[String]) -> Self {
        let is_named = |signal: &u32| names.contains(&signal_name(*signal));
        Self::of(&(1..=64).filter(is_named).collect::<Vec<_>>())
    }

    /// The signals' names, by ascending number.
    pub fn names(self) -> Vec<String> {
        self.numbers().map(signal_name).collect()
    }
}

/// The names, with commas.
impl fmt::Display for SignalSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.names().join(", "))
    }
}

impl fmt::Debug for SignalSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_numbers() {
        assert_eq!(SignalSet::of(&[15, 1, 10]).to_string(), "SIGHUP, SIGUSR1, SIGTERM");
        assert_eq!(SignalSet::of(&[31, 34, 37, 64]).to_string(), "SIGSYS, SIGRTMIN, SIGRTMIN+3, SIGRTMIN+30");
        let names = SignalSet::of(&[15, 32, 37]).names();
        assert_eq!(SignalSet::named(&names), SignalSet::of(&[15, 32, 37]));
        assert_eq!(signal_name(32), "signal 32");
        assert_eq!(signal_name(0), "signal 0");
        assert_eq!(SignalSet::of(&[0, 65, u32::MAX]), SignalSet::EMPTY);
    }

    #[test]
    fn the_masks_of_glibc_are_known() {
        // Seen around clone in glibc 2.36: everything but SIGKILL and SIGSTOP.
        assert!(SignalSet(0xffff_ffff_fffb_feff).is_all_blockable());
        assert!(SignalSet(0xffff_fffe_7ffb_feff).is_all_blockable());
        assert!(SignalSet(u64::MAX).is_all_blockable());
        assert!(!SignalSet(0xffff_fffe_7ffb_feff).without(SignalSet::of(&[15])).is_all_blockable());
    }
}
