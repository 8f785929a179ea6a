//! Pipes and listening sockets that are held by processes which have no use for them.

use std::{thread, time::Duration};

use super::{Found, locks::SETTLE, reader::Reader};
use crate::{
    core::Judgement,
    detect::leaks::{
        leaked_pipe::{self, PipeCase},
        pinned_listener::{self, ListenerCase},
    },
    host::{self, clock},
    model::{
        evidence::{Evidence, Request, Sweep},
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        program_name::called,
        time::nanoseconds,
    },
};

/// A process that sleeps on a pipe whose other end it holds itself, or that keeps a listening socket.
struct Candidate {
    process: ProcessKey,
    forker: Option<ProcessKey>,
    object: Object,
    first: Box<Holders>,
}

/// Looks at every process that was forked and never exec'd, and at those whose parent has ended.
pub(super) fn look(sweep: &Sweep, stuck: &[ProcessKey], reader: &mut Reader, found: &mut Found) {
    let unexeced = sweep.unexeced.iter().map(|swept| (swept.process, swept.parent));
    let processes = host::processes().unwrap_or_default();
    let orphans = processes.iter().filter(|process| process.parent == 1 && !process.unexeced);
    let all = unexeced.chain(orphans.map(|process| (process.key, None)));
    let candidates: Vec<Candidate> =
        all.filter_map(|(process, forker)| candidate(process, forker, reader)).collect();
    if candidates.is_empty() {
        return;
    }
    thread::sleep(SETTLE);
    for candidate in &candidates {
        judge(candidate, stuck, reader, found);
    }
}

fn candidate(process: ProcessKey, forker: Option<ProcessKey>, reader: &mut Reader) -> Option<Candidate> {
    let Evidence::Descriptors { seen: Some(seen), .. } =
        reader.answer(&Request::Descriptors { process, forker })
    else {
        return None;
    };
    let Descriptors { rest, holds_other_end, listeners, .. } = *seen;
    if rest.stopped {
        return None;
    }
    let object = leaked_pipe::concern(rest.pipe, holds_other_end)
        .or_else(|| listeners.first().copied().map(Object::Socket))?;
    Some(Candidate { process, forker, object, first: holders(process, forker, object, reader)? })
}

fn holders(
    process: ProcessKey,
    forker: Option<ProcessKey>,
    object: Object,
    reader: &mut Reader,
) -> Option<Box<Holders>> {
    match reader.answer(&Request::Holders { process, forker, object }) {
        Evidence::Holders { seen, .. } => seen,
        _ => None,
    }
}

fn judge(candidate: &Candidate, stuck: &[ProcessKey], reader: &mut Reader, found: &mut Found) {
    let Candidate { process, forker, object, first } = candidate;
    let Some(second) = holders(*process, *forker, *object, reader) else { return };
    let name = called(&second.program);
    let waited = second.at.since(first.at).max(Duration::from_secs(1));
    let (hazard, judgement) = match *object {
        Object::Pipe(inode) => (
            leaked_pipe::HAZARD.id,
            leaked_pipe::judge(&PipeCase {
                process: *process,
                forker: *forker,
                inode,
                waited,
                first,
                second: &second,
                stuck,
                program_name: &name,
            }),
        ),
        Object::Socket(inode) => (
            pinned_listener::HAZARD.id,
            pinned_listener::judge(&ListenerCase {
                process: *process,
                forker: *forker,
                forker_stayed: false,
                inode,
                first,
                second: &second,
                stuck,
                program_name: &name,
            }),
        ),
    };
    let comm = second.of(*process).map_or(second.program.comm, |holder| holder.comm);
    match judgement {
        Judgement::Clean => {}
        Judgement::Undecided => {
            let why = format!(
                "{}: not every process that may hold what it holds could be looked at",
                hazard.name()
            );
            found.unread(process.tgid, &comm, why);
        }
        Judgement::Unsafe(verdict) => {
            let now = clock::now();
            let parent = (forker.unwrap_or(*process), &second.program);
            let mut finding = verdict.finding(now, hazard, parent, (*process, comm));
            finding.facts.age = Some(nanoseconds(now.since(process.start)));
            found.findings.push(finding);
        }
    }
}
