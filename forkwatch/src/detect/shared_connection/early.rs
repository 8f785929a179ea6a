//! What happens before it is known what a child was born with, and with whom it shares that.

use super::{
    LONGEST_FAREWELL, MOST_TURNS, SharedConnection, TO_LET_GO, TO_LOOK,
    closed::Farewell,
    connection::Sent,
    hazard,
    heirs::{Child, ENDED, LINGER, LIVED, SETTLED, TOLD},
};
use crate::{
    core::{Context, Output, Shared},
    model::{
        connection::{Act, Inherited, Peer, SharedSocket, Sockets, Turn},
        event::{Event, Exit},
        evidence::Request,
        observation::{Heir, Observation, SharerEnd},
        probe_request::ProbeRequest,
        process::ProcessKey,
        reported::Reported,
    },
};

/// A connection at one of the standard descriptors is a program's input and output, as inetd gives it.
const STANDARD: u32 = 2;

impl SharedConnection {
    /// A child was born with connections. They are watched at once, and looked at when it has not exec'd soon.
    pub(super) fn born(&mut self, heir: &Heir, context: &mut Context) {
        let (child, parent) = (heir.child, heir.parent);
        let mut is_known = true;
        for socket in &heir.sockets {
            if let Some(connection) = self.connections.get_mut(&socket.inode) {
                connection.is_inherited();
                connection.enter(parent, heir.comm);
                connection.enter(child, heir.comm);
            } else if self.has_room(context) {
                context.probe(ProbeRequest::WatchSocket(socket.inode));
                is_known = false;
            } else {
                // The kernel side has begun by itself.
                context.probe(ProbeRequest::UnwatchSocket(socket.inode));
            }
        }
        for process in [parent, child] {
            context.probe(ProbeRequest::Share(process));
        }
        if is_known {
            return;
        }
        if self.heirs.born(heir) {
            return context.wake_about(TO_LOOK, context.now + SETTLED, child);
        }
        for socket in &heir.sockets {
            self.unwatch(socket.inode, context);
        }
        for process in [child, parent] {
            self.unshare(process, context);
        }
    }

    /// A child has not exec'd or ended soon, so it is asked what it was born with.
    pub(super) fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(heir) = self.heirs.get_mut(child) else { return };
        if heir.is_to_be_asked() {
            let parent = heir.parent;
            context.ask(Request::Sockets { child, parent });
        }
    }

    /// Something happened on a connection. Where it is not known what that is, it is asked now, and judged then.
    pub(super) fn ask_at_once(&mut self, inode: u64, seen: &Observation, context: &mut Context) {
        if self.connections.contains_key(&inode) {
            return;
        }
        for child in self.heirs.keep(inode, seen) {
            if let Some(parent) = self.heirs.get_mut(child).map(|heir| heir.parent) {
                context.ask(Request::Sockets { child, parent });
            }
        }
    }

    /// It is known what a child was born with. Tells whether that was asked for such a one.
    pub(super) fn heir_seen(
        &mut self,
        child: ProcessKey,
        seen: Option<&Sockets>,
        context: &mut Context,
    ) -> bool {
        let Some(heir) = self.heirs.get_mut(child).filter(|heir| heir.is_awaited()) else {
            return false;
        };
        heir.is_seen();
        let (parent, early, has_ended) = (heir.parent, heir.take_early(), heir.has_ended);
        let sockets = heir.sockets.clone();
        let inodes: Vec<u64> = sockets.iter().map(|socket| socket.inode).collect();
        let Some(seen) = seen else {
            if !early.is_empty() {
                let why = "it was gone before its connections could be looked at".to_owned();
                context.tell(Output::Undecided { hazard: hazard::HAZARD.id, child, why });
            }
            self.let_heir_go(child, context);
            return true;
        };
        let of_it = seen.shared.iter().filter(|socket| inodes.contains(&socket.inode));
        let mut shared: Vec<_> = of_it.cloned().collect();
        shared.extend(over(&sockets, &early, &shared, seen));
        if shared.is_empty() {
            if self.ended_at_once(child, (parent, &inodes), seen, context) {
                return true;
            }
            self.let_heir_go(child, context);
            if let Some(rest) = self.heirs.disregard(parent) {
                context.probe(ProbeRequest::Disregard { forker: parent, until: context.now + rest });
            }
            return true;
        }
        self.share(child, parent, seen, &shared, context);
        for inode in inodes {
            self.unwatch(inode, context);
        }
        let was_used = early.iter().any(|reported| matches!(reported, Reported::Observation(_)));
        if was_used || has_ended {
            self.cover(parent, context);
        }
        for reported in &early {
            match reported {
                Reported::Observation(Observation::SocketUse(used)) => self.used(used, context),
                Reported::Observation(Observation::Moved(moved)) => self.moved(moved),
                Reported::Event(Event::Exit(exit)) => self.said_farewell(exit, context),
                _ => {}
            }
        }
        if has_ended {
            self.heirs.forget(child);
            self.shares_no_longer(child, context);
        } else if context.processes.life(child).is_some() {
            self.tell_shares(child, context);
        }
        true
    }

    /// A child that has closed all that it was born with may have said goodbye before anybody watched: the server ends what
    /// the parent still holds. Tells whether that is so, or is to be seen soon.
    fn ended_at_once(
        &mut self,
        child: ProcessKey,
        (parent, inodes): (ProcessKey, &[u64]),
        seen: &Sockets,
        context: &mut Context,
    ) -> bool {
        let ended: Vec<_> = seen.ended.iter().filter(|one| inodes.contains(&one.inode)).cloned().collect();
        if ended.is_empty() {
            let is_held = seen.of_parent.iter().flatten().any(|held| inodes.contains(held));
            let is_again = self.heirs.get_mut(child).is_some_and(Child::is_to_be_asked_again);
            if is_again {
                // What happened before the look may not be told yet.
                let later = if is_held { ENDED } else { TOLD };
                context.wake_about(TO_LOOK, context.now + later, child);
            }
            return is_again;
        }
        self.share(child, parent, seen, &ended, context);
        for socket in &ended {
            self.closed(socket.inode, child, Farewell::Unseen, context);
        }
        self.let_heir_go(child, context);
        self.shares_no_longer(child, context);
        true
    }

    /// A child lives on of which it is known what it shares.
    pub(super) fn tell_shares(&mut self, child: ProcessKey, context: &mut Context) {
        let mut parents = Vec::new();
        for connection in self.connections.values_mut() {
            // One that is over is shared no more.
            if connection.member(child).is_some() && connection.socket.peer != Peer::Unknown {
                let (parent, program) = (connection.forker, connection.program.clone());
                let (at, peer) = (context.now, connection.socket.peer.clone());
                context.tell(Output::Shares(Shared { child, parent, at, program, peer }));
                parents.push(parent);
            }
        }
        if !parents.is_empty() {
            context.follow(child);
        }
        for parent in parents {
            self.cover(parent, context);
        }
    }

    /// All children of a process are watched from now on: it leaves its connections to them.
    pub(super) fn cover(&mut self, forker: ProcessKey, context: &mut Context) {
        if self.heirs.cover(forker) {
            context.probe(ProbeRequest::Cover(forker));
        }
    }

    /// A child ends on whose connections bytes have moved since its birth, which the kernel counted. Who moved them it
    /// does not say.
    pub(super) fn bytes_moved(&mut self, moved: &Heir, context: &mut Context) {
        for socket in &moved.sockets {
            let one = Heir { sockets: vec![*socket], ..moved.clone() };
            if self.connections.contains_key(&socket.inode) {
                self.moved(&one);
            } else {
                self.ask_at_once(socket.inode, &Observation::Moved(one), context);
            }
        }
    }

    /// A child that was not seen to use a connection, and on which so little was sent until its end as nobody else was
    /// seen to send, has said farewell.
    fn moved(&mut self, moved: &Heir) {
        for socket in &moved.sockets {
            let Some(connection) = self.connections.get_mut(&socket.inode) else { continue };
            let Some((sent, received)) = socket.bytes else { continue };
            let others_sent = connection.turns.iter().any(|turn| turn.pid != moved.child.tgid);
            if others_sent || sent == 0 {
                continue;
            }
            if received > 0 || u64::from(sent) > LONGEST_FAREWELL {
                if let Some(member) = connection.member(moved.child) {
                    member.is_counted = received > 0;
                }
                continue;
            }
            let first = *connection.first.get_or_insert(moved.at);
            let Some(member) = connection.member(moved.child) else { continue };
            if member.sent != Sent::Nothing || member.received {
                continue;
            }
            member.sent = Sent::Little(moved.at);
            member.comm = moved.comm;
            member.takes_turn(Act::Sent, moved.at);
            if connection.turns.len() < MOST_TURNS {
                let after = u64::try_from(moved.at.since(first).as_nanos()).unwrap_or(u64::MAX);
                let (pid, bytes) = (moved.child.tgid, u64::from(sent));
                connection.turns.push(Turn { pid, act: Act::Sent, after_ns: after, bytes });
            }
        }
    }

    /// A process has ended, perhaps before it is known what it was born with.
    pub(super) fn ended(&mut self, exit: &Exit, context: &mut Context) {
        let child = exit.process;
        if let Some(heir) = self.heirs.get_mut(child) {
            let parent = heir.parent;
            let is_asked = heir.is_awaited();
            if is_asked || !heir.is_known() && heir.is_worth_a_look(child.start, exit.at) {
                heir.ends(exit);
                if heir.is_to_be_asked() {
                    context.ask(Request::Sockets { child, parent });
                }
                return;
            }
            if heir.is_known() && exit.at.since(child.start) > LIVED {
                self.cover(parent, context);
            }
            self.let_heir_go(child, context);
        }
        self.shares_no_longer(child, context);
    }

    /// Nothing more is to be learnt of what a child was born with.
    pub(super) fn let_heir_go(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(heir) = self.heirs.forget(child) else { return };
        for socket in &heir.sockets {
            self.unwatch(socket.inode, context);
        }
        for process in [child, heir.parent] {
            self.unshare(process, context);
        }
    }

    /// A socket is watched no longer, unless it is a connection that somebody shares, or may be.
    fn unwatch(&mut self, inode: u64, context: &mut Context) {
        if !self.connections.contains_key(&inode) && !self.heirs.wait_for(inode) {
            context.probe(ProbeRequest::UnwatchSocket(inode));
        }
    }

    /// A process that shares is no more. Its programs stay attached for a while where its children were all watched.
    pub(super) fn sharer_ended(&mut self, end: &SharerEnd, context: &mut Context) {
        let process = end.process;
        self.settle(process, context);
        if !end.execed {
            self.forker_said_farewell(process, end.at, context);
        }
        if self.heirs.is_covered(process) {
            context.wake_about(TO_LET_GO, context.now + LINGER, process);
        } else {
            self.heirs.uncover(process);
        }
        self.shares_no_longer(process, context);
    }

    /// It has been gone for a while.
    pub(super) fn let_go(&mut self, process: ProcessKey, context: &mut Context) {
        self.heirs.uncover(process);
        self.unshare(process, context);
    }
}

/// Connections by TCP that were used since a child was born with them, and that it does not share with its parent any more:
/// they are over, or somebody has closed his copy. What was said on them may be why. The parent must hold it still, or two
/// have used it: a server that accepts and forks has closed its copy, and misses nothing.
fn over(
    born_with: &[Inherited],
    early: &[Reported],
    shared: &[SharedSocket],
    seen: &Sockets,
) -> Vec<SharedSocket> {
    let is_used = |inode: u64| {
        early.iter().any(|reported| {
            matches!(reported, Reported::Observation(Observation::SocketUse(used)) if used.inode == inode)
        })
    };
    let is_over = |socket: &&Inherited| {
        socket.bytes.is_some()
            && socket.descriptor > STANDARD
            && is_used(socket.inode)
            && shared.iter().all(|shared| shared.inode != socket.inode)
    };
    let known = |inode: u64| seen.ended.iter().find(|ended| ended.inode == inode);
    let shared_socket = |socket: &Inherited| SharedSocket {
        inode: socket.inode,
        peer: known(socket.inode).map_or(Peer::Unknown, |ended| ended.peer.clone()),
        child_fd: socket.descriptor,
        parent_fd: socket.descriptor,
        accepted: known(socket.inode).is_some_and(|ended| ended.accepted),
    };
    born_with.iter().filter(is_over).map(shared_socket).collect()
}
