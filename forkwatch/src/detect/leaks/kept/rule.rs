//! Who keeps a reader waiting for the end of a pipe.

use crate::{
    core::Verdict,
    model::{
        facts::LeakFacts,
        finding::{Certainty, Facts, Severity, State},
        leak::{End, Holder, Holders},
        process::ProcessKey,
        program_name::called,
    },
};

use super::super::{holders::holder_facts, leaked_pipe::advice};

/// What a look at the holders of a pipe shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Somebody waits for it, and these have written to something and never exec'd.
    Writers(Vec<ProcessKey>),
    /// There were such once. Somebody still waits, and all that hold the write end have written nothing.
    Left,
    /// Neither.
    Nothing,
}

/// What is to be seen, where these have written before.
pub(super) fn look(seen: &Holders, keeper: ProcessKey, before: &[ProcessKey]) -> Seen {
    if !seen.are_all_but_init() || seen.of(keeper).is_none() || readers(seen).next().is_none() {
        return Seen::Nothing;
    }
    // Who reads and could write itself does not wait for an end.
    if readers(seen).any(|reader| holds(reader, End::Write)) {
        return Seen::Nothing;
    }
    let writers = || seen.holders.iter().filter(|holder| holds(holder, End::Write));
    // Who waits for the reader's end, and holds the write end itself, is to blame itself.
    let forker = seen.of(keeper).and_then(|keeper| keeper.parent);
    let is_left =
        |holder: &Holder| holder.unexeced && is_beyond_standard(holder) && Some(holder.process) != forker;
    if end_is_awaited(seen) && writers().all(is_left) {
        return Seen::Left;
    }
    let busy = writers().filter(|holder| wrote(holder));
    if writers().all(|holder| is_beyond_standard(holder) && !wrote(holder)) {
        return if before.is_empty() { Seen::Nothing } else { Seen::Left };
    }
    // One that has exec'd is not followed to its end, and who has written may have a use for it.
    let is_writer = |holder: &Holder| holder.unexeced && holder.process != keeper;
    let writers: Option<Vec<ProcessKey>> =
        busy.map(|holder| is_writer(holder).then_some(holder.process)).collect();
    writers.filter(|writers| !writers.is_empty()).map_or(Seen::Nothing, Seen::Writers)
}

/// Whether the forker sleeps until one ends that reads to the end.
fn end_is_awaited(seen: &Holders) -> bool {
    readers(seen).any(|reader| reader.awaited_by.is_some())
}

fn wrote(holder: &Holder) -> bool {
    holder.wrote.is_none_or(|bytes| bytes > 0)
}

/// The verdict from two looks at which nobody was left that has written.
pub(super) fn judge(
    first: &Holders,
    second: &Holders,
    keeper: ProcessKey,
    forker: ProcessKey,
    inode: u64,
) -> Option<Verdict> {
    let reader =
        readers(second).find(|reader| readers(first).any(|before| before.process == reader.process))?;
    let keepers: Vec<&Holder> = second.holders.iter().filter(|holder| holds(holder, End::Write)).collect();
    let rests = |now: &&Holder| {
        !now.rest.stopped && first.of(now.process).is_some_and(|before| now.has_not_run_since(before))
    };
    if keepers.is_empty() || !keepers.iter().all(rests) {
        return None;
    }
    let name = called(&second.program);
    let is_awaited = end_is_awaited(first) && end_is_awaited(second);
    let who = if is_awaited {
        format!(
            "{name} (pid {}) waits until {} (pid {}) ends, which",
            forker.tgid, reader.comm, reader.process.tgid
        )
    } else if reader.process == forker {
        format!("{name} (pid {})", forker.tgid)
    } else {
        format!(
            "{} (pid {}), of the family of {name} (pid {}),",
            reader.comm, reader.process.tgid, forker.tgid
        )
    };
    let others = match keepers.len() {
        0 | 1 => String::new(),
        2 => " and another".to_owned(),
        more => format!(" and {} others", more - 1),
    };
    let (has, keep, rest) = match others.as_str() {
        "" => ("has", "keeps", "is at rest"),
        _ => ("have", "keep", "are at rest"),
    };
    let has_ended = if is_awaited { "" } else { ", whose writer has ended" };
    let have_written = keepers.iter().any(|keeper| wrote(keeper));
    let did = if have_written { rest } else { "never written anything" };
    let certainty = if is_awaited && !have_written { Certainty::Strong } else { Certainty::Heuristic };
    let holders: Vec<&Holder> = keepers.iter().copied().chain([reader]).collect();
    Some(Verdict {
        state: State::Suspected,
        certainty,
        severity: Severity::Warning,
        summary: format!(
            "{who} reads from a pipe to its end{has_ended}: {}{others}, which {has} inherited the write end and {did}, \
             {keep} it open, so that the end does not come",
            keeper.tgid
        ),
        facts: Facts {
            leak: Some(Box::new(LeakFacts { inode, address: None, holders: holder_facts(&holders, None) })),
            ..Facts::default()
        },
        remedy: advice(),
    })
}

/// Who sleeps in a read of it.
fn readers(seen: &Holders) -> impl Iterator<Item = &Holder> {
    seen.holders.iter().filter(|holder| holder.awaits)
}

fn holds(holder: &Holder, end: End) -> bool {
    holder.held.iter().any(|held| held.access.holds(end))
}

/// A standard descriptor is given to a child on purpose.
fn is_beyond_standard(holder: &Holder) -> bool {
    const STANDARD: u32 = 2;
    holder.held.iter().all(|held| held.fd > STANDARD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        leak::{Access, Held, Rest},
        process::Program,
        signals::SignalSet,
        time::BootTime,
    };

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(0) }
    }

    fn holder(tgid: u32, fd: u32, access: Access) -> Holder {
        Holder {
            process: key(tgid),
            comm: "job".into(),
            uid: None,
            executable: None,
            parent: Some(key(1)),
            reparented: false,
            unexeced: true,
            held: vec![Held { fd, access }],
            rest: Rest {
                threads: 1,
                switches: 3,
                stopped: false,
                caught: SignalSet::EMPTY,
                doing: "pause".to_owned(),
                pipe: None,
            },
            service: None,
            awaits: false,
            awaited_by: None,
            wrote: Some(0),
        }
    }

    fn reader() -> Holder {
        Holder { awaits: true, wrote: Some(900), ..holder(1, 5, Access::Read) }
    }

    fn keeper() -> Holder {
        holder(3, 6, Access::Write)
    }

    fn writer() -> Holder {
        Holder { wrote: Some(8), ..holder(2, 6, Access::Write) }
    }

    fn seen(holders: Vec<Holder>) -> Holders {
        Holders {
            at: BootTime(0),
            complete: true,
            hidden: Vec::new(),
            holders,
            elsewhere: false,
            listener: None,
            program: Program { comm: "supervisor".into(), ..Program::default() },
        }
    }

    fn looked(holders: Vec<Holder>, before: &[u32]) -> Seen {
        let before: Vec<ProcessKey> = before.iter().copied().map(key).collect();
        look(&seen(holders), key(3), &before)
    }

    #[test]
    fn a_pipe_whose_writer_has_ended_is_left_to_who_keeps_it() {
        assert_eq!(looked(vec![reader(), writer(), keeper()], &[]), Seen::Writers(vec![key(2)]));
        assert_eq!(looked(vec![reader(), keeper()], &[2]), Seen::Left);
        // A program that a child has become, too.
        let execed = Holder { unexeced: false, ..holder(4, 9, Access::Write) };
        assert_eq!(looked(vec![reader(), keeper(), execed], &[2]), Seen::Left);
    }

    #[test]
    fn whoever_may_have_a_use_for_it_clears_it() {
        // Nobody has written, nobody waits, or who reads keeps it open itself.
        assert_eq!(looked(vec![reader(), keeper()], &[]), Seen::Nothing);
        assert_eq!(looked(vec![keeper()], &[2]), Seen::Nothing);
        let mut both = reader();
        both.held.push(Held { fd: 6, access: Access::Write });
        assert_eq!(looked(vec![both, keeper()], &[2]), Seen::Nothing);
        // It is the output of another, or one that was started with it writes.
        assert_eq!(looked(vec![reader(), keeper(), holder(4, 1, Access::Write)], &[2]), Seen::Nothing);
        let logs = Holder { unexeced: false, wrote: Some(3), ..holder(4, 6, Access::Write) };
        assert_eq!(looked(vec![reader(), keeper(), logs], &[2]), Seen::Nothing);
        let unknown = Holder { wrote: None, ..keeper() };
        assert_eq!(looked(vec![reader(), unknown], &[2]), Seen::Nothing);
        // It has closed it, or not all can be seen.
        assert_eq!(looked(vec![reader(), holder(4, 6, Access::Write)], &[2]), Seen::Nothing);
        let hidden = Holders { hidden: vec![7], ..seen(vec![reader(), keeper()]) };
        assert_eq!(look(&hidden, key(3), &[key(2)]), Seen::Nothing);
    }

    #[test]
    fn two_looks_at_who_rests_give_a_suspicion() {
        let of =
            |first: Vec<Holder>, second: Vec<Holder>| judge(&seen(first), &seen(second), key(3), key(1), 77);
        let verdict = of(vec![reader(), keeper()], vec![reader(), keeper()]).unwrap();
        assert_eq!((verdict.certainty, verdict.state), (Certainty::Heuristic, State::Suspected));
        assert_eq!(
            verdict.summary,
            "supervisor (pid 1) reads from a pipe to its end, whose writer has ended: 3, which has inherited the write end \
             and never written anything, keeps it open, so that the end does not come"
        );
        assert_eq!(verdict.facts.leak.map(|leak| leak.holders.len()), Some(2));
        let mut moved = keeper();
        moved.rest.switches += 1;
        assert!(of(vec![reader(), keeper()], vec![reader(), moved]).is_none());
        let other = Holder { process: key(8), ..reader() };
        assert!(of(vec![reader(), keeper()], vec![other, keeper()]).is_none());
    }

    /// A program that the forker has started, and for whose end it waits.
    fn awaited() -> Holder {
        Holder { process: key(9), comm: "cat".into(), unexeced: false, awaited_by: Some(1), ..reader() }
    }

    #[test]
    fn whose_end_the_forker_awaits_is_kept_by_children_at_rest() {
        let busy = || Holder { wrote: Some(70), ..keeper() };
        assert_eq!(looked(vec![awaited(), keeper()], &[]), Seen::Left);
        assert_eq!(looked(vec![awaited(), busy(), holder(4, 6, Access::Write)], &[]), Seen::Left);
        let of =
            |holders: Vec<Holder>| judge(&seen(holders.clone()), &seen(holders), key(3), key(1), 77).unwrap();
        let verdict = of(vec![awaited(), keeper()]);
        assert_eq!(
            verdict.summary,
            "supervisor (pid 1) waits until cat (pid 9) ends, which reads from a pipe to its end: 3, which has inherited the \
             write end and never written anything, keeps it open, so that the end does not come"
        );
        assert_eq!((verdict.certainty, verdict.state), (Certainty::Strong, State::Suspected));
        let verdict = of(vec![awaited(), busy(), holder(4, 6, Access::Write)]);
        assert!(
            verdict
                .summary
                .contains("3 and another, which have inherited the write end and are at rest, keep")
        );
        assert_eq!(verdict.certainty, Certainty::Heuristic);
    }

    #[test]
    fn whose_end_nobody_awaits_or_who_is_fed_on_purpose_is_left_alone() {
        let busy = || Holder { wrote: Some(70), ..keeper() };
        assert_eq!(looked(vec![Holder { awaited_by: None, ..awaited() }, busy()], &[]), Seen::Nothing);
        // The forker keeps it open itself, or a program that was started with it.
        let forker = Holder { process: key(1), ..holder(1, 7, Access::Write) };
        let program = Holder { unexeced: false, wrote: Some(3), ..holder(4, 6, Access::Write) };
        let output = Holder { wrote: Some(3), ..holder(4, 1, Access::Write) };
        for other in [forker, program, output] {
            assert_eq!(looked(vec![awaited(), busy(), other], &[]), Seen::Nothing);
        }
    }
}
