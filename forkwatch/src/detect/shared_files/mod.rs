//! Files that a fork has left open to several processes, with one offset for all, and databases in them.
//!
//! A child is looked at once its grace is over, and from then on ever less often, beside the process that forked it and one
//! other child of that. Where the offset of such a file has moved since the last look, they are looked at closely. Who was
//! seen to use it is remembered from look to look.

pub(super) mod database;
pub(super) mod offset;

use std::{collections::HashMap, time::Duration};

use crate::{
    core::{Context, Detector, Output, Report, Rest, Unanswered, Verdict},
    model::{
        evidence::{Evidence, Request},
        finding::{Finding, HazardId},
        process::ProcessKey,
        resolution::Resolution,
        shared_file::{FileUser, MAX_FILES, SharedFile, SharedFiles as Seen, SharedFilesSeen},
        time::nanoseconds,
    },
};

/// How long after the first look the next one comes. Each further one comes twice as late, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(128);
/// The longest pause while a file is in use, or is a database, whose use leaves no trace.
const WHILE_USED: Duration = Duration::from_secs(8);
/// Workers that read a file now may be done with it soon: so long after a look that showed a file come the next ones, as
/// long as its offset moves, and so many of them.
const SOON: Duration = Duration::from_millis(100);
const SOON_LOOKS: u8 = 7;
/// A child of so few is looked at closely once, whether the offset has moved or not.
const FEW: usize = 8;
/// Most processes whose use of one file is remembered.
const MAX_USERS: usize = 8;

/// Children that live on, and the files that they share.
#[derive(Default)]
pub(super) struct SharedFiles {
    children: HashMap<ProcessKey, Child>,
}

struct Child {
    forker: ProcessKey,
    /// Whether the kernel told of the fork.
    was_seen: bool,
    files: Vec<Known>,
    pause: Duration,
    /// Looks that may come soon one after the other.
    soon: u8,
    /// Whether to look closely next time.
    closely: bool,
    unanswered: Unanswered,
    rest: Rest,
    reported: Vec<HazardId>,
    /// Whether its forker was seen to lack the journal of a database that the child has not open.
    lacks_journal: bool,
}

/// What is known of a file that a child shares.
struct Known {
    file: SharedFile,
    /// Who was seen to move its offset, over all looks.
    users: Vec<FileUser>,
    /// Who was seen to have it locked.
    lockers: Vec<ProcessKey>,
}

/// A file, and whom it is about.
struct Case<'a> {
    child: ProcessKey,
    forker: ProcessKey,
    /// Whether the fork was seen.
    was_seen: bool,
    seen: &'a Seen,
    known: &'a Known,
}

impl Detector for SharedFiles {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, was_seen) = (process.key, process.birth.was_seen());
        let Some(forker) = process.birth.parent else { return };
        let followed = Child {
            forker,
            was_seen,
            files: Vec::new(),
            pause: FIRST_PAUSE,
            soon: SOON_LOOKS,
            closely: false,
            unanswered: Unanswered::default(),
            rest: Rest::default(),
            reported: Vec::new(),
            lacks_journal: false,
        };
        self.children.insert(child, followed);
        self.look(child, context);
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(followed) = self.children.get(&child) else { return };
        if context.sleeps_on(followed.rest) {
            return context.wake_to_look(context.now + followed.pause, child);
        }
        self.look(child, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        if let Evidence::FellAsleep { seen: Some(seen) } = evidence {
            for child in seen {
                if let Some(followed) = self.children.get_mut(child) {
                    followed.rest.fell_asleep();
                }
            }
        }
        let Evidence::SharedFiles { child, seen } = evidence else { return };
        match seen {
            SharedFilesSeen::Seen(seen) => self.seen(*child, seen, context),
            SharedFilesSeen::Left => self.leave(*child, Resolution::Cleared, context),
            SharedFilesSeen::Gone => self.leave(*child, Resolution::Ended, context),
            SharedFilesSeen::Unreadable(why) => {
                let Some(followed) = self.children.remove(child) else { return };
                context.sleep(*child);
                if followed.reported.is_empty() {
                    let (hazard, child) = (offset::HAZARD.id, *child);
                    context.tell(Output::Undecided { hazard, child, why: why.clone() });
                }
            }
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.children.remove(&process);
        context.sleep(process);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let is_bounded = |child: &Child| {
            child.files.len() <= MAX_FILES
                && child.reported.len() <= 2
                && child
                    .files
                    .iter()
                    .all(|known| known.users.len() <= MAX_USERS && known.lockers.len() <= MAX_USERS)
        };
        (self.children.len(), self.children.values().all(is_bounded))
    }
}

impl SharedFiles {
    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(forker) = self.children.get(&child).map(|followed| followed.forker) else { return };
        let sibling = self.sibling(child, forker);
        let Some(followed) = self.children.get_mut(&child) else { return };
        // Locks in memory are asked about in the same children, and there it is said.
        if followed.unanswered.is_hopeless() {
            self.children.remove(&child);
            return;
        }
        if !followed.unanswered.is_open() {
            followed.rest.look_begins();
        }
        followed.unanswered.put();
        let pause = followed.pause;
        followed.pause = (pause * 2).min(LONGEST_PAUSE);
        let is_database = |known: &&Known| known.file.database.is_some();
        let databases = followed.files.iter().filter(is_database).map(|known| known.file.file.fd).collect();
        let closely = followed.closely || context.settings.snapshot;
        context.ask(Request::SharedFiles { child, forker, sibling, databases, closely });
        context.wake_to_look(context.now + pause, child);
    }

    /// The next younger child of the same process; of the youngest, the oldest.
    fn sibling(&self, child: ProcessKey, forker: ProcessKey) -> Option<ProcessKey> {
        let others = || {
            let siblings = self.children.iter().filter(|(_, other)| other.forker == forker);
            siblings.map(|(key, _)| *key).filter(|key| *key != child)
        };
        let age = |key: &ProcessKey| (key.start, key.tgid);
        let younger = others().filter(|other| age(other) > age(&child)).min_by_key(age);
        younger.or_else(|| others().min_by_key(age))
    }

    /// The children of the same forker that are looked at, itself among them.
    fn family(&self, child: ProcessKey) -> impl Iterator<Item = ProcessKey> {
        let forker = self.children.get(&child).map(|followed| followed.forker);
        self.children.iter().filter(move |(_, other)| Some(other.forker) == forker).map(|(key, _)| *key)
    }

    /// Whether its forker has no younger child that is looked at.
    fn is_youngest(&self, child: ProcessKey) -> bool {
        let age = |key: ProcessKey| (key.start, key.tgid);
        self.family(child).map(age).max() == Some(age(child))
    }

    /// A child is looked at no more.
    fn leave(&mut self, child: ProcessKey, how: Resolution, context: &mut Context) {
        let Some(followed) = self.children.remove(&child) else { return };
        context.sleep(child);
        for hazard in followed.reported {
            context.resolve(child, hazard, how);
        }
    }

    fn seen(&mut self, child: ProcessKey, seen: &Seen, context: &mut Context) {
        let is_youngest = self.is_youngest(child);
        let is_of_few = self.family(child).take(FEW + 1).count() <= FEW;
        let Some(followed) = self.children.get_mut(&child) else { return };
        followed.unanswered.answered();
        followed.rest.is_over();
        if seen.files.is_empty() && seen.closed.is_none() {
            // Files that it has got from a fork do not become more while it sleeps on.
            followed.rest.found_nothing(context.now);
        }
        let has_moved = followed.take_in(&seen.files);
        followed.closely = has_moved;
        let is_database = followed.files.iter().any(|known| known.file.database.is_some());
        if (has_moved || is_database) && followed.pause > WHILE_USED {
            followed.pause = WHILE_USED;
            context.wake_to_look(context.now + WHILE_USED, child);
        }
        let has_file = followed.files.iter().any(|known| known.file.database.is_none());
        let is_fresh = followed.soon == SOON_LOOKS;
        let may_be_soon = has_file && followed.reported.is_empty() && (is_fresh || has_moved);
        followed.soon = if may_be_soon { followed.soon.saturating_sub(1) } else { 0 };
        if followed.soon > 0 {
            // Between two rounds over the same file its offset stands where it stood.
            followed.closely |= is_fresh && is_of_few;
            followed.pause = FIRST_PAUSE;
            context.wake_to_look(context.now + SOON, child);
        }
        let (forker, was_seen) = (followed.forker, followed.was_seen);
        // By the second look all that were born before it are known. One that is older than another may be older than the
        // database, too.
        let is_first = seen.closed.as_ref().is_some_and(|closed| closed.unseen)
            && !std::mem::replace(&mut followed.lacks_journal, true);
        let unseen = database::judge_unseen(child, forker, seen).filter(|_| !is_first && is_youngest);
        let unseen = unseen.map(|verdict| (database::HAZARD.id, verdict));
        let verdicts: Vec<(HazardId, Verdict)> = followed
            .files
            .iter()
            .map(|known| Case { child, forker, was_seen, seen, known })
            .filter_map(|case| {
                let of_database = || Some((database::HAZARD.id, database::judge(&case)?));
                let of_offset = || Some((offset::HAZARD.id, offset::judge(&case)?));
                if case.known.file.database.is_some() { of_database() } else { of_offset() }
            })
            .chain(unseen)
            .collect();
        if let Some(closed) = &seen.closed {
            // It is told of once, and is shared no longer.
            followed.files.retain(|known| known.file.file.fd != closed.file.fd);
        }
        for (hazard, verdict) in verdicts {
            let Some(followed) = self.children.get_mut(&child) else { return };
            if followed.reported.contains(&hazard) {
                continue;
            }
            followed.reported.push(hazard);
            let users: Vec<ProcessKey> =
                followed.files.iter().flat_map(Known::movers).map(|user| user.process).collect();
            // Of two children it is said once.
            for user in users.into_iter().filter(|user| *user != child) {
                if let Some(other) =
                    self.children.get_mut(&user).filter(|other| !other.reported.contains(&hazard))
                {
                    other.reported.push(hazard);
                }
            }
            let finding = verdict.finding(context.now, hazard, (forker, &seen.program), (child, seen.comm));
            context.follow(child);
            context.report(Report::until_the_end(Finding { child_uid: seen.uid, ..finding }));
        }
    }
}

impl Child {
    /// Remembers what was seen. Tells whether an offset has moved.
    fn take_in(&mut self, files: &[SharedFile]) -> bool {
        let mut has_moved = false;
        for file in files {
            let is_it = |known: &&mut Known| known.file.file == file.file;
            let Some(known) = self.files.iter_mut().find(is_it) else {
                has_moved |= !file.users.is_empty();
                if self.files.len() < MAX_FILES {
                    let (users, lockers) = (file.users.clone(), file.lockers.clone());
                    self.files.push(Known { file: file.clone(), users, lockers });
                }
                continue;
            };
            has_moved |= known.file.position != file.position || !file.users.is_empty();
            known.file = file.clone();
            for user in &file.users {
                known.add_user(user);
            }
            for locker in &file.lockers {
                if known.lockers.len() < MAX_USERS && !known.lockers.contains(locker) {
                    known.lockers.push(*locker);
                }
            }
        }
        // A database that is shared no longer is asked about once more; the others are forgotten.
        self.files.retain(|known| {
            known.file.database.is_some() || files.iter().any(|file| file.file == known.file.file)
        });
        has_moved
    }
}

impl Known {
    fn add_user(&mut self, user: &FileUser) {
        if let Some(known) = self.users.iter_mut().find(|known| known.process == user.process) {
            known.moves = known.moves.saturating_add(user.moves);
            known.reads = known.reads.saturating_add(user.reads);
            known.seeks = known.seeks.saturating_add(user.seeks);
        } else if self.users.len() < MAX_USERS {
            self.users.push(*user);
        }
    }

    /// Those who were seen to move the offset more often than by chance.
    fn movers(&self) -> impl Iterator<Item = &FileUser> {
        self.users.iter().filter(|user| user.moves > 1)
    }
}

impl Case<'_> {
    /// Nanoseconds since the child began.
    fn age(&self) -> u64 {
        nanoseconds(self.seen.at.since(self.child.start))
    }

    /// `its forked child`, as far as that is known.
    const fn child_words(&self) -> &'static str {
        if self.was_seen { "its forked child" } else { "the forked process" }
    }
}
