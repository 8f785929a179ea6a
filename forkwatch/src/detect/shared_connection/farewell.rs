//! What tells a farewell from a use: how little was said, and what its sender did next.

use std::time::Duration;

use super::{
    MOST_FAREWELLS, SharedConnection,
    closed::Farewell,
    connection::{FAREWELL, Member, Sent},
    hazard,
};
use crate::{
    core::{Context, Report},
    model::{
        connection::Sockets,
        evidence::Request,
        finding::{Certainty, Finding, State},
        process::ProcessKey,
        time::BootTime,
    },
};

/// For how long the end of a connection is waited for that a child's last word may have ended.
const UNTIL_ENDED: Duration = Duration::from_millis(500);

/// A finding about a connection that a child has ended, or used after another, and that its parent must hold still.
pub(super) struct Awaited {
    child: ProcessKey,
    parent: ProcessKey,
    inode: u64,
    finding: Finding,
    until: Until,
    /// When it is looked at for the last time.
    last: BootTime,
}

/// What is to be seen of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// That the parent holds it.
    Held,
    /// That it is over, too.
    Ended,
    /// The same, at the second look.
    EndedByNow,
}

impl Awaited {
    /// One for which it is enough that the parent holds it.
    pub(super) const fn held(
        (child, parent): (ProcessKey, ProcessKey),
        inode: u64,
        finding: Finding,
    ) -> Self {
        Self { child, parent, inode, finding, until: Until::Held, last: BootTime(0) }
    }

    /// One for which it must be over.
    const fn ended((child, parent): (ProcessKey, ProcessKey), inode: u64, finding: Finding) -> Self {
        Self { child, parent, inode, finding, until: Until::Ended, last: BootTime(0) }
    }
}

impl SharedConnection {
    /// Has a connection looked at, as far as there is room.
    pub(super) fn wait_for(&mut self, awaited: Awaited, context: &mut Context) {
        if self.farewells.len() >= MOST_FAREWELLS {
            return;
        }
        let (child, parent) = (awaited.child, awaited.parent);
        if awaited.until == Until::EndedByNow {
            context.wake_about(awaited.inode, awaited.last, child);
        } else {
            context.ask(Request::Sockets { child, parent });
        }
        self.farewells.push(awaited);
    }

    /// A child has ended that has used connections. Its last word on one may have been a farewell, and what it said may have
    /// been no good after another's: where it is over soon, that was so.
    pub(super) fn used_before_its_end(&mut self, child: ProcessKey, context: &mut Context) {
        let mut awaited = Vec::new();
        for (inode, connection) in &mut self.connections {
            let forker = connection.forker;
            // Of a connection that was accepted the other end is a client, which ends it when it is done.
            if child == forker || connection.socket.accepted {
                continue;
            }
            let Some(member) = connection.member(child) else { continue };
            let has_used = member.received && member.sent != Sent::Nothing;
            if let Some(finding) = connection.sequel(child, context.now).filter(|_| !connection.used) {
                awaited.push(Awaited::ended((child, forker), *inode, finding));
            } else if has_used && !connection.closed {
                // Another may use it next, and end it: that is known later.
                let finding = connection.farewell(child, Farewell::AfterUse, context.now);
                let one = Awaited::ended((child, forker), *inode, finding);
                let last = context.now + UNTIL_ENDED;
                awaited.push(Awaited { until: Until::EndedByNow, last, ..one });
            }
        }
        for one in awaited {
            self.wait_for(one, context);
        }
    }

    /// Whether a connection that a child has used until its end is over by now is asked again. Tells whether that is so.
    pub(super) fn asks_for_end(&self, inode: u64, child: ProcessKey, context: &mut Context) -> bool {
        let is_it = |one: &&Awaited| (one.child, one.inode, one.until) == (child, inode, Until::EndedByNow);
        let asked = self.farewells.iter().find(is_it);
        if let Some(Awaited { child, parent, .. }) = asked {
            context.ask(Request::Sockets { child: *child, parent: *parent });
        }
        asked.is_some()
    }

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
            std::mem::take(&mut self.farewells).into_iter().partition(|awaited| awaited.child == child);
        self.farewells = others;
        let of_it: Vec<Awaited> = of_it;
        let is_asked = !of_it.is_empty();
        for awaited in of_it {
            let Some(seen) = seen else { continue };
            // This look was for another connection.
            if context.now < awaited.last {
                self.farewells.push(awaited);
                continue;
            }
            if !parent_holds(seen, awaited.inode) {
                self.tell_what_is_missed(awaited, context);
                continue;
            }
            let is_over = seen.ended.iter().any(|ended| ended.inode == awaited.inode);
            match awaited.until {
                Until::Ended if !is_over => {
                    let last = context.now + UNTIL_ENDED;
                    context.wake_about(awaited.inode, last, child);
                    self.farewells.push(Awaited { until: Until::EndedByNow, last, ..awaited });
                }
                Until::EndedByNow if !is_over => {}
                // Who used it since may have ended it.
                Until::EndedByNow if self.was_tried_after(&awaited) => {}
                Until::Held | Until::Ended | Until::EndedByNow => self.tell(awaited, context),
            }
        }
        is_asked
    }

    /// Whether somebody has used the connection since the child did.
    fn was_tried_after(&self, awaited: &Awaited) -> bool {
        let last = self.connections.get(&awaited.inode).and_then(|connection| connection.turns.last());
        last.is_some_and(|turn| turn.pid != awaited.child.tgid)
    }

    /// The parent holds a connection no more that a child may have ended. Who finds its connection ended closes its copy: that
    /// is so where another tried to use it since, or was seen to use it after a first.
    fn tell_what_is_missed(&mut self, awaited: Awaited, context: &mut Context) {
        let is_use = awaited.finding.hazard == hazard::HAZARD.id;
        let was_tried = self.was_tried_after(&awaited);
        let finding = match awaited.until {
            Until::Held if was_tried => awaited.finding,
            Until::Ended | Until::EndedByNow if is_use => {
                Finding { state: State::Suspected, certainty: Certainty::Heuristic, ..awaited.finding }
            }
            Until::Held | Until::Ended | Until::EndedByNow => return,
        };
        self.tell(Awaited { finding, ..awaited }, context);
    }

    /// Reports what is known for sure now, once of each connection.
    fn tell(&mut self, awaited: Awaited, context: &mut Context) {
        if let Some(connection) = self.connections.get_mut(&awaited.inode) {
            let is_use = awaited.finding.hazard == hazard::HAZARD.id;
            let told = if is_use { &mut connection.used } else { &mut connection.closed };
            let is_told = std::mem::replace(told, true);
            if is_told && awaited.until != Until::Held {
                return;
            }
        }
        context.report(Report::of(awaited.finding));
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
