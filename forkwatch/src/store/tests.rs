use std::{
    fs,
    path::Path,
    sync::mpsc::{Receiver, channel},
};

use super::*;
use crate::{
    api::{KeptState, MOST_LISTED},
    model::finding::{Certainty, Severity},
};

const BOUNDS: Bounds = Bounds { count: 100, bytes: 1 << 20, time: Duration::from_secs(7 * 86_400) };

fn now() -> u64 {
    u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos()).unwrap()
}

fn change(number: u64, at: u64, state: KeptState) -> Change {
    let brief = Brief {
        id: String::new(),
        first_seen: format!("first {at}"),
        last_seen: format!("last {at}"),
        hazard: "orphaned-lock".to_owned(),
        state,
        resolution: (state == KeptState::Resolved).then(|| "killed".to_owned()),
        certainty: Certainty::Certain,
        severity: Severity::Critical,
        summary: format!("finding {number}"),
        program: "gunicorn".to_owned(),
        unit: Some("app.service".to_owned()),
        container: None,
        uid: None,
        pid: u32::try_from(number).unwrap(),
        entity_id: None,
        name: "child".to_owned(),
        parent_pid: Some(1),
        parent_entity_id: None,
        repeats: 0,
        also_pids: Vec::new(),
        unnamed: 0,
        carried_locks: 0,
    };
    Change { number, at, brief, members: Vec::new(), document: format!("{{\"said\":\"{}\"}}", state.name()) }
}

fn reply<T: Send + 'static>() -> (Reply<T>, Receiver<Result<T, String>>) {
    let (sender, receiver) = channel();
    (Box::new(move |answer| sender.send(answer).unwrap_or_default()), receiver)
}

fn list(store: &Store, filter: Filter) -> Listed {
    let (reply, answer) = reply();
    store.list(filter, reply);
    answer.recv().unwrap().unwrap()
}

fn find(store: &Store, id: &str) -> Option<Kept> {
    let (reply, answer) = reply();
    store.find(id.to_owned(), reply);
    answer.recv().unwrap().unwrap()
}

fn start(path: Option<&Path>, watch: &str, bounds: Bounds) -> Store {
    Store::start(path.map(Path::to_owned), watch.to_owned(), bounds).unwrap()
}

#[test]
fn what_is_said_later_belongs_to_the_same_finding() {
    let store = start(None, "one", BOUNDS);
    let at = now();
    store.tell(change(1, at, KeptState::Suspected));
    store.tell(change(2, at, KeptState::Confirmed));
    store.tell(change(1, at + 5, KeptState::Confirmed));
    let mut again = change(1, at + 6, KeptState::Confirmed);
    again.brief.repeats = 3;
    store.tell(again);
    store.tell(change(1, at + 7, KeptState::Unknown));
    store.tell(change(1, at + 9, KeptState::Resolved));
    let (found, next) = list(&store, Filter::default());
    assert_eq!(next, None);
    assert_eq!(
        found.iter().map(|brief| brief.pid).collect::<Vec<_>>(),
        [2, 1],
        "the latest first, no key twice"
    );
    let [_, first] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.state, first.repeats), (KeptState::Resolved, 3));
    assert_eq!(first.resolution.as_deref(), Some("killed"));
    assert_eq!(
        (first.first_seen.as_str(), first.last_seen.as_str()),
        (&*format!("first {at}"), &*format!("last {}", at + 9))
    );
    let kept = find(&store, &first.id).unwrap();
    assert_eq!(kept.report["said"], "confirmed");
    assert_eq!(kept.end.unwrap()["said"], "resolved");
    assert_eq!(find(&store, "0"), None);
    assert_eq!(find(&store, "../x"), None);
}

#[test]
fn a_list_goes_on_where_it_ended() {
    let store = start(None, "one", BOUNDS);
    let at = now();
    for number in 1..=7 {
        store.tell(change(number, at + number, KeptState::Suspected));
    }
    let (mut pids, mut before) = (Vec::new(), None);
    loop {
        let filter = Filter { limit: Some(3), before, ..Filter::default() };
        let (found, next) = list(&store, filter);
        pids.extend(found.iter().map(|brief| brief.pid));
        let Some(next) = next else { break };
        before = Some(u64::from_str_radix(&next, 16).unwrap());
    }
    assert_eq!(pids, [7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn the_oldest_give_way_by_number_size_and_age() {
    let at = now();
    let few = start(None, "one", Bounds { count: 3, ..BOUNDS });
    (1..=9).for_each(|number| few.tell(change(number, at + number, KeptState::Suspected)));
    assert_eq!(list(&few, Filter::default()).0.len(), 3);
    assert_eq!(few.health().findings, 3);

    let small = start(None, "one", Bounds { bytes: 1000, ..BOUNDS });
    for number in 1..=9 {
        let mut long = change(number, at + number, KeptState::Suspected);
        long.document = format!("\"{}\"", "x".repeat(400));
        small.tell(long);
    }
    let pids: Vec<_> = list(&small, Filter::default()).0.iter().map(|brief| brief.pid).collect();
    assert_eq!(pids, [9, 8]);

    let old = start(None, "one", BOUNDS);
    old.tell(change(1, at - 8 * 86_400 * 1_000_000_000, KeptState::Suspected));
    old.tell(change(2, at, KeptState::Suspected));
    assert_eq!(list(&old, Filter::default()).0.len(), 1);
}

#[test]
fn findings_outlive_the_watch_and_are_not_followed_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    let store = start(Some(&path), "one", BOUNDS);
    store.tell(change(1, now(), KeptState::Confirmed));
    store.tell(change(2, now(), KeptState::Resolved));
    assert_eq!(list(&store, Filter::default()).0.len(), 2);
    assert!(matches!(read(&path, BOUNDS), Err(StoreError::Busy(_))), "the watch has it");
    store.close();
    let saved = read(&path, BOUNDS).unwrap();
    let states = |found: Vec<Brief>| found.into_iter().map(|brief| brief.state).collect::<Vec<_>>();
    assert_eq!(
        states(saved.list(&Filter::default()).unwrap().0),
        [KeptState::Resolved, KeptState::Unwatched]
    );
    // The number begins anew in another watch.
    let store = start(Some(&path), "two", BOUNDS);
    store.tell(change(1, now(), KeptState::Confirmed));
    let open = Filter { state: Some("open".to_owned()), limit: Some(MOST_LISTED), ..Filter::default() };
    assert_eq!(states(list(&store, open).0), [KeptState::Confirmed]);
    assert_eq!(store.health().findings, 3);
    store.close();
}

#[test]
fn what_cannot_be_opened_is_said_and_memory_has_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none/findings.redb");
    let store = start(Some(&missing), "one", BOUNDS);
    store.tell(change(1, now(), KeptState::Confirmed));
    assert_eq!(list(&store, Filter::default()).0.len(), 1);
    let health = store.health();
    assert!(health.trouble.unwrap().contains("kept in memory only"), "it must be said");
    assert_eq!(health.path, None);
}

#[test]
fn a_file_that_is_no_database_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    fs::write(&path, "nothing of ours ".repeat(1000)).unwrap();
    let store = start(Some(&path), "one", BOUNDS);
    store.tell(change(1, now(), KeptState::Confirmed));
    assert_eq!(list(&store, Filter::default()).0.len(), 1);
    assert_eq!(store.health().trouble, None);
    assert!(path.with_extension("broken").exists());
    store.close();
}

#[test]
fn a_report_that_is_too_long_is_left_out_and_the_finding_kept() {
    let store = start(None, "one", BOUNDS);
    let mut long = change(1, now(), KeptState::Confirmed);
    long.document = format!("\"{}\"", "x".repeat(LONGEST_REPORT));
    store.tell(long);
    let (found, _) = list(&store, Filter::default());
    let [only] = found.as_slice() else { panic!("{found:?}") };
    assert!(find(&store, &only.id).unwrap().report.is_null());
}

#[test]
fn a_file_that_was_cut_off_is_put_aside_and_a_new_one_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    let store = start(Some(&path), "one", BOUNDS);
    store.tell(change(1, now(), KeptState::Suspected));
    assert_eq!(list(&store, Filter::default()).0.len(), 1);
    store.close();
    drop(store);
    let whole = until_free(&path);
    assert_eq!(read(&path, BOUNDS).unwrap().list(&Filter::default()).unwrap().0.len(), 1);
    let cut = folder.path().join("cut.redb");
    for length in
        [1, 31, 32, 319, 320, 512, 4095, 4096, 5000, whole.len() / 2, whole.len() - 4096, whole.len() - 1]
    {
        fs::write(&cut, whole.get(..length).unwrap()).unwrap();
        assert!(read(&cut, BOUNDS).is_err(), "{length} bytes are no store");
        let store = start(Some(&cut), "two", BOUNDS);
        assert_eq!(list(&store, Filter::default()).0.len(), 0, "{length}");
        store.tell(change(1, now(), KeptState::Suspected));
        assert_eq!(list(&store, Filter::default()).0.len(), 1, "{length}");
        assert_eq!(store.health().trouble, None, "{length}");
        store.close();
        drop(store);
        until_free(&cut);
    }
}

/// The thread that has the file lets go of it a moment after the last store was dropped.
fn until_free(path: &Path) -> Vec<u8> {
    loop {
        match read(path, BOUNDS) {
            Err(StoreError::Busy(_)) => thread::yield_now(),
            _ => return fs::read(path).unwrap(),
        }
    }
}

fn name(pid: u32) -> String {
    format!("0123456789abcdef-{pid}-77")
}

/// A finding about this process, and about others to which the same has happened.
fn about(number: u64, pid: u32, others: &[u32], state: KeptState) -> Change {
    let mut change = change(number, now(), state);
    change.members = std::iter::once(&pid).chain(others).map(|pid| name(*pid)).collect();
    (change.brief.pid, change.brief.also_pids) = (pid, others.to_vec());
    change.brief.repeats = others.len() as u64;
    change
}

#[test]
fn what_a_later_watch_finds_again_is_the_same_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    let mut first = None;
    for (watch, (one, other)) in ["1", "2", "3", "4"].into_iter().zip([(7, 8), (7, 8), (8, 7), (8, 7)]) {
        let store = start(Some(&path), watch, BOUNDS);
        store.tell(about(1, one, &[], KeptState::Confirmed));
        store.tell(about(2, other, &[9], KeptState::Suspected));
        let found = list(&store, Filter::default()).0;
        assert_eq!(found.len(), 2, "{watch}: {found:?}");
        let open = Filter { state: Some("open".to_owned()), ..Filter::default() };
        assert_eq!(list(&store, open).0.len(), 2, "{watch}");
        let known =
            found.iter().map(|brief| (brief.id.clone(), brief.first_seen.clone())).collect::<Vec<_>>();
        assert_eq!(*first.get_or_insert(known.clone()), known, "{watch}");
        let pid = |pid| Filter { pids: vec![pid], ..Filter::default() };
        for process in [7, 8, 9] {
            assert!(!list(&store, pid(process)).0.is_empty(), "{watch}: {process}");
        }
        assert!(found.iter().all(|brief| brief.repeats <= 2), "{watch}: {found:?}");
        // What is said later is of the same.
        store.tell(change(1, now(), KeptState::Resolved));
        let resolved = Filter { state: Some("killed".to_owned()), ..Filter::default() };
        assert_eq!(list(&store, resolved).0.len(), 1, "{watch}");
        store.close();
        drop(store);
        until_free(&path);
    }
}

#[test]
fn another_process_or_hazard_or_a_second_time_in_one_watch_is_another_finding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    let store = start(Some(&path), "one", BOUNDS);
    store.tell(about(1, 7, &[], KeptState::Confirmed));
    store.tell(about(2, 7, &[], KeptState::Confirmed));
    assert_eq!(list(&store, Filter::default()).0.len(), 2);
    store.close();
    drop(store);
    until_free(&path);
    let store = start(Some(&path), "two", BOUNDS);
    let mut later = about(1, 7, &[], KeptState::Confirmed);
    later.members = vec!["0123456789abcdef-7-78".to_owned()];
    store.tell(later);
    let mut other = about(2, 7, &[], KeptState::Confirmed);
    other.brief.hazard = "held-locks".to_owned();
    store.tell(other);
    assert_eq!(list(&store, Filter::default()).0.len(), 4);
    store.close();
}

#[test]
fn a_record_that_cannot_be_read_is_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("findings.redb");
    let store = start(Some(&path), "one", BOUNDS);
    (1..=3).for_each(|number| store.tell(change(number, now() + number, KeptState::Confirmed)));
    let found = list(&store, Filter::default()).0;
    store.close();
    drop(store);
    until_free(&path);
    let key = u64::from_str_radix(&found.get(1).unwrap().id, 16).unwrap();
    rows::spoil(&path, key);
    let saved = read(&path, BOUNDS).unwrap();
    assert_eq!(saved.list(&Filter::default()).unwrap().0.len(), 2);
    assert_eq!((saved.health().findings, saved.health().unreadable), (3, 1));
    let store = start(Some(&path), "two", BOUNDS);
    store.tell(change(1, now() + 9, KeptState::Confirmed));
    assert_eq!(list(&store, Filter::default()).0.len(), 3);
    let health = store.health();
    assert_eq!((health.unreadable, health.trouble), (1, None), "it is kept on disk all the same");
    assert_eq!(find(&store, &found.get(1).unwrap().id), None);
    store.close();
}

#[test]
fn what_is_no_store_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("empty", String::new()), ("short", "no store".to_owned()), ("long", "no store ".repeat(9999))]
    {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let error = read(&path, BOUNDS).err().unwrap().to_string();
        assert!(error.contains(&path.display().to_string()), "{error}");
    }
    let error = read(folder.path(), BOUNDS).err().unwrap().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
}
