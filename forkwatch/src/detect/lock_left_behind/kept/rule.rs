//! Who keeps a lock on a file without having taken it, or had it taken.

use super::super::hazard::after_exec;
use crate::{
    core::{Processes, Verdict},
    model::{
        finding::{Certainty, Facts, Severity, State},
        left_lock::{LockHolder, LockHolders, LockWait},
        process::{ProcessKey, escape},
        program_name::called,
        time::{BootTime, nanoseconds},
    },
};

/// The process that keeps a lock: absent where one that holds it may have had it taken, or has a parent that looks after it.
///
/// A shell that has flock(1) take the lock is older than that, and so is whoever opened the file. What is younger has got the
/// file from one that is gone.
pub(super) fn keeper<'a>(
    seen: &'a LockHolders,
    wait: &LockWait,
    processes: &Processes,
) -> Option<&'a LockHolder> {
    let is_left = |holder: &LockHolder| {
        let beside = |parent: u32| seen.holders.iter().any(|other| other.process.tgid == parent);
        !holder.older && holder.parent.is_none_or(beside)
    };
    if !seen.complete || !seen.holders.iter().all(is_left) {
        return None;
    }
    let first = seen.holders.iter().find(|holder| holder.parent.is_none())?;
    // Of a child that its taker forked, and that has not exec'd, it is told where that is followed.
    let forker = processes.get(first.process).and_then(|process| process.birth.parent);
    let is_followed = first.unexeced && forker.is_some_and(|forker| forker.tgid == wait.taker);
    (!is_followed).then_some(first)
}

/// A lock that is kept, and somebody who waits for it.
pub(super) struct Case<'a> {
    pub(super) keeper: &'a LockHolder,
    pub(super) seen: &'a LockHolders,
    pub(super) wait: &'a LockWait,
    /// Since when it is known to wait.
    pub(super) since: BootTime,
}

/// The verdict. That a lock is left by mistake cannot be seen, so it is a suspicion.
pub(super) fn judge(case: &Case<'_>) -> Verdict {
    let Case { keeper, seen, wait, since } = case;
    let ProcessKey { tgid, start } = keeper.process;
    let (name, taker) = (called(&keeper.program), wait.taker);
    let file = escape(keeper.file.path.as_bytes());
    let others = match seen.holders.len() {
        0 | 1 => String::new(),
        2 => " and another".to_owned(),
        more => format!(" and {} others", more - 1),
    };
    let keep = if others.is_empty() { "keeps" } else { "keep" };
    let waiter = format!("{} (pid {})", seen.waiter, wait.waiter.tgid);
    let seconds = seen.at.since(*since).as_secs();
    let mut notes = vec![
        format!("a lock by flock, which {tgid} has by descriptor {}", keeper.file.fd),
        format!("{} has waited for it for {seconds} s at least", wait.waiter.tgid),
    ];
    if keeper.in_background {
        notes.push(format!("{tgid} is in the background, and may keep it on purpose"));
    }
    Verdict {
        state: State::Suspected,
        certainty: Certainty::Heuristic,
        severity: if keeper.in_background { Severity::Info } else { Severity::Warning },
        summary: format!(
            "{name} (pid {tgid}){others} {keep} a lock on {file} that process {taker} took, which has ended or closed \
             it: {waiter} waits for it. Who started {name} has left it the open file, probably unawares"
        ),
        facts: Facts { age: Some(nanoseconds(seen.at.since(start))), notes, ..Facts::default() },
        remedy: after_exec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{inventory::OpenFile, process::Program};

    const TAKER: u32 = 500;

    fn holder(tgid: u32, parent: Option<u32>) -> LockHolder {
        LockHolder {
            process: ProcessKey { tgid, start: BootTime(0) },
            comm: "sleep".into(),
            program: Program { comm: "sleep".into(), ..Program::default() },
            file: OpenFile { fd: 9, path: "/run/job.lock".to_owned() },
            parent,
            in_background: false,
            unexeced: false,
            older: tgid <= TAKER,
        }
    }

    fn wait() -> LockWait {
        let waiter = ProcessKey { tgid: 900, start: BootTime(0) };
        LockWait { waiter, taker: TAKER, place: "fe:00:5678".to_owned() }
    }

    fn seen(holders: Vec<LockHolder>) -> LockHolders {
        LockHolders { at: BootTime(12_000_000_000), waiter: "flock".into(), holders, complete: true }
    }

    fn kept(holders: Vec<LockHolder>) -> Option<u32> {
        keeper(&seen(holders), &wait(), &Processes::default()).map(|keeper| keeper.process.tgid)
    }

    #[test]
    fn what_a_script_has_left_in_the_background_keeps_it() {
        assert_eq!(kept(vec![holder(501, None)]), Some(501));
        // With what it has started itself.
        assert_eq!(kept(vec![holder(501, None), holder(502, Some(501))]), Some(501));
    }

    #[test]
    fn whoever_may_have_had_it_taken_keeps_it_with_right() {
        // The shell that had flock(1) take it, alone, and with its job.
        assert_eq!(kept(vec![holder(499, None)]), None);
        assert_eq!(kept(vec![holder(499, Some(300)), holder(501, Some(499))]), None);
        assert_eq!(kept(vec![holder(499, Some(300)), holder(501, None)]), None);
        // flock(1) that runs a command, or the taker after an exec.
        assert_eq!(kept(vec![holder(500, Some(300)), holder(501, Some(500))]), None);
        // Somebody waits for the job.
        assert_eq!(kept(vec![holder(501, Some(300))]), None);
        // Not all could be seen.
        let hidden = LockHolders { complete: false, ..seen(vec![holder(501, None)]) };
        assert!(keeper(&hidden, &wait(), &Processes::default()).is_none());
        assert_eq!(kept(Vec::new()), None);
    }

    #[test]
    fn a_daemon_may_keep_it_on_purpose() {
        let judged = |holder: &LockHolder| {
            let seen = seen(vec![holder.clone()]);
            judge(&Case { keeper: holder, seen: &seen, wait: &wait(), since: BootTime(0) })
        };
        let job = judged(&holder(501, None));
        assert_eq!((job.severity, job.certainty), (Severity::Warning, Certainty::Heuristic));
        assert_eq!(
            job.summary,
            "sleep (pid 501) keeps a lock on /run/job.lock that process 500 took, which has ended or closed it: flock (pid \
             900) waits for it. Who started sleep has left it the open file, probably unawares"
        );
        let daemon = judged(&LockHolder { in_background: true, ..holder(503, None) });
        assert_eq!(daemon.severity, Severity::Info);
        assert_eq!(daemon.facts.notes[2], "503 is in the background, and may keep it on purpose");
    }
}
