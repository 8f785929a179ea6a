//! `leaked-pipe`: a process waits for ever on a pipe, because nobody but such waiters holds the other end.
//!
//! The rule rests on two looks at every process of the host. A process that sleeps in read(2) wakes when somebody
//! writes, when the last holder of the write end closes it, or by a signal. If every holder of the write end sleeps in
//! a read of that pipe, from the first look to the second, then there was a moment at which all of them slept, and
//! none of them can be the first to wake: only a holder writes or closes, and only who runs can pass an end on. For
//! write(2) and the read end it is the same.

use std::time::Duration;

use super::holders::{WITHOUT_SIGHT, holder_facts};
use crate::{
    core::{Judgement, Verdict},
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        detector::{Aspect, Wanted},
        facts::LeakFacts,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        leak::{Access, End, Holder, Holders, Object, PipeWait},
        process::ProcessKey,
        signals::SignalSet,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("leaked-pipe"),
    title: "A process waits for ever on a pipe whose other end it holds itself",
    what: "A pipe ends when nobody holds its write end any more. fork copies every descriptor, so a child that \
           reads from a pipe and has not closed its own copy of the write end keeps the pipe open for itself: when \
           the writer is gone, the end of the data never comes, and the child waits for ever. Likewise a child \
           that writes to a pipe and holds the read end too is never told that nobody reads.",
    detection: "A child that lives on without exec is looked at when it has slept for 2 s. If it sleeps in a read or \
                write of a pipe, holds the other end itself, and its parent does not, every process of the host is \
                looked at twice, 2 s apart, for who else holds that end. It is reported if each of them slept, from \
                the first look to the second, in the same call on the same pipe. A family at rest is found out so \
                within 10 s. Where their parent has ended, workers of a pool that sleep at a lock meanwhile, which \
                the reader holds, are no hope either: suspected. A child that has written nothing since its fork, and holds the write end of a pipe to \
                whose end somebody reads, or waits in poll or select for pipes alone and without a time limit, is \
                suspected once all have ended that had written. So are children at rest that hold the write end of a pipe to a \
                program for whose end their parent waits.",
    certainty: Certainty::Strong,
    certainty_reason: "Nobody is left who has the other end and would use or close it. Somebody may still open it anew \
                       through /proc/PID/fd, as a script in a container does, or get it through a Unix socket or an \
                       io_uring; if such a descriptor exists on the host, the finding says so. A signal may end the \
                       process, which its own alarm(2) may send. That a child which has written nothing yet has no use \
                       for its end is a suspicion.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "An idle worker that reads its tasks from a living parent: the parent holds the write end and could write.",
        "Pipelines of shells, and loggers that read from a living writer.",
        "A pipe to itself that a signal handler writes to, to wake the reader: a process with signal handlers of its \
         own stays silent when it reads, and so does one that waits in poll or epoll.",
        "A pipe that was opened for both reading and writing with one descriptor: done on purpose.",
        "A process with a thread that does anything else, that is stopped, or that a debugger traces.",
        "Workers that are given a pipe to a program for whose end nobody waits.",
        "Workers that have not written yet, of which none that had has ended, and descriptors 0 to 2.",
        "A host on which not every process could be looked at: undecided.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man7/pipe.7.html",
        "https://man7.org/linux/man-pages/man2/close_range.2.html",
    ],
    watches: "forked children that wait on a pipe whose other end only they hold",
    sees: &[(Aspect::Descriptors, Wanted::AllButInit), (Aspect::Calls, Wanted::AllButInit)],
    without_sight: WITHOUT_SIGHT,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// A process that sleeps on a pipe, with two looks at everybody who holds it.
pub struct PipeCase<'a> {
    /// The process that sleeps.
    pub process: ProcessKey,
    /// The process that forked it, where that is known.
    pub forker: Option<ProcessKey>,
    /// The pipe's inode number.
    pub inode: u64,
    /// How long it is known to have slept so.
    pub waited: Duration,
    /// The earlier look.
    pub first: &'a Holders,
    /// The later one.
    pub second: &'a Holders,
    /// Processes that are proven stuck for another reason.
    pub stuck: &'a [ProcessKey],
    /// The name of [`Holders::program`].
    pub program_name: &'a str,
}

/// The verdict.
pub fn judge(case: &PipeCase<'_>) -> Judgement {
    if !case.first.are_all_but_init() || !case.second.are_all_but_init() {
        return Judgement::Undecided;
    }
    let Some(wait) = case.wait() else { return Judgement::Clean };
    let everybody = || case.first.holders.iter().chain(&case.second.holders);
    if everybody().any(|holder| holder.held.iter().any(|held| held.access == Access::Both)) {
        return Judgement::Clean;
    }
    let holds_other = |holder: &&Holder| holder.held.iter().any(|held| held.access.holds(wait.end.other()));
    let others: Vec<&Holder> = case.second.holders.iter().filter(holds_other).collect();
    // Nobody at all: the end of the data is on its way.
    let waits_for_lock = |holder: &&Holder| case.waits_for_orphan(holder);
    let is_inert = |holder: &&Holder| case.is_inert(holder, wait) || waits_for_lock(holder);
    if others.is_empty() || !others.iter().all(is_inert) {
        return Judgement::Clean;
    }
    let is_sure = !others.iter().any(waits_for_lock);
    let (state, certainty) =
        if is_sure { (HAZARD.state, HAZARD.certainty) } else { (State::Suspected, Certainty::Heuristic) };
    let elsewhere = (case.first.elsewhere || case.second.elsewhere).then(|| {
        "a descriptor of this host is held by no process, on its way through a Unix socket or in an io_uring: it may be the \
         other end"
            .to_owned()
    });
    let orphaned = (!is_sure).then(|| {
        "others sleep at a lock, which the reader of a pool's pipe holds; their parent has ended, and they keep what it has \
         left them, such as a listening socket"
            .to_owned()
    });
    let moved = format!("has not moved for {} s", case.waited.as_secs());
    let notes = [moved].into_iter().chain(orphaned).chain(elsewhere);
    Judgement::Unsafe(Box::new(Verdict {
        state,
        certainty,
        severity: if is_sure { HAZARD.severity } else { Severity::Warning },
        summary: case.summary(wait, &others),
        facts: Facts {
            leak: Some(Box::new(LeakFacts {
                inode: wait.inode,
                address: None,
                holders: holder_facts(&others, Some(wait.end.other())),
            })),
            notes: notes.collect(),
            ..Facts::default()
        },
        remedy: advice(),
    }))
}

impl PipeCase<'_> {
    /// What the process sleeps on, the same at both looks.
    fn wait(&self) -> Option<PipeWait> {
        let (before, now) = (self.first.of(self.process)?, self.second.of(self.process)?);
        let wait = now.rest.pipe.filter(|wait| wait.inode == self.inode)?;
        (unmoved(before, now) && before.rest.pipe == Some(wait) && is_deaf(now, wait)).then_some(wait)
    }

    /// Whether a holder of the other end will not use it: it waits likewise, or is proven stuck elsewhere.
    fn is_inert(&self, now: &Holder, wait: PipeWait) -> bool {
        let Some(before) = self.first.of(now.process).filter(|before| unmoved(before, now)) else {
            return false;
        };
        if before.rest.pipe == Some(wait) && now.rest.pipe == Some(wait) {
            return is_deaf(now, wait);
        }
        self.stuck.contains(&now.process)
    }

    /// Whether a holder of the other end sleeps at a lock, as the idle workers of a pool do while one of them reads for all:
    /// that one, which is the process itself, would have to wake it. Their parent has ended and gives them no order.
    fn waits_for_orphan(&self, now: &Holder) -> bool {
        let is_orphan = |holder: &Holder| holder.reparented && holder.unexeced;
        let is_at_lock = |holder: &Holder| {
            holder.rest.doing == "futex" && holder.rest.threads == 1 && holder.rest.pipe.is_none()
        };
        let is_same = |before: &Holder| unmoved(before, now) && is_at_lock(before);
        now.process != self.process
            && self.second.of(self.process).is_some_and(is_orphan)
            && is_orphan(now)
            && is_at_lock(now)
            && own_handlers(now).is_empty()
            && self.first.of(now.process).is_some_and(is_same)
    }

    fn summary(&self, wait: PipeWait, others: &[&Holder]) -> String {
        let who = match self.forker {
            Some(forker) => {
                format!("{} (pid {}) forked {}, which", self.program_name, forker.tgid, self.process.tgid)
            }
            None => format!("{} (pid {})", self.program_name, self.process.tgid),
        };
        let besides = others.iter().filter(|holder| holder.process != self.process).count();
        let itself = besides < others.len();
        let holders = match (itself, besides) {
            (true, 0) => "itself".to_owned(),
            (true, 1) => "itself and another that waits likewise".to_owned(),
            (true, more) => format!("itself and {more} others that wait likewise"),
            (false, 1) => "another that waits likewise".to_owned(),
            (false, more) => format!("{more} others that wait likewise"),
        };
        match wait.end {
            End::Read => format!(
                "{who} waits until a signal ends it: it reads from a pipe whose write end nobody holds but {holders}, so that \
                 neither data nor their end can come"
            ),
            End::Write => format!(
                "{who} waits until a signal ends it: it writes to a full pipe whose read end nobody holds but {holders}, so that \
                 nobody makes room and no error comes"
            ),
        }
    }
}

/// Whether no thread of a process has run from one look to the other, and it is free to.
fn unmoved(before: &Holder, now: &Holder) -> bool {
    now.has_not_run_since(before) && before.held == now.held && !before.rest.stopped && !now.rest.stopped
}

/// Whether no signal has a sleeper use the pipe: a handler could write for a reader to wake. That a handler reads, to let a
/// writer go on, is not known of any program.
fn is_deaf(holder: &Holder, wait: PipeWait) -> bool {
    wait.end == End::Write || own_handlers(holder).is_empty()
}

/// Signals for which a program itself has set a handler: not those of glibc (32 for cancellation, 33 for setuid), nor
/// that for SIGINT which CPython sets in every program, and which touches no descriptor.
fn own_handlers(holder: &Holder) -> SignalSet {
    let caught = holder.rest.caught.without(SignalSet::of(&[32, 33]));
    let python = holder.executable.as_deref().is_some_and(|name| name.starts_with("python"));
    if python { caught.without(SignalSet::of(&[2])) } else { caught }
}

/// The pipe that a process would have to be looked at for: one that it sleeps on, and whose other end it holds.
pub fn concern(wait: Option<PipeWait>, holds_other_end: bool) -> Option<Object> {
    wait.filter(|_| holds_other_end).map(|wait| Object::Pipe(wait.inode))
}

pub(super) fn advice() -> Remedy {
    remedy(
        "Close the end of a pipe that a process does not use right after the fork, in the parent and in the child. \
         Open pipes with O_CLOEXEC (pipe2), and have a child that keeps nothing call close_range(3, ~0U, 0).",
        "https://man7.org/linux/man-pages/man7/pipe.7.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![
        ("any program", advice()),
        (
            "Python (multiprocessing)",
            remedy(
                "Close the connection that the child does not use (the parent's end of a Pipe) first thing in the \
                 child, or start children with the forkserver or spawn method: they get only what is passed to them.",
                "https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods",
            ),
        ),
    ]
}

#[cfg(test)]
mod tests;
