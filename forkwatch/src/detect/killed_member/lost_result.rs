//! `lost-result`: a pool of processes waits for the result of a task whose worker was killed.

use super::{Case, frames};
use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        family::{Member, Waiter},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        program_name::called,
        stack::Frame,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("lost-result"),
    title: "A pool waits for the result of a task whose worker was killed",
    what: "multiprocessing.Pool starts a new worker where one has died, but does not notice which task that was working \
           on. The task is not done again, and its result never comes. Pool.map() and its like then wait for ever, \
           though every worker is there and has nothing to do. A worker is killed most often by the kernel's \
           out-of-memory killer; a task that calls os._exit ends it as well.",
    detection: "When a signal has killed a child that never exec'd, or it has exited with a code other than 0, its parent and the other children are looked at \
                after 3 s, and then later and later, for about four minutes. It is reported if two looks, 4 s apart, \
                see by the calls of their scripts that a thread of the parent waits for a result of the pool without a \
                time limit, and that every worker waits for a task.",
    certainty: Certainty::Strong,
    certainty_reason: "No worker works on anything, nothing is on its way, and a worker was killed. A program that makes \
                       the result itself, by means that pool.py does not know, is not known.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A healthy pool that is idle: nobody waits for a result.",
        "A pool one of whose workers is still busy, also where another was killed: it is looked at again later.",
        "A worker that was killed while it was idle: the pool starts another, and nothing is lost.",
        "A wait with a time limit: it ends by itself.",
        "concurrent.futures.ProcessPoolExecutor and billiard (Celery): both notice, and raise an error.",
    ],
    remedies,
    links: &[
        "https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor",
        "https://github.com/python/cpython/issues/66587",
    ],
    watches: "results of process pools that a killed worker never brings",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the calls of other users' scripts are not seen: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// The verdict; none where nothing speaks for it.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    let (first, second) = (case.first, case.second);
    if !second.whole || second.forker.stopped || first.forker.stopped {
        return None;
    }
    let roles = || second.children.iter().map(|child| role(case, child));
    let count = roles().filter(|role| matches!(role, Role::Idle)).count();
    let may_come = roles().any(|role| matches!(role, Role::MayBeBusy));
    if count == 0 || may_come || [first, second].iter().any(|family| frames::is_at_work(&family.forker)) {
        return None;
    }
    let place = awaited(case)?;
    let (name, parent) = (called(&second.program), second.forker.process.tgid);
    let killed = case.killed_words();
    let workers = match count {
        1 => "the worker has".to_owned(),
        more => format!("all {more} workers have"),
    };
    let mut notes = vec![format!("it waits in {}", frames::place(place))];
    notes.extend(case.memory_note());
    Some(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary: format!(
            "{name} (pid {parent}) waits in vain for a result of its multiprocessing pool: {killed}, the task that it had \
             is lost, and {workers} nothing to do"
        ),
        facts: Facts { notes, ..Facts::default() },
        remedy: advice(),
    })
}

/// What a child is to the pool.
enum Role {
    Idle,
    MayBeBusy,
    None,
}

/// What a child was to the pool from one look to the other.
fn role(case: &Case<'_>, child: &Member) -> Role {
    // Whose calls are not seen, because it runs, may be at work.
    let is_unseen = child.main().is_some_and(|main| main.script.is_some() && frames::calls(main).is_empty());
    match frames::worker(child) {
        _ if is_unseen => Role::MayBeBusy,
        None => Role::None,
        Some(true) if case.before(child).is_some_and(|before| child.is_unmoved_since(before)) => Role::Idle,
        Some(_) => Role::MayBeBusy,
    }
}

/// Where a thread of the parent has waited for a result from one look to the other.
fn awaited<'a>(case: &Case<'a>) -> Option<&'a Frame> {
    let before = &case.first.forker.threads;
    let same = |waiter: &&Waiter| {
        before.iter().any(|other| (other.thread.tid, other.switches) == (waiter.thread.tid, waiter.switches))
    };
    case.second.forker.threads.iter().filter(same).find_map(frames::awaits_result)
}

fn advice() -> Remedy {
    remedy(
        "Restart the program: the result does not come any more. Use concurrent.futures.ProcessPoolExecutor in place of \
         multiprocessing.Pool: it notices that a worker was killed and raises BrokenProcessPool. With Pool, wait with a \
         time limit (map_async(...).get(timeout)). Find out why the worker was killed: if for want of memory, start \
         fewer workers, or give them less to do at once.",
        "https://docs.python.org/3/library/concurrent.futures.html#processpoolexecutor",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("Python (multiprocessing)", advice())]
}
