//! The lives of workers: which children of a process are a server's workers, when they wait for work for the first time, and
//! how they end. Pure: what happens and what was seen goes in, and what to ask and what to tell comes out.

mod child;
mod family;
mod pace;
mod telling;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::{
    child::{Child, Stage},
    family::Family,
};
use crate::model::{
    child_end::ChildEnd,
    event::{Exit, Fork},
    evidence::Request,
    observation::Signal,
    process::{Comm, ProcessKey},
    time::BootTime,
    worker::WorkerEvent,
    worker_look::WorkersSeen,
};

/// Most processes that fork of which something is remembered.
const MOST_FAMILIES: usize = 256;
/// Most children that are followed, of all servers together.
const MOST_CHILDREN: usize = 4096;

/// What is to be done for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// To put a question.
    Ask(Request),
    /// To call [`Lives::look`] about the children of this process, then and not before.
    Wake(ProcessKey, BootTime),
    /// To have the signals to this worker told from now on, and its end.
    Watch(ProcessKey),
    /// To tell that something has happened to a worker.
    Tell(Box<WorkerEvent>),
}

/// What is known of processes that fork and of their children.
#[derive(Debug, Default)]
pub struct Lives {
    families: HashMap<ProcessKey, Family>,
    /// Whose child one is.
    masters: HashMap<ProcessKey, ProcessKey>,
    deeds: Vec<Deed>,
}

impl Lives {
    /// A process was forked by a copying fork.
    pub fn forked(&mut self, fork: &Fork) -> Vec<Deed> {
        self.enter(fork.parent, fork.child, Child::new(fork.at, true, fork.comm), fork.at);
        self.done()
    }

    /// A forked process was found, whose fork was not seen.
    pub fn found(&mut self, master: ProcessKey, child: ProcessKey, now: BootTime) -> Vec<Deed> {
        self.enter(master, child, Child::new(child.start, false, Comm::default()), now);
        self.done()
    }

    /// It is time to look at the children of a process.
    pub fn look(&mut self, master: ProcessKey, now: BootTime) -> Vec<Deed> {
        let sampled: usize = self.families.values().map(Family::sampled).sum();
        if let Some(family) = self.families.get_mut(&master) {
            family.look(now, sampled, &mut self.deeds);
        }
        self.done()
    }

    /// They were looked at; the error says why they could not be.
    pub fn seen(&mut self, master: ProcessKey, seen: Result<&WorkersSeen, &str>, now: BootTime) -> Vec<Deed> {
        if let Some(family) = self.families.get_mut(&master) {
            let gone = if let Ok(seen) = seen {
                family.seen(seen, now, &mut self.deeds)
            } else {
                family.unseen(now);
                Vec::new()
            };
            for process in gone {
                family.left(process, now, &mut self.deeds);
                self.masters.remove(&process);
            }
            family.wake(&mut self.deeds);
        }
        let children = seen.map_or(&[][..], |seen| &seen.children);
        for child in children {
            self.enter(master, *child, Child::new(child.start, false, Comm::default()), now);
        }
        self.done()
    }

    /// A signal was sent.
    pub fn signalled(&mut self, signal: &Signal) -> Vec<Deed> {
        if let Some(family) = self.masters.get(&signal.target).and_then(|of| self.families.get_mut(of)) {
            family.signalled(signal, &mut self.deeds);
            family.wake(&mut self.deeds);
        }
        self.done()
    }

    /// A process has ended; `stuck` says in what it was stuck.
    pub fn ended(&mut self, exit: &Exit, end: ChildEnd, stuck: Option<String>) -> Vec<Deed> {
        let Some(master) = self.masters.remove(&exit.process) else { return self.done() };
        if let Some(family) = self.families.get_mut(&master) {
            family.ended(exit, end, stuck, &mut self.deeds);
        }
        self.done()
    }

    /// A process may be gone, and no record told.
    pub fn doubted(&mut self, process: ProcessKey, now: BootTime) -> Vec<Deed> {
        if let Some(family) = self.masters.get(&process).and_then(|of| self.families.get_mut(of)) {
            family.doubt(process, now);
            family.wake(&mut self.deeds);
        }
        self.done()
    }

    /// A process runs another program.
    pub fn left(&mut self, process: ProcessKey, now: BootTime) -> Vec<Deed> {
        if let Some(family) = self.masters.remove(&process).and_then(|of| self.families.get_mut(&of)) {
            family.left(process, now, &mut self.deeds);
        }
        // What it was as a master it is no more.
        if let Some(family) = self.families.get_mut(&process) {
            for child in family.begin_anew(now) {
                self.masters.remove(&child);
            }
            family.wake(&mut self.deeds);
        }
        self.done()
    }

    /// Whether it is known for a worker.
    pub fn is_worker(&self, process: ProcessKey) -> bool {
        let child = self.masters.get(&process).and_then(|of| self.families.get(of)?.child(process));
        child.is_some_and(|child| child.stage == Stage::Worker)
    }

    fn done(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds)
    }

    fn enter(&mut self, master: ProcessKey, process: ProcessKey, child: Child, now: BootTime) {
        if self.masters.contains_key(&process) || !self.has_room(master, now) {
            return;
        }
        self.masters.insert(process, master);
        let family = self.families.entry(master).or_insert_with(|| Family::new(master));
        family.enter(process, child, now, &mut self.deeds);
    }

    /// Makes room for another child. What is forgotten first is what no worker is, nor is likely to be.
    fn has_room(&mut self, master: ProcessKey, now: BootTime) -> bool {
        if self.masters.len() >= MOST_CHILDREN {
            for family in self.families.values_mut() {
                family.forget_idle(now, &mut self.masters);
            }
        }
        if self.families.len() >= MOST_FAMILIES && !self.families.contains_key(&master) {
            let idle = self.families.iter().filter(|(_, family)| !family.has_workers());
            let Some((oldest, _)) = idle.min_by_key(|(key, family)| (family.touched, **key)) else {
                return false;
            };
            let oldest = *oldest;
            self.families.remove(&oldest);
            self.masters.retain(|_, master| *master != oldest);
        }
        self.masters.len() < MOST_CHILDREN
    }

    /// How many it remembers, and whether that is within its bounds.
    #[cfg(test)]
    pub fn remembers(&self) -> (usize, bool) {
        let children: usize = self.families.values().map(Family::size).sum();
        let within = self.families.len() <= MOST_FAMILIES
            && self.masters.len() <= MOST_CHILDREN
            && children == self.masters.len();
        (self.families.len() + children, within)
    }
}
