//! A process that forks, and its children.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::{
    Deed,
    child::{Child, Stage},
    pace::{
        FIRST_LOOK, LIVES, MOST_SAMPLED, PATIENCE, Pace, RELISTED, REPLACES_WITHIN, SAMPLED_FOR, SETTLED,
        TITLED,
    },
};
use crate::{
    model::{
        child_end::{ChildEnd, Sender, SentBy},
        event::{Exit, ExitStatus, Signal},
        evidence::Request,
        process::ProcessKey,
        signals::signal_name,
        time::{BootTime, nanoseconds},
        worker::{Exited, Stopping, WorkSource, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
        worker_look::{MAX_TOGETHER, Who, WorkerLook, WorkerSeen, WorkersSeen},
    },
    workers::servers::{Kin, LONG, Recognised, Role, Server, Work, recognise},
};

/// Places that nobody has taken yet and that are remembered.
const MOST_VACANT: usize = 64;
/// SIGINT, SIGQUIT, SIGABRT, SIGTERM. Workers of most servers read their configuration anew at SIGHUP.
const ASKS_TO_END: [u32; 4] = [2, 3, 6, 15];

/// What is known of them.
#[derive(Debug)]
pub(super) struct Family {
    master: ProcessKey,
    who: Option<Box<Who>>,
    server: Option<(WorkersServer, Server)>,
    /// Whether the master has a socket that listens.
    listens: bool,
    /// Whether any of its workers was seen to wait for work.
    has_been_ready: bool,
    children: BTreeMap<ProcessKey, Child>,
    /// Who has ended and whose place nobody has taken.
    vacant: VecDeque<(ProcessKey, BootTime)>,
    /// When it is to be seen which children the master has, the soonest first: those whose forks nobody told of.
    listed: VecDeque<BootTime>,
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
            has_been_ready: false,
            children: BTreeMap::new(),
            vacant: VecDeque::new(),
            listed: VecDeque::new(),
            touched: BootTime(0),
        }
    }

    pub(super) fn enter(&mut self, process: ProcessKey, mut child: Child, now: BootTime) {
        child.next = Some((now.max(child.forked + FIRST_LOOK), true));
        self.children.insert(process, child);
        self.touched = now;
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
        if self.server.is_some() { self.children.values().filter(is_sampled).count() } else { 0 }
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

    /// Another program runs in the master.
    pub(super) fn begin_anew(&mut self, now: BootTime) {
        (self.who, self.server, self.has_been_ready) = (None, None, false);
        for child in self.children.values_mut() {
            child.next = Some((now + FIRST_LOOK, true));
        }
    }

    /// Has the next look come when it is due.
    pub(super) fn wake(&self, deeds: &mut Vec<Deed>) {
        let due = |child: &Child| match child.asked {
            Some(asked) => Some(asked + PATIENCE),
            None => child.next.map(|(at, _)| at),
        };
        let due = self.children.values().filter_map(due).chain(self.listed.front().copied());
        if let Some(at) = due.min() {
            deeds.push(Deed::Wake(self.master, at));
        }
    }

    /// Asks about those whose time has come.
    pub(super) fn look(&mut self, now: BootTime, sampled: usize, deeds: &mut Vec<Deed>) {
        let crowded = sampled > MOST_SAMPLED;
        let (mut closely, mut often) = (Vec::new(), Vec::new());
        for (process, child) in &mut self.children {
            if child.asked.is_some_and(|asked| now.since(asked) >= PATIENCE) {
                child.asked = None;
                child.next = child.failed().then_some((now, true));
            }
            let Some((_, close)) = child.next.filter(|(at, _)| child.asked.is_none() && *at <= now) else {
                continue;
            };
            let group = if close { &mut closely } else { &mut often };
            if group.len() < MAX_TOGETHER && (close || !crowded || group.len() < MOST_SAMPLED) {
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
        let processes: Vec<ProcessKey> = self.children.keys().copied().collect();
        for process in processes {
            self.settle(process, roles.get(&process), now, deeds);
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

    /// Judges a child by all that is known of it now, and plans the next look at it.
    fn settle(
        &mut self,
        process: ProcessKey,
        role: Option<&(Role, Option<String>)>,
        now: BootTime,
        deeds: &mut Vec<Deed>,
    ) {
        let Some((_, server)) = &self.server else { return self.plan(process, now) };
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
        if child.stage == Stage::Candidate && is_worker && child.who.is_some() {
            self.promote(process, now, deeds);
        } else if child.stage == Stage::Worker {
            self.tell_readiness(process, now, deeds);
        }
        self.plan(process, now);
    }

    /// It may be gone.
    pub(super) fn doubt(&mut self, process: ProcessKey, now: BootTime) {
        if let Some(child) = self.children.get_mut(&process) {
            child.next = Some((now, true));
        }
    }

    /// When it is looked at next.
    fn plan(&mut self, process: ProcessKey, now: BootTime) {
        let work = self.server.as_ref().map(|(_, server)| server.work);
        let expected = work.is_some_and(|work| work != Work::NONE);
        let crowded = expected && self.sampled() > MOST_SAMPLED;
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

    /// It is known for a worker now.
    fn promote(&mut self, process: ProcessKey, now: BootTime, deeds: &mut Vec<Deed>) {
        let Some(child) = self.children.get_mut(&process) else { return };
        let is_old = now.since(child.forked) >= SAMPLED_FOR;
        let is_unseen = self.server.as_ref().is_some_and(|(_, server)| server.work == Work::NONE);
        child.stage = Stage::Worker;
        child.state = match (child.seen || !is_old, &child.ready) {
            _ if is_unseen => WorkerState::Unknown,
            (true, _) => WorkerState::Starting,
            (false, Some(_)) => WorkerState::Ready,
            (false, None) => WorkerState::Unknown,
        };
        let (forked, seen, state) = (child.forked, child.seen, child.state);
        let place = self
            .vacant
            .iter()
            .position(|(_, ended)| *ended <= forked && forked.since(*ended) <= REPLACES_WITHIN);
        let vacant = place.and_then(|place| self.vacant.remove(place));
        if let (Some(child), Some((before, _))) = (self.children.get_mut(&process), vacant) {
            child.replaces = Some(before.tgid);
        }
        self.has_been_ready |= state == WorkerState::Ready;
        self.touched = now;
        deeds.push(Deed::Watch(process));
        self.tell(process, forked, WorkerChange::Forked { seen, state }, deeds);
        if let Some((_, ended)) = vacant {
            let gap = nanoseconds(forked.since(ended));
            self.tell(process, forked, WorkerChange::Replaced { gap }, deeds);
        }
        self.tell_readiness(process, now, deeds);
    }

    /// Tells of a worker's first wait for work, or that it does not come.
    fn tell_readiness(&mut self, process: ProcessKey, now: BootTime, deeds: &mut Vec<Deed>) {
        let known =
            self.server.as_ref().is_some_and(|(about, server)| about.known && server.work.connections);
        let may_expect = self.has_been_ready || known;
        let Some(child) = self.children.get_mut(&process) else { return };
        match (&child.ready, child.state) {
            (Some((at, ready)), WorkerState::Starting | WorkerState::NotReady | WorkerState::Unknown) => {
                let (at, ready) = (*at, ready.clone());
                child.state = WorkerState::Ready;
                self.has_been_ready = true;
                self.tell(process, at, WorkerChange::Ready(ready), deeds);
            }
            (None, WorkerState::Starting)
                if may_expect && child.last.as_ref().is_some_and(|(at, _)| is_late(child, *at)) =>
            {
                let doing = child.last.as_ref().map_or_else(String::new, |(_, words)| words.clone());
                let after = nanoseconds(now.since(child.forked));
                child.state = WorkerState::NotReady;
                self.tell(process, now, WorkerChange::NotReady { doing, after }, deeds);
            }
            _ => {}
        }
    }

    /// A signal was sent to one of them.
    pub(super) fn signalled(&mut self, signal: &Signal, deeds: &mut Vec<Deed>) {
        let name = self.server.as_ref().map_or("", |(about, _)| about.name.as_str());
        // uWSGI ends its workers by SIGHUP when it reloads; PostgreSQL cancels a query by SIGINT.
        let asks = ASKS_TO_END.contains(&signal.number)
            && !(signal.number == 2 && name.ends_with("PostgreSQL"))
            || signal.number == 1 && name.ends_with("uWSGI");
        let (master, target) = (self.master.tgid, signal.target);
        let Some(child) = self.children.get_mut(&target) else { return };
        let sender = signal.sender_tgid;
        if !asks || sender == 0 || sender == target.tgid {
            return;
        }
        if child.stage != Stage::Worker || child.state == WorkerState::Stopping {
            return;
        }
        child.state = WorkerState::Stopping;
        // What it does now is the last that anybody sees of it.
        child.next = Some((signal.at, true));
        let stopping = Stopping {
            signal: signal_name(signal.number),
            sent_by: if sender == master { SentBy::Parent } else { SentBy::Other },
            sender: Some(Sender { pid: sender, name: signal.comm.to_string() }),
        };
        self.tell(target, signal.at, WorkerChange::Stopping(stopping), deeds);
    }

    /// One of them has ended.
    pub(super) fn ended(&mut self, exit: &Exit, end: ChildEnd, stuck: Option<String>, deeds: &mut Vec<Deed>) {
        let process = exit.process;
        let Some(child) = self.children.get_mut(&process) else { return };
        child.comm = exit.comm;
        let is_bad = exit.status != ExitStatus::Code(0);
        let is_of_server = self.server.as_ref().is_some_and(|(_, server)| server.known && !server.by_workers);
        if child.stage == Stage::Candidate && is_of_server && is_bad {
            // It died before it could be known for what it was to be.
            self.promote(process, exit.at, deeds);
        }
        self.over(process, exit.at, Some((end, exit.lifetime)), stuck, deeds);
    }

    /// One of them runs another program, or is gone.
    pub(super) fn left(&mut self, process: ProcessKey, now: BootTime, deeds: &mut Vec<Deed>) {
        self.over(process, now, None, None, deeds);
    }

    fn over(
        &mut self,
        process: ProcessKey,
        at: BootTime,
        end: Option<(ChildEnd, u64)>,
        stuck: Option<String>,
        deeds: &mut Vec<Deed>,
    ) {
        let Some(child) = self.children.get(&process) else { return };
        self.touched = at;
        if child.stage == Stage::Worker {
            let child_seen = child.seen;
            let name = self.server.as_ref().map_or("", |(about, _)| about.name.as_str());
            let lifetime =
                end.as_ref().map_or_else(|| nanoseconds(at.since(child.forked)), |(_, lifetime)| *lifetime);
            let (end, last) = (end.map(|(end, _)| end.of_program(name)), child.last.clone());
            let state = child.state;
            let exited = Exited { end, lifetime, state, last, stuck };
            self.tell(process, at, WorkerChange::Exited(Box::new(exited)), deeds);
            if self.vacant.len() >= MOST_VACANT {
                self.vacant.pop_front();
            }
            self.vacant.push_back((process, at));
            if !child_seen {
                // Of the one that will take its place nobody may tell either.
                self.listed = RELISTED.map(|after| at + after).into();
            }
        }
        self.children.remove(&process);
    }

    fn tell(&self, process: ProcessKey, at: BootTime, change: WorkerChange, deeds: &mut Vec<Deed>) {
        let (Some((server, _)), Some(child)) = (&self.server, self.children.get(&process)) else { return };
        deeds.push(Deed::Tell(Box::new(WorkerEvent {
            at,
            change,
            worker: process,
            comm: child.comm,
            server: server.clone(),
            slot: child.slot.clone(),
            replaces: child.replaces,
        })));
    }
}

const fn kin(process: ProcessKey, forked: bool, who: &Who, now: BootTime) -> Kin<'_> {
    Kin { program: &who.program, loaded: who.loaded.as_slice(), forked, age: now.since(process.start) }
}

/// Whether a close look, at that time, has come so late that the child should have waited for work before.
fn is_late(child: &Child, looked: BootTime) -> bool {
    looked.since(child.forked) >= SAMPLED_FOR
}
