//! A connection that several processes hold, and what each of them has done on it.

use std::time::Duration;

use super::{
    callers::Callers,
    closed::{self, Farewell},
    hazard::{self as used, Case, Past},
};
use crate::{
    core::{Context, Report},
    model::{
        connection::{Act, SharedSocket, Turn},
        finding::Finding,
        process::{Comm, ProcessKey, Program},
        time::BootTime,
    },
};

/// Most of those that are no more and have used it that are remembered.
const MOST_PAST: usize = 8;
/// Most processes that are known to hold one of them.
pub(super) const MOST_MEMBERS: usize = 256;

/// A child that says one thing and ends within this time has said farewell.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Processes that have kept to turns for so long are taken to wait for one another.
const IN_TURN: Duration = Duration::from_secs(1);

/// A connection that a process and its children hold.
pub(super) struct Connection {
    pub(super) socket: SharedSocket,
    pub(super) program: Program,
    pub(super) libraries: Vec<String>,
    /// The process that had it first.
    pub(super) forker: ProcessKey,
    pub(super) members: Vec<Member>,
    /// When the first use was seen.
    pub(super) first: Option<BootTime>,
    pub(super) turns: Vec<Turn>,
    /// In which order they use it.
    pub(super) order: Order,
    pub(super) used: bool,
    pub(super) closed: bool,
    /// Which code uses it.
    pub(super) callers: Callers,
    /// Since when two are known to have used it.
    pub(super) shared_since: Option<BootTime>,
    /// Whether the process that had it first has said farewell on it as it ended.
    pub(super) is_left: bool,
    /// Children that have used it and hold it no more.
    pub(super) past: Vec<Past>,
}

/// In which order its holders use a connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Order {
    /// Who used it last, and whether that process has received nothing since it sent last.
    last: Option<(ProcessKey, bool)>,
    /// Whether one has sent while another's answer was on its way, or has taken what it did not ask for. Else each has
    /// waited for its turn.
    is_mixed: bool,
    /// Whether that was told.
    is_told: bool,
}

impl Order {
    fn takes_turn(&mut self, process: ProcessKey, act: Act) {
        let before = self.last.filter(|(before, _)| *before != process);
        self.is_mixed |= match act {
            Act::Sent => before.is_some_and(|(_, is_waiting)| is_waiting),
            Act::Received => before.is_some(),
            Act::ShutDown => return,
        };
        self.last = Some((process, act == Act::Sent));
    }

    /// When the turns of two that both use it since then are judged; absent where they are known to be mixed.
    pub(super) fn settled(self, since: BootTime) -> Option<BootTime> {
        (!self.is_mixed).then(|| since + IN_TURN)
    }

    /// Whether it is mixed, and that is still to be told.
    pub(super) const fn is_news(self) -> bool {
        self.is_mixed && !self.is_told
    }
}

/// A process that holds the connection.
pub(super) struct Member {
    pub(super) process: ProcessKey,
    pub(super) comm: Comm,
    pub(super) sent: Sent,
    pub(super) received: bool,
    /// When its last turn of either began.
    pub(super) last: [Option<BootTime>; 2],
    /// Whether it was asked if it has closed the connection since it said one short thing on it.
    pub(super) is_asked: bool,
    /// Whether the bytes that TCP counted until its end show that it has used it, where nobody was seen to.
    pub(super) is_counted: bool,
}

/// What a process has sent since the fork.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Nothing,
    /// One short message, at this time: perhaps a farewell.
    Little(BootTime),
    Enough,
}

impl Member {
    pub(super) fn new(process: ProcessKey, comm: Comm) -> Self {
        Self {
            process,
            comm,
            sent: Sent::Nothing,
            received: false,
            last: [None; 2],
            is_asked: false,
            is_counted: false,
        }
    }

    /// Whether it has sent what is no farewell, as far as can be told by now: of a child it is asked.
    pub(super) fn has_sent(&self, forker: ProcessKey, now: BootTime) -> bool {
        match self.sent {
            Sent::Nothing => false,
            Sent::Little(at) => self.received || self.process == forker && at + FAREWELL <= now,
            Sent::Enough => true,
        }
    }

    pub(super) fn has_used(&self, act: Act, forker: ProcessKey, now: BootTime) -> bool {
        match act {
            Act::Sent => self.has_sent(forker, now),
            Act::Received => self.received,
            Act::ShutDown => false,
        }
    }

    /// Since when it has had the connection: the process that opened it, always.
    pub(super) fn since(&self, forker: ProcessKey) -> BootTime {
        if self.process == forker { BootTime(0) } else { self.process.start }
    }

    /// When its last turn of that kind began.
    pub(super) fn last(&self, act: Act) -> Option<BootTime> {
        match act {
            Act::Sent => self.last[0],
            Act::Received => self.last[1],
            Act::ShutDown => None,
        }
    }

    /// Whether it has sent or received since then.
    pub(super) fn has_acted(&self, since: BootTime) -> bool {
        self.last.iter().flatten().any(|at| *at >= since)
    }

    pub(super) fn takes_turn(&mut self, act: Act, at: BootTime) {
        match act {
            Act::Sent => self.last[0] = Some(at),
            Act::Received => self.last[1] = Some(at),
            Act::ShutDown => {}
        }
    }
}

impl Connection {
    pub(super) fn member(&mut self, process: ProcessKey) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.process == process)
    }

    /// Enters a process that holds it, where there is room.
    pub(super) fn enter(&mut self, process: ProcessKey, comm: Comm) {
        if self.member(process).is_none() && self.members.len() < MOST_MEMBERS {
            self.members.push(Member::new(process, comm));
        }
    }

    /// Two processes that have done the same, if there are two: the one that did it last, and another. What a process did
    /// before the other was born is no rivalry: it may have handed the connection over since.
    pub(super) fn rivals(&self, now: BootTime) -> Option<(Act, ProcessKey, Comm)> {
        [Act::Sent, Act::Received].into_iter().find_map(|act| {
            let users = || self.members.iter().filter(|member| member.has_used(act, self.forker, now));
            let did_since = |one: &Member, other: &Member| one.last(act) >= Some(other.since(self.forker));
            let (first, second) = users().enumerate().find_map(|(at, first)| {
                let mut others = users().skip(at + 1);
                let second = others.find(|second| did_since(first, second) && did_since(second, first))?;
                Some((first, second))
            })?;
            // The child is told, not the process that had the connection first.
            let child = if second.process == self.forker { first } else { second };
            Some((act, child.process, child.comm))
        })
    }

    /// Takes note of a turn.
    pub(super) fn takes_turn(&mut self, process: ProcessKey, act: Act, at: BootTime) {
        if let Some(member) = self.member(process) {
            member.takes_turn(act, at);
        }
        self.order.takes_turn(process, act);
    }

    /// A process holds it no more.
    pub(super) fn leaves(&mut self, process: ProcessKey, now: BootTime) {
        let forker = self.forker;
        let used = self.member(process).filter(|member| member.process != forker).and_then(|member| {
            let seen = member.has_sent(forker, now) || member.received;
            (seen || member.is_counted).then_some(Past { process, seen })
        });
        self.past.extend(used.filter(|_| self.past.len() < MOST_PAST));
        self.members.retain(|member| member.process != process);
    }

    /// A child was born to one of its holders. What was done before all other children ended is past.
    pub(super) fn is_inherited(&mut self) {
        if self.members.len() > 1 {
            return;
        }
        for member in &mut self.members {
            *member = Member::new(member.process, member.comm);
        }
        self.turns.clear();
        self.callers = Callers::default();
        self.shared_since = None;
        self.first = None;
        self.order = Order::default();
        self.used = false;
        self.closed = false;
        self.is_left = false;
    }
}

impl Connection {
    /// The finding that a child has ended it for its parent.
    pub(super) fn farewell(&mut self, child: ProcessKey, how: Farewell, now: BootTime) -> Finding {
        let comm = self.member(child).map_or(Comm::default(), |member| member.comm);
        closed::judge(&self.case(child, comm, now), how)
    }

    /// The finding that a child has used it after another, where it has.
    pub(super) fn sequel(&mut self, child: ProcessKey, now: BootTime) -> Option<Finding> {
        let member = self.member(child)?;
        let (comm, seen) = (member.comm, member.received || member.sent != Sent::Nothing);
        let before = self.past.iter().find(|past| past.process != child).filter(|_| seen)?;
        Some(used::in_turn(&self.case(child, comm, now), before))
    }

    /// Reports that two processes use it.
    pub(super) fn report(&mut self, act: Act, (child, comm): (ProcessKey, Comm), context: &mut Context) {
        self.used = true;
        self.order.is_told = self.order.is_mixed;
        let finding = used::judge(&self.case(child, comm, context.now), act);
        context.report(Report::until_the_end(finding));
    }

    pub(super) fn case(&self, child: ProcessKey, child_comm: Comm, now: BootTime) -> Case<'_> {
        Case {
            child,
            child_comm,
            forker: self.forker,
            program: &self.program,
            socket: &self.socket,
            libraries: &self.libraries,
            callers: &self.callers,
            turns: &self.turns,
            is_mixed: self.order.is_mixed,
            forker_uses_it: self
                .members
                .iter()
                .any(|member| member.process == self.forker && member.has_acted(BootTime(0))),
            now,
        }
    }
}
