//! `held-locks`: a child carries locks that threads hold which it does not have.

use crate::{
    core::{ForkCase, Judgement, Verdict},
    detect::{
        Hazard, WITH_CHILD,
        multithreaded_fork::{BY_DESIGN, notes},
    },
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        event::Fork,
        facts::HeldFacts,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        held_lock::{HeldLock, HeldLocks, LockKind, LostOwner},
        process::escape,
        program_name::bare_name,
        thread::SeenThread,
    },
    remedy::ecosystem,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("held-locks"),
    title: "A forked child carries locks that nobody in it can release",
    what: "fork copies the memory of a process, and with it every lock as it stands, but only the thread that calls \
           it. A lock that another thread held at that moment is held in the child for good: nobody is there who could \
           release it. The child runs on until it needs that lock, be it to print a line, and then hangs. This says so \
           before it happens, and takes the place of `multithreaded-fork` for that child.",
    detection: "20 ms after a fork beside other threads, if the child has neither exec'd nor ended, its memory is \
                searched: the pages that are its own and in memory, the variables of programs and libraries first, \
                then all else from the smallest mapping on, for at most 0.3 s of a CPU. Found are glibc's mutexes, and \
                read-write locks held by a writer, whose owner is a thread that the parent has and the child lacks, and \
                CPython's output buffers and `threading.RLock`s whose owner did not come along. At the end of the grace \
                they are looked at again, and reported if they are held still. Other children of the same parent are \
                searched again when 50 times as long has passed as the last search took; in between they are looked at \
                where locks were found.",
    certainty: Certainty::Strong,
    certainty_reason: "A lock of glibc's is known by its structure alone, which other data may have as well. CPython's \
                       objects are known by their type; but a thread of the child's own that has taken one and ended \
                       may have had the address of one that stayed behind. Whether the child will ever need the lock \
                       nobody can know, so the finding is suspected until it hangs.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "Locks that libraries make anew in the child or release there (pthread_atfork, os.register_at_fork), such as \
         that of Python's own `sys.stdout`, and those of logging handlers since 3.9: held no longer at the second look.",
        "Locks that the forking thread itself holds: it goes on in the child.",
        "Locks that are free, however many threads there are: `multithreaded-fork` says that there were threads.",
        "Semaphores and condition variables: not looked for.",
        "Locks that note no owner, such as Python's `threading.Lock`: a held one may be a signal, or be held by the forking \
         thread. It is remembered, and proves the hang (`orphaned-lock`) if one comes of it.",
        "A child that execs or ends within the grace.",
    ],
    remedies: ecosystem::remedies,
    links: &[
        "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
        "https://docs.python.org/3/library/os.html#os.register_at_fork",
    ],
    watches: "locks that a child carries although the threads that hold them are not in it",
    sees: &[(Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory of other users' processes cannot be read: only one's own are searched",
    )),
    needs: &[],
    knows_threads: true,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// Locks that a sentence names.
const NAMED: usize = 3;

pub(super) fn judge(case: &ForkCase<'_>) -> Judgement {
    let Some(held) = case.held.filter(|held| !held.locks.is_empty()) else { return Judgement::Clean };
    let by_design = BY_DESIGN.contains(&bare_name(case.program).as_str());
    let threads = case.parent.map_or(&[][..], |parent| &parent.threads);
    Judgement::Unsafe(Box::new(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: if by_design { Severity::Info } else { HAZARD.severity },
        summary: summary(case, held),
        facts: Facts {
            threads: threads.to_vec(),
            thread_count: case.parent.map(|parent| parent.thread_count),
            occupations: case.occupations.to_vec(),
            age: Some(case.age()),
            held: held.locks.iter().map(|lock| facts(lock, case)).collect(),
            notes: all_notes(case.fork, held),
            ..Facts::default()
        },
        remedy: remedy(case),
    }))
}

fn remedy(case: &ForkCase<'_>) -> Remedy {
    let threads = case.parent.map_or(&[][..], |parent| &parent.threads);
    ecosystem::advice(case.program, threads, case.occupations)
}

fn summary(case: &ForkCase<'_>, held: &HeldLocks) -> String {
    let (locks, them) = match held.count {
        1 => ("a lock that a thread holds which does".to_owned(), "it"),
        count => (format!("{count} locks that threads hold which do"), "one of them"),
    };
    let mut named: Vec<String> = held.locks.iter().take(NAMED).map(|lock| words(lock, case)).collect();
    if held.count as usize > named.len() {
        named.push("...".to_owned());
    }
    format!(
        "{} (pid {}) forked {}, which carries {locks} not exist in it ({}): the child hangs as soon as it needs {them}",
        case.program_name,
        case.fork.parent.tgid,
        case.fork.child.tgid,
        named.join("; "),
    )
}

/// A lock and who holds it.
fn words(lock: &HeldLock, case: &ForkCase<'_>) -> String {
    format!("{}: {}", what(lock), who(&owner(lock, case)))
}

/// The thread that holds it, by the name that its program gave it where that is known.
fn owner(lock: &HeldLock, case: &ForkCase<'_>) -> LostOwner {
    let threads = case.parent.map_or(&[][..], |parent| &parent.threads);
    // Its tid is its own process's, and in a pid namespace of its own that may be another thread's outside.
    let is_it = |thread: &&SeenThread| {
        lock.owner.id == Some(thread.tid) && lock.owner.name.as_deref() == Some(&*thread.comm.to_string())
    };
    let name = threads.iter().find(is_it).map(|thread| thread.name(case.occupations));
    LostOwner { name: name.or_else(|| lock.owner.name.clone()), ..lock.owner }
}

/// What a lock is, for a reader.
pub(crate) fn what(lock: &HeldLock) -> String {
    let place = match lock.mapping.name.as_str() {
        "" | "[heap]" => "on the heap".to_owned(),
        "[stack]" => "on the stack".to_owned(),
        name => format!("in {}", escape(name.rsplit('/').next().unwrap_or(name))),
    };
    match (&lock.name, lock.kind) {
        (Some(name), LockKind::Buffer) => name.clone(),
        (None, LockKind::Buffer) => "an output buffer".to_owned(),
        (name, LockKind::Stream) => format!("the lock of {}", escape(name.as_deref().unwrap_or("a FILE"))),
        (_, LockKind::Recursive) => "a threading.RLock".to_owned(),
        (Some(name), LockKind::Mutex | LockKind::ReadWrite) => format!("`{}` {place}", escape(name)),
        (None, LockKind::Mutex) => format!("a mutex {place}"),
        (None, LockKind::ReadWrite) => format!("a read-write lock {place}"),
    }
}

fn who(owner: &LostOwner) -> String {
    match (&owner.name, owner.id) {
        (Some(name), Some(id)) => format!("thread {name} ({id})"),
        (Some(name), None) => format!("thread {name}"),
        (None, Some(id)) => format!("a thread {id}, which has ended"),
        (None, None) => "a thread that has ended".to_owned(),
    }
}

fn facts(lock: &HeldLock, case: &ForkCase<'_>) -> HeldFacts {
    HeldFacts {
        kind: lock.kind,
        name: lock.name.clone(),
        address: format!("{:#x}", lock.object),
        mapping: lock.mapping.clone(),
        owner: owner(lock, case),
    }
}

fn all_notes(fork: &Fork, held: &HeldLocks) -> Vec<String> {
    let mut all = notes(fork);
    if held.skipped > 0 {
        let megabytes = |bytes: u64| bytes.div_ceil(1 << 20);
        all.push(format!(
            "{} MB of its memory were searched; mappings of {} MB were left out, so that looking takes no longer",
            megabytes(held.searched),
            megabytes(held.skipped)
        ));
    }
    all
}
