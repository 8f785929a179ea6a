//! `escaped-child`: a child was to do its work and end, and runs on in its parent's code instead.
//!
//! Both wait for children of theirs in one call, with the same calls around it: the child has returned from all that it was
//! forked for, and does again what its parent does. A program may mean that, and fork a tree of processes in a loop. So it is
//! never certain to be a fault.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD, calls::named},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        escaped::SameCall,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{ProcessKey, Program},
        program_name::{called, stem},
        time::{BootTime, nanoseconds},
    },
    remedy::remedy,
};

/// Most calls that are told.
const MOST_CALLS: usize = 4;

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("escaped-child"),
    title: "A child does not end after its work, and runs on in its parent's code",
    what: "After a fork both processes go on at the same place. A child that is to do only one thing must end itself when \
           it is done, by _exit. If it does not, for example because its branch returns, or an exception passes it, it \
           does all that its parent does next: it starts the remaining workers once more, which do the same. Jobs run \
           several times, files and mails are written by each process, and the number of processes multiplies.",
    detection: "A forked process that forks in turn is looked at beside the process that forked it, some times within two \
                seconds of each fork. It has run on if both wait for children of theirs (wait4, waitid) in the same call, \
                at the same place of the stack and with the same calls around it: those of the script in CPython, or \
                of the compiled program. It is told once one of the two has forked twice. A child that runs on without \
                forking is not seen, nor one whose children all end at once, nor a script of Perl, PHP, Ruby or a shell.",
    certainty: Certainty::Strong,
    certainty_reason: "That the child runs on in its parent's code is seen. A program could be meant to fork a tree of \
                       processes in a loop, as an exercise does.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "A worker of a pre-forking server that forks helpers: it waits for them in calls that its parent is not in.",
        "A process pool in a worker of another pool.",
        "A recursion that forks in each step: the child is one call deeper.",
        "Processes that each fork once, the next from the last, as a chain does.",
        "Shells and subshells, and a program that becomes a daemon by two forks.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/_exit.2.html",
        "https://docs.python.org/3/library/os.html#os._exit",
    ],
    watches: "forked processes that fork in turn",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the calls of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// The verdict, with how often the child and its forker have forked so far.
pub(super) fn judge(
    child: ProcessKey,
    forker: ProcessKey,
    (forks, forkers): (u32, u32),
    call: &SameCall,
    now: BootTime,
) -> Verdict {
    let (name, child_id, forker_id) = (called(&call.program), child.tgid, forker.tgid);
    let mut calls = call.frames.iter().filter_map(named);
    let place = calls.next().map(|place| format!(", {place}")).unwrap_or_default();
    let summary = format!(
        "{name} (pid {forker_id}) forked {child_id}, which runs on in its parent's code instead of ending: it has forked, \
         too, and waits for its children in the call in which its parent waits for it{place}. What comes next is done \
         in both"
    );
    let mut notes = vec![format!("{child_id} has forked {}, {forker_id} {}", times(forks), times(forkers))];
    let around: Vec<String> = calls.take(MOST_CALLS).collect();
    if !around.is_empty() {
        notes.push(format!("around it both are in {}", around.join(", called by ")));
    }
    let facts = Facts { age: Some(nanoseconds(now.since(child.start))), notes, ..Facts::default() };
    let (state, certainty, severity) = (HAZARD.state, HAZARD.certainty, HAZARD.severity);
    Verdict { state, certainty, severity, summary, facts, remedy: advice(&call.program) }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        _ => format!("{count} times"),
    }
}

fn python() -> Remedy {
    remedy(
        "End the child where its work ends, whatever happens in it: `if pid == 0:`, then `try: work()`, and \
         `finally: os._exit(0)`. Or let multiprocessing.Process or ProcessPoolExecutor do that.",
        "https://docs.python.org/3/library/os.html#os._exit",
    )
}

fn general() -> Remedy {
    remedy(
        "End the child where its work ends, by _exit(2): no path through its branch may return, or pass an exception on.",
        "https://man7.org/linux/man-pages/man2/_exit.2.html",
    )
}

/// What to change in this program.
fn advice(program: &Program) -> Remedy {
    let file = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str());
    if file.is_some_and(|file| stem(file) == "python") { python() } else { general() }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("Python", python()), ("any program", general())]
}
