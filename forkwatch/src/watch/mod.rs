//! The pure core: events and evidence in, questions and findings out. No clock, no I/O.
//!
//! Each copying fork is followed until its child execs or ends (then it is forgotten in silence) or has lived on
//! past the grace (then it is judged by the rules of [`crate::hazard`]). Who drives it, the kernel, a recording or
//! a written timeline, makes no difference.

mod case;
mod children;
mod connections;
mod deaths;
mod killed;
mod leaks;
mod ledger;
mod living;
mod locks;
mod lost_threads;
mod output;
mod programs;
mod recent;
mod settings;
mod succession;
mod sweeps;
mod timers;
mod zombies;

#[cfg(test)]
mod tests;

use std::time::Duration;

use self::{
    children::Children,
    connections::Connections,
    deaths::Deaths,
    killed::{Signals, how_it_ended},
    leaks::Leaks,
    ledger::Ledger,
    living::{Living, Pace},
    lost_threads::LostThreads,
    programs::Programs,
    recent::Recent,
    sweeps::Sweeps,
    timers::{Task, Timer, Timers},
    zombies::Zombies,
};
use crate::{
    hazard::{allow::allowed, called},
    model::{
        child_end::ChildEnd,
        event::{CloneKind, Event},
        evidence::Evidence,
        finding::{Finding, HazardId, Resolution, State},
        process::{ProcessKey, Program},
        time::{BootTime, nanoseconds},
    },
};

pub use self::{
    output::{Dropped, LivesOn, Output, Shared},
    settings::{Settings, SettingsError},
};

/// Most reported children whose end is waited for.
const MOST_FOLLOWED: usize = 1024;
/// Most processes of which it is known that another has shared their memory.
const MOST_SHARERS: usize = 1024;
/// Timers that no longer count are thrown away when there are this many more than could count.
const IDLE_TIMERS: usize = 1 << 16;

/// The state machine.
pub struct Watch {
    settings: Settings,
    timers: Timers,
    children: Children,
    programs: Programs,
    living: Living,
    pace: Pace,
    connections: Connections,
    deaths: Deaths,
    zombies: Zombies,
    signals: Signals,
    lost: LostThreads,
    leaks: Leaks,
    ledger: Ledger,
    sweeps: Sweeps,
    /// Processes that have cloned another with their own memory (`CLONE_VM`) and not exec'd since.
    sharers: Recent<()>,
    /// Findings that were reported one by one, by the child whose end resolves them.
    followed: Recent<Vec<Finding>>,
}

impl Watch {
    /// Starts with nothing known.
    pub fn new(settings: Settings) -> Self {
        let mut watch = Self {
            settings: Settings::default(),
            timers: Timers::default(),
            children: Children::new(),
            programs: Programs::new(),
            living: Living::new(),
            pace: Pace::default(),
            connections: Connections::new(),
            deaths: Deaths::new(),
            zombies: Zombies::default(),
            signals: Signals::new(),
            lost: LostThreads::default(),
            sweeps: Sweeps::default(),
            leaks: Leaks::default(),
            ledger: Ledger::default(),
            sharers: Recent::new(MOST_SHARERS),
            followed: Recent::new(MOST_FOLLOWED),
        };
        watch.configure(settings);
        watch
    }

    /// Judges by other settings from now on. What is known stays known; what is being waited for keeps its time.
    pub fn configure(&mut self, settings: Settings) {
        if settings.sweep_interval.is_some() {
            self.sweeps.begin();
        }
        self.settings = settings.bounded();
    }

    /// Takes in an event.
    pub fn event(&mut self, event: &Event, out: &mut Vec<Output>) {
        match event {
            Event::Fork(fork) => {
                self.programs.forked(fork);
                if fork.kind == CloneKind::SharedMemory {
                    self.sharers.insert(fork.parent, ());
                }
                self.forked(fork, out);
            }
            Event::Exec(exec) => {
                let child = self.left(exec.process);
                self.lost.left(exec.process);
                self.sharers.remove(exec.process);
                self.no_longer_lives(exec.process, out);
                self.leaks.forget(exec.process);
                self.resolve(exec.process, None, Resolution::Execed, exec.at, out);
                self.started(exec, child.as_ref(), out);
            }
            Event::Exit(exit) => {
                self.left(exit.process);
                self.lost.left(exit.process);
                self.leaks.forget(exit.process);
                self.programs.ended(exit.process);
                self.said_farewell(exit.process, exit.status, exit.at, out);
                self.died(exit, out);
                let end = self.end(exit);
                let how = match self.ended(exit, out) {
                    // What was not stuck is told by its signals alone.
                    Resolution::Exited | Resolution::Killed => how_it_ended(&end),
                    how => how,
                };
                self.over(exit.process, None, (how, Some(&end)), exit.at, out);
                self.unwatch_signals(exit.process, out);
            }
            Event::Signal(signal) => self.signals.sent(signal),
            Event::SocketUse(used) => self.socket_used(used, out),
            Event::Thread(_) | Event::CloneFailure(_) | Event::Lost(_) => {}
        }
    }

    /// Takes in the answer to a question, at the time it came. What nobody asked, or asks any more, is ignored.
    pub fn evidence(&mut self, at: BootTime, evidence: Evidence, out: &mut Vec<Output>) {
        match evidence {
            Evidence::Parent { child, seen } => self.parent_seen(at, child, seen, out),
            Evidence::Child { child, seen } => self.child_seen(at, child, &seen, out),
            Evidence::Locks { child, seen } => self.locks_seen(at, child, seen, out),
            Evidence::Place { child, seen } => self.place_seen(at, child, seen, out),
            Evidence::Sockets { child, seen } => self.sockets_seen(at, child, seen, out),
            Evidence::Sweep { seen } => self.swept(at, seen.as_deref(), out),
            Evidence::NextFork => self.forked_again(at),
            Evidence::Program { tgid, seen } => {
                self.neglect_seen(at, tgid, seen.as_deref(), out);
                self.loop_seen(at, tgid, seen.as_deref(), out);
            }
            Evidence::Threads { child, seen } => self.threads_seen(at, child, seen.as_ref(), out),
            Evidence::Descriptors { process, seen: None, lives: true } => self.leak_unseen(at, process, out),
            Evidence::Descriptors { process, seen, lives: _ } => {
                self.descriptors_seen(at, process, seen, out);
            }
            Evidence::Holders { process, object, seen } => self.holders_seen(at, process, object, seen, out),
            Evidence::Execed { process, seen } => self.program_seen(at, process, seen, out),
        }
    }

    /// Does everything that is due by now. Afterwards [`Self::deadline`] lies in the future.
    pub fn advance(&mut self, now: BootTime, out: &mut Vec<Output>) {
        while let Some(timer) = self.timers.take(now) {
            match timer.task {
                Task::Child => self.look_at_child(&timer, now, out),
                Task::Parent => self.look_at_parent(&timer, now, out),
                Task::Program => self.look_at_program(&timer, now, out),
                Task::Living => self.look_at_living(&timer, now, out),
                Task::Connection(_) => self.look_at_connection(&timer, now, out),
                Task::Loop => self.look_at_loop(&timer, now, out),
                Task::Family => self.look_at_family(&timer, now, out),
                Task::Threads => self.look_at_threads(&timer, now, out),
                Task::Leaks => self.look_for_leaks(&timer, now, out),
            }
        }
        self.sweep(now, out);
        self.ledger.advance(now, self.settings.summary_interval, out);
    }

    /// Reports the repeats that would have waited for their summary: nothing more will come.
    pub fn close(&mut self, now: BootTime, out: &mut Vec<Output>) {
        self.ledger.sum_up(now, Duration::ZERO, out);
    }

    /// When [`Self::advance`] has something to do next.
    pub fn deadline(&self) -> Option<BootTime> {
        self.timers.deadline().into_iter().chain(self.ledger.deadline()).chain(self.sweeps.deadline()).min()
    }

    fn set(&mut self, due: BootTime, process: ProcessKey, task: Task) {
        self.timers.set(Timer { due, process, task });
        if self.timers.len() > self.most_timers() {
            let Self { timers, children, programs, living, connections, deaths, lost, leaks, .. } = self;
            timers.retain(|timer| match timer.task {
                Task::Child | Task::Parent => Self::child_awaits(children, timer),
                Task::Program => programs.awaits(timer),
                Task::Living => Self::living_awaits(living, timer),
                Task::Connection(_) => Self::connection_awaits(connections, timer),
                Task::Loop => deaths.awaits(timer),
                // One for each that is looked at, and few.
                Task::Family => true,
                Task::Threads => lost.awaits(timer),
                Task::Leaks => leaks.awaits(timer),
            });
        }
    }

    /// Each child has two timers that count at most, everything else one.
    fn most_timers(&self) -> usize {
        IDLE_TIMERS
            + 2 * self.children.len()
            + self.living.len()
            + self.connections.len()
            + self.leaks.len()
            + programs::MOST_PROGRAMS
            + deaths::MOST_LOOPS
            + deaths::MOST_SEEN
            + lost_threads::MOST_CHILDREN
    }

    /// Reports a finding, unless the operator accepts it. `heir` is a program besides the one to blame that allow
    /// rules may name.
    fn report(&mut self, finding: Finding, follow: bool, heir: Option<&Program>, out: &mut Vec<Output>) {
        if let Some(reported) = self.enter(finding, heir, out).filter(|_| follow) {
            self.follow_up(reported, out);
        }
    }

    /// Has the end of the child resolve this finding.
    fn follow_up(&mut self, reported: Finding, out: &mut Vec<Output>) {
        let child = reported.child;
        let mut findings = self.followed.remove(child).unwrap_or_default();
        findings.push(reported);
        self.followed.insert(child, findings);
        // Its end tells by which signal, and who sent that can be seen only when it is sent.
        self.watch_signals(child, out);
    }

    /// The same, and returns it where it is reported now. Whoever calls this says how it ends.
    fn enter(&mut self, finding: Finding, heir: Option<&Program>, out: &mut Vec<Output>) -> Option<Finding> {
        let (hazard, facts) = (finding.hazard, &finding.facts);
        let count = facts.thread_count.unwrap_or(0);
        let accepted = |program| allowed(&self.settings.allow, hazard, program, &facts.threads, count);
        if let Some((rule, accepting)) = accepted(&finding.program).or_else(|| heir.and_then(accepted)) {
            let reason = accepting.reason().to_owned();
            out.push(Output::Allowed { hazard, program_name: finding.program_name, rule, reason });
            return None;
        }
        let program_name = finding.program_name.clone();
        let unit = finding.program.place().map(str::to_owned);
        out.push(Output::Unsafe { hazard, program_name, unit, uid: finding.program.uid });
        let Settings { summary_interval, tell_each, .. } = self.settings;
        self.ledger.enter(finding, summary_interval, tell_each, out)
    }

    /// Says of the findings about a child, or of those of one hazard, how they ended.
    fn resolve(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        how: Resolution,
        at: BootTime,
        out: &mut Vec<Output>,
    ) {
        self.over(child, hazard, (how, None), at, out);
    }

    /// The same, with how exactly the child ended.
    fn over(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        (how, end): (Resolution, Option<&ChildEnd>),
        at: BootTime,
        out: &mut Vec<Output>,
    ) {
        // A wait that has ended is no end of the child.
        if hazard.is_none() {
            let words = end.map_or_else(|| how.words().to_owned(), ChildEnd::words);
            self.ledger.ended(child, at, &words);
        }
        if self.followed.is_empty() {
            return;
        }
        let findings = self.followed.remove(child).unwrap_or_default();
        let (over, open): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| hazard.is_none_or(|hazard| finding.hazard == hazard));
        if !open.is_empty() {
            self.followed.insert(child, open);
        } else if !over.is_empty() && !self.is_suspect(child) {
            self.unwatch_signals(child, out);
        }
        for mut finding in over {
            finding.facts.end = end.map(|end| Box::new(end.of_program(&finding.program_name)));
            let (name, parent) = (called(&finding.program), finding.parent.tgid);
            let words = finding.facts.end.as_ref().map_or_else(|| how.words().to_owned(), |end| end.words());
            let summary = format!("{} of {name} (pid {parent}) {words}", child.tgid);
            out.push(resolved(finding, how, at, summary));
        }
    }
}

/// A finding that is over.
fn resolved(mut finding: Finding, how: Resolution, at: BootTime, summary: String) -> Output {
    let later = nanoseconds(at.since(finding.at));
    finding.facts.age = finding.facts.age.map(|age| age.saturating_add(later));
    finding.at = at;
    finding.state = State::Resolved(how);
    finding.summary = summary;
    Output::Finding(Box::new(finding))
}
