//! What becomes of a wait that has lasted: it is reported or left alone, and followed to its end.

use super::{
    Child, HAZARD, OrphanedLock, hazard,
    judged::{case, finding},
    lost_thread,
    pace::{LONGEST, SHORTEST, pause},
    suspect::{Dismissed, Early, Stuck, Suspect},
};
use crate::{
    core::{Context, Output, Report, Unanswered, later},
    model::{
        event::Exit,
        finding::{HazardId, State},
        lock::{LockWait, Locks, Place},
        process::ProcessKey,
        resolution::Resolution,
        time::BootTime,
    },
};

impl OrphanedLock {
    /// What could be seen of where a thread is that waits.
    pub(super) fn place_seen(&mut self, process: ProcessKey, place: &Place, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        let Some(followed) = context.processes.get(process) else { return };
        match std::mem::take(&mut child.stuck) {
            Stuck::Suspected { suspect, locks } if matches!(suspect.early, Early::Asked) => {
                let wait = suspect.wait.clone();
                let Some(mut suspect) = suspect.explained(&case(followed, &locks), place) else {
                    return self.dismiss(process, &wait, Some(place), context);
                };
                suspect.early = Early::Told(Box::new(place.clone()));
                child.stuck = Stuck::Suspected { suspect, locks };
            }
            Stuck::Proven { suspect, locks } => {
                let (proof, wait) = (suspect.proven.proof, suspect.wait.clone());
                let Some(suspect) = suspect.explained(&case(followed, &locks), place) else {
                    return self.dismiss(process, &wait, Some(place), context);
                };
                // It turned out to be of another kind, which takes more patience.
                if suspect.proven.proof == proof {
                    child.stuck = Stuck::Proven { suspect, locks };
                    return self.confirm(process, Some(place), context);
                }
                let asked = Unanswered::NONE;
                let suspect = Suspect { asked, early: Early::Told(Box::new(place.clone())), ..suspect };
                child.stuck = Stuck::Suspected { suspect, locks };
                self.look_again_at(process, context.now + SHORTEST, context);
            }
            other => child.stuck = other,
        }
    }

    /// Leaves a wait alone, as long as it lasts. Where its calls could not be read, it is not known what it waits for.
    fn dismiss(
        &mut self,
        process: ProcessKey,
        wait: &LockWait,
        place: Option<&Place>,
        context: &mut Context,
    ) {
        let Some(child) = self.children.get_mut(&process) else { return };
        let is_read = |place: &Place| {
            let script = place.script.as_ref();
            script.map_or(!place.stack.frames.is_empty(), |script| !script.frames.is_empty())
        };
        if !place.is_some_and(is_read) && !std::mem::replace(&mut child.undecided, true) {
            let why = "the calls of a thread that waits in it could not be read".to_owned();
            context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
        }
        child.dismissed.push(Dismissed::new(wait));
        child.stuck = Stuck::No;
        context.no_longer_suspect(process);
        self.look_again_at(process, context.now + SHORTEST, context);
    }

    /// Reports a child that was proven stuck.
    pub(super) fn confirm(&mut self, process: ProcessKey, place: Option<&Place>, context: &mut Context) {
        let has_shared_memory = self.sharers.contains(process);
        let now = context.now;
        let Some(child) = self.children.get_mut(&process) else { return };
        let Some(followed) = context.processes.get(process) else { return };
        if !matches!(child.stuck, Stuck::Proven { .. }) {
            return;
        }
        let Stuck::Proven { suspect, locks } = std::mem::take(&mut child.stuck) else { return };
        let early = suspect.early.clone();
        let place = place.or(early.place());
        if let Some(sharers) = place.and_then(hazard::sharers) {
            return self.cannot_tell(process, sharers, suspect, locks, context);
        }
        let finding = finding(followed, &suspect, &locks, place, has_shared_memory, now);
        let Some(finding) = finding else {
            if place.is_some() {
                return self.dismiss(process, &suspect.wait, place, context);
            }
            // Nobody has answered: it is asked again.
            if !std::mem::replace(&mut child.undecided, true) {
                let why = "where a thread of it waits could not be seen".to_owned();
                context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
            }
            let unchanged = now.since(suspect.since);
            let suspect = Suspect { asked: Unanswered::NONE, ..suspect };
            child.stuck = Stuck::Suspected { suspect, locks };
            return self.look_again_at(process, now + pause(unchanged), context);
        };
        let reported =
            context.report(Report { of_one_child: true, ..Report::until_the_end(finding.clone()) });
        if let Some(child) = self.children.get_mut(&process) {
            child.stuck = Stuck::Judged { suspect, finding: Box::new(reported.unwrap_or(finding)) };
        }
        self.look_again_at(process, now + SHORTEST, context);
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
    pub(super) fn ended(&self, exit: &Exit, context: &mut Context) {
        let process = exit.process;
        let has_shared_memory = self.sharers.contains(process);
        let Some(child) = self.children.get(&process) else { return };
        let Some(followed) = context.processes.get(process) else { return };
        let hung = match &child.stuck {
            Stuck::No => None,
            Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. } if suspect.shares_memory => None,
            Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. }
                if suspect.early.place().is_some_and(|place| hazard::sharers(place).is_some()) =>
            {
                None
            }
            Stuck::Suspected { suspect, locks } | Stuck::Proven { suspect, locks } => {
                let place = suspect.early.place();
                finding(followed, suspect, locks, place, has_shared_memory, exit.at)
                    .map(|finding| (finding, suspect.since))
            }
            Stuck::Judged { suspect, finding } => Some(((**finding).clone(), suspect.since)),
        };
        if let (Some(life), Some(hung)) = (context.processes.life_mut(process), hung) {
            life.hung = Some(Box::new(hung));
        }
    }

    /// What could not end has ended.
    pub(super) fn woke(&self, process: ProcessKey, hazard: HazardId, context: &mut Context) {
        context.no_longer_suspect(process);
        context.resolve(process, hazard, Resolution::Woke);
        self.look_again_at(process, context.now + SHORTEST, context);
        self.mark(process, context);
        self.tell_stuck(context);
    }

    /// A child cannot be looked at, for this reason. Of one that was confirmed to be stuck it is said that nothing is
    /// known of it any more, and it is looked at again for as long as it lives: that says whether there was such a
    /// one.
    pub(super) fn out_of_sight(&mut self, process: ProcessKey, why: &str, context: &mut Context) -> bool {
        let Some(child) = self.children.get_mut(&process).filter(|child| child.stuck.is_confirmed()) else {
            return false;
        };
        let Stuck::Judged { suspect, finding } = &mut child.stuck else { return false };
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
    pub(super) fn in_sight(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(Child { stuck: Stuck::Judged { suspect, finding }, .. }) = self.children.get_mut(&process)
        else {
            return;
        };
        suspect.misses = 0;
        if std::mem::take(&mut suspect.unseen) {
            let words = "can be looked at again, and still hangs";
            if let Some(output) = later(finding, finding.state, context.now, words) {
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
    pub(super) fn tell_stuck(&self, context: &mut Context) {
        for hazard in [HAZARD.id, lost_thread::HAZARD.id] {
            let (mut confirmed, mut unknown, mut oldest) = (0_u64, 0_u64, None::<BootTime>);
            let is_of_it = |child: &&Child| {
                child.stuck.is_confirmed()
                    && child.stuck.finding().is_some_and(|finding| finding.hazard == hazard)
            };
            for suspect in self.children.values().filter(is_of_it).filter_map(|child| child.stuck.suspect()) {
                *(if suspect.unseen { &mut unknown } else { &mut confirmed }) += 1;
                oldest = Some(oldest.map_or(suspect.since, |oldest| oldest.min(suspect.since)));
            }
            context.tell(Output::Stuck { hazard, confirmed, unknown, oldest });
        }
    }
}
