//! `abandoned-semaphore`: a family waits for one lock in shared memory, which a member that was killed has left locked.
//!
//! A mutex names its owner, and where no thread of that name is left nobody may release it. A semaphore names nobody.
//! Where a queue of multiprocessing waits for its own, only who is inside of that queue can hold it: all children that are
//! left wait at its door, and their parent is not inside.

use super::{Case, frames};
use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        family::{Member, SharedKind, SharedLock, Waiter},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        program_name::called,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("abandoned-semaphore"),
    title: "A family waits for a lock in shared memory that a killed member has left locked",
    what: "A semaphore or mutex in memory that several processes share does not notice that the process which has taken it \
           was killed, by the out-of-memory killer for one. It stays taken. Every other process that wants it waits \
           for ever, also those that are started anew: they wait for the same. In a pool of multiprocessing it is the \
           lock of the queue of tasks, which a worker holds whenever it waits for the next one.",
    detection: "When a signal has killed a child that never exec'd, or it has exited with a code other than 0, its parent and the other children are looked at \
                after 3 s, and then later and later, for about four minutes. It is reported if two looks, 4 s apart, \
                see threads sleep at one mutex in shared memory whose owner is no living thread. It is also reported if \
                they see every child that is left sleep at one semaphore, of which the calls of its script say that it is \
                a lock.",
    certainty: Certainty::Strong,
    certainty_reason: "A mutex that is not robust can be released by its owner alone, and that has ended. A semaphore \
                       can be posted by anybody who shares it: that nobody will is concluded from the calls of all of \
                       the family. Where the lock is one that the program uses itself, its parent may hold it: that is a \
                       suspicion.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "An idle pool: one worker waits for a task, and holds the lock of the queue for which the others wait.",
        "Workers that wait at a semaphore for work: it is no lock.",
        "A robust mutex: whoever waits for it is told that its owner has died.",
        "A mutex whose owner lives, however long it takes.",
        "A family of which all have ended well.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html",
        "https://docs.python.org/3/library/multiprocessing.html#multiprocessing.Process.terminate",
    ],
    watches: "locks in shared memory that a killed child has left locked",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen what other users' processes wait for: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// The verdict; none where nothing speaks for it.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    by_owner(case).or_else(|| by_calls(case))
}

/// A mutex whose owner is gone.
fn by_owner(case: &Case<'_>) -> Option<Verdict> {
    let (lock, owner) = case.members().flat_map(|member| &member.threads).find_map(|waiter| {
        let lock = waiter.shared.as_ref()?;
        match lock.kind {
            SharedKind::Mutex { owner, lives: Some(false) } => Some((lock, owner)),
            _ => None,
        }
    })?;
    let waits = |waiter: &&Waiter| waiter.shared.as_ref() == Some(lock);
    let waiting = case.members().filter(|member| {
        let before = case.before(member);
        let unmoved =
            |waiter: &Waiter| before.is_some_and(|before| before.threads.contains(waiter)) && !member.stopped;
        member.threads.iter().filter(waits).any(unmoved)
    });
    let count = waiting.count();
    if count == 0 {
        return None;
    }
    let (killer, parent) = (case.killed_words(), case.second.forker.process.tgid);
    let name = called(&case.second.program);
    let who = match count {
        1 => "1 process waits".to_owned(),
        more => format!("{more} processes wait"),
    };
    let by = case.killed.iter().find(|killed| killed.child.tgid == owner);
    let left = by.map_or_else(
        || format!("which thread {owner} holds, and that has ended; {killer}"),
        |killed| format!("which {owner} has left locked: it {}", killed.how()),
    );
    let mut notes = vec![format!("the lock lies in {}, at {:#x}", lock.file, lock.place.3)];
    notes.extend(case.memory_note());
    Some(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary: format!("{who} in the family of {name} (pid {parent}) for a mutex in shared memory {left}"),
        facts: Facts { notes, ..Facts::default() },
        remedy: robust(),
    })
}

/// A semaphore at which all children wait that are left.
fn by_calls(case: &Case<'_>) -> Option<Verdict> {
    let family = case.second;
    let lock = family.children.first()?.main()?.shared.as_ref()?;
    if lock.kind != SharedKind::Semaphore || !family.whole || family.forker.stopped {
        return None;
    }
    let waits = |member: &Member, how: fn(&Waiter) -> bool| {
        let is_there = |member: &Member| member.main().is_some_and(|main| is_at(main, lock) && how(main));
        case.before(member).is_some_and(|before| member.is_unmoved_since(before) && is_there(before))
            && is_there(member)
    };
    let all = |how| family.children.iter().all(|child| waits(child, how));
    let in_queue = all(frames::waits_in_queue)
        && ![case.first, case.second].iter().any(|family| frames::is_in_queue(&family.forker));
    if !in_queue && !all(frames::waits_for_lock) {
        return None;
    }
    let forker_waits = family.forker.threads.iter().any(|waiter| is_at(waiter, lock));
    let (name, parent) = (called(&family.program), family.forker.process.tgid);
    let count = family.children.len();
    let children = if count == 1 { "The only child".to_owned() } else { format!("All {count} children") };
    let wait = if count == 1 { "waits" } else { "wait" };
    let killed = case.killed_words();
    let is_sure = in_queue || forker_waits;
    let (state, certainty, severity, what) = if in_queue {
        (
            HAZARD.state,
            HAZARD.certainty,
            HAZARD.severity,
            format!(
                "{wait} in vain for the lock of a multiprocessing queue: {killed}, and has left it locked, so that no \
                 task is taken any more"
            ),
        )
    } else {
        (
            State::Suspected,
            Certainty::Heuristic,
            Severity::Warning,
            format!(
                "{wait} for one multiprocessing lock: {killed}, and may have left it locked{}",
                if is_sure { "" } else { ", unless their parent holds it" }
            ),
        )
    };
    let at = family.children.first().and_then(Member::main).map(frames::calls).unwrap_or_default();
    let own = at.iter().find(|frame| !frames::is_of_package(frame));
    let mut notes: Vec<String> =
        own.map(|frame| format!("they wait below {}", frames::place(frame))).into_iter().collect();
    notes.extend(case.memory_note());
    Some(Verdict {
        state,
        certainty,
        severity,
        summary: format!("{children} of {name} (pid {parent}) {what}"),
        facts: Facts { notes, ..Facts::default() },
        remedy: python(),
    })
}

fn is_at(waiter: &Waiter, lock: &SharedLock) -> bool {
    waiter.shared.as_ref() == Some(lock)
}

fn robust() -> Remedy {
    remedy(
        "Restart the whole family: nothing else frees the lock. Make mutexes in shared memory robust \
         (pthread_mutexattr_setrobust), and mend what they guard where pthread_mutex_lock returns EOWNERDEAD; or use \
         locks of files (fcntl), which the kernel releases when their holder dies. Find out why the member was killed.",
        "https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html",
    )
}

fn python() -> Remedy {
    remedy(
        "Restart the whole program: nothing else frees the lock. Use concurrent.futures.ProcessPoolExecutor, which notices \
         that a worker was killed and raises BrokenProcessPool, in place of multiprocessing.Pool. Never terminate() or \
         kill() a process that uses a shared queue or lock. Find out why the worker was killed: if for want of memory, start \
         fewer workers, or give them less to do at once.",
        "https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", robust()), ("Python (multiprocessing)", python())]
}
