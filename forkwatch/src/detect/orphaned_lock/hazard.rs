//! `orphaned-lock`: a child is blocked on a lock that nobody in it can release.

use std::time::Duration;

pub use super::proof::{Case, ParentCopy, Proven, prove};

use crate::{
    core::Verdict,
    detect::{Hazard, uid_words},
    model::{
        detector::{Aspect, DetectorState, Observation, Reach, Wanted},
        facts::{LockFacts, LockOwner, Proof},
        finding::{Certainty, Facts, Finding, HazardId, Severity, State},
        lock::{Blocked, LockWait, Locks, Mapping, MemoryUsers, Place, Words},
        process::{ProcessKey, Program, escape},
        stack::{Frame, Stack},
        thread::SeenThread,
        time::{BootTime, nanoseconds},
    },
    remedy::ecosystem,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("orphaned-lock"),
    title: "A forked child is blocked for ever on a lock that nobody in it can release",
    what: "A lock that another thread of the parent held at the fork is copied as held, and the thread that would \
           release it does not exist in the child. The child blocks as soon as it wants that lock, in a logger, \
           in the resolver, in the allocator, in a TLS library, and stays so until somebody kills it. Nothing is \
           logged, and no time-out of the program's own helps, for the thread that would watch it is gone as well.",
    detection: "Children that live on without exec are looked at within a second of falling asleep, from outside and without stopping \
                them. One whose thread sleeps in futex(2), on a futex of its own process and without a timeout, \
                is looked at closely: the words of the lock, the same words in the parent, the threads of both, \
                and the signals that it handles. What proves that nobody can wake it is named in the finding, \
                with the values it rests on, once the wait has lasted without any change: 10 s for the proofs \
                by owner, 20 s for a single thread, 60 s for a queue (judge.stuck_after sets the first, and the \
                others are two and six times as long).",
    certainty: Certainty::Certain,
    certainty_reason: "The proof decides. Owner: a glibc mutex or rwlock names the thread that holds it, and that is \
                       one which the parent has still and the child does not have: certain; strong where that thread \
                       has ended since. Self-owned: the thread that called fork held the lock and waits for it in \
                       the child: certain. A lock without an owner does not say who took it, and is never certain. No \
                       catcher: the child has one thread, which waits, and no signal handler that could wake it. \
                       Differential: the same with handlers. Both are strong where the parent has the same lock: \
                       confirmed while its copy was held at every look; but suspected, with both stories told, \
                       where it was free, for then the child itself may have taken the lock since. On something \
                       that the child made itself after the fork, or where the frames of its CPython cannot be \
                       read, which would tell whether it is parked: heuristic. Queue: two or more threads of the \
                       child wait for one inherited lock without an owner and without progress: strong, and \
                       confirmed if all of them do. Nothing is certain where it could not be found out that no other \
                       process uses the child's memory.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A child parked in Event().wait(), sem_wait or a condition variable until a signal handler wakes it.",
        "A child that sleeps in pause, sigwait, poll or read: no futex.",
        "Locks in shared memory, such as multiprocessing's: another process may release them.",
        "A child that waits for a thread that it started itself, or for a lock that such a thread owns.",
        "A lock that the forking thread itself held: it goes on as the child's main thread, and may release it.",
        "A mutex that a thread of the child has taken itself, and waits for or keeps: no fork is to blame.",
        "A child whose memory another process uses too (clone with CLONE_VM), which may release the lock.",
        "A wait with a timeout.",
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
        Observation::Sleepers,
        DetectorState::Limited,
        "a child that begins to wait may be looked at half a minute later only",
    )],
    knows_threads: false,
    tells_who_hangs: true,
};

/// A child that was proven stuck, with all that is known of it.
pub struct Stuck<'a> {
    /// The child.
    pub child: ProcessKey,
    /// The process that forked it; the child itself where that is not known.
    pub parent: ProcessKey,
    /// Whether the kernel told of the fork. If not, the parent is what `/proc` shows now.
    pub fork_seen: bool,
    /// Whether the child has ever cloned a process with its own memory, as far as the kernel told.
    pub has_shared_memory: bool,
    /// What runs there.
    pub program: &'a Program,
    /// Its name.
    pub program_name: &'a str,
    /// What was proven, and from what.
    pub case: Case<'a>,
    /// The proof.
    pub proven: Proven,
    /// Where the thread is; absent where nobody could look.
    pub place: Option<&'a Place>,
    /// How long it has been seen to wait.
    pub waited: Duration,
    /// How old the child is.
    pub since_fork: Duration,
}

/// Whether a forked child waits in a way that proves something. Only a second look tells whether it does so for good.
pub fn waits_as_if_stuck(child: ProcessKey, locks: &Locks) -> bool {
    prove(&Case { child, locks, left_threads_behind: None, parent_threads: &[] }).is_some()
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
    let certainty = certainty(stuck)?;
    let is_settled = stuck.proven.is_settled(stuck.case.locks, queue(stuck, wait));
    let (state, severity) = if is_settled && certainty > Certainty::Heuristic {
        (State::Confirmed, Severity::Critical)
    } else {
        (State::Suspected, Severity::Warning)
    };
    let owner = stuck.proven.owner_thread;
    let threads: Vec<SeenThread> =
        owner.into_iter().chain(stuck.case.parent_threads.iter().copied()).collect();
    let verdict = Verdict {
        state,
        certainty,
        severity,
        summary: summary(stuck, wait, certainty),
        facts: Facts {
            threads: owner.into_iter().collect(),
            age: Some(nanoseconds(stuck.since_fork)),
            lock: Some(Box::new(facts(stuck, wait))),
            notes: notes(stuck),
            ..Facts::default()
        },
        remedy: ecosystem::recognise(stuck.program, &threads).remedy(),
    };
    let child = (stuck.child, stuck.case.locks.comm);
    let finding = verdict.finding(now, HAZARD.id, (stuck.parent, stuck.program), child);
    Some(Finding { child_uid: stuck.case.locks.uid, ..finding })
}

/// How sure it is, with what the stack of a script tells, and with who uses the memory; none where the stack shows that
/// the child is parked on purpose.
fn certainty(stuck: &Stuck<'_>) -> Option<Certainty> {
    let most = if is_alone_in_its_memory(stuck) { Certainty::Certain } else { Certainty::Strong };
    by_script(stuck).map(|certainty| certainty.min(most))
}

/// The words of CPython's locks prove little: memory of the parent that was freed, or never used, often looks like a
/// lock that is held.
fn by_script(stuck: &Stuck<'_>) -> Option<Certainty> {
    let Proven { proof, certainty, .. } = stuck.proven;
    let is_by_words = matches!(proof, Proof::NoCatcher | Proof::Differential);
    if !is_by_words || !stuck.case.locks.python {
        return Some(certainty);
    }
    let script =
        stuck.place.and_then(|place| place.script.as_ref()).filter(|script| !script.frames.is_empty());
    match (proof, script) {
        (_, Some(script)) if waits_for_event(script) => None,
        // A condition is waited for on a lock that was made for that.
        (Proof::Differential, Some(script)) if waits_for_condition(script) => None,
        (_, None) => Some(Certainty::Heuristic),
        _ => Some(certainty),
    }
}

/// Whether it is known that nobody but the child's threads uses its memory, or ever has since the fork.
fn is_alone_in_its_memory(stuck: &Stuck<'_>) -> bool {
    let users = stuck.place.and_then(|place| place.memory.as_ref());
    users == Some(&MemoryUsers::Alone) && !stuck.has_shared_memory
}

/// `Event.wait`, which calls `Condition.wait`: parked until somebody sets the event.
fn waits_for_event(script: &Stack) -> bool {
    waits_for_condition(script) && script.frames.get(1).is_some_and(is_wait)
}

fn waits_for_condition(script: &Stack) -> bool {
    script.frames.first().is_some_and(is_wait)
}

/// A method `wait` of CPython's `threading`; from some versions on frames bear their class's name too.
fn is_wait(frame: &Frame) -> bool {
    frame.function.as_deref().is_some_and(|name| name.rsplit('.').next() == Some("wait"))
        && frame.module.as_deref().is_some_and(|module| module.ends_with("threading.py"))
}

fn summary(stuck: &Stuck<'_>, wait: &LockWait, certainty: Certainty) -> String {
    let (who, proven, locks) = (who(stuck), stuck.proven, stuck.case.locks);
    let lock = lock_words(stuck, wait);
    let thread = if wait.tid == stuck.child.tgid {
        String::new()
    } else {
        format!(" in its thread {} ({})", wait.tid, wait.comm)
    };
    let ever =
        if certainty == Certainty::Certain && super::proof::nobody_catches(locks) { " for ever" } else { "" };
    match (proven.proof, proven.copy) {
        (Proof::Owner, _) => {
            let of_parent = match (proven.owner_thread, proven.owner) {
                (Some(thread), _) => format!("the thread {} ({}) of the parent", thread.comm, thread.tid),
                (None, Some(tid)) => format!("a thread {tid}, which has ended since,"),
                (None, None) => "a thread of the parent".to_owned(),
            };
            if certainty == Certainty::Heuristic {
                let named = of_parent.trim_end_matches(',');
                format!(
                    "{who} waits{thread} for {lock}, whose words name {named}: it was held at the fork, or a thread of \
                     the child itself took it and keeps it"
                )
            } else {
                format!(
                    "{who} waits{ever}{thread} for {lock}: {of_parent} held it at the fork, and does not exist in \
                     the child"
                )
            }
        }
        (Proof::SelfOwned, _) if proven.certainty < Certainty::Certain => format!(
            "{who} waits{thread} for {lock}, which bears the name of the thread that called fork: that held it at the \
             fork, or the child took it itself and waits for itself"
        ),
        (Proof::SelfOwned, _) => format!(
            "{who} waits{ever}{thread} for {lock}: the thread that called fork held it, and waits for itself in \
             the child"
        ),
        (Proof::NoCatcher, _) if certainty == Certainty::Heuristic => format!(
            "{who} waits for {lock} with no other thread and no signal handler that could end the wait: it is \
             parked until it is killed, or it waits for a thread that the fork left behind"
        ),
        (Proof::NoCatcher, ParentCopy::Silent) => format!(
            "{who} waits at {lock} with no other thread and no signal handler that could end the wait: it waits for \
             a thread that the fork left behind, or it is parked until it is killed"
        ),
        (Proof::NoCatcher | Proof::Differential, ParentCopy::Held) => format!(
            "{who} waits for {lock}, which is held in the parent too: it was held at the fork, as far as can be told, \
             and the child has no other thread that could release it"
        ),
        (Proof::NoCatcher | Proof::Differential, _) => {
            format!("{who} waits for {lock}, and has no other thread that could release it: {EITHER}")
        }
        (Proof::Queue, copy) => {
            let why = if copy == ParentCopy::Held && locks.threads as usize == queue(stuck, wait) {
                "it was held at the fork by a thread that the child does not have"
            } else {
                "it was held at the fork by a thread that the child does not have, or another thread of the child \
                 holds it"
            };
            format!("{who} has {} threads that wait for {lock} without progress: {why}", queue(stuck, wait))
        }
    }
}

/// The two stories that fit a lock without an owner that is free in the parent.
const EITHER: &str = "a thread of the parent held it at the fork and has released its own copy since, or the child took \
                      it itself and waits for itself";

/// The child, and whose it is, no surer than that is known.
fn who(stuck: &Stuck<'_>) -> String {
    let Stuck { child, parent, program_name: name, .. } = stuck;
    let (child, parent) = (child.tgid, parent.tgid);
    if parent == child {
        format!("{name} (pid {child}), which was forked by an unknown process,")
    } else if stuck.fork_seen || stuck.proven.owner_thread.is_some() {
        format!("The child {child} of {name} (pid {parent})")
    } else {
        format!("Process {child}, now a child of {name} (pid {parent}),")
    }
}

/// The lock, by its name or the memory that it lies in.
fn lock_words(stuck: &Stuck<'_>, wait: &LockWait) -> String {
    let symbol = stuck.place.and_then(|place| place.symbol.as_deref());
    let memory = wait.mapping.as_ref().map(memory_words);
    match (symbol, memory) {
        (Some(symbol), Some(memory)) => format!("the lock `{symbol}` {memory}"),
        (Some(symbol), None) => format!("the lock `{symbol}`"),
        (None, Some(memory)) => format!("a lock {memory}"),
        (None, None) => "a lock".to_owned(),
    }
}

fn memory_words(mapping: &Mapping) -> String {
    match mapping.name.as_str() {
        "" => "in anonymous memory".to_owned(),
        "[heap]" => "on the heap".to_owned(),
        "[stack]" => "on the stack".to_owned(),
        name => format!("in {}", escape(name.rsplit('/').next().unwrap_or(name))),
    }
}

fn queue(stuck: &Stuck<'_>, wait: &LockWait) -> usize {
    stuck.case.locks.waits.iter().filter(|other| other.address == wait.address).count()
}

fn facts(stuck: &Stuck<'_>, wait: &LockWait) -> LockFacts {
    let Stuck { place, proven, .. } = stuck;
    let hex = |words: Words| words.0.map(|word| format!("{word:08x}")).join(" ");
    let owner = proven.owner.map(|id| LockOwner {
        id,
        name: proven.owner_thread.map(|thread| thread.comm.to_string()),
        doing: place.and_then(|place| place.holder.clone()),
    });
    LockFacts {
        proof: proven.proof,
        address: format!("{:#x}", wait.address),
        mapping: wait.mapping.clone(),
        symbol: place.and_then(|place| place.symbol.clone()),
        owner,
        waiting_thread: wait.tid,
        waiting_threads: u32::try_from(queue(stuck, wait)).unwrap_or(u32::MAX),
        waited_ns: nanoseconds(stuck.waited),
        operation: wait.operation,
        value: wait.value,
        words: wait.words.map(hex),
        parent_words: wait.parent_words.map(hex),
        stack: Some(
            place.map_or_else(
                || Stack::absent("not looked at, or not to be seen"),
                |place| place.stack.clone(),
            ),
        ),
        script: place.and_then(|place| place.script.clone()),
        blocks: place.map(|place| place.blocks.clone()).unwrap_or_default(),
    }
}

/// What keeps it from being certain, and what it keeps from others, as phrases.
fn notes(stuck: &Stuck<'_>) -> Vec<String> {
    let memory = stuck.place.and_then(|place| place.memory.as_ref());
    let doubt = match memory {
        Some(MemoryUsers::Unknown(why)) => {
            Some(format!("whether another process uses its memory could not be found out: {why}"))
        }
        Some(MemoryUsers::Alone) if stuck.has_shared_memory => {
            Some("a process that used its memory too has ended".to_owned())
        }
        _ => None,
    };
    let blocks = stuck.place.map_or(&[][..], |place| &place.blocks);
    let blocks = blocks.iter().map(|blocked| match blocked {
        Blocked::Waiter { pid, name, uid, call } => {
            format!("{name} (pid {pid}{}) waits for it in {call}", uid_words(*uid))
        }
        Blocked::Listener { address } => {
            format!("it keeps {} open and accepts nothing there", escape(address))
        }
        Blocked::Pipe { inode, reader } => {
            format!("it keeps the write end of pipe {inode} open, whose end process {reader} waits for")
        }
    });
    doubt.into_iter().chain(blocks).collect()
}
