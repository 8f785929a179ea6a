//! A process that forks, and its children.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    Deed,
    child::{Child, Stage},
    pace::{A_FEW, CROWDED, FIRST_LOOK, LIVES, MOST_SAMPLED, PATIENCE, Pace, SAMPLED_FOR, SETTLED, TITLED},
};
use crate::{
    model::{
        evidence::Request,
        process::ProcessKey,
        time::BootTime,
        worker::{WorkSource, WorkerState, WorkersServer},
        worker_look::{MAX_TOGETHER, Who, WorkerLook, WorkerSeen, WorkersSeen},
    },
    workers::servers::{Kin, LONG, Recognised, Role, Server, Work, recognise},
};

/// What is known of them.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) master: ProcessKey,
    who: Option<Box<Who>>,
    pub(super) server: Option<(WorkersServer, Server)>,
    /// Whether the master has a socket that listens.
    listens: bool,
    /// Whether any of its workers was seen to wait for connections.
    pub(super) awaits_connections: bool,
    pub(super) children: BTreeMap<ProcessKey, Child>,
    /// Who has ended and whose place nobody has taken.
    pub(super) vacant: VecDeque<(ProcessKey, BootTime)>,
    /// When it is to be seen which children the master has, the soonest first: those whose forks nobody told of.
    pub(super) listed: VecDeque<BootTime>,
    /// When the next look comes.
    planned: Option<BootTime>,
    /// When a child came, changed or went last.
    pub(super) touched: BootTime,
}

impl Family {
    pub(super) fn new(master: ProcessKey) -> Self {
        Self {
            master,
            who: None,
            server: None,
            listens: false,
            awaits_connections: false,
            children: BTreeMap::new(),
            vacant: VecDeque::new(),
            listed: VecDeque::new(),
            planned: None,
            touched: BootTime(0),
        }
    }

    pub(super) fn enter(
        &mut self,
        process: ProcessKey,
        mut child: Child,
        now: BootTime,
        deeds: &mut Vec<Deed>,
    ) {
        let due = now.max(child.forked + FIRST_LOOK);
        child.next = Some((due, true));
        self.children.insert(process, child);
        self.touched = now;
        self.wake_by(due, deeds);
    }

    pub(super) fn child(&self, process: ProcessKey) -> Option<&Child> {
        self.children.get(&process)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        self.children.len()
    }

    pub(super) fn has_workers(&self) -> bool {
        self.children.values().any(|child| child.stage == Stage::Worker)
    }

    /// How many of its children are looked at often.
    pub(super) fn sampled(&self) -> usize {
        let is_sampled =
            |child: &&Child| child.ready.is_none() && (child.next.is_some() || child.asked.is_some());
        if self.is_known() { self.children.values().filter(is_sampled).count() } else { 0 }
    }

    /// Whether it is a server of a known kind.
    fn is_known(&self) -> bool {
        self.server.as_ref().is_some_and(|(about, _)| about.known)
    }

    /// Forgets those that are no workers and are not looked at any more.
    pub(super) fn forget_idle(&mut self, now: BootTime, masters: &mut HashMap<ProcessKey, ProcessKey>) {
        self.children.retain(|process, child| {
            let stays = child.stage == Stage::Worker || now.since(child.forked) < SAMPLED_FOR;
            if !stays {
                masters.remove(process);
            }
            stays
        });
    }

    /// Another program runs in the master. What the earlier one had forked is none of its workers, unless that was such a
    /// server itself, which begins anew and keeps them. Gives those that are followed no longer.
    pub(super) fn begin_anew(&mut self, now: BootTime) -> Vec<ProcessKey> {
        (self.who, self.server, self.awaits_connections) = (None, None, false);
        let stays = |child: &Child| child.stage == Stage::Worker;
        let others = self.children.iter().filter(|(_, child)| !stays(child)).map(|(process, _)| *process);
        let others: Vec<ProcessKey> = others.collect();
        self.children.retain(|_, child| stays(child));
        for child in self.children.values_mut() {
            child.next = Some((now + FIRST_LOOK, true));
        }
        others
    }

    /// Has the next look come when it is due.
    pub(super) fn wake(&mut self, deeds: &mut Vec<Deed>) {
        let due = |child: &Child| match child.asked {
            Some(asked) => Some(asked + PATIENCE),
            None => child.next.map(|(at, _)| at),
        };
        let due = self.children.values().filter_map(due).chain(self.listed.front().copied());
        self.planned = due.min();
        deeds.extend(self.planned.map(|at| Deed::Wake(self.master, at)));
    }

    /// Has it come then at the latest. Unlike [`Self::wake`] it does not look at all children: many may come and go.
    pub(super) fn wake_by(&mut self, at: BootTime, deeds: &mut Vec<Deed>) {
        if self.planned.is_none_or(|planned| at < planned) {
            self.planned = Some(at);
            deeds.push(Deed::Wake(self.master, at));
        }
    }

    /// Asks about those whose time has come.
    pub(super) fn look(&mut self, now: BootTime, sampled: usize, deeds: &mut Vec<Deed>) {
        let crowded = sampled > MOST_SAMPLED;
        // Of a program that is no known server, a few of its children tell as much as all, and only once they have lived long.
        let (is_known, is_seen) = (self.is_known(), self.who.is_some());
        let most = if is_known { MAX_TOGETHER } else { A_FEW };
        let (mut closely, mut often) = (Vec::new(), Vec::new());
        for (process, child) in &mut self.children {
            if child.asked.is_some_and(|asked| now.since(asked) >= PATIENCE) {
                child.asked = None;
                // Whoever answers has too much to do.
                child.next = child.failed().then_some((now + LONG, true));
            }
            let Some((_, close)) = child.next.filter(|(at, _)| child.asked.is_none() && *at <= now) else {
                continue;
            };
            if !is_known && is_seen && now.since(child.forked) < LONG {
                child.next = Some((child.forked + LONG, true));
                continue;
            }
            let group = if close { &mut closely } else { &mut often };
            if !is_known && group.len() >= most {
                child.next = Some((now + CROWDED, true));
            } else if group.len() < most && (close || !crowded || group.len() < MOST_SAMPLED) {
                group.push(*process);
                child.asked = Some(now);
            }
        }
        for (workers, closely) in [(closely, true), (often, false)] {
            if !workers.is_empty() {
                let master = self.master;
                deeds.push(Deed::Ask(Request::Workers { master, workers, closely, children: false }));
            }
        }
        if self.listed.front().is_some_and(|at| *at <= now) {
            self.listed.retain(|at| *at > now);
            let (master, workers) = (self.master, Vec::new());
            deeds.push(Deed::Ask(Request::Workers { master, workers, closely: false, children: true }));
        }
        self.wake(deeds);
    }

    /// Nothing could be seen of the master.
    pub(super) fn unseen(&mut self, now: BootTime) {
        for child in self.children.values_mut() {
            if child.asked.take().is_none() {
                continue;
            }
            child.next = child.failed().then_some((now + LONG, true));
        }
    }

    /// They were looked at.
    ///
    /// Gives back those that are gone, of which no record told.
    pub(super) fn seen(
        &mut self,
        seen: &WorkersSeen,
        now: BootTime,
        deeds: &mut Vec<Deed>,
    ) -> Vec<ProcessKey> {
        self.listens = seen.listens;
        if let Some(who) = &seen.master {
            self.who = Some(Box::new(who.clone()));
        }
        for worker in &seen.workers {
            if let (Some(child), Some(who)) = (self.children.get_mut(&worker.process), &worker.who) {
                child.who = Some(Box::new(who.clone()));
            }
        }
        let roles = if seen.master.is_some() { self.recognise(now) } else { BTreeMap::new() };
        let mut gone = Vec::new();
        for worker in &seen.workers {
            if self.worker_seen(worker, seen.at, now) {
                gone.push(worker.process);
            }
        }
        // What runs in the master is asked for now and then, and may change what each of its children is.
        let settled: Vec<ProcessKey> = if seen.master.is_some() {
            self.children.keys().copied().collect()
        } else {
            seen.workers.iter().map(|worker| worker.process).collect()
        };
        let crowded = self.sampled() > MOST_SAMPLED;
        for process in settled {
            self.settle(process, roles.get(&process), now, deeds);
            self.plan(process, crowded, now);
        }
        gone
    }

    /// Which server it is, and what each child is for of which it is known what runs there.
    fn recognise(&mut self, now: BootTime) -> BTreeMap<ProcessKey, (Role, Option<String>)> {
        let Some(who) = self.who.as_deref() else { return BTreeMap::new() };
        let known: Vec<(ProcessKey, &Who)> =
            self.children.iter().filter_map(|(key, child)| Some((*key, child.who.as_deref()?))).collect();
        let mut family = vec![kin(self.master, false, who, now)];
        family.extend(known.iter().map(|(key, who)| kin(*key, true, who, now)));
        let Recognised { server, parts } = recognise(&family);
        let Some(server) = server else { return BTreeMap::new() };
        let class = server.settings.iter().find(|setting| setting.name == "worker class");
        let about = WorkersServer {
            master: self.master,
            name: server.name.clone().into_owned(),
            known: server.known,
            class: class.map(|setting| setting.value.clone()),
            unit: who.program.place().map(str::to_owned),
            uid: who.program.uid,
        };
        let keys = known.iter().map(|(key, _)| *key);
        let parts = keys.zip(parts.into_iter().skip(1));
        let roles = parts.filter_map(|(key, part)| part.map(|part| (key, (part.role, part.title)))).collect();
        self.server = Some((about, server));
        roles
    }

    /// Whether what a child waits for brings work to it.
    fn brings_work(&self, source: &WorkSource) -> bool {
        let (known, work) =
            self.server.as_ref().map_or((false, Work::ANY), |(about, server)| (about.known, server.work));
        match source {
            WorkSource::Listener(_) | WorkSource::Connection(_) => work.connections,
            WorkSource::Queue(_) => work.jobs && (known || !self.listens),
            WorkSource::Turn => work.turns && known,
        }
    }

    /// Takes in what was seen of one. Tells whether it has been gone for some time.
    fn worker_seen(&mut self, seen: &WorkerSeen, at: BootTime, now: BootTime) -> bool {
        let WorkerSeen { process, look, .. } = seen;
        let found = match look {
            WorkerLook::Alive { sources, .. } => {
                sources.iter().find(|source| self.brings_work(source)).cloned()
            }
            _ => None,
        };
        let Some(child) = self.children.get_mut(process) else { return false };
        let (asked, mut gone) = (child.asked.take(), false);
        match look {
            // Its end is told by a record, soon. Where that is lost, this is all.
            WorkerLook::Gone => {
                gone = child.gone;
                child.gone = true;
                child.next = Some((now + LONG, true));
            }
            WorkerLook::Unreadable(_) => child.next = child.failed().then_some((now + LONG, true)),
            WorkerLook::Alive { comm, doing, place, .. } => {
                child.comm = *comm;
                if seen.who.is_some() || found.is_some() {
                    let place = place.as_ref().map_or_else(String::new, |place| format!(" at {place}"));
                    let words = match &found {
                        Some(source) => source.words(),
                        None if doing == "running" => format!("ran{place}"),
                        None => format!("waited in {doing}{place}"),
                    };
                    child.last = Some((at, words));
                }
                child.waits(found, at);
                // From when it was asked: what an answer takes is no part of the pace.
                (child.looked, child.next) = (Some(asked.unwrap_or(now)), None);
            }
        }
        gone
    }

    /// Judges a child by all that is known of it now.
    fn settle(
        &mut self,
        process: ProcessKey,
        role: Option<&(Role, Option<String>)>,
        now: BootTime,
        deeds: &mut Vec<Deed>,
    ) {
        let Some((_, server)) = &self.server else { return };
        let (by_workers, known) = (server.by_workers, server.known);
        let Some(child) = self.children.get_mut(&process) else { return };
        if let Some((role, title)) = role {
            child.slot = title.clone().or_else(|| child.slot.take());
            if *role == Role::Helper && child.stage == Stage::Candidate {
                child.stage = Stage::Helper;
            }
        }
        let age = now.since(child.forked);
        let waits = child.ready.is_some();
        let is_worker = match (by_workers, known) {
            (false, _) => waits || age >= LIVES,
            (true, true) => waits && age >= SETTLED || age >= LONG,
            (true, false) => age >= LONG,
        };
        // Of one that ended before anybody knew for what it was, nothing is told.
        if child.stage == Stage::Candidate && is_worker && child.who.is_some() && !child.gone {
            self.promote(process, now, deeds);
        } else if child.stage == Stage::Worker {
            self.tell_readiness(process, now, deeds);
        }
    }

    /// It may be gone.
    pub(super) fn doubt(&mut self, process: ProcessKey, now: BootTime) {
        if let Some(child) = self.children.get_mut(&process) {
            child.next = Some((now, true));
        }
    }

    /// When it is looked at next.
    fn plan(&mut self, process: ProcessKey, crowded: bool, now: BootTime) {
        let work = self.server.as_ref().map(|(_, server)| server.work);
        let expected = self.is_known() && work.is_some_and(|work| work != Work::NONE);
        let Some(child) = self.children.get_mut(&process) else { return };
        let Some(looked) = child.looked.take() else { return };
        let pace = Pace {
            expected: expected && child.stage != Stage::Helper,
            ready: child.ready.is_some(),
            worker: child.stage == Stage::Worker,
            crowded,
        };
        child.next = match child.stage {
            Stage::Helper => None,
            _ if child.state == WorkerState::Stopping => None,
            _ => pace.next(child.forked, looked).map(|(at, close)| (at.max(now), close)),
        };
        if child.stage == Stage::Worker && child.next.is_none() && child.slot.is_none() {
            // Titles are often set once all is ready.
            let titled = child.forked + TITLED;
            child.next = (now < titled).then_some((titled, true));
        }
    }
}

const fn kin(process: ProcessKey, forked: bool, who: &Who, now: BootTime) -> Kin<'_> {
    Kin { program: &who.program, loaded: who.loaded.as_slice(), forked, age: now.since(process.start) }
}
