//! Connections that a fork left to several processes, and who uses them.

use std::{collections::HashMap, time::Duration};

use super::{
    Dropped, Output, Shared, Watch,
    timers::{Task, Timer},
};
use crate::{
    hazard::{shared_connection as used, shared_connection_closed as closed},
    model::{
        connection::{Act, Sockets, Turn, User},
        event::{ExitStatus, SocketUse},
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

/// The watched connections, by the socket's inode number.
pub(super) type Connections = HashMap<u64, Connection>;

/// A connection that a process and its children hold.
pub(super) struct Connection {
    socket: crate::model::connection::SharedSocket,
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
    /// When the verdict is due that waits for a farewell to prove none.
    due: Option<BootTime>,
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
        self.members.iter_mut().find(|member| member.process.is_same(process))
    }

    /// Two processes that have done the same, if there are two: the one that did it last, and another.
    fn rivals(&self, now: BootTime) -> Option<(Act, ProcessKey, Comm)> {
        [Act::Sent, Act::Received].into_iter().find_map(|act| {
            let mut users = self.members.iter().filter(|member| member.has_used(act, now));
            let (first, second) = (users.next()?, users.next()?);
            // The child is told, not the process that had the connection first.
            let child = if second.process.is_same(self.forker) { first } else { second };
            Some((act, child.process, child.comm))
        })
    }
}

impl Watch {
    pub(super) fn sockets_seen(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        seen: Option<Box<Sockets>>,
        out: &mut Vec<Output>,
    ) {
        let (Some(sockets), Some(alive)) = (seen, self.living(child)) else { return };
        let Some(parent) = alive.birth.parent else { return };
        let Sockets { program, shared, libraries, .. } = *sockets;
        if shared.is_empty() {
            return;
        }
        let child = alive.process;
        for socket in shared {
            let inode = socket.inode;
            let is_new = !self.connections.contains_key(&inode);
            if is_new && self.connections.len() >= MOST_SOCKETS {
                out.push(Output::Dropped(Dropped::Connection));
                continue;
            }
            if is_new {
                out.push(Output::Order(Order::WatchSocket(inode)));
            }
            out.push(Output::Shares(Shared { child, parent, at: now, peer: socket.peer.clone() }));
            let connection = self.connections.entry(inode).or_insert_with(|| Connection {
                socket,
                program: program.clone(),
                libraries: libraries.clone(),
                forker: parent,
                members: Vec::new(),
                first: None,
                turns: Vec::new(),
                used: false,
                closed: false,
                due: None,
            });
            for process in [parent, child] {
                if connection.member(process).is_none() && connection.members.len() < MOST_MEMBERS {
                    connection.members.push(Member::new(process, program.comm));
                }
            }
        }
        out.extend([parent, child].map(|process| Output::Order(Order::Share(process))));
        self.follow(child, out);
        self.tell_shared(out);
    }

    pub(super) fn socket_used(&mut self, event: &SocketUse, out: &mut Vec<Output>) {
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
        let is_forker = connection.forker.is_same(process);
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
                return self.closed(event.at, event.inode, process, true, out);
            }
            (Act::ShutDown, _) => {}
        }
        self.judge_connection(event.at, event.inode, process, out);
    }

    /// Reports a connection that two processes use, now or when it is clear that it was no farewell.
    fn judge_connection(&mut self, now: BootTime, inode: u64, user: ProcessKey, out: &mut Vec<Output>) {
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if connection.used {
            return;
        }
        let Some((act, child, comm)) = connection.rivals(now) else {
            if connection.due.is_none() && connection.rivals(now + FAREWELL).is_some() {
                let due = now + FAREWELL;
                connection.due = Some(due);
                self.set(due, user, Task::Connection(inode));
            }
            return;
        };
        connection.used = true;
        let finding = used::judge(&connection.case(child, comm, now), act);
        self.report(finding, true, None, out);
    }

    /// Whether a timer still counts.
    pub(super) fn connection_awaits(connections: &Connections, timer: &Timer) -> bool {
        match timer.task {
            Task::Connection(inode) => {
                connections.get(&inode).is_some_and(|connection| connection.due == Some(timer.due))
            }
            _ => false,
        }
    }

    pub(super) fn look_at_connection(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !Self::connection_awaits(&self.connections, timer) {
            return;
        }
        let Task::Connection(inode) = timer.task else { return };
        if let Some(connection) = self.connections.get_mut(&inode) {
            connection.due = None;
        }
        self.judge_connection(now, inode, timer.process, out);
    }

    /// A process has ended: was what it said last a farewell on somebody else's connection?
    pub(super) fn said_farewell(
        &mut self,
        process: ProcessKey,
        status: ExitStatus,
        at: BootTime,
        out: &mut Vec<Output>,
    ) {
        // A process that was killed says nothing at its end.
        if self.connections.is_empty() || !matches!(status, ExitStatus::Code(_)) {
            return;
        }
        let farewells: Vec<u64> = self
            .connections
            .iter_mut()
            .filter_map(|(inode, connection)| {
                let forker = connection.forker;
                let member = connection.member(process)?;
                let said = matches!(member.sent, Sent::Little(said) if said + FAREWELL > at);
                (said && !member.received && !forker.is_same(process)).then_some(*inode)
            })
            .collect();
        for inode in farewells {
            self.closed(at, inode, process, false, out);
        }
    }

    /// Reports a connection that a child has closed for all.
    fn closed(
        &mut self,
        now: BootTime,
        inode: u64,
        child: ProcessKey,
        shut_down: bool,
        out: &mut Vec<Output>,
    ) {
        let Some(connection) = self.connections.get_mut(&inode) else { return };
        if std::mem::replace(&mut connection.closed, true) {
            return;
        }
        let comm = connection.member(child).map_or(Comm::default(), |member| member.comm);
        let finding = closed::judge(&connection.case(child, comm, now), shut_down);
        self.report(finding, false, None, out);
    }

    /// A process holds no connection any more: it has exec'd or ended.
    pub(super) fn shares_no_longer(&mut self, process: ProcessKey, out: &mut Vec<Output>) {
        let mut free = Vec::new();
        self.connections.retain(|inode, connection| {
            if connection.member(process).is_none() {
                return true;
            }
            connection.members.retain(|member| !member.process.is_same(process));
            free.push(process);
            let is_shared = connection.members.len() > 1;
            if !is_shared {
                out.push(Output::Order(Order::UnwatchSocket(*inode)));
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
        out.extend(free.into_iter().map(|process| Output::Order(Order::Unshare(process))));
        self.tell_shared(out);
    }

    fn tell_shared(&self, out: &mut Vec<Output>) {
        out.push(Output::SharedConnections(self.connections.len()));
    }
}

impl Connection {
    fn case(&self, child: ProcessKey, child_comm: Comm, now: BootTime) -> used::Case<'_> {
        used::Case {
            child,
            child_comm,
            forker: self.forker,
            program: &self.program,
            socket: &self.socket,
            libraries: &self.libraries,
            turns: &self.turns,
            now,
        }
    }
}
