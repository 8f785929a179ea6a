//! `shared-offset` and `shared-database-file`: an open file that a fork has left to several processes.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    inventory::{DatabaseKind, OpenFile},
    resolution::Resolution,
    shared_file::{ClosedDatabase, FileUser, SharedFile},
};

const OFFSET: HazardId = HazardId::new("shared-offset");
const DATABASE: HazardId = HazardId::new("shared-database-file");
const SIBLING: u32 = 4251;

fn file(position: u64, users: &[FileUser]) -> SharedFile {
    let file = OpenFile { fd: 5, path: "/srv/d.zip".to_owned() };
    SharedFile { file, position, users: users.to_vec(), database: None, lockers: Vec::new() }
}

/// Somebody who moved the offset three times, so often by a read and so often otherwise.
fn user(tgid: u32, reads: u32, seeks: u32) -> FileUser {
    FileUser { process: process(tgid), moves: 3, reads, seeks }
}

fn sqlite(lockers: &[u32]) -> SharedFile {
    SharedFile {
        file: OpenFile { fd: 3, path: "/srv/t.db".to_owned() },
        position: 0,
        users: Vec::new(),
        database: Some(DatabaseKind::Sqlite),
        lockers: lockers.iter().map(|tgid| process(*tgid)).collect(),
    }
}

fn seen_with(files: &[SharedFile], closed: Option<ClosedDatabase>) -> SharedFilesSeen {
    let (comm, program) = ("python".into(), program("python3.11"));
    let files = files.to_vec();
    let seen = SharedFiles { at: BootTime(0), comm, uid: Some(33), program, files, closed };
    SharedFilesSeen::Seen(Box::new(seen))
}

fn seen(files: &[SharedFile]) -> SharedFilesSeen {
    seen_with(files, None)
}

/// PARENT forks CHILD, which is seen so.
fn forked(seen: SharedFilesSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.files.insert(CHILD, seen);
    timeline.fork(plain());
    timeline
}

fn looks(timeline: &Timeline, closely_only: bool) -> usize {
    timeline.count(|output| match output {
        Output::Ask(Request::SharedFiles { closely, .. }) => *closely || !closely_only,
        _ => false,
    })
}

#[test]
fn two_that_set_one_offset_are_found_and_it_is_over_with_the_child() {
    let mut timeline = forked(seen(&[file(7, &[user(PARENT, 0, 3), user(CHILD, 1, 2)])]));
    timeline.at(999);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(1000);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (OFFSET, State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(finding.child_uid, Some(33));
    assert_eq!(
        finding.summary,
        "python3.11 (pid 4242) and its forked child 4250 read /srv/d.zip by one descriptor that the fork has left to \
         both: each moves the place at which the other reads on"
    );
    assert_eq!(
        finding.facts.notes,
        [
            "descriptor 5 in each, with one offset",
            "4242 was seen to move it 3 times, 3 of which otherwise than by reading on",
            "4250 was seen to move it 3 times, 2 of which otherwise than by reading on",
        ]
    );
    assert!(finding.remedy.text.contains("os.pread"), "{}", finding.remedy.text);
    timeline.at(100_000).exit(CHILD);
    assert_eq!(timeline.states()[1..], [(OFFSET, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn uses_are_added_up_from_look_to_look() {
    let once = |tgid| FileUser { process: process(tgid), moves: 1, reads: 0, seeks: 1 };
    let mut timeline = forked(seen(&[file(7, &[once(PARENT)])]));
    timeline.at(1_500);
    timeline.files.insert(CHILD, seen(&[file(8, &[once(CHILD)])]));
    timeline.at(2_500);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new(), "once may be chance");
    timeline.files.insert(CHILD, seen(&[file(9, &[once(PARENT), once(CHILD)])]));
    timeline.at(60_000);
    assert_eq!(timeline.only_finding().hazard, OFFSET);
}

#[test]
fn two_children_of_one_process_are_told_once() {
    let users = [user(CHILD, 0, 3), user(SIBLING, 0, 3)];
    let mut timeline = forked(seen(&[file(7, &[])]));
    timeline.fork(fork_of(PARENT, SIBLING)).at(1_500);
    for child in [CHILD, SIBLING] {
        timeline.files.insert(child, seen(&[file(9, &users)]));
    }
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert!(
        finding.summary.starts_with("4250 and 4251, forked by python3.11 (pid 4242), read /srv/d.zip"),
        "{}",
        finding.summary
    );
    let asks_for_both = |output: &Output| match output {
        Output::Ask(Request::SharedFiles { child, sibling: Some(sibling), .. }) => {
            (*child, *sibling) == (process(CHILD), process(SIBLING))
        }
        _ => false,
    };
    assert!(timeline.count(asks_for_both) > 0);
}

#[test]
fn two_that_read_on_may_share_a_queue() {
    let mut timeline = forked(seen(&[file(7, &[user(PARENT, 3, 0), user(CHILD, 3, 0)])]));
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Info));
    assert_eq!(finding.state, State::Suspected);
    assert!(finding.summary.ends_with("each gets only a part of it"), "{}", finding.summary);
}

#[test]
fn one_user_and_those_that_only_write_are_silent() {
    for users in [
        vec![],
        vec![user(CHILD, 1, 2)],
        vec![user(PARENT, 1, 2)],
        vec![user(PARENT, 0, 0), user(CHILD, 0, 0)],
        vec![user(CHILD, 1, 2), FileUser { moves: 1, ..user(PARENT, 0, 1) }],
    ] {
        let mut timeline = forked(seen(&[file(7, &users)]));
        timeline.at(1_050);
        assert_eq!(timeline.findings(), Vec::<&Finding>::new(), "{users:?}");
    }
}

#[test]
fn an_offset_that_moves_is_looked_at_closely_and_one_that_rests_is_not() {
    let mut timeline = forked(seen(&[file(7, &[])]));
    timeline.at(255_999);
    // Closely once: between two rounds of a reader its offset may stand where it stood.
    assert_eq!((looks(&timeline, false), looks(&timeline, true)), (9, 1));
    timeline.files.insert(CHILD, seen(&[file(8, &[])]));
    timeline.at(400_000);
    timeline.files.insert(CHILD, seen(&[file(9, &[])]));
    timeline.at(520_000);
    assert!(looks(&timeline, true) >= 2);
    let before = looks(&timeline, true);
    timeline.at(3_600_000);
    assert!(looks(&timeline, true) <= before + 1, "it rests again");
}

#[test]
fn workers_that_read_for_two_seconds_only_are_looked_at_in_time() {
    let mut timeline = forked(seen(&[file(7, &[])]));
    timeline.at(1_050);
    timeline.files.insert(CHILD, seen(&[file(7, &[user(PARENT, 0, 3), user(CHILD, 1, 2)])]));
    timeline.at(1_200);
    assert_eq!(timeline.only_finding().hazard, OFFSET);
    let before = looks(&timeline, false);
    timeline.at(1_900);
    assert_eq!(looks(&timeline, false), before, "it is told");
}

#[test]
fn of_many_children_none_is_looked_at_closely_where_no_offset_moves() {
    let mut timeline = Timeline::new();
    for child in CHILD..CHILD + 40 {
        timeline.files.insert(child, seen(&[file(7, &[])]));
        timeline.fork(fork_of(PARENT, child));
    }
    timeline.at(60_000);
    assert!(looks(&timeline, true) <= 8, "{}", looks(&timeline, true));
}

#[test]
fn a_child_that_locks_its_parents_database_uses_it() {
    let mut timeline = forked(seen(&[sqlite(&[CHILD])]));
    timeline.at(1000);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (DATABASE, State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!(
        finding.summary,
        "python3.11 (pid 4242) opened the SQLite database /srv/t.db, and its forked child 4250 uses what it got of \
         that: each works as if it were alone, and the database may be damaged"
    );
    assert!(finding.remedy.text.contains("close_all"), "{}", finding.remedy.text);
    timeline.files.insert(CHILD, SharedFilesSeen::Left);
    timeline.at(60_000);
    assert_eq!(timeline.states()[1..], [(DATABASE, State::Resolved(Resolution::Cleared), 1)]);
}

#[test]
fn two_that_lock_it_are_critical() {
    let mut timeline = forked(seen(&[sqlite(&[PARENT])]));
    timeline.at(1_500);
    timeline.files.insert(CHILD, seen(&[sqlite(&[CHILD])]));
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (DATABASE, Severity::Critical));
}

fn closed(journal_deleted: bool, others_open: bool) -> ClosedDatabase {
    let (file, kind) = (sqlite(&[]).file, DatabaseKind::Sqlite);
    ClosedDatabase { file, kind, journal_deleted, locked: true, others_open, unseen: false }
}

/// A child that had the database, and has closed it.
fn closes(closed: ClosedDatabase) -> Timeline {
    let mut timeline = forked(seen(&[sqlite(&[PARENT])]));
    timeline.at(1_500);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new(), "the parent alone uses it");
    timeline.files.insert(CHILD, seen_with(&[], Some(closed)));
    timeline.at(2_000);
    let asked = |output: &Output| matches!(output, Output::Ask(Request::SharedFiles { databases, .. }) if *databases == [3]);
    assert_eq!(timeline.count(asked), 1);
    // It stays closed.
    timeline.at(600_000);
    timeline
}

#[test]
fn each_database_that_a_child_had_is_asked_about() {
    let mut other = sqlite(&[PARENT]);
    other.file.fd = 4;
    let mut timeline = forked(seen(&[sqlite(&[PARENT]), other]));
    timeline.at(2_500);
    let asked = |output: &Output| matches!(output, Output::Ask(Request::SharedFiles { databases, .. }) if *databases == [3, 4]);
    assert!(timeline.count(asked) > 0);
}

#[test]
fn a_child_that_has_closed_it_under_a_transaction_has_damaged_it() {
    let timeline = closes(closed(true, true));
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (DATABASE, Severity::Critical));
    assert_eq!((finding.certainty, finding.state), (Certainty::Strong, State::Confirmed));
    assert!(
        finding.summary.contains("has closed it, and the journal of the parent's transaction is deleted"),
        "{}",
        finding.summary
    );
    assert_eq!(
        finding.facts.notes[1..],
        [
            "4242 has a lock on it: it is at work on it",
            "4242 has its journal open, which somebody has deleted"
        ]
    );
}

#[test]
fn a_journal_that_was_deleted_before_the_first_look_is_suspected_of_a_child_without_the_database() {
    let unseen = ClosedDatabase { unseen: true, ..closed(true, false) };
    let mut timeline = forked(seen_with(&[], Some(unseen)));
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (DATABASE, Severity::Critical));
    assert_eq!((finding.certainty, finding.state), (Certainty::Heuristic, State::Suspected));
    assert!(finding.summary.contains("whose journal another process has deleted"), "{}", finding.summary);
}

#[test]
fn of_several_children_without_the_database_the_youngest_is_suspected() {
    let unseen = ClosedDatabase { unseen: true, ..closed(true, false) };
    let mut timeline = forked(seen_with(&[], Some(unseen.clone())));
    timeline.files.insert(CHILD + 1, seen_with(&[], Some(unseen)));
    timeline.at(900).fork(fork_of(PARENT, CHILD + 1)).at(60_000);
    assert_eq!(timeline.only_finding().child, process(CHILD + 1));
}

#[test]
fn a_child_that_has_closed_it_is_suspected_unless_it_closed_all() {
    let timeline = closes(closed(false, true));
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
    assert!(finding.summary.contains("unless it closed only the descriptor"), "{}", finding.summary);
    assert_eq!(closes(closed(false, false)).findings(), Vec::<&Finding>::new());
}

#[test]
fn a_database_whose_offset_two_move_is_used_by_both() {
    let gdbm = SharedFile {
        database: Some(DatabaseKind::Gdbm),
        users: vec![user(PARENT, 0, 3), user(CHILD, 0, 3)],
        ..sqlite(&[])
    };
    let mut timeline = forked(seen(&[gdbm]));
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (DATABASE, Severity::Critical));
    assert!(finding.summary.contains("the gdbm database"), "{}", finding.summary);
}

#[test]
fn an_unused_database_is_silent_and_looked_at_every_few_seconds() {
    let mut timeline = forked(seen(&[sqlite(&[])]));
    timeline.at(600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    assert!((60..90).contains(&looks(&timeline, false)), "{}", looks(&timeline, false));
}

#[test]
fn what_cannot_be_compared_is_undecided_once() {
    let mut timeline = forked(SharedFilesSeen::Unreadable("no".to_owned()));
    timeline.at(600_000);
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard, .. } if *hazard == OFFSET);
    assert_eq!((timeline.count(undecided), looks(&timeline, false)), (1, 1));
}

#[test]
fn a_child_without_such_files_is_left_alone_while_it_sleeps_on() {
    // With a file the other one may move it at any time.
    for (files, expected) in [(vec![], 1), (vec![file(10, &[])], 12)] {
        let mut timeline = Timeline::new();
        timeline.files.insert(CHILD, seen(&files));
        timeline.fork(plain());
        timeline.evidence(&Evidence::FellAsleep { seen: Some(Vec::new()) });
        timeline.at(600_000);
        assert_eq!(looks(&timeline, false), expected, "{files:?}");
        timeline.evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
        timeline.at(800_000);
        assert!(looks(&timeline, false) > expected, "it has done something: {files:?}");
    }
}
