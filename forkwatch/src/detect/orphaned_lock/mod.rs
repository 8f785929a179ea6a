//! Children that wait for a lock: from the first look at a wait to the proof that it cannot end, and to its end.

pub mod hazard;
mod judged;
mod pace;
mod proof;
mod suspect;

use std::collections::HashMap;

pub(super) use self::hazard::HAZARD;
use self::{
    judged::{case, finding},
    pace::{LONGEST, Pace, SHORTEST, pause, together},
    suspect::{Stuck, Suspect},
};
use crate::{
    core::{Context, Detector, Dropped, Output, Recent, Report, Unanswered, later},
    model::{
        event::{CloneKind, Event, Exit},
        evidence::{Evidence, Request},
        finding::{Finding, State},
        lock::{Locks, LocksSeen, MAX_WAITS, Place},
        process::ProcessKey,
        resolution::Resolution,
        time::BootTime,
    },
};

/// Most processes of which it is known that another has shared their memory.
const MOST_SHARERS: usize = 1024;

/// Children that live on, each looked at now and then: ever less often where nothing changes.
pub(super) struct OrphanedLock {
    children: HashMap<ProcessKey, Child>,
    pace: Pace,
    /// Processes that have cloned another with their own memory (`CLONE_VM`) and not exec'd since.
    sharers: Recent<()>,
}

/// A child that lives on.
struct Child {
    process: ProcessKey,
    /// What it waits for, if it waits.
    stuck: Stuck,
    unanswered: Unanswered,
}

impl Default for OrphanedLock {
    fn default() -> Self {
        Self { children: HashMap::new(), pace: Pace::default(), sharers: Recent::new(MOST_SHARERS) }
    }
}

impl Detector for OrphanedLock {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) if fork.kind == CloneKind::SharedMemory => self.sharers.insert(fork.parent, ()),
            Event::Exec(exec) => drop(self.sharers.remove(exec.process)),
            Event::Exit(exit) => {
                self.ended(exit, context);
                self.sharers.remove(exit.process);
            }
            _ => {}
        }
    }

    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child).map(|process| process.key) else { return };
        let unanswered = Unanswered::default();
        self.children.insert(process, Child { process, stuck: Stuck::No, unanswered });
        context.wake_at(context.now + SHORTEST, process);
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(process, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Locks { child, seen } => self.seen(*child, seen, context),
            Evidence::Place { child, seen: Some(place) } => self.confirm(*child, Some(place), context),
            Evidence::FellAsleep { seen: Some(seen) } => self.fell_asleep(seen, context),
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(child) = self.children.remove(&process) else { return };
        context.sleep(process);
        if !matches!(child.stuck, Stuck::No) {
            context.no_longer_suspect(process);
        }
        if child.stuck.is_confirmed() {
            self.tell_stuck(context);
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), self.sharers.within_bounds())
    }
}

impl OrphanedLock {
    fn look_again_at(&self, process: ProcessKey, due: BootTime, context: &mut Context) {
        if self.children.contains_key(&process) {
            context.wake_at(due, process);
        }
    }

    /// Children that may have begun to wait are looked at now, and not when it is their turn.
    fn fell_asleep(&mut self, children: &[ProcessKey], context: &mut Context) {
        for process in children {
            let child = self.children.get(process);
            if child.is_some_and(|child| matches!(child.stuck, Stuck::No) && !child.unanswered.is_open()) {
                self.look(*process, context);
            }
        }
    }

    fn look(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(birth) = context.processes.get(process).map(|process| process.birth) else { return };
        if !context.settings.snapshot && !self.pace.take(birth.uid, context.now) {
            return self.look_again_at(process, context.now + SHORTEST, context);
        }
        let hopeless = |child: &Child| child.unanswered.is_hopeless();
        if self.children.get(&process).is_some_and(hopeless)
            && !self.out_of_sight(process, "forkwatch's questions about it are not answered", context)
        {
            context.tell(Output::Dropped(Dropped::Unanswered));
            return context.lose(process);
        }
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.put();
        let child = child.process;
        // A child is as old as its fork.
        let (parent, forked_at, forking_tid) = (birth.parent, Some(child.start), birth.forking_tid);
        context.ask(Request::Locks { child, parent, forked_at, forking_tid });
        self.look_again_at(child, context.now + LONGEST, context);
    }

    fn seen(&mut self, process: ProcessKey, seen: &LocksSeen, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        match seen {
            LocksSeen::Gone => context.gone(process, Resolution::Ended),
            LocksSeen::Execed => context.gone(process, Resolution::Execed),
            LocksSeen::Unreadable(why) => {
                if !self.out_of_sight(process, why, context) {
                    context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why: why.clone() });
                    context.lose(process);
                }
            }
            LocksSeen::Alive(locks) => self.weigh(process, locks, context),
        }
    }

    fn weigh(&mut self, process: ProcessKey, locks: &Locks, context: &mut Context) {
        let (now, stuck_after) = (context.now, context.settings.stuck_after);
        let Some(child) = self.children.get_mut(&process) else { return };
        if let Some(life) = context.processes.life_mut(process) {
            life.waits = false;
        }
        let Some(followed) = context.processes.get(process) else { return };
        // A stopped process neither moves nor proves anything: what was known stays.
        if locks.stopped {
            return context.wake_to_look(together(now, pause(followed.age(now))), process);
        }
        // Nor does one that was made to leave its wait in order to end.
        let has_left = child.stuck.suspect().is_some_and(|suspect| suspect.find(locks).is_none());
        if has_left && context.was_asked_to_end(process) {
            return self.look_again_at(process, now + SHORTEST, context);
        }
        // Of more waiting threads than are told, the last may be left out.
        let is_cut = locks.waits.len() >= MAX_WAITS;
        if has_left && is_cut && self.out_of_sight(process, "too many of its threads wait", context) {
            return;
        }
        let Some(child) = self.children.get_mut(&process) else { return };
        if has_left && child.stuck.is_first_miss() {
            return self.look_again_at(process, now + SHORTEST, context);
        }
        let Some(followed) = context.processes.get(process) else { return };
        let proven = hazard::prove(&case(followed, locks));
        let wait = proven.and_then(|proven| locks.waits.get(proven.wait));
        match (std::mem::take(&mut child.stuck), proven.zip(wait)) {
            (Stuck::Judged { suspect, finding }, _) if suspect.find(locks).is_some() => {
                let unchanged = now.since(suspect.since);
                child.stuck = Stuck::Judged { suspect, finding };
                self.in_sight(process, context);
                // Its end is told by the kernel side: a look only tells whether it woke.
                let pause = (unchanged / 4).clamp(SHORTEST, LONGEST * 4);
                self.look_again_at(process, together(now, pause), context);
            }
            (Stuck::Judged { .. }, _) => self.woke(process, context),
            (Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. }, Some((proven, wait)))
                if suspect.is_unmoved(locks) && suspect.wait.tid == wait.tid =>
            {
                let proven = proven.after(&suspect.proven);
                let suspect = Suspect { looks: suspect.looks.saturating_add(1), proven, ..suspect };
                self.wait_longer(process, suspect, locks, context);
            }
            (before, Some((proven, wait))) => {
                let since = context.settings.waits_since(locks.at, wait.slept);
                let suspect = Suspect::new(since, proven, wait.clone());
                if matches!(before, Stuck::No) {
                    // From now on its signals and its end must not be missed.
                    context.suspect(process);
                    context.follow(process);
                }
                self.wait_longer(process, suspect, locks, context);
            }
            (before, None) => {
                let may_get_stuck = followed.left_threads_behind() != Some(false) && locks.waits.is_empty();
                let is_told = context.is_told_who_falls_asleep();
                let most = if may_get_stuck && !is_told { stuck_after / 2 } else { LONGEST };
                let pause = pause(followed.age(now)).min(most.max(SHORTEST));
                if !matches!(before, Stuck::No) {
                    context.no_longer_suspect(process);
                }
                context.wake_to_look(together(now, pause), process);
            }
        }
    }

    /// Goes on with a wait that proves something: until it has lasted, then until it is described.
    fn wait_longer(&mut self, process: ProcessKey, suspect: Suspect, locks: &Locks, context: &mut Context) {
        let now = context.now;
        let enough = suspect.since + suspect.patience(&context.settings);
        let Some(child) = self.children.get_mut(&process) else { return };
        let locks = Box::new(locks.clone());
        if now < enough || suspect.looks < 2 {
            if let Some(life) = context.processes.life_mut(process) {
                life.waits = suspect.looks > 1;
            }
            child.stuck = Stuck::Suspected { suspect, locks };
            let halfway = enough.since(now) / 2;
            return self.look_again_at(process, enough.min(now + halfway.max(SHORTEST)), context);
        }
        if suspect.asked.is_hopeless() {
            child.stuck = Stuck::Proven { suspect, locks };
            return self.confirm(process, None, context);
        }
        let Some(followed) = context.processes.get(process) else { return };
        let parent = if followed.birth.was_seen() {
            locks.forker().or(followed.birth.parent)
        } else {
            hazard::forker_of_unseen(&locks, &suspect.proven)
        };
        let holder = suspect.proven.owner_in_parent();
        let (tid, address) = (suspect.wait.tid, suspect.wait.address);
        let (stacks, asked_of) = (context.settings.stacks, child.process);
        let mut suspect = suspect;
        suspect.asked.put();
        child.stuck = Stuck::Proven { suspect, locks };
        context.ask(Request::Place { child: asked_of, parent, tid, address, holder, stacks });
        self.look_again_at(process, now + SHORTEST * 5, context);
    }

    /// Reports a child that was proven stuck.
    fn confirm(&mut self, process: ProcessKey, place: Option<&Place>, context: &mut Context) {
        let has_shared_memory = self.sharers.contains(process);
        let now = context.now;
        let Some(child) = self.children.get_mut(&process) else { return };
        let Some(followed) = context.processes.get(process) else { return };
        if !matches!(child.stuck, Stuck::Proven { .. }) {
            return;
        }
        let Stuck::Proven { suspect, locks } = std::mem::take(&mut child.stuck) else { return };
        if let Some(sharers) = place.and_then(hazard::sharers) {
            return self.cannot_tell(process, sharers, suspect, locks, context);
        }
        let finding = finding(followed, &suspect, &locks, place, has_shared_memory, now);
        child.stuck = Stuck::Judged { suspect, finding: None };
        self.look_again_at(process, now + SHORTEST, context);
        let Some(finding) = finding else { return };
        let reported =
            context.report(Report { of_one_child: true, ..Report::until_the_end(finding.clone()) });
        if let Some(Child { stuck: Stuck::Judged { finding: kept, .. }, .. }) =
            self.children.get_mut(&process)
        {
            *kept = Some(Box::new(reported.unwrap_or(finding)));
        }
        self.mark(process, context);
        self.tell_stuck(context);
    }

    /// Another process uses the child's memory, and may release the lock: as long as it does, nothing is said of it but
    /// that it could not be judged.
    fn cannot_tell(
        &mut self,
        process: ProcessKey,
        sharers: &[u32],
        suspect: Suspect,
        locks: Box<Locks>,
        context: &mut Context,
    ) {
        if !suspect.shares_memory {
            let sharers: Vec<String> = sharers.iter().map(ToString::to_string).collect();
            let why =
                format!("its memory is used by process {} too, which may release a lock", sharers.join(", "));
            context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
        }
        let unchanged = context.now.since(suspect.since);
        if let Some(child) = self.children.get_mut(&process) {
            let suspect = Suspect { asked: Unanswered::NONE, shares_memory: true, ..suspect };
            child.stuck = Stuck::Suspected { suspect, locks };
        }
        self.look_again_at(process, context.now + pause(unchanged), context);
    }

    /// A child has ended: says in the process table whether it hung, for who tells how it ended.
    fn ended(&self, exit: &Exit, context: &mut Context) {
        let process = exit.process;
        let has_shared_memory = self.sharers.contains(process);
        let Some(child) = self.children.get(&process) else { return };
        let Some(followed) = context.processes.get(process) else { return };
        let hung = match &child.stuck {
            Stuck::No => None,
            Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. } if suspect.shares_memory => None,
            Stuck::Suspected { suspect, locks } | Stuck::Proven { suspect, locks } => {
                finding(followed, suspect, locks, None, has_shared_memory, exit.at)
                    .map(|finding| (finding, suspect.since))
            }
            Stuck::Judged { suspect, finding } => {
                finding.as_deref().cloned().map(|finding| (finding, suspect.since))
            }
        };
        if let (Some(life), Some(hung)) = (context.processes.life_mut(process), hung) {
            life.hung = Some(Box::new(hung));
        }
    }

    /// What could not end has ended.
    fn woke(&self, process: ProcessKey, context: &mut Context) {
        context.no_longer_suspect(process);
        context.resolve(process, HAZARD.id, Resolution::Woke);
        self.look_again_at(process, context.now + SHORTEST, context);
        self.mark(process, context);
        self.tell_stuck(context);
    }

    /// A child cannot be looked at, for this reason. Of one that was confirmed to be stuck it is said that nothing is
    /// known of it any more, and it is looked at again for as long as it lives: that says whether there was such a
    /// one.
    fn out_of_sight(&mut self, process: ProcessKey, why: &str, context: &mut Context) -> bool {
        let Some(child) = self.children.get_mut(&process).filter(|child| child.stuck.is_confirmed()) else {
            return false;
        };
        let Stuck::Judged { suspect, finding: Some(finding) } = &mut child.stuck else { return false };
        if !std::mem::replace(&mut suspect.unseen, true) {
            let words = format!("can no longer be looked at, and whether it still hangs is unknown: {why}");
            if let Some(output) = later(finding, State::Unknown, context.now, &words) {
                context.tell(output);
            }
            self.mark(process, context);
            self.tell_stuck(context);
        }
        self.look_again_at(process, context.now + LONGEST, context);
        true
    }

    /// A child that was judged is seen in its wait, perhaps again.
    fn in_sight(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(Child { stuck: Stuck::Judged { suspect, finding }, .. }) = self.children.get_mut(&process)
        else {
            return;
        };
        suspect.missed = false;
        if std::mem::take(&mut suspect.unseen) {
            let words = "can be looked at again, and still hangs";
            let again = |finding: &Finding| later(finding, finding.state, context.now, words);
            if let Some(output) = finding.as_deref().and_then(again) {
                context.tell(output);
            }
            self.mark(process, context);
            self.tell_stuck(context);
        }
    }

    /// Says in the process table whether a child hangs.
    fn mark(&self, process: ProcessKey, context: &mut Context) {
        let hangs = self.children.get(&process).is_some_and(|child| {
            child.stuck.is_confirmed() && child.stuck.suspect().is_some_and(|suspect| !suspect.unseen)
        });
        if let Some(life) = context.processes.life_mut(process) {
            life.hangs = hangs;
        }
    }

    /// How many children are stuck, and since when the first of them.
    fn tell_stuck(&self, context: &mut Context) {
        let suspects = self.children.values().filter(|child| child.stuck.is_confirmed());
        let (mut confirmed, mut unknown, mut oldest) = (0_u64, 0_u64, None::<BootTime>);
        for suspect in suspects.filter_map(|child| child.stuck.suspect()) {
            *(if suspect.unseen { &mut unknown } else { &mut confirmed }) += 1;
            oldest = Some(oldest.map_or(suspect.since, |oldest| oldest.min(suspect.since)));
        }
        context.tell(Output::Stuck { hazard: HAZARD.id, confirmed, unknown, oldest });
    }
}
