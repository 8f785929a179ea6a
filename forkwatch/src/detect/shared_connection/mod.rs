//! Connections that a fork left to several processes, and who uses them.

mod callers;
pub mod closed;
pub mod hazard;

use std::{collections::HashMap, time::Duration};

use self::{
    callers::{Callers, Pace},
    hazard as used,
};
use crate::{
    core::{Context, Detector, Dropped, Output, Report, Shared},
    model::{
        connection::{Act, SharedSocket, Sockets, Turn, User},
        event::{Event, Exit, ExitStatus, SocketUse},
        evidence::{Evidence, Request},
        order::Order,
        process::{Comm, ProcessKey, Program},
        time::BootTime,
    },
};

/// Most connections that are watched at a time.
const MOST_SOCKETS: usize = 1024;
/// Most processes that are known to hold one of them.
const MOST_MEMBERS: usize = 256;
/// Turns that a finding tells.
const MOST_TURNS: usize = 32;
/// A longer message is no farewell: that of `PostgreSQL` has 5 bytes, that of `MySQL` 5, a TLS alert some 30.
const LONGEST_FAREWELL: u64 = 64;
/// A child that says one thing and ends within this time has said farewell.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connections that processes share with their children.
#[derive(Default)]
pub(super) struct SharedConnection {
    /// The watched ones, by the socket's inode number.
    connections: HashMap<u64, Connection>,
    /// How often their users are looked at.
    pace: Pace,
}

/// A connection that a process and its children hold.
struct Connection {
    socket: SharedSocket,
    program: Program,
    libraries: Vec<String>,
    /// The process that had it first.
    forker: ProcessKey,
    members: Vec<Member>,
    /// When the first use was seen.
    first: Option<BootTime>,
    turns: Vec<Turn>,
    used: bool,
    closed: bool,
    /// Whether a verdict is due that waits for a farewell to prove none.
    is_due: bool,
    /// Which code uses it.
    callers: Callers,
    /// Since when two are known to have used it.
    shared_since: Option<BootTime>,
}

/// A process that holds the connection.
struct Member {
    process: ProcessKey,
    comm: Comm,
    sent: Sent,
    received: bool,
}

/// What a process has sent since the fork.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    /// One short message, at this time: perhaps a farewell.
    Little(BootTime),
    Enough,
}

impl Member {
    fn new(process: ProcessKey, comm: Comm) -> Self {
        Self { process, comm, sent: Sent::Nothing, received: false }
    }

    /// Whether it has sent what is no farewell, as far as can be told by now.
    fn has_sent(&self, now: BootTime) -> bool {
        match self.sent {
            Sent::Nothing => false,
            Sent::Little(at) => self.received || at + FAREWELL <= now,
            Sent::Enough => true,
        }
    }

    fn has_used(&self, act: Act, now: BootTime) -> bool {
        match act {
            Act::Sent => self.has_sent(now),
            Act::Received => self.received,
            Act::ShutDown => false,
        }
    }
}

impl Connection {
    fn member(&mut self, process: ProcessKey) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.process == process)
    }

    /// Two processes that have done the same, if there are two: the one that did it last, and another.
    fn rivals(&self, now: BootTime) -> Option<(Act, ProcessKey, Comm)> {
        [Act::Sent, Act::Received].into_iter().find_map(|act| {
            let mut users = self.members.iter().filter(|member| member.has_used(act, now));
            let (first, second) = (users.next()?, users.next()?);
            // The child is told, not the process that had the connection first.
            let child = if second.process == self.forker { first } else { second };
            Some((act, child.process, child.comm))
        })
    }
}

impl Detector for SharedConnection {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        if let Some(parent) = context.processes.get(child).and_then(|process| process.birth.parent) {
            context.ask(Request::Sockets { child, parent });
        }
    }

    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::SocketUse(used) => self.used(used, context),
            Event::Exit(exit) => {
                self.settle(exit.process, context);
                self.said_farewell(exit, context);
            }
            Event::Exec(exec) => self.settle(exec.process, context),
            _ => {}
        }
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Sockets { child, seen: Some(seen) } => self.sockets_seen(*child, seen, context),
            Evidence::Caller { process, inode, seen } => {
                let Some(connection) = self.connections.get_mut(inode) else { return };
                connection.callers.seen(*process, seen.as_deref());
                self.judge(*inode, *process, context);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, user: ProcessKey, inode: u64, context: &mut Context) {
        if let Some(connection) = self.connections.get_mut(&inode) {
            connection.is_due = false;
        }
        self.judge(inode, user, context);
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.shares_no_longer(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.connections.len(), self.connections.len() <= MOST_SOCKETS)
    }
}

impl SharedConnection {
    fn sockets_seen(&mut self, child: ProcessKey, seen: &Sockets, context: &mut Context) {
        let Some(process) = context.processes.get(child).filter(|process| process.life().is_some()) else {
            return;
        };
        let Some(parent) = process.birth.parent else { return };
        let Sockets { program, shared, libraries, .. } = seen;
        if shared.is_empty() {
            return;
        }
        let (now, child) = (context.now, process.key);
        for socket in shared {
            // Also where there is no room to watch what is done with it.
            let told = Shared { child, parent, at: now, program: program.clone(), peer: socket.peer.clone() };
            context.tell(Output::Shares(told));
            let inode = socket.inode;
            let is_new = !self.connections.contains_key(&inode);
            if is_new && self.connections.len() >= MOST_SOCKETS {
                context.tell(Output::Dropped(Dropped::Connection));
                continue;
            }
            if is_new {
                context.order(Order::WatchSocket(inode));
            }
            let connection = self.connections.entry(inode).or_insert_with(|| Connection {
                socket: socket.clone(),
                program: program.clone(),
                libraries: libraries.clone(),
                forker: parent,
                members: Vec::new(),
                first: None,
                turns: Vec::new(),
                used: false,
                closed: false,
                is_due: false,
                callers: Callers::default(),
                shared_since: None,
            });
            for process in [parent, child] {
                if connection.member(process).is_none() && connection.members.len() < MOST_MEMBERS {
                    connection.members.push(Member::new(process, program.comm));
                }
            }
        }
        for process in [parent, child] {
            context.order(Order::Share(process));
        }
        context.follow(child);
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
        match (event.act, member.sent) {
            (Act::Received, _) => member.received = true,
            (Act::Sent, Sent::Nothing) if !is_forker && event.bytes <= LONGEST_FAREWELL => {
                member.sent = Sent::Little(event.at);
            }
            (Act::Sent, _) => member.sent = Sent::Enough,
            (Act::ShutDown, _) if !is_forker => {
                return self.closed(event.inode, process, true, context);
            }
            (Act::ShutDown, _) => {}
        }
        let (forker, stacks) = (connection.forker, context.settings.stacks);
        if let Some(look) = connection.callers.look(event, forker, stacks, &mut self.pace) {
            context.ask(look);
        }
        self.judge(event.inode, process, context);
    }

    /// Reports a connection that two processes use, now or when it is clear that it was no farewell.
    fn judge(&mut self, inode: u64, user: ProcessKey, context: &mut Context) {
        let now = context.now;
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if connection.used {
            return;
        }
        let Some((act, child, comm)) = connection.rivals(now) else {
            if !connection.is_due && connection.rivals(now + FAREWELL).is_some() {
                connection.is_due = true;
                context.wake_about(inode, now + FAREWELL, user);
            }
            return;
        };
        let since = *connection.shared_since.get_or_insert(now);
        if let Some(due) = connection.callers.due(child, since, now) {
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
        // A process that was killed says nothing at its end.
        if self.connections.is_empty() || !matches!(exit.status, ExitStatus::Code(_)) {
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
            self.closed(inode, process, false, context);
        }
    }

    /// Reports a connection that a child has closed for all.
    fn closed(&mut self, inode: u64, child: ProcessKey, shut_down: bool, context: &mut Context) {
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if std::mem::replace(&mut connection.closed, true) {
            return;
        }
        let comm = connection.member(child).map_or(Comm::default(), |member| member.comm);
        let finding = closed::judge(&connection.case(child, comm, context.now), shut_down);
        context.report(Report::of(finding));
    }

    /// A process holds no connection any more: it has exec'd or ended.
    fn shares_no_longer(&mut self, process: ProcessKey, context: &mut Context) {
        let mut free = Vec::new();
        self.connections.retain(|inode, connection| {
            if connection.member(process).is_none() {
                return true;
            }
            connection.members.retain(|member| member.process != process);
            free.push(process);
            let is_shared = connection.members.len() > 1;
            if !is_shared {
                context.order(Order::UnwatchSocket(*inode));
                free.extend(connection.members.iter().map(|member| member.process));
            }
            is_shared
        });
        if free.is_empty() {
            return;
        }
        free.sort_unstable();
        free.dedup();
        let connections = &mut self.connections;
        free.retain(|process| {
            connections.values_mut().all(|connection| connection.member(*process).is_none())
        });
        for process in free {
            context.order(Order::Unshare(process));
        }
        self.tell_shared(context);
    }

    fn tell_shared(&self, context: &mut Context) {
        context.tell(Output::SharedConnections(self.connections.len()));
    }
}

impl Connection {
    /// Reports that two processes use it.
    fn report(&mut self, act: Act, (child, comm): (ProcessKey, Comm), context: &mut Context) {
        self.used = true;
        let finding = used::judge(&self.case(child, comm, context.now), act);
        context.report(Report::until_the_end(finding));
    }

    fn case(&self, child: ProcessKey, child_comm: Comm, now: BootTime) -> used::Case<'_> {
        used::Case {
            child,
            child_comm,
            forker: self.forker,
            program: &self.program,
            socket: &self.socket,
            libraries: &self.libraries,
            callers: &self.callers,
            turns: &self.turns,
            now,
        }
    }
}
