//! Children that die, and how often those of one parent do.

mod hazard;
mod succession;

use std::{collections::HashMap, time::Duration};

pub(super) use self::hazard::HAZARD;
use self::{
    hazard::{LoopCase, is_crash, is_success, judge},
    succession::{Death, Family, Run, WINDOW, Way},
};
use crate::{
    core::{Context, Detector, Judgement, Recent, Report, resolved},
    model::{
        event::{CloneKind, Event, Exit},
        evidence::{Evidence, Request},
        finding::Finding,
        probe_request::ProbeRequest,
        process::ProcessKey,
        program_name::called,
        resolution::Resolution,
        seen::ProgramSeen,
        time::{BootTime, nanoseconds},
    },
};

/// After so long without a death a loop is over.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// How long an answer may take before the question is put again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most parents whose children have died, and most loops that are waited for.
const MOST_FAMILIES: usize = 4096;
const MOST_LOOPS: usize = 1024;
/// Most parents of whose children the good ends are seen too: as many as the kernel side has room for.
const MOST_SEEN: usize = 256;

/// What this detector's timers are about.
const LOOP: u64 = 0;
const FAMILY: u64 = 1;

/// Counts how the children of each process end.
pub(super) struct CrashLoop {
    /// By the parent's tgid alone: an end does not tell when its parent started.
    families: Recent<Family>,
    /// Reported loops, by the parent's tgid.
    loops: HashMap<u32, Loop>,
    /// Parents of whose children the good ends are seen too, by tgid.
    seen: HashMap<u32, Seen>,
}

/// Since when, and until when unless another dies.
struct Seen {
    since: BootTime,
    due: BootTime,
}

/// A reported loop.
struct Loop {
    finding: Finding,
    last: BootTime,
}

impl Default for CrashLoop {
    fn default() -> Self {
        Self { families: Recent::new(MOST_FAMILIES), loops: HashMap::new(), seen: HashMap::new() }
    }
}

impl Detector for CrashLoop {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        if let Event::Exit(exit) = event {
            self.died(exit, context);
        }
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        if let Evidence::Program { tgid, seen } = evidence {
            self.loop_seen(*tgid, seen.as_deref(), context);
        }
    }

    fn on_timer(&mut self, process: ProcessKey, topic: u64, context: &mut Context) {
        match topic {
            LOOP => self.look_at_loop(process, context),
            _ => self.look_at_family(process, context),
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let Self { families, loops, seen } = self;
        let within = families.within_bounds() && loops.len() <= MOST_LOOPS && seen.len() <= MOST_SEEN;
        (families.len() + loops.len() + seen.len(), within)
    }
}

/// A family stands under its tgid alone.
const fn family(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

impl CrashLoop {
    /// A forked child ended that had not exec'd.
    fn died(&mut self, exit: &Exit, context: &mut Context) {
        self.looper_died(exit, context);
        if !is_crash(exit) {
            self.ended_well(exit);
            return;
        }
        if exit.lifetime >= nanoseconds(WINDOW) {
            return;
        }
        if let Some(found) = self.loops.get_mut(&exit.parent_tgid) {
            found.last = found.last.max(exit.at);
        }
        let key = family(exit.parent_tgid);
        let mut family = self.families.remove(key).unwrap_or_default();
        let death = Death {
            at: exit.at,
            child: exit.process,
            comm: exit.comm,
            status: exit.status,
            lifetime: exit.lifetime,
        };
        family.add(death, self.seen.get(&exit.parent_tgid).map(|seen| seen.since));
        self.look_at_good_ends(exit, family.is_suspicious(), context);
        if let Some(run) = family.run.as_mut().filter(|run| !run.settled && run.is_loop())
            && run.asked.is_none_or(|asked| exit.at.since(asked) >= PATIENCE)
        {
            run.asked = Some(exit.at);
            context.ask(Request::Program { tgid: exit.parent_tgid });
        }
        self.families.insert(key, family);
    }

    /// Has the good ends of a parent's children told too, once enough have died, for as long as they go on dying.
    fn look_at_good_ends(&mut self, exit: &Exit, suspicious: bool, context: &mut Context) {
        let parent = family(exit.parent_tgid);
        let due = exit.at + WINDOW;
        let room = self.seen.len() < MOST_SEEN;
        match self.seen.get_mut(&parent.tgid) {
            // The timer that was set looks when the next is due.
            Some(seen) => seen.due = seen.due.max(due),
            None if suspicious && room => {
                self.seen.insert(parent.tgid, Seen { since: exit.at, due });
                context.probe(ProbeRequest::WatchFamily(parent));
                context.wake_about(FAMILY, due, parent);
            }
            None => {}
        }
    }

    /// Looks at good ends no longer, where nobody has died for some time.
    fn look_at_family(&mut self, parent: ProcessKey, context: &mut Context) {
        let Some(seen) = self.seen.get(&parent.tgid) else { return };
        if seen.due > context.now {
            return context.wake_about(FAMILY, seen.due, parent);
        }
        self.seen.remove(&parent.tgid);
        context.probe(ProbeRequest::UnwatchFamily(parent));
    }

    /// A child ended in a way that does not count as dying.
    fn ended_well(&mut self, exit: &Exit) {
        if exit.kind != CloneKind::Copying || !self.seen.contains_key(&exit.parent_tgid) {
            return;
        }
        let key = family(exit.parent_tgid);
        let Some(mut family) = self.families.remove(key) else { return };
        let born = BootTime(exit.at.0.saturating_sub(exit.lifetime));
        if is_success(exit) {
            family.ended_well(exit.at, born);
        }
        self.families.insert(key, family);
    }

    /// Takes in what runs in a parent whose children die.
    fn loop_seen(&mut self, tgid: u32, seen: Option<&ProgramSeen>, context: &mut Context) {
        let key = family(tgid);
        let Some(mut family) = self.families.remove(key) else { return };
        let waiting = |run: &&mut Run| run.asked.is_some() && !run.settled && run.is_loop();
        let Some(run) = family.run.as_mut().filter(waiting) else {
            self.families.insert(key, family);
            return;
        };
        // A parent that is gone forks nobody any more; one that is younger than the dead was not theirs.
        let parents = |seen: &&ProgramSeen| {
            let born = family.recent.iter().map(Death::born).min();
            seen.process.tgid == tgid && born.is_some_and(|born| seen.process.start <= born)
        };
        let Some(seen) = seen.filter(parents) else { return };
        run.settled = true;
        let way = run.way();
        let judgement = judge(&LoopCase {
            parent: seen.process,
            program: &seen.program,
            program_name: &called(&seen.program),
            how: run.last.status,
            count: way.map_or(0, |way| way.count),
            lifetime: way.map_or(0, Way::median),
            history: run.history(),
            succession: run.succession(),
        });
        let last = run.last;
        self.families.insert(key, family);
        let Judgement::Unsafe(verdict) = judgement else { return };
        let parent = (seen.process, &seen.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (last.child, last.comm));
        let Some(finding) = context.report(Report::of(finding)) else { return };
        let room = self.loops.len() < MOST_LOOPS;
        if room && !self.loops.contains_key(&tgid) {
            context.wake_about(LOOP, last.at + QUIET, seen.process);
            self.loops.insert(tgid, Loop { finding, last: last.at });
        }
    }

    /// Says that a loop is over, if nobody has died for some time.
    fn look_at_loop(&mut self, parent: ProcessKey, context: &mut Context) {
        let Some(found) = self.loops.get(&parent.tgid) else { return };
        let due = found.last + QUIET;
        if due > context.now {
            return context.wake_about(LOOP, due, parent);
        }
        let quiet = "have stopped dying one after the other";
        self.end_loop(parent.tgid, Resolution::Cleared, quiet, context);
    }

    /// The looping parent itself was forked and never exec'd, and has ended.
    fn looper_died(&mut self, exit: &Exit, context: &mut Context) {
        let tgid = exit.process.tgid;
        let is_it = |found: &Loop| found.finding.parent == exit.process;
        if self.loops.get(&tgid).is_some_and(is_it) {
            self.end_loop(tgid, Resolution::Ended, "have no parent any more", context);
        }
        // Whoever gets this pid next begins anew.
        self.families.remove(family(tgid));
    }

    fn end_loop(&mut self, tgid: u32, how: Resolution, what: &str, context: &mut Context) {
        let Some(Loop { finding, .. }) = self.loops.remove(&tgid) else { return };
        let summary = format!("the children of {} (pid {tgid}) {what}", called(&finding.program));
        context.tell(resolved(finding, how, context.now, summary));
    }
}
