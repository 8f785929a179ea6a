//! `orphaned-lock`: a child is blocked on a lock that nobody in it can release.

use super::{
    awaited::{self, Told},
    lost_thread,
    stuck::{facts, notes, occupations_of, queue, remedy},
    words::summary,
};
pub use super::{
    proof::{Case, ParentCopy, Proven, prove},
    stuck::Stuck,
};
use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_AWAKE},
    model::{
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        facts::Proof,
        finding::{Certainty, Facts, Finding, HazardId, Severity, State},
        lock::{Locks, MemoryUsers, Place},
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
    remedy::ecosystem,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("orphaned-lock"),
    title: "A forked child is blocked on a lock that nobody in it can release",
    what: "A lock that another thread of the parent held at the fork is copied as held, and the thread that would \
           release it does not exist in the child. The child blocks as soon as it wants that lock, in a logger, \
           in the resolver, in the allocator, in a TLS library, and stays so until somebody kills it. Nothing is \
           logged, and no time-out of the program's own helps, for the thread that would watch it is gone as well.",
    detection: "Children that live on without exec are looked at within a second of falling asleep, from outside and without stopping \
                them. One whose thread sleeps in futex(2), on a futex of its own process and without a timeout, \
                is looked at closely: the words of the lock, the same words in the parent, the threads of both, \
                and the signals that it handles. What proves that nobody can wake it is named in the finding, \
                with the values it rests on, once the wait has lasted without any change: 2 s for the proofs \
                by owner (judge.stuck_after), 5 s where the lock was seen held right after the fork or the parent's \
                copy of it is held too, 20 s for a single thread otherwise, and 60 s for a queue and for what is only suspected (2.5, 10 and \
                30 times as long). A thread that sleeps for a moment at a time at one word from before the fork, in a \
                function of gperftools' that waits for a spin lock, is suspected.",
    certainty: Certainty::Certain,
    certainty_reason: "It depends on the proof. Owner: a glibc mutex or rwlock names the thread that holds it. If \
                       the parent still has that thread and the child does not, it is certain; if that thread has \
                       ended since, it is strong. A program that breaks the rules, and unlocks in another thread or \
                       in a handler what it did not lock there, wakes all the same. Self-owned: the thread that \
                       called fork held the lock, and waits for it in the child: certain. A lock without an owner \
                       does not say who took it, and is never certain. No catcher: the child has one thread, which \
                       waits, and no signal handler that could wake it. Differential: the same, but the child has \
                       handlers. No handler releases a lock, but it may release a semaphore: one of a program other \
                       than Python is heuristic. Both proofs are strong if the parent has the same lock. They are \
                       confirmed if the parent's copy was held at every look. They are suspected if it was free, \
                       because then the child itself may have taken the lock since; the finding tells both stories. \
                       Both are heuristic if the child has made the lock itself after the fork, or if the frames of \
                       its CPython cannot be read, which would tell whether it is parked. Queue: two or more threads \
                       of the child wait for one inherited lock without an owner, and nothing moves: strong, and \
                       confirmed if all of them wait. If only one thread among others waits, and its calls say that \
                       it wants a lock, that is heuristic and suspected. Held-at-fork: 20 ms after the fork the \
                       memory of the child is searched for CPython's locks. If one was held then, in the child and \
                       in the parent, or by a thread that the child does not have, and the calls of the waiting \
                       thread say that it wants the lock, that is strong and confirmed, also in a child with several \
                       threads and with handlers. It is never certain: such a lock may be a gate that another thread \
                       of the child is to open. If the lock was free then, the child itself has taken it: heuristic \
                       and suspected if its only thread waits, and not reported if it has others. Nothing is certain \
                       if it could not be found out whether another process uses the child's memory, or if the thread \
                       was not seen to wait in the C library: words of a program's own may look like its locks.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A child parked in Event().wait(), or in sem_wait on a semaphore of its own, until a signal handler wakes it.",
        "Idle workers of the child's own, at a condition variable, a queue or a semaphore.",
        "A child that sleeps in pause, sigwait, poll or read: no futex.",
        "Locks in shared memory, such as multiprocessing's: another process may release them.",
        "A child that waits for a thread that it started itself, or for a lock that such a thread owns.",
        "A lock that the forking thread itself held: it goes on as the child's main thread, and may release it.",
        "A mutex, or a lock of CPython's, that a thread of the child has taken itself and keeps: no fork is to blame.",
        "A child whose memory another process uses too (clone with CLONE_VM), which may release the lock.",
        "A wait with a timeout, but for those in which spin locks sleep.",
        "A child that a debugger or a signal has stopped.",
        "A child of a forker that had no other threads.",
    ],
    remedies: ecosystem::remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/fork.2.html",
        "https://man7.org/linux/man-pages/man2/futex.2.html",
        "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
    ],
    watches: "forked children that wait for a lock which nobody in them can release",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each), (Aspect::Sharing, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[(
        Observable::Sleepers,
        DetectorState::Limited,
        "a child that begins to wait may be looked at half a minute later only",
    )],
    knows_threads: false,
    tells_who_hangs: true,
    ends: WITH_CHILD_OR_AWAKE,
};

/// Whether a forked child waits in a way that proves something. Only a second look tells whether it does so for good.
pub fn waits_as_if_stuck(child: ProcessKey, locks: &Locks) -> bool {
    prove(&Case { child, locks, left_threads_behind: None, parent_threads: &[], held: None }).is_some()
}

/// The process to blame for a child whose fork was not seen: its present parent, where that has the thread which holds
/// the lock, or had other threads at the fork and has not taken the child over from another process.
pub fn forker_of_unseen(locks: &Locks, proven: &Proven) -> Option<ProcessKey> {
    let holds = proven.owner_thread.is_some();
    let may_have_left_threads = !locks.adopted && locks.parent_threads.is_some_and(|threads| threads > 0);
    locks.forker().filter(|_| holds || may_have_left_threads)
}

/// The processes beside the child that use its memory: as long as there are any, nothing is known of its locks.
pub fn sharers(place: &Place) -> Option<&[u32]> {
    match &place.memory {
        Some(MemoryUsers::Shared(sharers)) => Some(sharers),
        Some(MemoryUsers::Alone | MemoryUsers::Unknown(_)) | None => None,
    }
}

/// The finding; none where the stack shows that the child is parked on purpose.
pub fn judge(stuck: &Stuck<'_>, now: BootTime) -> Option<Finding> {
    let wait = stuck.case.locks.waits.get(stuck.proven.wait)?;
    if let Some((awaited, place)) = lost_thread::awaited(stuck, wait).zip(stuck.place) {
        return Some(lost_thread::judge(stuck, wait, awaited, place, now));
    }
    let certainty = certainty(stuck)?;
    let is_settled = stuck.proven.is_settled(stuck.case.locks, queue(stuck, wait));
    let (state, severity) = if is_settled && certainty > Certainty::Heuristic {
        (State::Confirmed, Severity::Critical)
    } else {
        (State::Suspected, Severity::Warning)
    };
    let owner = stuck.proven.owner_thread;
    let verdict = Verdict {
        state,
        certainty,
        severity,
        summary: summary(stuck, wait, certainty),
        facts: Facts {
            occupations: occupations_of(stuck, owner.as_slice()),
            threads: owner.into_iter().collect(),
            age: Some(nanoseconds(stuck.since_fork)),
            lock: Some(Box::new(facts(stuck, wait))),
            notes: notes(stuck),
            ..Facts::default()
        },
        remedy: remedy(stuck),
    };
    let child = (stuck.child, stuck.case.locks.comm);
    let finding = verdict.finding(now, HAZARD.id, (stuck.parent, stuck.program), child);
    Some(Finding { child_uid: stuck.case.locks.uid, ..finding })
}

/// How sure it is, with what the stack of a script tells, and with who uses the memory; none where the stack shows that
/// the child is parked on purpose.
fn certainty(stuck: &Stuck<'_>) -> Option<Certainty> {
    let is_certain = is_alone_in_its_memory(stuck) && is_in_the_c_library(stuck);
    let most = if is_certain { Certainty::Certain } else { Certainty::Strong };
    by_script(stuck).map(|certainty| certainty.min(most))
}

/// The words of CPython's locks prove little: memory of the parent that was freed, or never used, often looks like a
/// lock that is held.
fn by_script(stuck: &Stuck<'_>) -> Option<Certainty> {
    let Proven { proof, certainty, .. } = stuck.proven;
    match proof {
        Proof::Owner | Proof::SelfOwned | Proof::Queue => return Some(certainty),
        // What the words do not prove, the calls would have to say.
        Proof::Frames => return None,
        Proof::NoCatcher | Proof::Differential | Proof::HeldAtFork => {}
    }
    let told = stuck.place.map(|place| awaited::told(place, stuck.case.locks.threads == 1));
    let script = stuck.place.and_then(|place| place.script.as_ref());
    let is_read = script.is_some_and(|script| !script.frames.is_empty());
    match told {
        Some(Told::Parked) => None,
        // A line of the script that wants a lock which the parent had at each look: in a child of several threads one of
        // these would have had it all that time as well.
        // Where the calls cannot be read, the thread may as well be parked at another lock in the same place.
        _ if proof == Proof::HeldAtFork && !is_read => Some(Certainty::Heuristic),
        Some(Told::Nothing)
            if is_read && stuck.case.locks.threads > 1 && stuck.proven.copy == ParentCopy::Held =>
        {
            // Memory that was free in the parent looks like a held lock, and one of the child's own threads may release
            // what the child has made there since.
            let lock = stuck.case.locks.waits.get(stuck.proven.wait)?.lock();
            let is_new = stuck.case.held.is_some_and(|held| held.was_absent(lock));
            Some(if is_new { Certainty::Heuristic } else { Certainty::Strong })
        }
        _ if stuck.case.locks.python && !is_read => Some(Certainty::Heuristic),
        _ => Some(certainty),
    }
}

/// What glibc's functions that wait for a lock have in their names.
const LOCK_FUNCTIONS: [&str; 3] = ["lll_lock_wait", "pthread_mutex_", "pthread_rwlock_"];

/// Whether the thread waits where the C library does, and not in a call of futex(2) that the program makes itself: words
/// that look like glibc's lock may then be something of its own.
fn is_in_the_c_library(stuck: &Stuck<'_>) -> bool {
    let innermost = stuck.place.and_then(|place| place.stack.frames.first());
    let module = innermost.and_then(|frame| frame.module.as_deref()).unwrap_or_default();
    let file = module.rsplit('/').next().unwrap_or_default();
    let by_itself = innermost.and_then(|frame| frame.function.as_deref()) == Some("syscall");
    let is_there = file.starts_with("libc.") || file.starts_with("libc-") || file.starts_with("libpthread");
    // A static program has it within itself.
    let functions = stuck
        .place
        .iter()
        .flat_map(|place| &place.stack.frames)
        .filter_map(|frame| frame.function.as_deref());
    let is_named = |function: &str| LOCK_FUNCTIONS.iter().any(|name| function.contains(name));
    !by_itself && (is_there || functions.into_iter().any(is_named))
}

/// Whether it is known that nobody but the child's threads uses its memory, or ever has since the fork.
fn is_alone_in_its_memory(stuck: &Stuck<'_>) -> bool {
    let users = stuck.place.and_then(|place| place.memory.as_ref());
    users == Some(&MemoryUsers::Alone) && !stuck.has_shared_memory
}
