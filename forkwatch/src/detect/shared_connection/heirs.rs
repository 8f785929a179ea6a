//! Children that are born with connections, from their birth until it is known what these are; and the processes that
//! have left such connections to a child, whose next child is watched from its first instruction.

use std::{collections::HashMap, time::Duration};

use crate::model::{
    connection::Inherited,
    event::{Event, Exit},
    observation::{Heir, Observation},
    process::ProcessKey,
    reported::Reported,
    time::BootTime,
};

/// A child that execs or ends this soon, and has moved nothing, shares nothing with anybody. It is looked at later.
pub(super) const SETTLED: Duration = Duration::from_millis(20);
/// Where it has closed its copies by then, it is looked at once more so much later: the server may have ended them since.
pub(super) const ENDED: Duration = Duration::from_millis(500);
/// The same where its parent has closed its copy: what happened before the first look is told within this time.
pub(super) const TOLD: Duration = Duration::from_millis(100);
/// One that ends later than this has lived on its parent's connections.
pub(super) const LIVED: Duration = Duration::from_millis(5);
/// How long the programs stay attached once the last forker that needed them has ended: to attach them again soon after
/// costs a hundred times as much.
pub(super) const LINGER: Duration = Duration::from_secs(60);

/// Most children whose connections are not known yet.
const MOST_HEIRS: usize = 4096;
/// Most events about such a child that wait until it is known what they are about.
const MOST_EARLY: usize = 64;
/// Most forkers that something is remembered of.
const MOST_FORKERS: usize = 4096;

/// A forker whose children do not keep its connections is left alone for this long, the next time for twice as long.
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: u32 = 360;

/// Children that were born with connections, and their forkers.
#[derive(Default)]
pub(super) struct Heirs {
    children: HashMap<ProcessKey, Child>,
    forkers: HashMap<ProcessKey, Forker>,
}

/// Such a child.
pub(super) struct Child {
    /// The process that forked it.
    pub(super) parent: ProcessKey,
    /// What it was born with.
    pub(super) sockets: Vec<Inherited>,
    /// Whether it has more.
    more: bool,
    /// What happened before it was known what these connect to.
    early: Vec<Reported>,
    /// Whether it is known.
    look: Look,
    /// Whether it was looked at again.
    again: bool,
    /// Whether it has ended.
    pub(super) has_ended: bool,
}

/// Whether it is known what a child was born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    None,
    Asked,
    Done,
}

/// What is remembered of a forker.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Forker {
    /// It has left a connection to a child that lived.
    Covered,
    /// Its children did not keep its connections, so many times.
    Disregarded(u32),
}

impl Heirs {
    /// Takes in a birth. Tells whether there was room.
    pub(super) fn born(&mut self, heir: &Heir) -> bool {
        if self.children.len() >= MOST_HEIRS {
            return false;
        }
        let child = Child {
            parent: heir.parent,
            sockets: heir.sockets.clone(),
            more: heir.more,
            early: Vec::new(),
            look: Look::None,
            again: false,
            has_ended: false,
        };
        self.children.insert(heir.child, child);
        true
    }

    /// The child of this key.
    pub(super) fn get_mut(&mut self, child: ProcessKey) -> Option<&mut Child> {
        self.children.get_mut(&child)
    }

    /// Whether all connections of a child are known, or on the way to be.
    pub(super) fn knows(&self, child: ProcessKey) -> bool {
        self.children.get(&child).is_some_and(|child| child.look != Look::None && !child.more)
    }

    /// A child is no more, or nothing more has to be remembered of it.
    pub(super) fn forget(&mut self, child: ProcessKey) -> Option<Child> {
        self.children.remove(&child)
    }

    /// Keeps what happened on a connection of which it is not known yet what it is. Gives the children of whom it has to
    /// be found out now.
    pub(super) fn keep(&mut self, inode: u64, seen: &Observation) -> Vec<ProcessKey> {
        let has_it = |child: &Child| {
            child.look != Look::Done && child.sockets.iter().any(|socket| socket.inode == inode)
        };
        let mut to_ask = Vec::new();
        for (key, child) in self.children.iter_mut().filter(|(_, child)| has_it(child)) {
            if child.early.len() < MOST_EARLY {
                child.early.push(seen.clone().into());
            }
            if child.is_to_be_asked() {
                to_ask.push(*key);
            }
        }
        to_ask
    }

    /// Whether somebody waits to learn what a connection is.
    pub(super) fn wait_for(&self, inode: u64) -> bool {
        self.children
            .values()
            .any(|child| child.look != Look::Done && child.sockets.iter().any(|socket| socket.inode == inode))
    }

    /// Whether a process has, or was born to, a child that is remembered, or is covered.
    pub(super) fn concerns(&self, process: ProcessKey) -> bool {
        self.is_covered(process)
            || self.children.iter().any(|(key, child)| *key == process || child.parent == process)
    }

    /// Whether all children of a process are told.
    pub(super) fn is_covered(&self, forker: ProcessKey) -> bool {
        self.forkers.get(&forker) == Some(&Forker::Covered)
    }

    /// A process has left a connection to a child that lives. Tells whether that is news.
    pub(super) fn cover(&mut self, forker: ProcessKey) -> bool {
        self.make_room();
        self.forkers.insert(forker, Forker::Covered) != Some(Forker::Covered)
    }

    /// The child of a process did not keep its connections. Tells for how long the next ones are left alone.
    pub(super) fn disregard(&mut self, forker: ProcessKey) -> Option<Duration> {
        self.make_room();
        match self.forkers.entry(forker).or_insert(Forker::Disregarded(0)) {
            Forker::Covered => None,
            Forker::Disregarded(times) => {
                let rest = FIRST_REST * 2_u32.saturating_pow(*times).min(LONGEST_REST);
                *times = times.saturating_add(1);
                Some(rest)
            }
        }
    }

    /// Nothing more has to be remembered of a forker.
    pub(super) fn uncover(&mut self, forker: ProcessKey) {
        self.forkers.remove(&forker);
    }

    /// Nobody tells of the end of those that are not covered.
    fn make_room(&mut self) {
        if self.forkers.len() >= MOST_FORKERS {
            self.forkers.retain(|_, forker| *forker == Forker::Covered);
        }
        if self.forkers.len() >= MOST_FORKERS {
            self.forkers.clear();
        }
    }

    #[cfg(test)]
    pub(super) fn is_within_bounds(&self) -> bool {
        self.children.len() <= MOST_HEIRS && self.forkers.len() <= MOST_FORKERS
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.children.len()
    }
}

impl Child {
    /// Whether nobody has asked yet what it was born with; from now on somebody has.
    pub(super) fn is_to_be_asked(&mut self) -> bool {
        let is_new = self.look == Look::None;
        if is_new {
            self.look = Look::Asked;
        }
        is_new
    }

    /// Whether that was asked, and is not known yet.
    pub(super) fn is_awaited(&self) -> bool {
        self.look == Look::Asked
    }

    /// Whether it is known.
    pub(super) fn is_known(&self) -> bool {
        self.look == Look::Done
    }

    /// Has it asked about a second time. Tells whether that is to be.
    pub(super) fn is_to_be_asked_again(&mut self) -> bool {
        let is_first = !std::mem::replace(&mut self.again, true) && !self.has_ended;
        if is_first {
            self.look = Look::None;
        }
        is_first
    }

    /// It is known from now on.
    pub(super) const fn is_seen(&mut self) {
        self.look = Look::Done;
    }

    /// What happened before its connections were known.
    pub(super) fn take_early(&mut self) -> Vec<Reported> {
        std::mem::take(&mut self.early)
    }

    /// It has ended.
    pub(super) fn ends(&mut self, exit: &Exit) {
        self.has_ended = true;
        if self.early.len() <= MOST_EARLY {
            self.early.push(Event::Exit(exit.clone()).into());
        }
    }

    /// Whether an end at this time leaves something to be found out: it used a connection, or lived for long enough.
    pub(super) fn is_worth_a_look(&self, born: BootTime, ended: BootTime) -> bool {
        !self.early.is_empty() || ended.since(born) > LIVED
    }
}
