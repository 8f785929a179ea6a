//! Connections that a fork left to several processes, and who uses them.

mod callers;
pub mod closed;
mod connection;
mod early;
mod farewell;
pub mod hazard;
mod heirs;

use std::collections::HashMap;

use self::{
    callers::{Callers, Pace},
    closed::Farewell,
    connection::{Connection, FAREWELL, MOST_MEMBERS, Member, Order, Sent},
    farewell::Awaited,
    heirs::Heirs,
};
use crate::{
    core::{Context, Detector, Dropped, Output, Report, Shared},
    model::{
        connection::{Act, Peer, SharedSocket, Sockets, Turn, User},
        event::{Event, Exit, ExitStatus},
        evidence::{Evidence, Request},
        observation::{Observation, SocketUse},
        probe_request::ProbeRequest,
        process::ProcessKey,
    },
};

/// Most connections that are watched at a time.
const MOST_SOCKETS: usize = 1024;
/// Most farewells of which it is not known yet whether the parent misses the connection.
const MOST_FAREWELLS: usize = 64;
/// Turns that a finding tells.
const MOST_TURNS: usize = 32;
/// A longer message is no farewell: that of `PostgreSQL` has 5 bytes, that of `MySQL` 5, a TLS alert some 30.
const LONGEST_FAREWELL: u64 = 64;
/// The topics of timers that are about no socket.
const TO_LOOK: u64 = 0;
const TO_LET_GO: u64 = u64::MAX;

/// The signals of a program that crashes: `SIGILL`, `SIGABRT`, `SIGBUS`, `SIGFPE`, `SIGSEGV` (signal(7)).
const CRASHES: [u8; 5] = [4, 6, 7, 8, 11];

/// Connections that processes share with their children.
#[derive(Default)]
pub(super) struct SharedConnection {
    /// The watched ones, by the socket's inode number.
    connections: HashMap<u64, Connection>,
    /// Findings about connections that a child has ended for its parent, which must hold them still.
    farewells: Vec<Awaited>,
    /// How often their users are looked at.
    pace: Pace,
    /// Children of which it is not known yet what they share, and forkers whose children are all watched.
    heirs: Heirs,
}

impl Detector for SharedConnection {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        if self.heirs.knows(child) {
            return self.tell_shares(child, context);
        }
        if let Some(parent) = context.processes.get(child).and_then(|process| process.birth.parent) {
            context.ask(Request::Sockets { child, parent });
        }
    }

    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Exit(exit) => {
                self.settle(exit.process, context);
                self.forker_said_farewell(exit.process, exit.at, context);
                self.said_farewell(exit, context);
                self.ended(exit, context);
            }
            Event::Exec(exec) => {
                self.settle(exec.process, context);
                self.let_heir_go(exec.process, context);
                self.shares_no_longer(exec.process, context);
            }
            _ => {}
        }
    }

    fn on_observation(&mut self, seen: &Observation, context: &mut Context) {
        match seen {
            Observation::SocketUse(used) => {
                self.ask_at_once(used.inode, seen, context);
                self.used(used, context);
            }
            Observation::Heir(heir) => self.born(heir, context),
            Observation::Moved(moved) => self.bytes_moved(moved, context),
            Observation::SharerEnd(end) => self.sharer_ended(end, context),
            Observation::Signal(_) => {}
        }
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Sockets { child, seen } => {
                if !self.farewells_are_felt(*child, seen.as_deref(), context)
                    && !self.farewell_seen(*child, seen.as_deref(), context)
                    && !self.heir_seen(*child, seen.as_deref(), context)
                    && let Some(seen) = seen
                {
                    self.sockets_seen(*child, seen, context);
                }
            }
            Evidence::Caller { process, inode, seen } => {
                let Some(connection) = self.connections.get_mut(inode) else { return };
                connection.callers.seen(*process, seen.as_deref());
                self.judge(*inode, *process, context);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, user: ProcessKey, inode: u64, context: &mut Context) {
        match inode {
            TO_LOOK => return self.look(user, context),
            TO_LET_GO => return self.let_go(user, context),
            _ => {}
        }
        if !self.asks_for_end(inode, user, context) && !self.asks_for_farewell(inode, user, context) {
            self.judge(inode, user, context);
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.shares_no_longer(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let is_bounded = self.connections.len() <= MOST_SOCKETS && self.heirs.is_within_bounds();
        (self.connections.len() + self.heirs.len(), is_bounded)
    }
}

impl SharedConnection {
    fn sockets_seen(&mut self, child: ProcessKey, seen: &Sockets, context: &mut Context) {
        let Some(process) = context.processes.get(child).filter(|process| process.life().is_some()) else {
            return;
        };
        let Some(parent) = process.birth.parent else { return };
        if seen.shared.is_empty() || seen.child_is_gone {
            return;
        }
        let (now, child) = (context.now, process.key);
        let mut room = MOST_SOCKETS.saturating_sub(self.connections.len());
        for socket in &seen.shared {
            // Also where there is no room to watch what is done with it.
            let (program, peer) = (seen.program.clone(), socket.peer.clone());
            context.tell(Output::Shares(Shared { child, parent, at: now, program, peer }));
            if self.connections.contains_key(&socket.inode) {
                continue;
            }
            if room == 0 {
                context.tell(Output::Dropped(Dropped::Connection));
            } else {
                room -= 1;
                context.probe(ProbeRequest::WatchSocket(socket.inode));
            }
        }
        self.share(child, parent, seen, &seen.shared, context);
        context.follow(child);
        self.cover(parent, context);
    }

    /// Whether there is room for a connection; if not, that is told.
    fn has_room(&self, context: &mut Context) -> bool {
        let has_room = self.connections.len() < MOST_SOCKETS;
        if !has_room {
            context.tell(Output::Dropped(Dropped::Connection));
        }
        has_room
    }

    /// Remembers that these connections are shared, as far as there is room.
    fn share(
        &mut self,
        child: ProcessKey,
        parent: ProcessKey,
        seen: &Sockets,
        shared: &[SharedSocket],
        context: &mut Context,
    ) {
        let Sockets { program, libraries, .. } = seen;
        for socket in shared {
            let inode = socket.inode;
            if !self.connections.contains_key(&inode) && self.connections.len() >= MOST_SOCKETS {
                continue;
            }
            let connection = self.connections.entry(inode).or_insert_with(|| Connection {
                socket: socket.clone(),
                program: program.clone(),
                libraries: libraries.clone(),
                forker: parent,
                members: Vec::new(),
                first: None,
                turns: Vec::new(),
                order: Order::default(),
                used: false,
                closed: false,
                callers: Callers::default(),
                shared_since: None,
                is_left: false,
                past: Vec::new(),
            });
            if connection.socket.peer == Peer::Unknown {
                connection.socket = socket.clone();
            }
            for process in [parent, child] {
                connection.enter(process, program.comm);
            }
        }
        for process in [parent, child] {
            context.probe(ProbeRequest::Share(process));
        }
        self.tell_shared(context);
    }

    fn used(&mut self, event: &SocketUse, context: &mut Context) {
        let Some(connection) = self.connections.get_mut(&event.inode) else { return };
        let User { process, parent_tgid, unexeced } = event.user;
        if connection.member(process).is_none() {
            // A child of one of them that nobody has told of yet.
            let is_heir =
                unexeced && connection.members.iter().any(|member| member.process.tgid == parent_tgid);
            if !is_heir || connection.members.len() >= MOST_MEMBERS {
                return;
            }
            connection.members.push(Member::new(process, event.comm));
        }
        let is_forker = connection.forker == process;
        if !unexeced && !is_forker {
            return;
        }
        if !is_forker {
            let forker = connection.forker;
            self.cover(forker, context);
        }
        let Some(connection) = self.connections.get_mut(&event.inode) else { return };
        // What each of several children kept, before it was known what the connection is, is told by each of them.
        if connection.member(process).is_some_and(|member| member.last(event.act) >= Some(event.at)) {
            return;
        }
        let first = *connection.first.get_or_insert(event.at);
        if connection.turns.len() < MOST_TURNS {
            let after = event.at.since(first).as_nanos();
            connection.turns.push(Turn {
                pid: process.tgid,
                act: event.act,
                after_ns: u64::try_from(after).unwrap_or(u64::MAX),
                bytes: event.bytes,
            });
        }
        let Some(member) = connection.member(process) else { return };
        member.comm = event.comm;
        connection.takes_turn(process, event.act, event.at);
        let Some(member) = connection.member(process) else { return };
        match (event.act, member.sent) {
            (Act::Received, _) => member.received = true,
            (Act::Sent, Sent::Nothing) if event.bytes <= LONGEST_FAREWELL => {
                member.sent = Sent::Little(event.at);
                context.wake_about(event.inode, event.at + FAREWELL, process);
            }
            (Act::Sent, _) => member.sent = Sent::Enough,
            (Act::ShutDown, _) if !is_forker => {
                return self.closed(event.inode, process, Farewell::ShutDown, context);
            }
            (Act::ShutDown, _) => {}
        }
        if connection.is_left && !is_forker {
            return self.closed(event.inode, process, Farewell::OfForker, context);
        }
        let (forker, stacks) = (connection.forker, context.settings.stacks);
        if let Some(look) = connection.callers.look(event, forker, stacks, &mut self.pace) {
            context.ask(look);
        }
        self.judge(event.inode, process, context);
    }

    /// Reports a connection that two processes use.
    fn judge(&mut self, inode: u64, user: ProcessKey, context: &mut Context) {
        let now = context.now;
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if connection.used && !connection.order.is_news() {
            return;
        }
        let Some((act, child, comm)) = connection.rivals(now) else { return };
        let since = *connection.shared_since.get_or_insert(now);
        let due = connection.callers.due(child, since, now).max(connection.order.settled(since));
        if let Some(due) = due.filter(|due| now < *due) {
            return context.wake_about(inode, due, user);
        }
        connection.report(act, (child, comm), context);
    }

    /// Reports what waits to be told by which code, because a process ends or execs, of which nothing more can be seen.
    fn settle(&mut self, process: ProcessKey, context: &mut Context) {
        for connection in self.connections.values_mut() {
            if connection.used || connection.shared_since.is_none() || connection.member(process).is_none() {
                continue;
            }
            if let Some((act, child, comm)) = connection.rivals(context.now) {
                connection.report(act, (child, comm), context);
            }
        }
    }

    /// A process has ended: was what it said last a farewell on somebody else's connection?
    fn said_farewell(&mut self, exit: &Exit, context: &mut Context) {
        // A process that was killed says nothing at its end. One that crashes may do so in the destructor that has said it.
        let was_killed = match exit.status {
            ExitStatus::Code(_) => false,
            ExitStatus::Signal { number, .. } => !CRASHES.contains(&number),
        };
        if self.connections.is_empty() || was_killed {
            return;
        }
        let process = exit.process;
        let farewells: Vec<u64> = self
            .connections
            .iter_mut()
            .filter_map(|(inode, connection)| {
                let forker = connection.forker;
                let member = connection.member(process)?;
                let said = matches!(member.sent, Sent::Little(said) if said + FAREWELL > exit.at);
                (said && !member.received && forker != process).then_some(*inode)
            })
            .collect();
        for inode in farewells {
            self.closed(inode, process, Farewell::AtItsEnd, context);
        }
        self.used_before_its_end(process, context);
    }

    /// Reports a connection that a child has closed for all.
    fn closed(&mut self, inode: u64, child: ProcessKey, how: Farewell, context: &mut Context) {
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if std::mem::replace(&mut connection.closed, true) {
            return;
        }
        let finding = connection.farewell(child, how, context.now);
        if matches!(how, Farewell::AtItsEnd | Farewell::ShutDown) {
            // A server that accepts and then forks has closed its copy: it misses nothing.
            let parent = connection.forker;
            self.wait_for(Awaited::held((child, parent), inode, finding), context);
        } else {
            context.report(Report::of(finding));
        }
    }

    /// A process holds no connection any more: it has exec'd or ended.
    fn shares_no_longer(&mut self, process: ProcessKey, context: &mut Context) {
        let (mut free, now) = (Vec::new(), context.now);
        let heirs = &self.heirs;
        let has_room = self.connections.len() <= MOST_SOCKETS / 2;
        self.connections.retain(|inode, connection| {
            if connection.member(process).is_none() {
                return true;
            }
            connection.leaves(process, now);
            free.push(process);
            // The next child of one that is covered may be born any time.
            let is_shared = connection.members.len() > usize::from(!connection.is_left)
                || has_room && connection.members.iter().any(|member| heirs.is_covered(member.process));
            if !is_shared {
                context.probe(ProbeRequest::UnwatchSocket(*inode));
                free.extend(connection.members.iter().map(|member| member.process));
            }
            is_shared
        });
        if free.is_empty() {
            return;
        }
        free.sort_unstable();
        free.dedup();
        for process in free {
            self.unshare(process, context);
        }
        self.tell_shared(context);
    }

    /// A process is to be watched no longer, if it shares nothing and may not soon do so.
    fn unshare(&mut self, process: ProcessKey, context: &mut Context) {
        let is_member = self.connections.values_mut().any(|connection| connection.member(process).is_some());
        if !is_member && !self.heirs.concerns(process) {
            context.probe(ProbeRequest::Unshare(process));
        }
    }

    fn tell_shared(&self, context: &mut Context) {
        context.tell(Output::SharedConnections(self.connections.len()));
    }
}
