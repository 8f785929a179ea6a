//! What the programs say of their decisions: read from the ring of aya-log, which only the object has that
//! `--kernel-log` loads.

mod record;

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
};
use forkwatch_ebpf::{
    log::{self, Speaker},
    map,
};

use super::{
    error::KernelError,
    maps::{map_error, take},
};

pub use record::Line;

/// Size of its ring in bytes.
pub(super) const RING_BYTES: u32 = 1 << 20;

/// Whose decisions are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speakers(u32);

impl Speakers {
    /// The word for all of them.
    pub const ALL: &str = "all";

    /// Every word that [`named`](Self::named) knows.
    pub fn words() -> impl Iterator<Item = &'static str> {
        std::iter::once(Self::ALL).chain(log::ALL.iter().map(|speaker| speaker.name))
    }

    /// Those of these names.
    pub fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let bit = |name: &str| {
            let is_named = |speaker: &&Speaker| name == Self::ALL || speaker.name == name;
            log::ALL.iter().filter(is_named).fold(0, |bits, speaker| bits | speaker.bit)
        };
        Self(names.into_iter().fold(0, |bits, name| bits | bit(name)))
    }

    /// Whether nobody's are.
    pub const fn are_none(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn bits(self) -> u32 {
        self.0
    }
}

/// How many lines came, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines that were read.
    pub lines: u64,
    /// Records that are no lines as this build knows them.
    pub malformed: u64,
    /// Lines that found no room in the ring.
    pub lost: u64,
}

/// The log's end in user space.
pub struct KernelLog {
    ring: RingBuf<MapData>,
    logged: PerCpuArray<MapData, u64>,
    tally: Tally,
    /// Lines that were missing at the last look: they may just be on their way.
    missing: u64,
}

impl KernelLog {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let (ring, logged) = (take(ebpf, map::LOG)?, take(ebpf, map::LOGGED)?);
        Ok(Self { ring, logged, tally: Tally::default(), missing: 0 })
    }

    /// Takes out what is there.
    pub fn drain(&mut self, mut each: impl FnMut(Line)) {
        while let Some(record) = self.ring.next() {
            self.tally.take(&record, &mut each);
        }
    }

    /// Finds out, after a [`drain`](Self::drain), how many lines were lost. A line counts as lost once two looks have
    /// missed it: a program may have counted what it has not handed over yet.
    pub fn look_for_lost(&mut self) -> Result<(), KernelError> {
        let cpus = self.logged.get(&0, 0).map_err(map_error(map::LOGGED))?;
        let missing = self.tally.missing_of(cpus.iter().sum());
        self.tally.lost = self.tally.lost.max(missing.min(self.missing));
        self.missing = missing;
        Ok(())
    }

    /// What came so far.
    pub const fn tally(&self) -> Tally {
        self.tally
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl Tally {
    /// Counts a record, and hands its line over if it is one.
    fn take(&mut self, record: &[u8], each: impl FnOnce(Line)) {
        match record::decode(record) {
            Some(line) => {
                self.lines += 1;
                each(line);
            }
            None => self.malformed += 1,
        }
    }

    /// How many of those that were logged never came.
    const fn missing_of(&self, logged: u64) -> u64 {
        logged.saturating_sub(self.lines + self.malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_records_are_survived_and_counted() {
        let whole = record::tests::written("fork");
        let mut records = vec![Vec::new(), vec![0; 64], vec![0xff; 200], record::tests::written("nobody")];
        records.extend((1..whole.len() / 2).map(|cut| whole.get(..cut).unwrap().to_vec()));
        let malformed = records.len();
        records.insert(2, whole.clone());
        records.push(whole);
        let (mut tally, mut lines) = (Tally::default(), Vec::new());
        for record in &records {
            tally.take(record, |line| lines.push(line.text));
        }
        assert_eq!(lines, ["process 7: gone", "process 7: gone"]);
        assert_eq!(tally, Tally { lines: 2, malformed: malformed as u64, lost: 0 });
        assert_eq!((tally.missing_of(malformed as u64 + 5), tally.missing_of(1)), (3, 0));
    }

    #[test]
    fn those_who_speak_are_named() {
        assert!(Speakers::named([]).are_none() && Speakers::default().are_none());
        assert_eq!(Speakers::named(["exec", "fork"]).bits(), log::FORK.bit | log::EXEC.bit);
        let all = Speakers::named(["all"]);
        assert_eq!(all, Speakers::named(Speakers::words()));
        assert_eq!(all.bits().count_ones() as usize, log::ALL.len());
    }
}
