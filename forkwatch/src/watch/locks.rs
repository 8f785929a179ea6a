//! Children that wait for a lock: from the first look at a wait to the proof that it cannot end, and to its end.

use super::{
    Output, Watch,
    children::MOST_UNANSWERED,
    killed::{end_of, how_it_ended},
    living::{Alive, LONGEST, SHORTEST, pause, together},
};
use crate::{
    hazard::{
        called,
        orphaned_lock::{self, Case, Proven},
    },
    model::{
        event::Exit,
        evidence::Request,
        finding::{Finding, HazardId, Resolution, State},
        lock::{LockWait, Locks, LocksSeen, MAX_WAITS, Place},
        order::Order,
        process::{ProcessKey, Program},
        time::BootTime,
    },
};

/// How far the case against a child has come.
#[derive(Default)]
pub(super) enum Stuck {
    /// It does not wait for a lock, or not in a way that proves anything.
    #[default]
    No,
    /// It does, and cannot be released; but not for long enough yet to be sure that nothing moves.
    Suspected { suspect: Suspect, locks: Box<Locks> },
    /// So it has been for long enough; what can be told of it is being gathered.
    Proven { suspect: Suspect, locks: Box<Locks> },
    /// It has been judged; none was found where it is parked on purpose.
    Judged { suspect: Suspect, finding: Option<Box<Finding>> },
}

impl Stuck {
    const fn suspect(&self) -> Option<&Suspect> {
        match self {
            Self::No => None,
            Self::Suspected { suspect, .. } | Self::Proven { suspect, .. } | Self::Judged { suspect, .. } => {
                Some(suspect)
            }
        }
    }

    fn is_confirmed(&self) -> bool {
        matches!(self, Self::Judged { finding: Some(finding), .. } if finding.state == State::Confirmed)
    }
}

/// One wait, as long as it lasts without a change.
#[derive(Clone)]
pub(super) struct Suspect {
    /// Since when it has been seen so.
    pub(super) since: BootTime,
    proven: Proven,
    wait: LockWait,
    /// How often it was asked where the thread is.
    asked: u8,
    /// Whether others were seen to use the memory that the lock is in: they may release it.
    shares_memory: bool,
    /// Whether the last look did not show the thread in this wait.
    missed: bool,
    /// Whether the last look did not show it at all.
    unseen: bool,
}

impl Suspect {
    /// Whether the thread has not run since.
    fn is_unmoved(&self, locks: &Locks) -> bool {
        self.find(locks).is_some_and(|wait| wait.switches == self.wait.switches)
    }

    /// The same thread's wait at the same address, however often it has looked.
    fn find<'a>(&self, locks: &'a Locks) -> Option<&'a LockWait> {
        locks.waits.iter().find(|wait| wait.tid == self.wait.tid && wait.address == self.wait.address)
    }
}

impl Watch {
    pub(super) fn locks_seen(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        seen: LocksSeen,
        out: &mut Vec<Output>,
    ) {
        self.answered(child);
        match seen {
            LocksSeen::Gone => self.ended_unseen(child, Resolution::Ended, now, out),
            LocksSeen::Execed => self.ended_unseen(child, Resolution::Execed, now, out),
            LocksSeen::Unreadable(why) => {
                if !self.out_of_sight(now, child, &why, out) && self.no_longer_lives(child, out).is_some() {
                    out.push(Output::Undecided { hazard: HazardId::OrphanedLock, child });
                }
            }
            LocksSeen::Alive(locks) => self.weigh(now, child, locks, out),
        }
    }

    /// A child is gone, and no event said so.
    fn ended_unseen(&mut self, child: ProcessKey, how: Resolution, now: BootTime, out: &mut Vec<Output>) {
        if self.no_longer_lives(child, out).is_some() {
            self.resolve(child, None, how, now, out);
        }
    }

    fn weigh(&mut self, now: BootTime, child: ProcessKey, locks: Box<Locks>, out: &mut Vec<Output>) {
        let stuck_after = self.settings.stuck_after;
        let Some(alive) = self.living(child) else { return };
        // A stopped process neither moves nor proves anything: what was known stays.
        if locks.stopped {
            let age = now.since(alive.since);
            return self.look_again_at(child, together(now, pause(age)));
        }
        // Nor does one that was made to leave its wait in order to end.
        let has_left = alive.stuck.suspect().is_some_and(|suspect| suspect.find(&locks).is_none());
        if has_left && self.signals.ask_to_end(child, now) {
            return self.look_again_at(child, now + SHORTEST);
        }
        // Of more waiting threads than are told, the last may be left out.
        let is_cut = locks.waits.len() >= MAX_WAITS;
        if has_left && is_cut && self.out_of_sight(now, child, "too many of its threads wait", out) {
            return;
        }
        if has_left && self.is_first_miss(child) {
            return self.look_again_at(child, now + SHORTEST);
        }
        let Some(alive) = self.living(child) else { return };
        let proven = orphaned_lock::prove(&case(alive, &locks));
        let wait = proven.and_then(|proven| locks.waits.get(proven.wait));
        match (std::mem::take(&mut alive.stuck), proven.zip(wait)) {
            (Stuck::Judged { suspect, finding }, _) if suspect.find(&locks).is_some() => {
                let unchanged = now.since(suspect.since);
                alive.stuck = Stuck::Judged { suspect, finding };
                self.in_sight(now, child, out);
                // Its end is told by the kernel side: a look only tells whether it woke.
                self.look_again_at(child, together(now, (unchanged / 4).clamp(SHORTEST, LONGEST * 4)));
            }
            (Stuck::Judged { .. }, _) => self.woke(now, child, out),
            (Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. }, Some((proven, wait)))
                if suspect.is_unmoved(&locks) && suspect.wait.tid == wait.tid =>
            {
                let suspect = Suspect { proven: proven.after(&suspect.proven), ..suspect };
                self.wait_longer(now, child, suspect, locks, out);
            }
            (before, Some((proven, wait))) => {
                let suspect = Suspect {
                    since: locks.at,
                    proven,
                    wait: wait.clone(),
                    asked: 0,
                    shares_memory: false,
                    missed: false,
                    unseen: false,
                };
                if matches!(before, Stuck::No) {
                    self.watch_closely(child, out);
                }
                self.wait_longer(now, child, suspect, locks, out);
            }
            (before, None) => {
                let may_get_stuck = alive.left_threads_behind() != Some(false) && locks.waits.is_empty();
                let most = if may_get_stuck { stuck_after / 2 } else { LONGEST };
                let pause = pause(now.since(alive.since)).min(most.max(SHORTEST));
                if !matches!(before, Stuck::No) {
                    self.watch_no_longer(child, out);
                }
                self.look_again_at(child, together(now, pause));
            }
        }
    }

    /// A child has become suspect: from now on its signals and its end must not be missed.
    fn watch_closely(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        self.watch_signals(child, out);
        self.follow(child, out);
    }

    fn watch_no_longer(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        self.unwatch_signals(child, out);
    }

    /// Has the kernel side report the end of a child, if it would not by itself.
    pub(super) fn follow(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        let Some(alive) = self.living(child) else { return };
        if !std::mem::replace(&mut alive.followed, true) {
            let parent_tgid = alive.birth.parent.map_or(0, |parent| parent.tgid);
            out.push(Output::Order(Order::Follow { child: alive.process, parent_tgid }));
        }
    }

    /// Goes on with a wait that proves something: until it has lasted, then until it is described.
    fn wait_longer(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        suspect: Suspect,
        locks: Box<Locks>,
        out: &mut Vec<Output>,
    ) {
        let enough = suspect.since + suspect.proven.patience(self.settings.stuck_after);
        let stacks = self.settings.stacks;
        let Some(alive) = self.living(child) else { return };
        if now < enough {
            alive.stuck = Stuck::Suspected { suspect, locks };
            let halfway = enough.since(now) / 2;
            return self.look_again_at(child, enough.min(now + halfway.max(SHORTEST)));
        }
        if suspect.asked >= MOST_UNANSWERED {
            alive.stuck = Stuck::Proven { suspect, locks };
            return self.confirm(now, child, None, out);
        }
        let parent = if alive.birth.was_seen() {
            locks.forker().or(alive.birth.parent)
        } else {
            orphaned_lock::forker_of_unseen(&locks, &suspect.proven)
        };
        let holder = suspect.proven.owner_in_parent();
        let (tid, address) = (suspect.wait.tid, suspect.wait.address);
        out.push(Output::Ask(Request::Place { child: alive.process, parent, tid, address, holder, stacks }));
        let suspect = Suspect { asked: suspect.asked + 1, ..suspect };
        alive.stuck = Stuck::Proven { suspect, locks };
        self.look_again_at(child, now + SHORTEST * 5);
    }

    pub(super) fn place_seen(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        seen: Option<Box<Place>>,
        out: &mut Vec<Output>,
    ) {
        if let Some(place) = seen {
            self.confirm(now, child, Some(&place), out);
        }
    }

    /// Reports a child that was proven stuck.
    fn confirm(&mut self, now: BootTime, child: ProcessKey, place: Option<&Place>, out: &mut Vec<Output>) {
        let has_shared_memory = self.sharers.contains(child);
        let Some(alive) = self.living(child) else { return };
        if !matches!(alive.stuck, Stuck::Proven { .. }) {
            return;
        }
        let Stuck::Proven { suspect, locks } = std::mem::take(&mut alive.stuck) else { return };
        if place.is_some_and(|place| orphaned_lock::sharers(place).is_some()) {
            return self.cannot_tell(now, child, suspect, locks, out);
        }
        let finding = finding(alive, &suspect, &locks, place, has_shared_memory, now);
        alive.stuck = Stuck::Judged { suspect, finding: None };
        self.look_again_at(child, now + SHORTEST);
        let Some(finding) = finding else { return };
        let reported = self.enter(finding.clone(), None, out);
        if let Some(reported) = reported.clone() {
            self.follow_up(reported, out);
        }
        if let Some(Alive { stuck: Stuck::Judged { finding: kept, .. }, .. }) = self.living(child) {
            *kept = Some(Box::new(reported.unwrap_or(finding)));
        }
        self.tell_stuck(out);
    }

    /// Another process uses the child's memory, and may release the lock: as long as it does, nothing is said of it but
    /// that it could not be judged.
    fn cannot_tell(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        suspect: Suspect,
        locks: Box<Locks>,
        out: &mut Vec<Output>,
    ) {
        if !suspect.shares_memory {
            out.push(Output::Undecided { hazard: HazardId::OrphanedLock, child });
        }
        let unchanged = now.since(suspect.since);
        if let Some(alive) = self.living(child) {
            let suspect = Suspect { asked: 0, shares_memory: true, ..suspect };
            alive.stuck = Stuck::Suspected { suspect, locks };
        }
        self.look_again_at(child, now + pause(unchanged));
    }

    /// A child has ended: says how, and whether its parent killed it while it was stuck.
    pub(super) fn ended(&mut self, exit: &Exit, out: &mut Vec<Output>) -> Resolution {
        let has_shared_memory = self.sharers.remove(exit.process).is_some();
        let alive = self.no_longer_lives(exit.process, out);
        let stuck = alive.as_ref().and_then(|alive| match &alive.stuck {
            Stuck::No => None,
            Stuck::Suspected { suspect, .. } | Stuck::Proven { suspect, .. } if suspect.shares_memory => None,
            Stuck::Suspected { suspect, locks } | Stuck::Proven { suspect, locks } => {
                finding(alive, suspect, locks, None, has_shared_memory, exit.at)
                    .map(|finding| (finding, suspect.since))
            }
            Stuck::Judged { suspect, finding } => {
                finding.as_deref().cloned().map(|finding| (finding, suspect.since))
            }
        });
        match stuck {
            Some((finding, since)) => self.stuck_ended(&finding, since, exit, out),
            None => how_it_ended(&end_of(exit, [])),
        }
    }

    /// What could not end has ended.
    fn woke(&mut self, now: BootTime, child: ProcessKey, out: &mut Vec<Output>) {
        self.watch_no_longer(child, out);
        self.resolve(child, Some(HazardId::OrphanedLock), Resolution::Woke, now, out);
        self.look_again_at(child, now + SHORTEST);
        self.tell_stuck(out);
    }

    /// Whether a child that was judged is now for the first time not seen in its wait. A handler may run in between,
    /// and the thread go back to its wait: that it has left is said after a second look.
    fn is_first_miss(&mut self, child: ProcessKey) -> bool {
        let Some(Alive { stuck: Stuck::Judged { suspect, .. }, .. }) = self.living(child) else {
            return false;
        };
        !std::mem::replace(&mut suspect.missed, true)
    }

    /// A child cannot be looked at, for this reason. Of one that was confirmed to be stuck it is said that nothing is
    /// known of it any more, and it is looked at again for as long as it lives: that says whether there was such a
    /// one.
    pub(super) fn out_of_sight(
        &mut self,
        now: BootTime,
        child: ProcessKey,
        why: &str,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(alive) = self.living(child).filter(|alive| alive.stuck.is_confirmed()) else { return false };
        let Stuck::Judged { suspect, finding: Some(finding) } = &mut alive.stuck else { return false };
        if !std::mem::replace(&mut suspect.unseen, true) {
            let words = format!("can no longer be looked at, and whether it still hangs is unknown: {why}");
            out.extend(later(finding, State::Unknown, now, &words));
            self.tell_stuck(out);
        }
        self.look_again_at(child, now + LONGEST);
        true
    }

    /// A child that was judged is seen in its wait, perhaps again.
    fn in_sight(&mut self, now: BootTime, child: ProcessKey, out: &mut Vec<Output>) {
        let Some(Alive { stuck: Stuck::Judged { suspect, finding }, .. }) = self.living(child) else {
            return;
        };
        suspect.missed = false;
        if std::mem::take(&mut suspect.unseen) {
            let again = |finding: &Finding| {
                later(finding, finding.state, now, "can be looked at again, and still hangs")
            };
            out.extend(finding.as_deref().and_then(again));
            self.tell_stuck(out);
        }
    }

    /// A child leaves that may have been stuck.
    pub(super) fn stuck_left(&mut self, alive: &Alive, out: &mut Vec<Output>) {
        if !matches!(alive.stuck, Stuck::No) {
            out.push(Output::Order(Order::UnwatchSignals(alive.process)));
        }
        if alive.stuck.is_confirmed() {
            self.tell_stuck(out);
        }
    }

    /// The children that are proven to be stuck.
    pub(super) fn stuck_children(&self) -> Vec<ProcessKey> {
        let stuck = self.living.values().filter(|alive| {
            alive.stuck.is_confirmed() && alive.stuck.suspect().is_some_and(|suspect| !suspect.unseen)
        });
        stuck.map(|alive| alive.process).collect()
    }

    /// How many children are stuck, and since when the first of them.
    fn tell_stuck(&self, out: &mut Vec<Output>) {
        let suspects = self.living.values().filter(|alive| alive.stuck.is_confirmed());
        let (mut confirmed, mut unknown, mut oldest) = (0_u64, 0_u64, None::<BootTime>);
        for suspect in suspects.filter_map(|alive| alive.stuck.suspect()) {
            *(if suspect.unseen { &mut unknown } else { &mut confirmed }) += 1;
            oldest = Some(oldest.map_or(suspect.since, |oldest| oldest.min(suspect.since)));
        }
        out.push(Output::Stuck { hazard: HazardId::OrphanedLock, confirmed, unknown, oldest });
    }
}

/// A later state of a finding that was reported by itself.
pub(super) fn later(finding: &Finding, state: State, now: BootTime, words: &str) -> Option<Output> {
    let Finding { program_name, parent, child, .. } = finding;
    let summary = format!("{} of {program_name} (pid {}) {words}", child.tgid, parent.tgid);
    let later = Finding { at: now, state, summary, ..finding.clone() };
    (finding.number > 0).then(|| Output::Finding(Box::new(later)))
}

/// The finding about a stuck child; none where it is parked on purpose.
fn finding(
    alive: &Alive,
    suspect: &Suspect,
    locks: &Locks,
    place: Option<&Place>,
    has_shared_memory: bool,
    now: BootTime,
) -> Option<Finding> {
    let seen = place.map(|place| &place.program).or(alive.program.as_ref());
    let unseen = Program { comm: locks.comm, uid: locks.uid, ..Program::default() };
    let program = seen.unwrap_or(&unseen);
    let fork_seen = alive.birth.was_seen();
    let forker =
        if fork_seen { alive.birth.parent } else { orphaned_lock::forker_of_unseen(locks, &suspect.proven) };
    let stuck = orphaned_lock::Stuck {
        child: alive.process,
        parent: forker.unwrap_or(alive.process),
        fork_seen,
        has_shared_memory,
        program,
        program_name: &called(program),
        case: case(alive, locks),
        proven: suspect.proven,
        place,
        waited: now.since(suspect.since),
        since_fork: now.since(alive.forked_at()),
    };
    orphaned_lock::judge(&stuck, now)
}

fn case<'a>(alive: &'a Alive, locks: &'a Locks) -> Case<'a> {
    Case {
        child: alive.process,
        locks,
        left_threads_behind: alive.left_threads_behind(),
        parent_threads: &alive.parent_threads,
    }
}
