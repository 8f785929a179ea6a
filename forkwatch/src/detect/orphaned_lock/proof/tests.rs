//! The words are those that were read from real processes: glibc 2.36, CPython 3.11, Linux 6.18.

use super::*;
use crate::model::{held_lock::PlainLock, lock::Mapping, process::Comm, time::BootTime};

const CHILD: u32 = 500;
const OWNER: u32 = 401;

/// A chunk header of malloc before what it handed out: 48 bytes.
const CHUNK: [u32; 4] = [0, 0, 0x31, 0];

fn words(before: [u32; 4], lock: [u32; 8]) -> Words {
    let mut all = [0; Words::COUNT];
    all[..4].copy_from_slice(&before);
    all[4..].copy_from_slice(&lock);
    Words::from(all)
}

fn mapping(name: &str) -> Mapping {
    Mapping { name: name.to_owned(), offset: 0x10, shared: false }
}

fn wait(tid: u32, operation: u32, value: u32, lock: [u32; 8]) -> LockWait {
    LockWait {
        tid,
        comm: "worker".into(),
        address: 0x7f00_0010,
        operation,
        value,
        switches: 7,
        slept: None,
        spins: false,
        words: Some(words(CHUNK, lock)),
        parent_words: None,
        mapping: Some(mapping("[heap]")),
        holders: Vec::new(),
        parked: None,
    }
}

/// A thread that wants a mutex which this tid owns.
fn mutex(tid: u32, holder: Holder) -> LockWait {
    let lock = [2, 0, holder.named, 1, 0, 0, 0, 0];
    LockWait { holders: vec![Holder { offset: 8, ..holder }], ..wait(tid, WAIT_PRIVATE, 2, lock) }
}

/// A thread that waits for a lock of CPython.
fn semaphore(tid: u32) -> LockWait {
    wait(tid, 0x189, 0, [0, 1, 0, 0, 0, 0, 0, 0])
}

/// A low-level lock without an owner.
fn low_level(tid: u32) -> LockWait {
    LockWait {
        mapping: Some(mapping("/usr/lib/libc.so.6")),
        ..wait(tid, WAIT_PRIVATE, 2, [2, 0, 0, 0, 0, 0, 0, 0])
    }
}

fn left_behind(named: u32) -> Holder {
    Holder {
        named,
        offset: 8,
        in_child: false,
        is_forker: Some(false),
        in_parent: Some(SeenThread { tid: named, comm: "metrics".into() }),
        is_from_before: true,
        is_older: Some(true),
    }
}

fn locks(threads: u32, waits: Vec<LockWait>) -> Locks {
    Locks {
        at: BootTime(0),
        comm: Comm::default(),
        uid: None,
        threads,
        stopped: false,
        waits,
        caught: SignalSet::EMPTY,
        python: false,
        comparable: true,
        parent: Some(ProcessKey { tgid: 400, start: BootTime(0) }),
        parent_threads: Some(1),
        adopted: false,
    }
}

fn proven_of(locks: &Locks, left_threads_behind: Option<bool>) -> Option<(Proof, Certainty)> {
    let child = ProcessKey { tgid: CHILD, start: BootTime(1) };
    let case = Case { child, locks, left_threads_behind, parent_threads: &[], held: None };
    prove(&case).map(|proven| (proven.proof, proven.certainty))
}

fn proven(locks: &Locks) -> Option<(Proof, Certainty)> {
    proven_of(locks, Some(true))
}

const CERTAIN_OWNER: Option<(Proof, Certainty)> = Some((Proof::Owner, Certainty::Certain));

#[test]
fn an_owner_that_stayed_behind_is_named() {
    let child = locks(1, vec![mutex(CHILD, left_behind(OWNER))]);
    assert_eq!(proven(&child), CERTAIN_OWNER);
    let case = Case {
        child: ProcessKey { tgid: CHILD, start: BootTime(1) },
        locks: &child,
        left_threads_behind: None,
        parent_threads: &[],
        held: None,
    };
    let found = prove(&case).unwrap();
    assert_eq!((found.owner, found.owner_in_parent()), (Some(OWNER), Some(OWNER)));
    // Also in a child of several threads, whichever of them waits, and whatever signals it handles.
    let several = Locks { caught: SignalSet(u64::MAX), ..locks(5, vec![mutex(503, left_behind(OWNER))]) };
    assert_eq!(proven(&several), CERTAIN_OWNER);
}

#[test]
fn a_writer_that_stayed_behind_is_named() {
    let holder = Holder { offset: 16, ..left_behind(OWNER) };
    // The word waited for is the third of the rwlock: readers, writers, phase, writers' word, two paddings, writer.
    let mut reader = wait(CHILD, 0x189, 3, [3, 1, 0, 0, OWNER, 0, 0, 0]);
    reader.words = Some(words([0, 0, 3, 0], [3, 1, 0, 0, OWNER, 0, 0, 0]));
    reader.holders = vec![holder];
    assert_eq!(proven(&locks(3, vec![reader.clone()])), CERTAIN_OWNER);
    let mut writer = wait(CHILD, 0x189, 3, [3, 0, 0, OWNER, 0, 0, 0, 0]);
    writer.words = Some(words([0, 3, 1, 1], [3, 0, 0, OWNER, 0, 0, 0, 0]));
    writer.holders = vec![Holder { offset: 12, ..left_behind(OWNER) }];
    assert_eq!(proven(&locks(3, vec![writer])), CERTAIN_OWNER);
    // Held by readers: who they are is not noted.
    reader.words = Some(words([0, 0, 8, 0], [3, 1, 0, 0, OWNER, 0, 0, 0]));
    assert_eq!(proven(&locks(3, vec![reader])), None);
}

#[test]
fn a_lock_that_a_living_thread_owns_proves_nothing() {
    let holder = Holder { in_child: true, in_parent: None, is_forker: None, ..left_behind(502) };
    assert_eq!(proven(&locks(3, vec![mutex(CHILD, holder), mutex(503, holder)])), None);
}

#[test]
fn a_mutex_that_the_child_itself_took_is_no_orphan() {
    // Of the only thread, which takes it twice; whatever the parent's copy says, and with handlers or without.
    let own = Holder { in_child: true, in_parent: None, is_older: Some(false), ..left_behind(CHILD) };
    for parent in [None, Some(words(CHUNK, [0; 8])), Some(words(CHUNK, [2, 0, OWNER, 1, 0, 0, 0, 0]))] {
        let wait = LockWait { parent_words: parent, ..mutex(CHILD, own) };
        assert_eq!(proven(&locks(1, vec![wait.clone()])), None);
        let catches = Locks { caught: SignalSet::of(&[15]), ..locks(1, vec![wait]) };
        assert_eq!(proven(&catches), None);
    }
    // Of a thread that has ended since: its tid was given out after the child's.
    let ended = Holder { in_child: false, is_from_before: false, ..own };
    let ended = Holder { is_forker: None, named: 507, ..ended };
    assert_eq!(proven(&locks(1, vec![mutex(CHILD, ended)])), Some((Proof::Owner, Certainty::Heuristic)));
}

#[test]
fn a_name_that_another_can_have_written_is_never_certain() {
    let strong = |proof| Some((proof, Certainty::Strong));
    let doubtful = Holder { is_from_before: false, ..left_behind(OWNER) };
    assert_eq!(proven(&locks(1, vec![mutex(CHILD, doubtful)])), strong(Proof::Owner));
    assert_eq!(proven(&locks(4, vec![mutex(503, doubtful)])), strong(Proof::Owner));
    let unknown = Holder { is_forker: None, ..doubtful };
    let heuristic = Some((Proof::Owner, Certainty::Heuristic));
    assert_eq!(proven(&locks(1, vec![mutex(CHILD, unknown)])), heuristic);
    // The main thread of a child that was cloned without the C library marks its own locks with its forker's tid.
    let forker = Holder { is_forker: Some(true), ..doubtful };
    assert_eq!(proven(&locks(1, vec![mutex(CHILD, forker)])), strong(Proof::SelfOwned));
}

#[test]
fn what_the_forking_thread_held_it_may_release_unless_it_waits_itself() {
    let forker = Holder { is_forker: Some(true), ..left_behind(400) };
    assert_eq!(proven(&locks(3, vec![mutex(503, forker)])), None);
    let itself = Some((Proof::SelfOwned, Certainty::Certain));
    assert_eq!(proven(&locks(3, vec![mutex(CHILD, forker)])), itself);
    assert_eq!(proven_of(&locks(1, vec![mutex(CHILD, forker)]), Some(false)), itself);
    // Where it is not known who forked, only the main thread's wait, or a lonely one's, tells.
    let unknown = Holder { is_forker: None, ..left_behind(OWNER) };
    assert_eq!(proven(&locks(3, vec![mutex(503, unknown)])), None);
    assert_eq!(proven(&locks(3, vec![mutex(CHILD, unknown)])), CERTAIN_OWNER);
}

#[test]
fn an_owner_that_is_gone_everywhere_is_strong() {
    let gone = Holder { in_parent: None, is_forker: None, ..left_behind(OWNER) };
    let catches = SignalSet::of(&[15]);
    let child = |threads| Locks { caught: catches, ..locks(threads, vec![mutex(CHILD, gone)]) };
    assert_eq!(proven(&child(1)), Some((Proof::Owner, Certainty::Strong)));
    // In one of several as well, where the tid is older than the child; but not if that one may have been the forker,
    // which goes on as the main thread, and another waits.
    assert_eq!(proven(&child(2)), Some((Proof::Owner, Certainty::Strong)));
    let of = |waiter, holder| proven(&locks(2, vec![mutex(waiter, holder)]));
    assert_eq!(of(503, gone), Some((Proof::Owner, Certainty::Heuristic)));
    assert_eq!(of(503, Holder { is_forker: Some(false), ..gone }), Some((Proof::Owner, Certainty::Strong)));
    let own = Holder { is_older: Some(false), named: 507, ..gone };
    assert_eq!(of(503, own), None, "a thread of the child's own that has ended");
    assert_eq!(of(503, Holder { is_older: None, ..gone }), None);
    // It was seen at the fork.
    let seen = [SeenThread { tid: OWNER, comm: "metrics".into() }];
    let several = child(2);
    let gone = Holder { is_forker: Some(false), ..gone };
    let several = Locks { waits: vec![mutex(CHILD, gone)], ..several };
    let case = Case {
        child: ProcessKey { tgid: CHILD, start: BootTime(1) },
        locks: &several,
        left_threads_behind: Some(true),
        parent_threads: &seen,
        held: None,
    };
    assert_eq!(prove(&case).map(|proven| proven.owner_thread), Some(Some(seen[0])));
}

#[test]
fn what_is_no_plain_mutex_names_no_owner() {
    let catches = |wait| Locks { caught: SignalSet::of(&[15]), ..locks(1, vec![wait]) };
    // Robust; process-shared; nobody uses it.
    for lock in [[2, 0, OWNER, 1, 16, 0, 0, 0], [2, 0, OWNER, 1, 128, 0, 0, 0], [2, 0, OWNER, 0, 0, 0, 0, 0]]
    {
        let wait = LockWait { words: Some(words(CHUNK, lock)), ..mutex(CHILD, left_behind(OWNER)) };
        assert_eq!(proven(&catches(wait)), None, "{lock:?}");
    }
    // Released since it went to sleep.
    let free = words(CHUNK, [0, 0, OWNER, 1, 0, 0, 0, 0]);
    assert_eq!(proven(&catches(LockWait { words: Some(free), ..mutex(CHILD, left_behind(OWNER)) })), None);
}

#[test]
fn a_lonely_thread_that_no_signal_can_wake_is_never_certain() {
    let heuristic = Some((Proof::NoCatcher, Certainty::Heuristic));
    let python = Locks {
        python: true,
        caught: SignalSet::of(&[SIGINT, 33, 11]),
        ..locks(1, vec![wait(CHILD, 0x189, 2, [2; 8])])
    };
    let strong = Some((Proof::NoCatcher, Certainty::Strong));
    assert_eq!(proven(&python), strong);
    assert_eq!(proven(&Locks { python: false, ..python.clone() }), None);
    assert_eq!(proven(&Locks { caught: SignalSet::of(&[15]), ..python.clone() }), None);
    assert_eq!(proven(&Locks { threads: 2, ..python.clone() }), None);
    // Parked: nobody was left behind.
    assert_eq!(proven_of(&python, Some(false)), None);
    // Of a fork that was not seen, the parent's older threads tell.
    assert_eq!(proven_of(&python, None), strong);
    // Not if that is another process than the forker, which took it over.
    assert_eq!(proven_of(&Locks { comparable: false, ..python.clone() }, None), heuristic);
    let unknown = Locks { parent: None, parent_threads: None, ..python };
    assert_eq!(proven_of(&unknown, None), heuristic);
}

#[test]
fn what_a_child_made_itself_is_no_lock_from_the_fork() {
    let garbage = words([1, 2, 3, 4], [0x6f6f_6f6f, 9, 8, 7, 6, 5, 4, 3]);
    let parked = LockWait { parent_words: Some(garbage), ..semaphore(CHILD) };
    assert_eq!(
        proven(&locks(1, vec![parked.clone()])),
        Some((Proof::NoCatcher, Certainty::Heuristic)),
        "parked, or waiting for a thread that stayed behind"
    );
    let catches = |wait| Locks { caught: SignalSet::of(&[15]), ..locks(1, vec![wait]) };
    assert_eq!(proven(&catches(parked.clone())), None);
    // Memory that the parent never touched looks like a lock that is held.
    let untouched = LockWait { parent_words: Some(words([0; 4], [0; 8])), ..parked };
    assert_eq!(proven(&catches(untouched)), None);
}

#[test]
fn the_parents_copy_tells_one_story_or_leaves_two() {
    let copy_of = |locks: &Locks| {
        let child = ProcessKey { tgid: CHILD, start: BootTime(1) };
        let case = Case { child, locks, left_threads_behind: Some(true), parent_threads: &[], held: None };
        let proven = prove(&case).unwrap();
        assert_eq!(proven.certainty, Certainty::Strong);
        (proven.proof, proven.copy, proven.is_settled(locks, 1))
    };
    // A handler has no business with a lock of Python's.
    let catches = |wait| Locks { caught: SignalSet::of(&[15]), python: true, ..locks(1, vec![wait]) };
    // Released in the parent since, or free at the fork; held still; held, and waited for there too.
    for (lock, copy) in
        [([1, 0, 0, 0], ParentCopy::Free), ([0, 0, 0, 0], ParentCopy::Held), ([0, 3, 0, 0], ParentCopy::Held)]
    {
        let [value, waiters, private, padding] = lock;
        let parent = words(CHUNK, [value, waiters, private, padding, 0, 0, 0, 0]);
        let wait = LockWait { parent_words: Some(parent), ..semaphore(CHILD) };
        let is_settled = copy == ParentCopy::Held;
        assert_eq!(copy_of(&catches(wait.clone())), (Proof::Differential, copy, is_settled), "{lock:?}");
        assert_eq!(copy_of(&locks(1, vec![wait])), (Proof::NoCatcher, copy, is_settled), "{lock:?}");
    }
    let released = LockWait { parent_words: Some(words([0; 4], [0; 8])), ..low_level(CHILD) };
    assert_eq!(copy_of(&catches(released)), (Proof::Differential, ParentCopy::Free, false));
    let held = LockWait { parent_words: Some(words([0; 4], [1, 0, 0, 0, 0, 0, 0, 0])), ..low_level(CHILD) };
    assert_eq!(copy_of(&catches(held)), (Proof::Differential, ParentCopy::Held, true));
}

#[test]
fn a_lock_that_the_parent_ever_had_free_may_have_been_free_at_the_fork() {
    let seen = |copy| Proven {
        proof: Proof::NoCatcher,
        certainty: Certainty::Strong,
        wait: 0,
        owner: None,
        owner_thread: None,
        copy,
        at_fork: None,
    };
    for (before, now, both) in [
        (ParentCopy::Held, ParentCopy::Held, ParentCopy::Held),
        (ParentCopy::Free, ParentCopy::Held, ParentCopy::Free),
        (ParentCopy::Held, ParentCopy::Free, ParentCopy::Free),
        (ParentCopy::Free, ParentCopy::Silent, ParentCopy::Silent),
    ] {
        assert_eq!(seen(now).after(&seen(before)).copy, both, "{before:?}, then {now:?}");
    }
}

#[test]
fn a_queue_for_an_inherited_lock_without_an_owner_is_strong() {
    let released = words([0; 4], [0; 8]);
    let queue = |count: u32| -> Vec<LockWait> {
        (0..count)
            .map(|index| LockWait { parent_words: Some(released), ..low_level(CHILD + index) })
            .collect()
    };
    let strong = Some((Proof::Queue, Certainty::Strong));
    assert_eq!(proven(&locks(5, queue(2))), strong);
    // One of the threads that do not wait may hold it.
    let child = ProcessKey { tgid: CHILD, start: BootTime(1) };
    for (held, all, is_settled) in [(1, 5, true), (1, 6, false), (0, 5, false)] {
        let parent = Some(words([0; 4], [held, 0, 0, 0, 0, 0, 0, 0]));
        let queue = queue(5).into_iter().map(|wait| LockWait { parent_words: parent, ..wait }).collect();
        let locks = locks(all, queue);
        let case = Case { child, locks: &locks, left_threads_behind: None, parent_threads: &[], held: None };
        assert_eq!(prove(&case).unwrap().is_settled(&locks, 5), is_settled, "{held} {all}");
    }
    assert_eq!(proven(&locks(5, queue(1))), None);
    assert_eq!(proven_of(&locks(5, queue(3)), None), strong);
    assert_eq!(proven_of(&locks(5, queue(3)), Some(false)), None);
    assert_eq!(proven(&Locks { comparable: false, ..locks(5, queue(3)) }), None);
    // A lock of stdio, which some thread of the child owns.
    let stdio = words([0; 4], [2, 1, 0x1234_5678, 0x7f00, 0, 0, 0, 0]);
    let writers: Vec<LockWait> =
        queue(2).into_iter().map(|wait| LockWait { words: Some(stdio), ..wait }).collect();
    assert_eq!(proven(&locks(5, writers)), None);
    // Idle workers at a condition variable wait by bitset.
    let idle: Vec<LockWait> =
        queue(2).into_iter().map(|wait| LockWait { operation: 0x189, ..wait }).collect();
    assert_eq!(proven(&locks(5, idle)), None);
}

#[test]
fn shared_memory_and_stopped_children_prove_nothing() {
    let shared = Mapping { shared: true, ..mapping("/dev/shm/sem.pool") };
    let wait = LockWait { mapping: Some(shared), ..mutex(CHILD, left_behind(OWNER)) };
    assert_eq!(proven(&locks(1, vec![wait])), None);
    let stopped = Locks { stopped: true, ..locks(1, vec![mutex(CHILD, left_behind(OWNER))]) };
    assert_eq!(proven(&stopped), None);
}

#[test]
fn proofs_without_an_owner_take_more_patience() {
    let patience = |proof| {
        let (certainty, copy) = (Certainty::Strong, ParentCopy::Silent);
        let proven =
            Proven { proof, certainty, wait: 0, owner: None, owner_thread: None, copy, at_fork: None };
        proven.patience(Duration::from_secs(2)).as_secs()
    };
    let all =
        [Proof::Owner, Proof::SelfOwned, Proof::NoCatcher, Proof::Differential, Proof::Frames, Proof::Queue];
    assert_eq!(all.map(patience), [2, 2, 20, 20, 20, 60]);
}

#[test]
fn a_semaphore_that_a_handler_may_post_is_doubtful() {
    let held = LockWait { parent_words: Some(words(CHUNK, [0; 8])), ..semaphore(CHILD) };
    let catches = Locks { caught: SignalSet::of(&[15]), ..locks(1, vec![held]) };
    assert_eq!(proven(&catches), Some((Proof::Differential, Certainty::Heuristic)));
    // Nor is that a lock of the C library's, or a mutex of Rust's.
    let low = LockWait { parent_words: Some(words([0; 4], [1, 0, 0, 0, 0, 0, 0, 0])), ..low_level(CHILD) };
    let catches = Locks { waits: vec![low], ..catches };
    assert_eq!(proven(&catches), Some((Proof::Differential, Certainty::Strong)));
}

/// The words that were read from a hung worker that looks a name up: glibc's lock around the list of interfaces, with a
/// pointer to the list behind it.
#[test]
fn a_low_level_lock_before_a_pointer_is_no_mutex() {
    let lock = [2, 0, 0x1c00_0d50, 0x7f0b, 0, 0, 0, 0];
    let one = |tid| LockWait {
        words: Some(words([0; 4], lock)),
        parent_words: Some(words([0; 4], [0, 0, 0x1c00_0d50, 0x7f0b, 0, 0, 0, 0])),
        ..low_level(tid)
    };
    let queue = (0..3).map(|index| one(CHILD + 1 + index)).collect();
    assert_eq!(proven(&locks(4, queue)), Some((Proof::Queue, Certainty::Strong)));
    // A mutex all the same, with many who wait on its condition.
    let many = [2, 0, OWNER, 0x3fff, 0, 0, 0, 0];
    let wait = LockWait { words: Some(words(CHUNK, many)), ..mutex(CHILD, left_behind(OWNER)) };
    assert_eq!(proven(&locks(3, vec![wait])), CERTAIN_OWNER);
}

#[test]
fn what_the_words_do_not_prove_is_left_to_the_calls() {
    let open = |locks: &Locks, left_threads_behind| {
        let child = ProcessKey { tgid: CHILD, start: BootTime(1) };
        let case = Case { child, locks, left_threads_behind, parent_threads: &[], held: None };
        unexplained(&case).map(|proven| (proven.proof, proven.wait))
    };
    let mut parked = vec![semaphore(CHILD), semaphore(CHILD + 1), semaphore(CHILD + 2)];
    let several = locks(3, parked.clone());
    assert_eq!(open(&several, Some(true)), Some((Proof::Frames, 0)));
    parked[1].slept = Some(9);
    assert_eq!(open(&locks(3, parked), Some(true)), Some((Proof::Frames, 1)), "the longest wait");
    assert_eq!(open(&several, Some(false)), None, "nobody was left behind");
    assert_eq!(open(&several, None), Some((Proof::Frames, 0)), "the parent has other threads");
    assert_eq!(open(&Locks { parent_threads: Some(0), ..several.clone() }, None), None);
    assert_eq!(open(&Locks { stopped: true, ..several }, Some(true)), None);
    // A lock that says who has it, and that one lives.
    let holder = Holder { in_child: true, in_parent: None, is_forker: None, ..left_behind(502) };
    assert_eq!(open(&locks(3, vec![mutex(CHILD, holder)]), Some(true)), None);
}

/// What a look right after the fork has seen of a lock of CPython's at an address.
fn inventory(address: u64, held: bool, held_in_parent: Option<bool>) -> HeldLocks {
    HeldLocks {
        at: BootTime(0),
        whole: true,
        locks: Vec::new(),
        count: 0,
        plain: vec![PlainLock { object: 8, address, held, held_in_parent }],
        searched: 0,
        skipped: 0,
        took: 0,
    }
}

fn with(locks: &Locks, held: &HeldLocks) -> Option<Proven> {
    let child = ProcessKey { tgid: CHILD, start: BootTime(1) };
    let held = Some(held);
    prove(&Case { child, locks, left_threads_behind: Some(true), parent_threads: &[], held })
}

/// Several threads, handlers, and a lock that the parent has released since.
#[test]
fn what_was_held_right_after_the_fork_is_found_among_threads_and_handlers() {
    let one = |python, wait| Locks { python, caught: SignalSet(u64::MAX), ..locks(5, vec![wait]) };
    let waits = LockWait { parent_words: Some(words(CHUNK, [1, 0, 0, 0, 0, 0, 0, 0])), ..semaphore(503) };
    let child = one(true, waits.clone());
    let held = inventory(waits.address, true, Some(true));
    let found = with(&child, &held).unwrap();
    assert_eq!((found.proof, found.certainty), (Proof::HeldAtFork, Certainty::Strong));
    assert!(found.is_settled(&child, 1));
    assert_eq!(found.patience(Duration::from_secs(2)), Duration::from_secs(5));
    // The child may have taken it in the first moments, or later; and what lies elsewhere says nothing of it.
    for other in [
        inventory(waits.address, true, Some(false)),
        inventory(waits.address, true, None),
        inventory(waits.address, false, None),
        inventory(waits.address + 32, true, Some(true)),
    ] {
        assert_eq!(with(&child, &other), None, "{other:?}");
    }
    // No semaphore, and one that is none of CPython's.
    assert_eq!(with(&one(false, waits), &held), None);
    assert_eq!(with(&one(true, low_level(503)), &inventory(low_level(503).address, true, Some(true))), None);
}

#[test]
fn a_lock_that_was_free_right_after_the_fork_was_taken_by_the_child() {
    for caught in [SignalSet::EMPTY, SignalSet(1 << 14)] {
        for parent in [0, 1] {
            let parent_words = Some(words(CHUNK, [parent, 0, 0, 0, 0, 0, 0, 0]));
            let wait = LockWait { parent_words, ..semaphore(CHILD) };
            let child = Locks { python: true, caught, ..locks(1, vec![wait.clone()]) };
            let free = with(&child, &inventory(wait.address, false, None)).unwrap();
            assert_eq!((free.certainty, free.is_settled(&child, 1)), (Certainty::Heuristic, false));
            let held = with(&child, &inventory(wait.address, true, Some(true))).unwrap();
            assert_eq!((held.certainty, held.is_settled(&child, 1)), (Certainty::Strong, true));
        }
    }
}

/// A thread parked at a lock of one byte, of an object of the same type in the parent.
fn parked(tid: u32, in_child: u32, in_parent: Option<[u32; 2]>) -> LockWait {
    const TYPE: u32 = 0x5560_1230;
    let object = |class, byte| words([1, 0, class, 0x5580], [byte, 0, 0, 0, 0, 0, 0, 0]);
    let parked = Parked {
        address: 0x7f00_5500,
        words: object(TYPE, in_child),
        parent_words: in_parent.map(|[class, byte]| object(TYPE + class, byte)),
        mapping: mapping(""),
    };
    LockWait { parked: Some(Box::new(parked)), mapping: Some(mapping("[stack]")), ..semaphore(tid) }
}

#[test]
fn a_lock_of_one_byte_is_compared_where_it_is() {
    for (in_parent, expected) in [
        (Some([0, 1]), ParentCopy::Held),
        (Some([0, 3]), ParentCopy::Held),
        (Some([0, 0]), ParentCopy::Free),
        // No lock, another object, and nothing.
        (Some([0, 7]), ParentCopy::Silent),
        (Some([16, 1]), ParentCopy::Silent),
        (None, ParentCopy::Silent),
    ] {
        assert_eq!(parent_copy(&parked(CHILD, 3, in_parent)), expected, "{in_parent:?}");
    }
    let child = Locks { python: true, ..locks(1, vec![parked(CHILD, 3, Some([0, 1]))]) };
    let proven = proven_of(&child, Some(true));
    assert_eq!(proven, Some((Proof::NoCatcher, Certainty::Strong)));
    // It was seen at the address of the byte.
    let several = Locks { python: true, ..locks(4, vec![parked(503, 3, None)]) };
    let found = with(&several, &inventory(0x7f00_5500, true, Some(true)));
    assert_eq!(found.map(|proven| proven.proof), Some(Proof::HeldAtFork));
}
