//! What is told of workers.

use super::{
    Deed,
    child::{Child, Stage},
    family::Family,
    pace::{RELISTED, REPLACES_WITHIN, SAMPLED_FOR},
};
use crate::{
    model::{
        child_end::{ChildEnd, Sender, SentBy},
        event::{Exit, ExitStatus},
        observation::Signal,
        process::ProcessKey,
        signals::signal_name,
        time::{BootTime, nanoseconds},
        worker::{Exited, Stopping, WorkerChange, WorkerEvent, WorkerState},
    },
    workers::servers::Work,
};

/// Places that nobody has taken yet and that are remembered.
const MOST_VACANT: usize = 64;
/// SIGINT, SIGQUIT, SIGABRT, SIGTERM. Workers of most servers read their configuration anew at SIGHUP.
const ASKS_TO_END: [u32; 4] = [2, 3, 6, 15];

impl Family {
    /// It is known for a worker now.
    pub(super) fn promote(&mut self, process: ProcessKey, now: BootTime, deeds: &mut Vec<Deed>) {
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
        let is_connection = child.ready.as_ref().is_some_and(|(_, ready)| ready.source.is_connection());
        let place = self
            .vacant
            .iter()
            .position(|(_, ended)| *ended <= forked && forked.since(*ended) <= REPLACES_WITHIN);
        let vacant = place.and_then(|place| self.vacant.remove(place));
        if let (Some(child), Some((before, _))) = (self.children.get_mut(&process), vacant) {
            child.replaces = Some(before.tgid);
        }
        self.awaits_connections |= state == WorkerState::Ready && is_connection;
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
    pub(super) fn tell_readiness(&mut self, process: ProcessKey, now: BootTime, deeds: &mut Vec<Deed>) {
        // Who is given jobs may have one before it waits for the first time.
        let known = self
            .server
            .as_ref()
            .is_some_and(|(about, server)| about.known && server.work.connections && !server.work.jobs);
        let may_expect = self.awaits_connections || known;
        let Some(child) = self.children.get_mut(&process) else { return };
        match (&child.ready, child.state) {
            (Some((at, ready)), WorkerState::Starting | WorkerState::NotReady | WorkerState::Unknown) => {
                let (at, ready) = (*at, ready.clone());
                child.state = WorkerState::Ready;
                self.awaits_connections |= ready.source.is_connection();
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
            let exited = Exited { end, lifetime, state, last, stuck, said: Vec::new() };
            self.tell(process, at, WorkerChange::Exited(Box::new(exited)), deeds);
            if self.vacant.len() >= MOST_VACANT {
                self.vacant.pop_front();
            }
            self.vacant.push_back((process, at));
            if !child_seen {
                // Of the one that will take its place nobody may tell either.
                self.listed = RELISTED.map(|after| at + after).into();
                self.listed.front().copied().into_iter().for_each(|first| self.wake_by(first, deeds));
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

/// Whether a close look, at that time, has come so late that the child should have waited for work before.
fn is_late(child: &Child, looked: BootTime) -> bool {
    looked.since(child.forked) >= SAMPLED_FOR
}
