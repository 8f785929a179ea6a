//! The children of one forker: what one of them shows of that holds for all, so that one is looked at by the clock.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use crate::model::{process::ProcessKey, time::BootTime};

/// Two looks at children of one forker are so far apart, at least: however often thousands fall asleep, what that costs
/// stays small.
const APART: Duration = Duration::from_millis(100);

/// All of them, by forker.
#[derive(Default)]
pub(super) struct Families(HashMap<ProcessKey, Family>);

#[derive(Default)]
struct Family {
    members: BTreeSet<ProcessKey>,
    /// The one that is looked at by the clock.
    sentinel: Option<ProcessKey>,
    /// When there is room for the next look at one of them.
    next: BootTime,
    /// When the forker was last seen beside one of them.
    beside: Option<BootTime>,
    is_orphaned: bool,
}

impl Families {
    pub(super) fn join(&mut self, forker: ProcessKey, child: ProcessKey) {
        let family = self.0.entry(forker).or_default();
        family.members.insert(child);
        family.sentinel.get_or_insert(child);
    }

    /// Takes in that a child is followed no more. Gives the one that is looked at by the clock in its place.
    pub(super) fn leave(&mut self, forker: ProcessKey, child: ProcessKey) -> Option<ProcessKey> {
        let family = self.0.get_mut(&forker)?;
        family.members.remove(&child);
        if family.members.is_empty() {
            self.0.remove(&forker);
            return None;
        }
        if family.sentinel != Some(child) {
            return None;
        }
        family.sentinel = family.members.first().copied();
        family.sentinel
    }

    /// The child that is looked at by the clock.
    pub(super) fn sentinel(&self, forker: ProcessKey) -> Option<ProcessKey> {
        self.0.get(&forker)?.sentinel
    }

    /// Has this child looked at by the clock from now on.
    pub(super) fn appoint(&mut self, forker: ProcessKey, child: ProcessKey) {
        if let Some(family) = self.0.get_mut(&forker) {
            family.sentinel = Some(child);
        }
    }

    /// When a child may be looked at that is due at this time.
    pub(super) fn place_for(&mut self, forker: ProcessKey, due: BootTime) -> BootTime {
        let Some(family) = self.0.get_mut(&forker) else { return due };
        // Who falls asleep again gives its place up unused: no more places than children are taken.
        let members = u32::try_from(family.members.len()).unwrap_or(u32::MAX);
        let place = family.next.min(due + APART.saturating_mul(members)).max(due);
        family.next = place + APART;
        place
    }

    /// Takes in that the forker was seen beside a child of its.
    pub(super) fn seen_beside(&mut self, forker: ProcessKey, at: BootTime) {
        if let Some(family) = self.0.get_mut(&forker) {
            family.beside = family.beside.max(Some(at));
        }
    }

    /// Whether the forker was seen, this long after a child began, beside that or another.
    pub(super) fn stayed(&self, forker: ProcessKey, since: BootTime) -> bool {
        self.0.get(&forker).and_then(|family| family.beside).is_some_and(|beside| beside >= since)
    }

    /// Takes in that the forker is gone. Gives all of its children, if that is news.
    pub(super) fn orphaned(&mut self, forker: ProcessKey) -> Vec<ProcessKey> {
        let Some(family) = self.0.get_mut(&forker) else { return Vec::new() };
        if std::mem::replace(&mut family.is_orphaned, true) {
            return Vec::new();
        }
        family.members.iter().copied().collect()
    }

    #[cfg(test)]
    pub(super) fn members(&self) -> usize {
        self.0.values().map(|family| family.members.len()).sum()
    }
}
