//! Process creations by systemd unit, from the kernel's counts by cgroup.

use std::collections::{BTreeMap, HashMap, HashSet};

use forkwatch_ebpf::CgroupCounts;

use super::bounded::{Bounded, OTHER, UNKNOWN, label};

/// Vanished cgroups that are remembered beside those of the last reading, in case they were only missed by it.
const REMEMBERED: usize = 4096;

/// Of the names, one part in so many may be of units within one other, such as those that a user's manager makes.
const PART_WITHIN: usize = 8;

/// Adds up readings so that no unit's count ever falls, whatever becomes of its cgroups.
pub(super) struct Units {
    names: Bounded<String>,
    max_within: usize,
    /// How many names there are within a unit.
    within: HashMap<String, HashSet<String>>,
    cgroups: HashMap<u64, Cgroup>,
    totals: BTreeMap<String, CgroupCounts>,
    reading: u64,
}

struct Cgroup {
    unit: String,
    last: CgroupCounts,
    seen: u64,
}

impl Units {
    pub(super) fn new(max: usize) -> Self {
        Self {
            names: Bounded::new(max),
            max_within: (max / PART_WITHIN).max(1),
            within: HashMap::new(),
            cgroups: HashMap::new(),
            totals: BTreeMap::new(),
            reading: 0,
        }
    }

    /// Takes in a reading; `resolve` names the unit of a cgroup that is new.
    pub(super) fn update(&mut self, counts: &[(u64, CgroupCounts)], resolve: impl Fn(u64) -> Option<String>) {
        self.reading += 1;
        for (id, now) in counts {
            let Self { names, max_within, within, cgroups, .. } = self;
            let cgroup = cgroups.entry(*id).or_insert_with(|| {
                let name = resolve(*id).map_or_else(|| UNKNOWN.to_owned(), |name| label(&name));
                let name = bounded_within(name, within, *max_within);
                let unit = if names.admit(name.clone()) { name } else { OTHER.to_owned() };
                Cgroup { unit, last: CgroupCounts { copying: 0, sharing: 0 }, seen: 0 }
            });
            let total =
                self.totals.entry(cgroup.unit.clone()).or_insert(CgroupCounts { copying: 0, sharing: 0 });
            total.copying += growth(cgroup.last.copying, now.copying);
            total.sharing += growth(cgroup.last.sharing, now.sharing);
            cgroup.last = *now;
            cgroup.seen = self.reading;
        }
        if self.cgroups.len() > counts.len() + REMEMBERED {
            self.cgroups.retain(|_, cgroup| cgroup.seen == self.reading);
        }
    }

    /// The totals by unit.
    pub(super) fn totals(&self) -> impl Iterator<Item = (&str, CgroupCounts)> {
        self.totals.iter().map(|(unit, counts)| (unit.as_str(), *counts))
    }

    /// How many cgroups found no room for their unit.
    pub(super) fn refused(&self) -> u64 {
        self.names.refused()
    }
}

/// The name of a unit; of one within another, which may make as many as it likes, the other's name where there are enough.
fn bounded_within(name: String, within: &mut HashMap<String, HashSet<String>>, most: usize) -> String {
    let Some((outer, _)) = name.split_once('/').filter(|(outer, _)| !outer.is_empty()) else { return name };
    if within.len() >= most * PART_WITHIN && !within.contains_key(outer) {
        return outer.to_owned();
    }
    let names = within.entry(outer.to_owned()).or_default();
    if names.contains(&name) || (names.len() < most && names.insert(name.clone())) {
        name
    } else {
        outer.to_owned()
    }
}

/// What was added: a count below the last one began anew.
const fn growth(last: u64, now: u64) -> u64 {
    if now >= last { now - last } else { now }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(copying: u64) -> CgroupCounts {
        CgroupCounts { copying, sharing: 1 }
    }

    fn total(units: &Units, unit: &str) -> Option<u64> {
        units.totals().find(|(name, _)| *name == unit).map(|(_, counts)| counts.copying)
    }

    #[test]
    fn cgroups_of_one_unit_add_up_and_vanished_ones_still_count() {
        let mut units = Units::new(10);
        let name = |_| Some("a.service".to_owned());
        units.update(&[(1, counts(5)), (2, counts(7))], name);
        units.update(&[(2, counts(8))], name);
        assert_eq!(total(&units, "a.service"), Some(13));
        units.update(&[(1, counts(2)), (2, counts(8))], name);
        assert_eq!(total(&units, "a.service"), Some(15), "a count that fell began anew");
    }

    #[test]
    fn what_finds_no_room_or_no_name_is_counted_still() {
        let mut units = Units::new(2);
        units.update(&[(1, counts(1)), (2, counts(2)), (3, counts(4)), (4, counts(8))], |id| {
            (id != 1).then(|| format!("{id}.service"))
        });
        assert_eq!(total(&units, UNKNOWN), Some(1));
        assert_eq!(total(&units, "2.service"), Some(2));
        assert_eq!(total(&units, OTHER), Some(12));
        assert_eq!(units.refused(), 2);
    }

    #[test]
    fn units_that_a_user_makes_take_no_room_from_others() {
        let mut units = Units::new(16);
        let readings: Vec<_> = (0..100).map(|id| (id, counts(1))).collect();
        units.update(&readings, |id| Some(format!("user@1000.service/run-{id}.scope")));
        units.update(&[(100, counts(5))], |_| Some("web.service".to_owned()));
        assert_eq!(total(&units, "user@1000.service/run-0.scope"), Some(1));
        assert_eq!(total(&units, "user@1000.service"), Some(98));
        assert_eq!(total(&units, "web.service"), Some(5));
        assert_eq!((total(&units, OTHER), units.refused()), (None, 0));
    }

    #[test]
    fn memory_stays_bounded_when_cgroups_come_and_go() {
        let mut units = Units::new(10);
        for id in 0..20_000 {
            units.update(&[(id, counts(1))], |_| None);
        }
        assert!(units.cgroups.len() <= REMEMBERED + 1);
        assert_eq!(total(&units, UNKNOWN), Some(20_000));
    }

    proptest! {
        #[test]
        fn no_total_ever_falls(readings in prop::collection::vec(prop::collection::vec((0_u64..6, 0_u64..9), 0..6), 1..20)) {
            let mut units = Units::new(3);
            let mut before = BTreeMap::new();
            for reading in readings {
                let reading: BTreeMap<u64, CgroupCounts> =
                    reading.into_iter().map(|(id, copying)| (id, counts(copying))).collect();
                units.update(&reading.into_iter().collect::<Vec<_>>(), |id| Some(id.to_string()));
                for (unit, now) in units.totals() {
                    let last = before.insert(unit.to_owned(), now.copying).unwrap_or(0);
                    prop_assert!(now.copying >= last);
                }
                prop_assert!(units.totals().count() <= 4);
            }
        }
    }
}
