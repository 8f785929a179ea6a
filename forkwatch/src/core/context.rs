//! What a detector has to do with: the time, the process table, timers, and the way out.

use super::{
    Output, Settings,
    findings::{Findings, Report},
    later::later,
    processes::Processes,
    scheduler::{Scheduler, Setter, Timer},
    signals::{Signals, Why},
    sweeps::Sweeps,
    wakefulness::{Rest, Wakefulness},
};
use crate::model::{
    child_end::ChildEnd,
    event::Exit,
    evidence::Request,
    finding::{Finding, HazardId, State},
    probe_request::ProbeRequest,
    process::ProcessKey,
    resolution::Resolution,
    time::BootTime,
};

/// The core, as a detector sees it.
pub struct Context {
    /// The time of what is being dealt with.
    pub now: BootTime,
    /// The settings of the watch.
    pub settings: Settings,
    /// The followed processes.
    pub processes: Processes,
    pub(super) findings: Findings,
    pub(super) scheduler: Scheduler,
    pub(super) signals: Signals,
    pub(super) sweeps: Sweeps,
    pub(super) wakefulness: Wakefulness,
    pub(super) out: Vec<Output>,
    /// Processes of which a detector has seen that they are gone, or that they cannot be looked at.
    pub(super) left: Vec<(ProcessKey, Option<Resolution>)>,
    /// Children whose forks may be judged now.
    pub(super) released: Vec<ProcessKey>,
    /// The place in the list of the detector that is at work.
    pub(super) at_work: usize,
}

impl Context {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            now: BootTime(0),
            settings,
            processes: Processes::default(),
            findings: Findings::default(),
            scheduler: Scheduler::default(),
            signals: Signals::new(),
            sweeps: Sweeps::default(),
            wakefulness: Wakefulness::default(),
            out: Vec::new(),
            left: Vec::new(),
            released: Vec::new(),
            at_work: 0,
        }
    }

    /// Puts something out.
    pub fn tell(&mut self, output: Output) {
        self.out.push(output);
    }

    /// Puts a question to the host. The answer comes as evidence, if one comes.
    pub fn ask(&mut self, request: Request) {
        self.tell(Output::Ask(request));
    }

    /// Has the kernel side do something.
    pub fn probe(&mut self, request: ProbeRequest) {
        self.tell(Output::Probe(request));
    }

    /// Has this detector called again about a process, in place of the time that it set before for the same.
    pub fn wake_at(&mut self, due: BootTime, process: ProcessKey) {
        self.wake_about(0, due, process);
    }

    /// The same, about one of several topics.
    pub fn wake_about(&mut self, topic: u64, due: BootTime, process: ProcessKey) {
        self.scheduler.set(Timer { due, process, setter: Setter::Detector(self.at_work), topic });
    }

    /// Whether it is told which children fall asleep, so that whoever sleeps need not be looked at again and again.
    pub const fn is_told_who_falls_asleep(&self) -> bool {
        self.wakefulness.is_told()
    }

    /// Whether a child has slept on since a look at it found nothing, so that no other is needed for now. Where it is not
    /// told who falls asleep, nobody is known to.
    pub fn sleeps_on(&self, rest: Rest) -> bool {
        self.wakefulness.sleeps_on(rest, self.now)
    }

    /// The same as [`Self::wake_at`], where nothing is suspect about the process: a snapshot leaves it alone from now on.
    pub fn wake_to_look(&mut self, due: BootTime, process: ProcessKey) {
        if self.settings.snapshot {
            self.sleep(process);
        } else {
            self.wake_at(due, process);
        }
    }

    /// Has this detector not called about a process any more, whatever it has set before.
    pub fn sleep(&mut self, process: ProcessKey) {
        self.scheduler.cancel(Setter::Detector(self.at_work), process, 0);
    }

    /// Sets a timer of the core's own.
    pub(super) fn set(&mut self, due: BootTime, process: ProcessKey, setter: Setter) {
        self.scheduler.set(Timer { due, process, setter, topic: 0 });
    }

    /// A look has shown that a followed process has ended or exec'd, of which no record told. It is forgotten, and its
    /// findings end in this way.
    pub fn gone(&mut self, process: ProcessKey, how: Resolution) {
        self.left.push((process, Some(how)));
    }

    /// How a process lives on can no longer be followed: nothing can be learnt of that. What its fork was like is judged
    /// all the same.
    pub fn lose(&mut self, process: ProcessKey) {
        self.left.push((process, None));
    }

    /// Has a fork not judged before [`Self::release`]: a detector is about to learn more of its child.
    pub fn hold(&mut self, child: ProcessKey) {
        let who = self.bit();
        if let Some(case) = self.processes.get_mut(child).and_then(|process| process.case.as_mut()) {
            case.on_hold |= who;
        }
    }

    /// Has it judged, as soon as all else is known, and no other detector is about to learn more.
    pub fn release(&mut self, child: ProcessKey) {
        let who = self.bit();
        let case = self.processes.get_mut(child).and_then(|process| process.case.as_mut());
        let Some(case) = case.filter(|case| case.on_hold & who != 0) else { return };
        case.on_hold &= !who;
        self.released.push(child);
    }

    /// Stands for the detector that is at work among those that hold a fork.
    fn bit(&self) -> u64 {
        u32::try_from(self.at_work).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
    }

    /// Reports a finding, unless the operator accepts it or it is a repeat. Gives it back where it is reported now.
    pub fn report(&mut self, report: Report<'_>) -> Option<Finding> {
        let follow = report.until_its_end;
        let reported = self.findings.report(report, &self.settings, &mut self.out)?;
        if follow {
            self.follow_up(reported.clone());
        }
        Some(reported)
    }

    /// Whether one of these hazards was found about those that a process forked, whether it was told or accepted.
    pub fn has_found(&self, forker: ProcessKey, hazards: &[HazardId]) -> bool {
        self.findings.has_found(forker, hazards)
    }

    /// Has the end of the child resolve a reported finding.
    pub fn follow_up(&mut self, reported: Finding) {
        let child = reported.child;
        self.findings.keep_open(reported);
        // Its end tells by which signal, and who sent that can be seen only when it is sent.
        self.watch_signals(child, Why::Finding);
    }

    /// Tells a later state of the open findings of one hazard about a child.
    pub fn tell_later(&mut self, child: ProcessKey, hazard: HazardId, state: State, words: &str) {
        let now = self.now;
        let of_it = self.findings.open(child).iter().filter(|finding| finding.hazard == hazard);
        self.out.extend(of_it.filter_map(|finding| later(finding, state, now, words)));
    }

    /// Says of the findings of one hazard about a child how they ended.
    pub fn resolve(&mut self, child: ProcessKey, hazard: HazardId, how: Resolution) {
        self.over(child, Some(hazard), how, None);
    }

    /// Says of the findings about a child, or of those of one hazard, how they ended, and how exactly the child did.
    pub(super) fn over(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        how: Resolution,
        end: Option<&ChildEnd>,
    ) {
        if self.findings.over(child, hazard, (how, end), self.now, &mut self.out) {
            self.unwatch_signals(child, Why::Finding);
        }
    }

    /// Has the signals to a child told from now on: it may hang.
    pub fn suspect(&mut self, child: ProcessKey) {
        self.watch_signals(child, Why::Suspicion);
    }

    /// Has them told no longer, unless a finding about it is open.
    pub fn no_longer_suspect(&mut self, child: ProcessKey) {
        self.unwatch_signals(child, Why::Suspicion);
    }

    /// Has the signals to a server's worker told as long as it lives, where there is room, and its end.
    pub fn watch_worker(&mut self, worker: ProcessKey) {
        self.watch_signals(worker, Why::Worker);
        self.follow(worker);
    }

    fn watch_signals(&mut self, child: ProcessKey, why: Why) {
        if self.signals.watch(child, why) {
            self.probe(ProbeRequest::WatchSignals(child));
        }
    }

    fn unwatch_signals(&mut self, child: ProcessKey, why: Why) {
        if self.signals.unwatch(child, why) {
            self.probe(ProbeRequest::UnwatchSignals(child));
        }
    }

    /// How a child ended, by the signals that were sent to it while they were watched.
    pub fn end(&self, exit: &Exit) -> ChildEnd {
        self.signals.end(exit)
    }

    /// Whether another process asked this child to end, a short time ago: it may clean up before it does, or try to.
    pub fn was_asked_to_end(&self, child: ProcessKey) -> bool {
        self.signals.ask_to_end(child, self.now)
    }

    /// Has the kernel side report the end of a child that lives on, if it would not by itself.
    pub fn follow(&mut self, child: ProcessKey) {
        let Some(process) = self.processes.get(child) else { return };
        let (child, parent_tgid) = (process.key, process.birth.parent.map_or(0, |parent| parent.tgid));
        let Some(life) = self.processes.life_mut(child) else { return };
        if !std::mem::replace(&mut life.tracked, true) {
            self.probe(ProbeRequest::Follow { child, parent_tgid });
        }
    }

    /// Has the next sweep look at everything, also where nothing was forked since the last.
    pub const fn sweep_all(&mut self, all: bool) {
        self.sweeps.look_at_all(all);
    }
}
