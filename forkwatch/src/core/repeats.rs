//! Repeats: what was reported, so that nothing is reported twice.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use crate::model::{
    connection::Peer,
    finding::{Finding, HazardId, Severity, State},
    lasted::lasted,
    process::ProcessKey,
    time::{BootTime, nanoseconds},
};

use super::{
    Output,
    crowds::{Crowds, End},
};

/// Most programs that are told apart; all further ones share an entry for each hazard, so that names that change
/// all the time cannot flood the output.
const MOST_PROGRAMS: usize = 1024;
/// Most of one user, wherever they run, and of one user in one unit or container. His further ones share an entry too:
/// who thinks of new names all the time fills neither the output nor the table, which others need.
const MOST_OF_USER: usize = 256;
const MOST_IN_PLACE: usize = 64;

/// After so many intervals without a finding a program is forgotten.
const FORGOTTEN_AFTER: u32 = 10;

/// What makes two findings the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    hazard: HazardId,
    whose: Whose,
}

/// Of which programs findings are taken for the same.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Whose {
    Program(Identity),
    /// The programs of a user that are more than are told apart.
    Further {
        uid: Option<u32>,
    },
    /// All that had no room.
    Rest,
}

/// Two users' programs are two, also where all else is the same: what is said of one must not be said of the other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    exe: Option<PathBuf>,
    place: Option<String>,
    uid: Option<u32>,
    /// The server at the other end of the connection that it is about: two sites of one host may run in one program.
    server: Option<Peer>,
}

/// The other end of the connection that a finding is about, where that is a server.
fn server(finding: &Finding) -> Option<Peer> {
    let peer = &finding.facts.connection.as_ref()?.peer;
    // Each of a server's clients has another port.
    let is_server = *peer != Peer::Unknown && !peer.has_port_of_clients();
    is_server.then(|| peer.clone())
}

impl Identity {
    /// The unit or container as the system's manager, or the host, knows it: below it a user makes as many as he likes.
    fn outer_place(&self) -> Option<&str> {
        self.place.as_deref().and_then(|place| place.split('/').next())
    }
}

struct Entry {
    reported: BootTime,
    last: BootTime,
    repeats: u64,
    /// The first repeat since the last report.
    first: BootTime,
    /// The last repeat since the last report.
    latest: Option<Box<Finding>>,
    /// The children that they were about.
    crowd: Option<u64>,
    /// Findings that were reported one by one since the last report that was none.
    singly: u32,
    /// The processes that were blamed in reports, the last ones.
    blamed: VecDeque<ProcessKey>,
    /// The worst that was reported.
    worst: Weight,
}

/// How much a finding says: whether what it is about has gone wrong, and how much that matters.
type Weight = (bool, Severity);

fn weight(finding: &Finding) -> Weight {
    (finding.state == State::Confirmed, finding.severity)
}

impl Entry {
    fn of(finding: &Finding) -> Self {
        Self {
            reported: finding.at,
            last: finding.at,
            repeats: 0,
            first: finding.at,
            latest: None,
            crowd: None,
            singly: 0,
            blamed: VecDeque::from([finding.parent]),
            worst: weight(finding),
        }
    }

    /// Whether it is critical and about another process than those that were blamed before: a second site that runs the
    /// same program is no repeat of the first.
    fn is_of_another(&self, finding: &Finding) -> bool {
        finding.severity == Severity::Critical && !self.blamed.contains(&finding.parent)
    }

    /// Whether it is no repeat of what was only suspected until now, or mattered less.
    fn is_worse(&self, finding: &Finding) -> bool {
        let ((confirmed, severity), (was_confirmed, before)) = (weight(finding), self.worst);
        confirmed && !was_confirmed || severity > before
    }

    /// Takes note of a report.
    fn tells(&mut self, finding: &Finding) {
        let (confirmed, severity) = weight(finding);
        self.worst = (self.worst.0 || confirmed, self.worst.1.max(severity));
        self.blame(finding.parent);
    }

    fn blame(&mut self, process: ProcessKey) {
        if !self.blamed.contains(&process) {
            self.blamed.push_back(process);
        }
        if self.blamed.len() > MOST_BLAMED {
            self.blamed.pop_front();
        }
    }
}

/// Processes that are remembered as blamed, for each program and hazard.
const MOST_BLAMED: usize = 64;

/// Most findings about one child each, or about another process, that are reported one by one within an interval.
const MOST_SINGLY: u32 = 16;

/// The findings of this run.
#[derive(Default)]
pub(super) struct Repeats {
    entries: HashMap<Key, Entry>,
    crowds: Crowds,
    number: u64,
    deadline: Option<BootTime>,
}

impl Repeats {
    /// Reports a finding at once if it is the first of its kind, or to be told singly, and returns it; else counts it.
    pub(super) fn enter(
        &mut self,
        finding: Finding,
        interval: Duration,
        singly: bool,
        until_its_end: bool,
        out: &mut Vec<Output>,
    ) -> Option<Finding> {
        let at = finding.at;
        let key = self.key(&finding, interval);
        if let Some(entry) = self.entries.get_mut(&key) {
            let singly = singly || entry.is_of_another(&finding) || entry.is_worse(&finding);
            if singly && at >= entry.reported + interval && entry.repeats == 0 {
                (entry.reported, entry.singly) = (at, 0);
            }
            if singly && entry.singly < MOST_SINGLY {
                entry.singly += 1;
                entry.last = entry.last.max(at);
                entry.tells(&finding);
                return Some(self.report(finding, out));
            }
            if entry.repeats == 0 {
                entry.first = at;
            }
            entry.repeats += 1;
            entry.crowd = Some(self.crowds.enter(entry.crowd, &finding, until_its_end));
            entry.last = entry.last.max(at);
            let due = at.max(entry.reported + interval);
            self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
            entry.latest = Some(Box::new(finding));
            return None;
        }
        self.entries.insert(key, Entry::of(&finding));
        Some(self.report(finding, out))
    }

    /// Reports a finding, whatever was reported before.
    pub(super) fn report(&mut self, mut finding: Finding, out: &mut Vec<Output>) -> Finding {
        self.number += 1;
        finding.number = self.number;
        out.push(Output::Finding(Box::new(finding.clone())));
        finding
    }

    /// A child has ended, or what was found about it has: repeats that are still to be told are told as what was, and a
    /// summary is over with the last of its children.
    pub(super) fn over(
        &mut self,
        child: ProcessKey,
        hazard: Option<HazardId>,
        end: End<'_>,
        at: BootTime,
        out: &mut Vec<Output>,
    ) {
        self.crowds.over(child, hazard, end, at, out);
    }

    fn key(&mut self, finding: &Finding, interval: Duration) -> Key {
        let identity = Identity {
            name: finding.program_name.clone(),
            exe: finding.program.exe.clone(),
            place: finding.program.place().map(str::to_owned),
            uid: finding.program.uid,
            server: server(finding),
        };
        let (uid, of) = (identity.uid, |whose| Key { hazard: finding.hazard, whose });
        let key = of(Whose::Program(identity.clone()));
        if self.entries.contains_key(&key) || self.room_for(&identity) == Room::Enough {
            return key;
        }
        self.forget_quiet(finding.at, interval);
        match self.room_for(&identity) {
            Room::Enough => key,
            Room::ForOthers => of(Whose::Further { uid }),
            Room::None => of(Whose::Rest),
        }
    }

    /// Whether one more program can be told from the others.
    fn room_for(&self, new: &Identity) -> Room {
        if self.entries.len() >= MOST_PROGRAMS {
            return Room::None;
        }
        let theirs = self.entries.keys().filter_map(|key| match &key.whose {
            Whose::Program(identity) if identity.uid == new.uid => Some(identity),
            _ => None,
        });
        let (mut of_user, mut in_place) = (0, 0);
        for identity in theirs {
            of_user += 1;
            in_place += usize::from(identity.outer_place() == new.outer_place());
        }
        if of_user < MOST_OF_USER && in_place < MOST_IN_PLACE { Room::Enough } else { Room::ForOthers }
    }

    /// When the next summary is due.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.deadline.filter(|due| due.0 != u64::MAX)
    }

    /// Reports the repeats whose interval is over.
    pub(super) fn advance(&mut self, now: BootTime, interval: Duration, out: &mut Vec<Output>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.sum_up(now, interval, out);
        }
    }

    /// Reports the repeats of programs that were last reported an interval ago or earlier.
    pub(super) fn sum_up(&mut self, now: BootTime, interval: Duration, out: &mut Vec<Output>) {
        let mut summaries = Vec::new();
        for (key, entry) in self.entries.iter_mut().filter(|(_, entry)| entry.reported + interval <= now) {
            let Some(mut finding) = entry.latest.take() else { continue };
            finding.repeats = std::mem::take(&mut entry.repeats);
            let became = self.crowds.what_became_of(entry.crowd, finding.child);
            finding.summary = repeats(&finding, &key.whose, entry.first, became.as_deref());
            finding.at = now;
            (entry.reported, entry.singly) = (now, 0);
            let crowd = entry.crowd.take();
            self.crowds.tell(crowd, &mut finding);
            summaries.push((finding, crowd));
        }
        // A map's order is random; the order of what happened is not.
        summaries.sort_by_key(|(finding, _)| (finding.child.start, finding.child.tgid, finding.hazard));
        for (mut finding, crowd) in summaries {
            self.number += 1;
            finding.number = self.number;
            out.push(Output::Finding(finding));
            self.crowds.settle(crowd, self.number, now, out);
        }
        self.forget_quiet(now, interval);
        self.deadline = self
            .entries
            .values()
            .filter(|entry| entry.repeats > 0)
            .map(|entry| entry.reported + interval)
            .min();
    }

    fn forget_quiet(&mut self, now: BootTime, interval: Duration) {
        self.entries.retain(|_, entry| entry.repeats > 0 || entry.last + interval * FORGOTTEN_AFTER > now);
    }

    /// Whether no summary waits for the end of a child.
    #[cfg(test)]
    pub(super) fn are_over(&self) -> bool {
        self.crowds.are_over()
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.crowds.within_bounds()
            && self.entries.len() <= MOST_PROGRAMS + 64
            && self.entries.keys().all(|key| match &key.whose {
                Whose::Program(identity) => {
                    let same =
                        |key: &&Key| matches!(&key.whose, Whose::Program(other) if other.uid == identity.uid);
                    self.entries.keys().filter(same).count() <= MOST_OF_USER
                }
                Whose::Further { .. } | Whose::Rest => true,
            })
    }
}

/// Whether a program can have an entry of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    /// Its user has what is his.
    ForOthers,
    None,
}

/// How often something was seen and in which time, and what the last time was: of a child that has ended since, what has
/// become of it. It is read later, too, so it says nothing that is true for a moment only.
fn repeats(finding: &Finding, whose: &Whose, first: BootTime, became: Option<&str>) -> String {
    let among = match whose {
        Whose::Program(_) => String::new(),
        Whose::Further { uid: Some(uid) } => format!(" in further programs of uid {uid}"),
        Whose::Further { uid: None } | Whose::Rest => " in further programs".to_owned(),
    };
    let times = match finding.repeats {
        1 => format!("seen once more{among}"),
        count => {
            format!("seen {count} times more{among} within {}", lasted(nanoseconds(finding.at.since(first))))
        }
    };
    let since = became.map_or_else(String::new, |words| {
        format!(" (as it was then: process {} {words})", finding.child.tgid)
    });
    format!("{times}{since}: {}", finding.summary)
}
