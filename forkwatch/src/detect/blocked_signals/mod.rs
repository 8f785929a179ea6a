//! Programs that start with signals blocked.

mod hazard;

use std::collections::HashMap;

pub(super) use self::hazard::HAZARD;
pub use self::hazard::WATCHED;
use self::hazard::{ExecCase, judge};
use crate::{
    core::{Context, Detector, Dropped, Judgement, Output, Recent, Report, Unanswered},
    model::{
        event::{CloneKind, Event, Exec, Fork},
        evidence::{Evidence, Request},
        finding::Finding,
        process::{Comm, ProcessKey, Program},
        program_name::called,
        seen::ExecedSeen,
        signals::SignalSet,
    },
};

/// Most programs that wait to be looked at.
const MOST_PROGRAMS: usize = 4096;
/// Most processes that are known to have started with signals blocked.
const MOST_CARRIERS: usize = 4096;
/// How many graces after the exec a program is looked at for the second time. One that sets its own mask has done so by
/// then: loky's resource tracker takes up to 2.5 s on a busy host.
const SECOND_LOOK: u32 = 10;

/// Programs that started with signals blocked.
pub(super) struct BlockedSignals {
    /// Those that wait to be looked at.
    waiting: HashMap<ProcessKey, Started>,
    /// Processes that started so, or were forked by one that did, and the signals: not to blame for passing them on.
    carriers: Recent<SignalSet>,
}

struct Started {
    exec: Exec,
    /// The signals that the forker, and nobody before it, is to blame for.
    signals: SignalSet,
    /// The forker, where the fork was followed, and comm and uid of the thread that forked.
    forker: Option<(ProcessKey, Comm, u32)>,
    unanswered: Unanswered,
    /// Whether it was seen to block them one grace after its exec.
    has_blocked: bool,
}

impl Default for BlockedSignals {
    fn default() -> Self {
        Self { waiting: HashMap::new(), carriers: Recent::new(MOST_CARRIERS) }
    }
}

impl Detector for BlockedSignals {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) => self.forked(fork),
            Event::Exec(exec) => self.started(exec, context),
            Event::Exit(exit) => {
                self.carriers.remove(exit.process);
                if self.waiting.remove(&exit.process).is_some() {
                    context.sleep(exit.process);
                }
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(started) = self.waiting.get_mut(&process) else { return };
        if started.signals.is_empty() || started.unanswered.is_hopeless() {
            if !started.signals.is_empty() {
                context.tell(Output::Dropped(Dropped::Unanswered));
            }
            self.waiting.remove(&process);
            return;
        }
        started.unanswered.put();
        let process = started.exec.process;
        context.wake_at(context.now + context.settings.grace, process);
        context.ask(Request::Execed { process });
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::Execed { process, seen } = evidence else { return };
        let (Some(mut started), Some(seen)) = (self.waiting.remove(process), seen) else { return };
        if started.has_blocked || seen.blocked.and(started.signals).is_empty() {
            return judge_program(&started, seen, context);
        }
        started.has_blocked = true;
        started.unanswered = Unanswered::default();
        context.wake_at(started.exec.at + context.settings.grace * SECOND_LOOK, *process);
        self.waiting.insert(*process, started);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let (waiting, carriers) = (self.waiting.len(), self.carriers.len());
        (waiting + carriers, waiting <= MOST_PROGRAMS && self.carriers.within_bounds())
    }
}

impl BlockedSignals {
    /// Passes on what a parent started with.
    fn forked(&mut self, fork: &Fork) {
        if self.carriers.is_empty() {
            return;
        }
        self.carriers.reused(fork.child);
        if fork.kind != CloneKind::Copying {
            return;
        }
        if let Some((process, signals)) = self.carriers.touch_tgid(fork.parent.tgid)
            && process == fork.parent
        {
            let signals = *signals;
            self.carriers.insert(fork.child, signals);
        }
    }

    /// A program started.
    fn started(&mut self, exec: &Exec, context: &mut Context) {
        if exec.blocked.and(WATCHED).is_empty() && self.carriers.is_empty() {
            return;
        }
        // Where its fork is still followed, that tells who forked it.
        let birth = context.processes.get(exec.process).map(|process| process.birth);
        let forker = birth.and_then(|birth| Some((birth.parent?, birth.comm?, birth.uid?)));
        let signals = self.unexplained(exec, forker.map(|(forker, ..)| forker));
        let room = self.waiting.len() < MOST_PROGRAMS;
        match self.waiting.get_mut(&exec.process) {
            Some(earlier) => {
                earlier.signals = earlier.signals.or(signals).and(exec.blocked);
                return;
            }
            None if signals.is_empty() => return,
            None if !room => return context.tell(Output::Dropped(Dropped::Program)),
            None => {}
        }
        context.wake_at(exec.at + context.settings.grace, exec.process);
        let (unanswered, has_blocked) = (Unanswered::default(), false);
        let started = Started { exec: exec.clone(), signals, forker, unanswered, has_blocked };
        self.waiting.insert(exec.process, started);
    }

    /// The signals that an exec is to be judged for: those that neither the process itself nor its forker had
    /// blocked at an exec before.
    fn unexplained(&mut self, exec: &Exec, forker: Option<ProcessKey>) -> SignalSet {
        let blocked = exec.blocked.and(WATCHED);
        let own = self.carriers.remove(exec.process).unwrap_or_default();
        if blocked.is_empty() {
            return blocked;
        }
        self.carriers.insert(exec.process, blocked);
        let inherited = match self.carriers.touch_tgid(exec.parent_tgid) {
            Some((process, signals)) if forker.is_none_or(|forker| forker == process) => *signals,
            _ => SignalSet::EMPTY,
        };
        blocked.without(own).without(inherited)
    }
}

/// Judges a program by what it looks like some time after its start.
fn judge_program(started: &Started, seen: &ExecedSeen, context: &mut Context) {
    let process = started.exec.process;
    let parent = seen.parent.clone().filter(|(parent, _)| parent.tgid == started.exec.parent_tgid);
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
        seen,
        forker: forker.as_ref().map(|(key, _)| *key).zip(name.as_deref()),
    };
    match (judge(&case), &forker) {
        (Judgement::Unsafe(verdict), Some((forker, program))) => {
            let child = (process, seen.program.comm);
            let finding = verdict.finding(context.now, HAZARD.id, (*forker, program), child);
            let finding = Finding { child_uid: seen.program.uid, ..finding };
            context.report(Report { heir: Some(&seen.program), ..Report::of(finding) });
        }
        (Judgement::Clean, _) => {}
        (Judgement::Undecided | Judgement::Unsafe(_), _) => {
            let why = "what runs in it, or which signals it takes in, could not be seen".to_owned();
            context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
        }
    }
}
