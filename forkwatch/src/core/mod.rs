//! The pure core: events and evidence in, questions and findings out. No clock, no I/O.
//!
//! Each copying fork is followed until its child execs or ends (then it is forgotten in silence) or has lived on past the
//! grace. What that, and everything else, means is for the detectors to say: the core knows no hazard. It owns what they
//! share, which is the processes that are followed, the timers, repeats, and the life of findings. Who drives it, the
//! kernel, a recording or a written timeline, makes no difference.

mod case;
mod children;
mod context;
mod crowds;
mod detector;
mod findings;
mod later;
mod output;
mod processes;
mod recent;
mod repeats;
mod scheduler;
mod settings;
mod signals;
pub mod suppress;
mod sweeps;
mod wakefulness;

use std::time::Duration;

use self::scheduler::Setter;
use crate::model::{
    event::Event, evidence::Evidence, followed::Followed, held_lock::HeldLocksSeen, observation::Observation,
    probe_request::ProbeRequest, process::ProcessKey, reported::Reported, resolution::Resolution,
    time::BootTime,
};

#[cfg(test)]
pub(crate) use self::signals::end_of;
pub use self::{
    case::{EarlierFork, ForkCase, Judgement, Verdict},
    context::Context,
    detector::{Detector, Unanswered},
    findings::Report,
    later::{later, resolved},
    output::{Dropped, LivesOn, Output, Shared},
    processes::{Birth, Life, Process, Processes},
    recent::Recent,
    settings::{Settings, SettingsError},
    signals::how_it_ended,
    wakefulness::Rest,
};
#[cfg(test)]
use crate::model::{
    child_end::ChildEnd,
    event::Exit,
    finding::Finding,
    held_lock::{AtFork, HeldAtFork},
};

/// What is known of the processes, and who judges it.
pub struct Core {
    context: Context,
    detectors: Vec<Box<dyn Detector>>,
}

impl Core {
    /// Starts with nothing known, and these detectors, which are called in this order.
    pub fn new(settings: Settings, detectors: Vec<Box<dyn Detector>>) -> Self {
        let mut core = Self { context: Context::new(Settings::default()), detectors };
        core.configure(settings);
        core
    }

    /// Judges by other settings from now on. What is known stays known; what is being waited for keeps its time.
    pub fn configure(&mut self, settings: Settings) {
        if settings.sweep_interval.is_some() {
            self.context.sweeps.begin();
        }
        self.context.settings = settings.bounded();
    }

    /// Takes in what the kernel side reports.
    pub fn reported(&mut self, reported: &Reported, out: &mut Vec<Output>) {
        self.at(reported.at(), out, |core| match reported {
            Reported::Event(event) => core.happened(event),
            Reported::Observation(seen) => core.observed(seen),
        });
    }

    /// Takes in the answer to a question, at the time it came. What nobody asked, or asks any more, is ignored.
    pub fn evidence(&mut self, at: BootTime, evidence: &Evidence, out: &mut Vec<Output>) {
        self.at(at, out, |core| core.answered(evidence));
    }

    /// Does everything that is due by now. Afterwards [`Self::deadline`] lies in the future.
    pub fn advance(&mut self, now: BootTime, out: &mut Vec<Output>) {
        self.at(now, out, |core| {
            while let Some(timer) = core.context.scheduler.take(now) {
                match timer.setter {
                    Setter::Detector(place) => {
                        if core.context.scheduler.counts(&timer) {
                            core.context.scheduler.cancel(timer.setter, timer.process, timer.topic);
                            core.call(place, |detector, context| {
                                detector.on_timer(timer.process, timer.topic, context);
                            });
                        }
                    }
                    Setter::Child | Setter::Forker if !children::counts(&core.context.processes, &timer) => {}
                    Setter::Child => core.look_at_child(timer.process),
                    Setter::Forker => core.look_at_forker(timer.process),
                }
            }
            core.sweep();
            core.look_who_fell_asleep();
            let Context { findings, settings, out, .. } = &mut core.context;
            findings.repeats.advance(now, settings.summary_interval, out);
        });
    }

    /// How many detectors there are.
    pub fn detectors(&self) -> usize {
        self.detectors.len()
    }

    /// Whether the detector with this place in the list waits to look at anything.
    pub fn waits(&self, detector: usize) -> bool {
        self.context.scheduler.waits(Setter::Detector(detector))
    }

    /// Does now all that this detector would do later: for who cannot wait until then.
    pub fn hurry(&mut self, detector: usize, now: BootTime, out: &mut Vec<Output>) {
        self.at(now, out, |core| {
            for timer in core.context.scheduler.take_all(Setter::Detector(detector)) {
                core.call(detector, |detector, context| {
                    detector.on_timer(timer.process, timer.topic, context);
                });
            }
        });
    }

    /// How many processes wait in a way that may be endless, but not for long enough yet to say so.
    pub fn waiting(&self) -> usize {
        self.context.processes.waiting()
    }

    /// Reports the repeats that would have waited for their summary: nothing more will come.
    pub fn close(&mut self, now: BootTime, out: &mut Vec<Output>) {
        self.context.findings.repeats.sum_up(now, Duration::ZERO, out);
    }

    /// When [`Self::advance`] has something to do next.
    pub fn deadline(&self) -> Option<BootTime> {
        let Context { scheduler, findings, sweeps, wakefulness, processes, .. } = &self.context;
        let others =
            [findings.repeats.deadline(), sweeps.deadline(), wakefulness.deadline(processes.living())];
        scheduler.deadline().into_iter().chain(others.into_iter().flatten()).min()
    }

    /// Whether a process is known to live on as a forked child that has not exec'd.
    pub fn lives_on(&self, process: ProcessKey) -> bool {
        self.context.processes.life(process).is_some()
    }

    /// The children that live on, by pid.
    pub fn followed_children(&self) -> Vec<Followed> {
        self.context.processes.followed()
    }

    /// Does something at a time, and gives out what came of it.
    fn at(&mut self, now: BootTime, out: &mut Vec<Output>, act: impl FnOnce(&mut Self)) {
        self.context.now = now;
        std::mem::swap(&mut self.context.out, out);
        act(self);
        let Context { scheduler, processes, .. } = &mut self.context;
        // Each process has two timers of the core's that count at most.
        if scheduler.is_crowded(2 * processes.len()) {
            scheduler.tidy(|timer| children::counts(processes, timer));
        }
        std::mem::swap(&mut self.context.out, out);
    }

    fn happened(&mut self, event: &Event) {
        self.each(|detector, context| detector.on_event(event, context));
        match event {
            Event::Fork(fork) => self.forked(fork),
            Event::Exec(exec) => {
                self.forget(exec.process);
                self.context.over(exec.process, None, Resolution::Execed, None);
            }
            Event::Exit(exit) => {
                let end = self.context.end(exit);
                let hung = self.context.processes.life(exit.process).is_some_and(|life| life.hung.is_some());
                let how = how_it_ended(&end, hung);
                self.forget(exit.process);
                self.context.over(exit.process, None, how, Some(&end));
                self.unwatch_signals(exit.process);
            }
            Event::Thread(_) | Event::CloneFailure(_) | Event::Lost(_) => {}
        }
    }

    fn observed(&mut self, seen: &Observation) {
        if let Observation::Signal(signal) = seen {
            self.context.signals.sent(signal);
        }
        self.each(|detector, context| detector.on_observation(seen, context));
    }

    fn answered(&mut self, evidence: &Evidence) {
        if let Evidence::HeldLocks { child, seen: HeldLocksSeen::Alive(held) } = evidence {
            self.context.processes.set_held(*child, held);
        }
        self.each(|detector, context| detector.on_evidence(evidence, context));
        match evidence {
            Evidence::Parent { child, seen, ended } => self.forker_seen(*child, seen.as_ref(), *ended),
            Evidence::Child { child, seen } => self.child_seen(*child, seen),
            Evidence::Sweep { seen } => self.swept(seen.as_deref()),
            Evidence::NextFork => self.context.sweeps.forked_again(self.context.now),
            Evidence::FellAsleep { seen } => self.context.wakefulness.answered(seen.is_some()),
            _ => {}
        }
    }

    /// Calls every detector.
    fn each(&mut self, mut act: impl FnMut(&mut dyn Detector, &mut Context)) {
        for place in 0..self.detectors.len() {
            self.call(place, &mut act);
        }
    }

    /// Calls the detector with this place in the list.
    fn call(&mut self, place: usize, act: impl FnOnce(&mut dyn Detector, &mut Context)) {
        let Some(detector) = self.detectors.get_mut(place) else { return };
        self.context.at_work = place;
        act(detector.as_mut(), &mut self.context);
        while let Some((process, how)) = self.context.left.pop() {
            match how {
                Some(how) => {
                    self.forget(process);
                    self.context.over(process, None, how, None);
                }
                None => self.end_life(process),
            }
        }
        while let Some(child) = self.context.released.pop() {
            self.settle(child);
        }
    }

    /// Forgets a process that has exec'd or ended.
    fn forget(&mut self, process: ProcessKey) {
        self.end_life(process);
        self.context.processes.remove(process);
    }

    /// Follows no more how a process lives on. Detectors find it in the table for the last time.
    fn end_life(&mut self, process: ProcessKey) {
        if self.context.processes.life(process).is_some() {
            self.each(|detector, context| detector.forget(process, context));
            self.context.processes.end_life(process);
        }
    }

    /// A process has ended, and nothing will be sent to it any more.
    fn unwatch_signals(&mut self, process: ProcessKey) {
        if self.context.signals.forget(process) {
            self.context.probe(ProbeRequest::UnwatchSignals(process));
        }
    }
}

/// What tests see of the inside.
#[cfg(test)]
impl Core {
    /// How many processes are followed.
    pub(crate) fn followed(&self) -> usize {
        self.context.processes.len()
    }

    /// Of how many it is not known yet what becomes of them, or what their fork was like.
    pub(crate) fn in_grace(&self) -> usize {
        self.context.processes.in_grace()
    }

    /// How many processes and objects the detector with this place in the list remembers.
    pub(crate) fn remembered(&self, place: usize) -> usize {
        self.detectors[place].remembers().0
    }

    /// When that detector is called next about a process.
    pub(crate) fn due(&self, place: usize, process: ProcessKey) -> Option<BootTime> {
        self.context.scheduler.due(place, process)
    }

    /// Whether no finding waits for the end of its child.
    pub(crate) fn findings_are_over(&self) -> bool {
        self.context.findings.are_over()
    }

    /// Whether everything that grows is within its bounds.
    pub(crate) fn is_within_bounds(&self) -> bool {
        let Context { processes, settings, signals, findings, scheduler, .. } = &self.context;
        processes.living() <= settings.max_children
            && processes.len() - processes.living() <= settings.max_children
            && signals.within_bounds()
            && findings.within_bounds()
            && !scheduler.is_crowded(2 * processes.len())
            && self.detectors.iter().all(|detector| detector.remembers().1)
    }

    /// Whether the lock of a child that this futex word belongs to was held at the fork.
    pub(crate) fn held_at_fork(&self, child: ProcessKey, futex: u64) -> Option<HeldAtFork> {
        self.context.processes.held_at_fork(child, futex)
    }

    /// Whether a fork on the way to a child left threads behind.
    pub(crate) fn left_threads_behind(&self, child: ProcessKey) -> Option<bool> {
        self.context.processes.get(child).and_then(Process::left_threads_behind)
    }

    /// What that lock of CPython's was at the fork.
    pub(crate) fn at_fork(&self, child: ProcessKey, lock: u64) -> Option<AtFork> {
        self.context.processes.get(child)?.held()?.at_fork(lock)
    }

    /// How many signals to a child are kept.
    pub(crate) fn signals_kept(&self, child: ProcessKey) -> usize {
        self.context.signals.kept(child)
    }

    /// When repeats are summed up next.
    pub(crate) fn summary_deadline(&self) -> Option<BootTime> {
        self.context.findings.repeats.deadline()
    }

    /// How a child ended, by the signals that were sent to it.
    pub(crate) fn end(&self, exit: &Exit) -> ChildEnd {
        self.context.end(exit)
    }

    /// Has the signals to a child watched.
    pub(crate) fn suspect(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        let now = self.context.now;
        self.at(now, out, |core| core.context.suspect(child));
    }

    /// Has a child, if it lives on, hang since then, as this finding tells.
    pub(crate) fn hang(&mut self, child: ProcessKey, finding: Finding, since: BootTime) {
        if let Some(life) = self.context.processes.life_mut(child) {
            life.hung = Some(Box::new((finding, since)));
        }
    }

    /// Has a finding end with its child.
    pub(crate) fn keep_open(&mut self, finding: Finding) {
        self.context.follow_up(finding);
    }

    /// The children about which a finding says that they hang.
    pub(crate) fn hanging(&self) -> Vec<ProcessKey> {
        self.context.processes.hanging()
    }

    /// Whether the next sweep looks at everything.
    pub(crate) fn sweeps_all(&self) -> bool {
        self.context.sweeps.looks_at_all()
    }
}
