//! Locks on files that whoever took them has left to others, which may have exec'd since: a job that a script leaves in the
//! background, a daemon that flock(1) has started.
//!
//! A look at all processes tells who waits for a lock that its taker does not hold. Who waits for long is looked for again,
//! and with it all that hold the lock, which is dear: ever less often while these have a right to it.

mod rule;

use std::{collections::HashMap, time::Duration};

use self::rule::{Case, judge, keeper};
use super::HAZARD;
use crate::{
    core::{Context, Detector, Report},
    model::{
        evidence::{Evidence, Request},
        left_lock::{LockHolders, LockWait},
        process::ProcessKey,
        resolution::Resolution,
        seen::Sweep,
        time::BootTime,
    },
};

/// How long somebody must have been seen to wait: most that hold a lock hold it for less.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest pause between two looks at those who hold a lock with right.
const LONGEST_PAUSE: Duration = Duration::from_secs(160);
/// While a finding is open.
const WHILE_OPEN: Duration = Duration::from_secs(16);
/// Most processes that are seen to wait at once.
const MOST_WAITS: usize = 256;

/// Processes that wait for a lock that its taker has left to others.
#[derive(Default)]
pub(in crate::detect) struct KeptLocks {
    /// By the process that waits.
    waits: HashMap<ProcessKey, Wait>,
}

struct Wait {
    what: LockWait,
    since: BootTime,
    pause: Duration,
    /// Who was reported to keep it.
    reported: Option<ProcessKey>,
}

impl Detector for KeptLocks {
    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Sweep { seen: Some(seen) } => self.swept(seen, context),
            Evidence::LockHolders { wait, seen } => self.seen(wait, seen.as_deref(), context),
            _ => {}
        }
    }

    fn on_timer(&mut self, waiter: ProcessKey, _topic: u64, context: &mut Context) {
        if let Some(waiting) = self.waits.get(&waiter) {
            context.ask(Request::LockHolders { wait: waiting.what.clone() });
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.waits.len(), self.waits.len() <= MOST_WAITS)
    }
}

impl KeptLocks {
    fn swept(&mut self, sweep: &Sweep, context: &mut Context) {
        for wait in &sweep.waits {
            let is_known = self.waits.get(&wait.waiter).is_some_and(|known| known.what == *wait);
            if is_known || self.waits.len() >= MOST_WAITS {
                continue;
            }
            let (wait, pause) = (wait.clone(), PATIENCE * 2);
            context.wake_at(context.now + context.settings.pause(PATIENCE), wait.waiter);
            let waiting = Wait { since: sweep.at, pause, reported: None, what: wait };
            if let Some(before) = self.waits.insert(waiting.what.waiter, waiting) {
                over(&before, context);
            }
        }
    }

    fn seen(&mut self, wait: &LockWait, seen: Option<&LockHolders>, context: &mut Context) {
        let Some(waiting) = self.waits.get_mut(&wait.waiter).filter(|waiting| waiting.what == *wait) else {
            return;
        };
        let Some(seen) = seen else {
            if let Some(waiting) = self.waits.remove(&wait.waiter) {
                over(&waiting, context);
            }
            return;
        };
        let keeper = keeper(seen, wait, &context.processes);
        let process = keeper.map(|keeper| keeper.process);
        if waiting.reported.is_some() && waiting.reported != process {
            over(waiting, context);
            waiting.reported = None;
        }
        if let (Some(keeper), None) = (keeper, waiting.reported) {
            waiting.reported = process;
            let case = Case { keeper, seen, wait, since: waiting.since };
            let parent = (keeper.process, &keeper.program);
            let finding = judge(&case).finding(context.now, HAZARD.id, parent, (keeper.process, keeper.comm));
            context.report(Report::until_the_end(finding));
        }
        let pause = if waiting.reported.is_some() { WHILE_OPEN } else { waiting.pause };
        waiting.pause = (waiting.pause * 2).min(LONGEST_PAUSE);
        if waiting.reported.is_some() {
            context.wake_at(context.now + pause, wait.waiter);
        } else if context.settings.snapshot {
            self.waits.remove(&wait.waiter);
        } else {
            context.wake_at(context.now + pause, wait.waiter);
        }
    }
}

/// Nobody waits for it any more, or it has gone to another.
fn over(waiting: &Wait, context: &mut Context) {
    context.sleep(waiting.what.waiter);
    if let Some(keeper) = waiting.reported {
        context.resolve(keeper, HAZARD.id, Resolution::Cleared);
    }
}
