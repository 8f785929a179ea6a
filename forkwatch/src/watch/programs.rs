//! Programs that start with signals blocked.

use std::collections::HashMap;

use super::{
    Dropped, Output, Watch,
    children::{Child, MOST_UNANSWERED},
    recent::Recent,
    timers::{Task, Timer},
};
use crate::{
    hazard::{CATALOGUE, ExecCase, Judgement, Rule, WATCHED_SIGNALS, called},
    model::{
        event::{CloneKind, Exec, Fork},
        evidence::{ExecedSeen, Request},
        finding::Finding,
        process::{Comm, ProcessKey, Program},
        signals::SignalSet,
        time::BootTime,
    },
};

/// Most programs that wait to be looked at.
pub(super) const MOST_PROGRAMS: usize = 4096;
/// Most processes that are known to have started with signals blocked.
const MOST_CARRIERS: usize = 4096;

/// Programs that started with signals blocked.
pub(super) struct Programs {
    /// Those that wait to be looked at, by tgid.
    waiting: HashMap<u32, Started>,
    /// Processes that started so, or were forked by one that did, and the signals: not to blame for passing them on.
    carriers: Recent<SignalSet>,
}

struct Started {
    exec: Exec,
    /// The signals that the forker, and nobody before it, is to blame for.
    signals: SignalSet,
    /// The forker, where the fork was followed, and comm and uid of the thread that forked.
    forker: Option<(ProcessKey, Comm, u32)>,
    due: BootTime,
    asked: u8,
}

impl Programs {
    pub(super) fn new() -> Self {
        Self { waiting: HashMap::new(), carriers: Recent::new(MOST_CARRIERS) }
    }

    /// Passes on what a parent started with.
    pub(super) fn forked(&mut self, fork: &Fork) {
        if self.carriers.is_empty() {
            return;
        }
        self.carriers.reused(fork.child);
        if fork.kind != CloneKind::Copying {
            return;
        }
        if let Some((start, signals)) = self.carriers.touch_tgid(fork.parent.tgid)
            && start == fork.parent.start
        {
            let signals = *signals;
            self.carriers.insert(fork.child, signals);
        }
    }

    pub(super) fn ended(&mut self, process: ProcessKey) {
        self.carriers.remove(process);
        if self.waiting.get(&process.tgid).is_some_and(|started| started.exec.process == process) {
            self.waiting.remove(&process.tgid);
        }
    }

    /// Whether a timer still counts.
    pub(super) fn awaits(&self, timer: &Timer) -> bool {
        self.waiting.get(&timer.process.tgid).is_some_and(|started| {
            timer.task == Task::Program && started.exec.process == timer.process && started.due == timer.due
        })
    }

    /// The signals that an exec is to be judged for: those that neither the process itself nor its forker had
    /// blocked at an exec before.
    fn unexplained(&mut self, exec: &Exec, forker: Option<ProcessKey>) -> SignalSet {
        let blocked = exec.blocked.and(WATCHED_SIGNALS);
        let own = self.carriers.remove(exec.process).unwrap_or_default();
        if blocked.is_empty() {
            return blocked;
        }
        self.carriers.insert(exec.process, blocked);
        let inherited = match self.carriers.touch_tgid(exec.parent_tgid) {
            Some((start, signals)) if forker.is_none_or(|forker| forker.start == start) => *signals,
            _ => SignalSet::EMPTY,
        };
        blocked.without(own).without(inherited)
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.waiting.len() <= MOST_PROGRAMS && self.carriers.within_bounds()
    }
}

impl Watch {
    /// A program started; `child` is what was known of the fork it ends.
    pub(super) fn started(&mut self, exec: &Exec, child: Option<&Child>, out: &mut Vec<Output>) {
        if exec.blocked.and(WATCHED_SIGNALS).is_empty() && self.programs.carriers.is_empty() {
            return;
        }
        let signals = self.programs.unexplained(exec, child.map(|child| child.parent));
        let room = self.programs.waiting.len() < MOST_PROGRAMS;
        match self.programs.waiting.get_mut(&exec.process.tgid) {
            Some(earlier) if earlier.exec.process == exec.process => {
                earlier.signals = earlier.signals.or(signals).and(exec.blocked);
                return;
            }
            _ if signals.is_empty() => return,
            None if !room => {
                out.push(Output::Dropped(Dropped::Program));
                return;
            }
            _ => {}
        }
        let due = exec.at + self.settings.grace;
        let forker = child.map(|child| (child.parent, child.comm, child.uid));
        let started = Started { exec: exec.clone(), signals, forker, due, asked: 0 };
        self.programs.waiting.insert(exec.process.tgid, started);
        self.set(due, exec.process, Task::Program);
    }

    pub(super) fn look_at_program(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !self.programs.awaits(timer) {
            return;
        }
        let Some(started) = self.programs.waiting.get_mut(&timer.process.tgid) else { return };
        if started.signals.is_empty() || started.asked >= MOST_UNANSWERED {
            if !started.signals.is_empty() {
                out.push(Output::Dropped(Dropped::Unanswered));
            }
            self.programs.waiting.remove(&timer.process.tgid);
            return;
        }
        started.asked += 1;
        started.due = now + self.settings.grace;
        let due = started.due;
        self.set(due, timer.process, Task::Program);
        out.push(Output::Ask(Request::Execed { process: timer.process }));
    }

    pub(super) fn program_seen(
        &mut self,
        now: BootTime,
        process: ProcessKey,
        seen: Option<ExecedSeen>,
        out: &mut Vec<Output>,
    ) {
        if self.programs.waiting.get(&process.tgid).is_none_or(|started| started.exec.process != process) {
            return;
        }
        let Some(started) = self.programs.waiting.remove(&process.tgid) else { return };
        let Some(mut seen) = seen else { return };
        let parent = seen.parent.take().filter(|(parent, _)| parent.tgid == started.exec.parent_tgid);
        let remembered = || {
            started
                .forker
                .map(|(forker, comm, uid)| (forker, Program { comm, uid: Some(uid), ..Program::default() }))
        };
        let forker = parent.or_else(remembered);
        let name = forker.as_ref().map(|(_, program)| called(program));
        let case = ExecCase {
            exec: &started.exec,
            signals: started.signals,
            seen: &seen,
            forker: forker.as_ref().map(|(key, _)| *key).zip(name.as_deref()),
        };
        for hazard in CATALOGUE {
            let Rule::StartedProgram { judge } = hazard.rule else { continue };
            match (judge(&case), &forker) {
                (Judgement::Unsafe(verdict), Some((forker, program))) => {
                    let child = (process, seen.program.comm);
                    let finding = verdict.finding(now, hazard.id, (*forker, program), child);
                    let finding = Finding { child_uid: seen.program.uid, ..finding };
                    self.report(finding, false, Some(&seen.program), out);
                }
                (Judgement::Clean, _) => {}
                (Judgement::Undecided | Judgement::Unsafe(_), _) => out.push(hazard.undecided(process)),
            }
        }
    }
}
