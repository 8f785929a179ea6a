//! `waits-for-lost-thread`: a child waits for what a thread would bring that the fork left behind.

use super::{
    awaited::{self, Awaited, Parks, Told},
    proof::{forker_had_threads, is_lock, nobody_catches, wait_alone},
    stuck::{Stuck, facts, notes, occupations_of, remedy},
    words,
};
use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_AWAKE, calls::named},
    model::{
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        facts::{LockFacts, Proof},
        finding::{Certainty, Facts, Finding, HazardId, Severity, State},
        lock::{LockWait, Place, ThreadAt},
        thread::{Occupation, SeenThread},
        time::{BootTime, nanoseconds},
    },
    remedy::ecosystem,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("waits-for-lost-thread"),
    title: "A forked child waits for a thread that the fork left behind",
    what: "fork copies the one thread that calls it. A pool, an executor, a queue or a runtime that was made before the \
           fork looks in the child as if it were served, but its threads are the parent's alone: a task that the child \
           hands to it is never done, a result never comes, and whoever waits for it without a time limit waits until \
           he is killed.",
    detection: "Children that live on without exec are looked at as for orphaned-lock. Of one that waits in futex(2) \
                without a timeout, and not for a lock that says who has it, the calls are read, those of a Python \
                script and those of native code: Future.result, Queue.get, put and join, Pool.get, Condition.wait, \
                pthread_cond_wait and _destroy, pthread_barrier_wait, and calls into OpenMP's libraries, rayon, Tokio, \
                librdkafka and libuv say what is waited for. Then the child's other threads are asked for one that \
                brings it, and the parent's for the one that would have. It is reported once the wait has lasted for 20 s \
                (ten times judge.stuck_after).",
    certainty: Certainty::Strong,
    certainty_reason: "The calls say what is waited for, but not whom a program meant to bring it: strong in a child of \
                       one thread, whose forker had others, and in one of several where the parent has such a thread and \
                       all of the child's were looked at; else heuristic. It is suspected, not confirmed, where a program may as well be parked: at a \
                       condition, at a queue where it handles signals, and in a child of several threads.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A child parked in Event().wait(), or idle workers of a pool that the child has started itself.",
        "A wait for a thread of the child's own: one that serves such a pool, loop or queue is there.",
        "A wait with a timeout.",
        "A child of a forker that had no other threads.",
    ],
    remedies: ecosystem::remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/fork.2.html",
        "https://docs.python.org/3/library/os.html#os.fork",
        "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
    ],
    watches: "forked children that wait for a thread which their parent alone has",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory of other users' processes cannot be read: only one's own are judged",
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

/// What a child waits for, where its calls say that another thread would bring it, and the words name no lock.
pub(super) fn awaited(stuck: &Stuck<'_>, wait: &LockWait) -> Option<&'static Awaited> {
    let is_by_words = matches!(stuck.proven.proof, Proof::Owner | Proof::SelfOwned | Proof::Queue);
    if is_by_words || is_lock(wait) {
        return None;
    }
    match awaited::told(stuck.place?, wait_alone(stuck.case.locks, wait)) {
        Told::Awaits(awaited) => Some(awaited),
        Told::Parked | Told::Nothing | Told::Unknown => None,
    }
}

/// The finding about a child that waits for that.
pub(super) fn judge(
    stuck: &Stuck<'_>,
    wait: &LockWait,
    awaited: &Awaited,
    place: &Place,
    now: BootTime,
) -> Finding {
    let bringer = awaited::bringer(place, awaited, stuck.parent.tgid);
    let certainty = certainty(stuck, awaited, place, bringer.is_some());
    let is_alone = stuck.case.locks.threads == 1;
    let may_park = match awaited.parks {
        Parks::Never => !is_alone,
        Parks::WithHandlers => !is_alone || !nobody_catches(stuck.case.locks),
        Parks::Always => true,
    };
    let (state, severity) = if certainty > Certainty::Heuristic && !may_park {
        (State::Confirmed, Severity::Critical)
    } else {
        (State::Suspected, Severity::Warning)
    };
    let lock = facts(stuck, wait);
    let threads: Vec<SeenThread> = bringer.map(|bringer| bringer.thread).into_iter().collect();
    let verdict = Verdict {
        state,
        certainty,
        severity,
        summary: summary(stuck, wait, awaited, bringer, may_park),
        facts: Facts {
            occupations: occupations_of(stuck, &threads),
            threads,
            age: Some(nanoseconds(stuck.since_fork)),
            lock: Some(Box::new(LockFacts { proof: Proof::Frames, ..lock })),
            notes: notes(stuck),
            ..Facts::default()
        },
        remedy: remedy(stuck),
    };
    let child = (stuck.child, stuck.case.locks.comm);
    let finding = verdict.finding(now, HAZARD.id, (stuck.parent, stuck.program), child);
    Finding { child_uid: stuck.case.locks.uid, ..finding }
}

/// Never certain: nobody can see whom a program meant.
fn certainty(stuck: &Stuck<'_>, awaited: &Awaited, place: &Place, is_there: bool) -> Certainty {
    let locks = stuck.case.locks;
    let is_known = if locks.threads == 1 {
        // No handler may lawfully signal a condition variable of the C library's (signal-safety(7)).
        awaited.parks == Parks::Never || nobody_catches(locks) || !locks.python
    } else {
        let is_read = |other: &ThreadAt| {
            !other.stack.frames.is_empty()
                || other.script.as_ref().is_some_and(|script| !script.frames.is_empty())
        };
        is_there && place.knows_others && place.others.iter().all(is_read)
    };
    if is_known && forker_had_threads(&stuck.case) { Certainty::Strong } else { Certainty::Heuristic }
}

fn summary(
    stuck: &Stuck<'_>,
    wait: &LockWait,
    awaited: &Awaited,
    bringer: Option<&ThreadAt>,
    may_park: bool,
) -> String {
    let (who, thread, Awaited { what, bringers, .. }) =
        (words::who(stuck), words::in_thread(stuck, wait), awaited);
    let is_alone = stuck.case.locks.threads == 1;
    let of_child =
        if is_alone { "the child has no other thread" } else { "no thread of the child is seen to bring it" };
    let stayed = match bringer {
        Some(bringer) => {
            let SeenAt { name, tid, at } = SeenAt::of(bringer, stuck.occupations);
            format!(
                "the {bringers} stayed behind at the fork, such as {name} ({tid}) of the parent{at}; {of_child}"
            )
        }
        None => {
            format!("{of_child}, and the {bringers} did not come along if the parent had them at the fork")
        }
    };
    let or = if may_park && is_alone { ", or the child is parked until it is killed" } else { "" };
    format!("{who} waits{thread} for {what}: {stayed}{or}")
}

/// A thread for a sentence.
struct SeenAt {
    name: String,
    tid: u32,
    at: String,
}

impl SeenAt {
    fn of(thread: &ThreadAt, occupations: &[Occupation]) -> Self {
        let innermost =
            thread.script.iter().chain([&thread.stack]).find_map(|stack| stack.frames.iter().find_map(named));
        Self {
            name: thread.thread.name(occupations),
            tid: thread.thread.tid,
            at: innermost.map_or_else(String::new, |at| format!(", now in {at}")),
        }
    }
}
