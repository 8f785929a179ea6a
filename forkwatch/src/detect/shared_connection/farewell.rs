//! What tells a farewell from a use: how little was said, and what its sender did next.

use super::{
    SharedConnection,
    closed::Farewell,
    connection::{FAREWELL, Member, Sent},
};
use crate::{
    core::{Context, Report},
    model::{connection::Sockets, evidence::Request, process::ProcessKey, time::BootTime},
};

impl SharedConnection {
    /// A child that has said one short thing has done nothing else since: it is asked whether it still holds the
    /// connection. Tells whether that is on the way.
    pub(super) fn asks_for_farewell(&mut self, inode: u64, child: ProcessKey, context: &mut Context) -> bool {
        let Some(connection) = self.connections.get_mut(&inode) else { return false };
        let forker = connection.forker;
        let Some(member) = connection.member(child).filter(|member| member.process != forker) else {
            return false;
        };
        if !matches!(member.sent, Sent::Little(_)) || member.received {
            return false;
        }
        if !std::mem::replace(&mut member.is_asked, true) {
            context.ask(Request::Sockets { child, parent: forker });
        }
        true
    }

    /// It is known which connections a child still holds: one that it has closed after a short word was taken leave of.
    /// Tells whether that was asked.
    pub(super) fn farewell_seen(
        &mut self,
        child: ProcessKey,
        seen: Option<&Sockets>,
        context: &mut Context,
    ) -> bool {
        let mut is_asked = false;
        let mut closed = Vec::new();
        let mut used = Vec::new();
        for (inode, connection) in &mut self.connections {
            let Some(member) = connection.member(child) else { continue };
            if !std::mem::take(&mut member.is_asked) {
                continue;
            }
            is_asked = true;
            let Sent::Little(said) = member.sent else { continue };
            // Who finds its connection ended soon closes its copy too.
            let is_missed =
                connection.members.iter().any(|other| other.process != child && other.has_acted(said));
            let misses = |seen: &Sockets| is_missed || parent_holds(seen, *inode);
            // Who closes its copy because another child has its answers has not said farewell.
            let forker = connection.forker;
            let is_rivalled = connection.members.iter().any(|other| {
                ![child, forker].contains(&other.process) && (other.received || other.sent == Sent::Enough)
            });
            let Some(member) = connection.member(child) else { continue };
            match seen.filter(|_| !is_rivalled).map(|seen| (seen.of_child.as_ref(), misses(seen))) {
                // Where neither holds it, and nobody tried to use it, nobody misses it.
                Some((Some(held), false)) if !held.contains(inode) => {}
                Some((Some(held), true)) if !held.contains(inode) => {
                    closed
                        .push((*inode, if is_missed { Farewell::AndWasMissed } else { Farewell::AndWentOn }));
                }
                _ => {
                    member.sent = Sent::Enough;
                    used.push(*inode);
                }
            }
        }
        for (inode, how) in closed {
            self.closed(inode, child, how, context);
        }
        for inode in used {
            self.judge(inode, child, context);
        }
        is_asked
    }

    /// It is known what the parent of a child holds that has ended connections: it misses only those that it has kept.
    /// Tells whether that was asked.
    pub(super) fn farewells_are_felt(
        &mut self,
        child: ProcessKey,
        seen: Option<&Sockets>,
        context: &mut Context,
    ) -> bool {
        let (of_it, others) =
            std::mem::take(&mut self.farewells).into_iter().partition(|(of, ..)| *of == child);
        self.farewells = others;
        let of_it: Vec<_> = of_it;
        let is_asked = !of_it.is_empty();
        for (_, inode, finding) in of_it {
            if seen.is_some_and(|seen| parent_holds(seen, inode)) {
                context.report(Report::of(finding));
            }
        }
        is_asked
    }

    /// The process that had connections first has ended. What it said last may have ended them for its children.
    pub(super) fn forker_said_farewell(&mut self, forker: ProcessKey, at: BootTime, context: &mut Context) {
        let mut ended = Vec::new();
        for (inode, connection) in &mut self.connections {
            if connection.forker != forker {
                continue;
            }
            let Some(member) = connection.member(forker) else { continue };
            let said = matches!(member.sent, Sent::Little(said) if said + FAREWELL > at);
            if !said || member.received || connection.members.len() < 2 {
                continue;
            }
            connection.is_left = true;
            let uses = |member: &&Member| {
                member.process != forker && (member.received || member.sent != Sent::Nothing)
            };
            ended.extend(connection.members.iter().find(uses).map(|child| (*inode, child.process)));
        }
        for (inode, child) in ended {
            self.closed(inode, child, Farewell::OfForker, context);
        }
    }
}

/// Whether the parent held a connection when it was looked at.
fn parent_holds(seen: &Sockets, inode: u64) -> bool {
    let is_shared = || seen.shared.iter().any(|socket| socket.inode == inode);
    seen.of_parent.as_ref().map_or_else(is_shared, |held| held.contains(&inode))
}
