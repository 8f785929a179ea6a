//! The verdict from two looks at everybody who holds what a child is suspected for.

use super::{
    holders::ListenerCase,
    leaked_pipe::{self, PipeCase},
    nobody_accepts, pinned_listener,
    suspicion::Suspicion,
};
use crate::{
    core::{Judgement, Verdict},
    model::{
        finding::{Finding, HazardId},
        leak::{Holders, Object},
        process::ProcessKey,
        program_name::called,
        time::{BootTime, nanoseconds},
    },
};

/// What is known of the fork that a process came from.
pub(super) struct History {
    pub(super) forker: Option<ProcessKey>,
    /// Whether the forker was seen beside it when it was some time old.
    pub(super) forker_stayed: bool,
    /// Whether it ran other threads.
    pub(super) left_threads: bool,
}

/// The verdict, and which hazard it is about.
pub(super) fn judge(
    process: ProcessKey,
    History { forker, forker_stayed, left_threads }: History,
    suspicion: &Suspicion,
    (first, second): (&Holders, &Holders),
    stuck: &[ProcessKey],
    now: BootTime,
) -> (HazardId, Judgement) {
    let name = called(&second.program);
    let judged = match suspicion.object {
        Object::Pipe(inode) => leaked_pipe::judge(&PipeCase {
            process,
            forker,
            inode,
            waited: now.since(suspicion.since),
            first,
            second,
            stuck,
            program_name: &name,
        }),
        Object::Socket(inode) => {
            let program_name = &name;
            let case =
                ListenerCase { process, forker, forker_stayed, inode, first, second, stuck, program_name };
            match pinned_listener::judge(&case) {
                // A daemon: it may do without its parent, but not without a thread that accepts.
                Judgement::Clean if left_threads => {
                    return (nobody_accepts::HAZARD.id, nobody_accepts::judge(&case));
                }
                judged => judged,
            }
        }
    };
    (suspicion.object.hazard(), judged)
}

/// The finding that a verdict makes, about a process as it was seen last.
pub(super) fn finding(
    at: BootTime,
    process: ProcessKey,
    forker: Option<ProcessKey>,
    hazard: HazardId,
    mut verdict: Verdict,
    seen: &Holders,
) -> Finding {
    verdict.facts.age = Some(nanoseconds(at.since(process.start)));
    let comm = seen.of(process).map_or(seen.program.comm, |holder| holder.comm);
    verdict.finding(at, hazard, (forker.unwrap_or(process), &seen.program), (process, comm))
}
