//! `shared-offset`: two processes read one open file, and each moves the offset under the other.
//!
//! Who moved it is concluded from what the kernel counts of each process. That it is a fault follows where one sets the offset
//! before it reads, as all formats with an index are read. Who has a lock around that does it rightly, and nobody can see
//! that: so it is never certain. Whoever reads on to the end may share a file on purpose, as a queue.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{Program, escape},
        program_name::{called, stem},
    },
    remedy::remedy,
};

use super::Case;

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("shared-offset"),
    title: "Two processes read one open file, and each moves the other's place in it",
    what: "A fork copies the descriptor of a file and not the open file, so that parent and child have one offset. If \
           both read, each goes on where the other has stopped: one sets the offset to where it wants to read, the other \
           moves it away, and the first reads something else. Archives and indexed files then seem damaged \
           (BadZipFile, wrong checksums), now and then.",
    detection: "A child that lives on without exec is looked at when its grace is over, soon after while an offset moves, then ever less \
                often, beside the process that forked it and another child of that. Files that are open at one offset for both are known \
                by kcmp. Where an offset moves, it is read 60 times in some 60 ms, with what each process has read and \
                written (/proc/PID/io): who alone of those that have the file read or wrote anything in between moved it. It \
                is reported once two processes have done so twice each. In a family of more than 32 children nothing is \
                concluded, nor where somebody outside of it moves the offset.",
    certainty: Certainty::Strong,
    certainty_reason: "Both were seen to move the offset, and one of them set it otherwise than by reading. A program \
                       that has a lock around setting and reading looks the same. Where both only read on, it is \
                       information: they may share the file on purpose, as a queue.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "Log files: what is only written, or appended to, is helped by a common offset.",
        "Standard input, output and error.",
        "A file that only one of them reads: the child, or the parent.",
        "A file that each has opened for itself, under whatever number.",
        "Reads that say where (pread, mmap): they move no offset.",
        "A child that has exec'd, and processes that share all descriptors by clone(2).",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/open.2.html",
        "https://man7.org/linux/man-pages/man2/pread.2.html",
    ],
    watches: "files that several processes read by one offset",
    sees: SEES,
    without_sight: WITHOUT_SIGHT,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

pub(super) const SEES: &[(Aspect, Wanted)] = &[
    (Aspect::Descriptors, Wanted::Each),
    (Aspect::Details, Wanted::Each),
    (Aspect::Sharing, Wanted::Each),
    (Aspect::Traffic, Wanted::Each),
];

pub(super) const WITHOUT_SIGHT: Option<(Reach, DetectorState, &str)> = Some((
    Reach::Programs,
    DetectorState::Limited,
    "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes cannot be compared: only one's own are judged",
));

/// The verdict; none where nothing speaks for a fault.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    let movers: Vec<_> = case.known.movers().collect();
    let (seeks, reads): (u32, u32) =
        movers.iter().fold((0, 0), |(seeks, reads), user| (seeks + user.seeks, reads + user.reads));
    if movers.len() < 2 || seeks + reads == 0 {
        return None;
    }
    let name = called(&case.seen.program);
    let file = escape(case.known.file.file.path.as_bytes());
    let mut others = movers.iter().filter(|user| user.process != case.forker).map(|user| user.process.tgid);
    let (one, other) = (others.next()?, others.next());
    let forker = case.forker.tgid;
    let who = match other {
        Some(other) if movers.iter().all(|user| user.process != case.forker) => {
            format!("{one} and {other}, forked by {name} (pid {forker}),")
        }
        _ => format!("{name} (pid {forker}) and {} {one}", case.child_words()),
    };
    let mut notes = vec![format!("descriptor {} in each, with one offset", case.known.file.file.fd)];
    notes.extend(movers.iter().map(|user| {
        let (tgid, times, seeks) = (user.process.tgid, user.moves, user.seeks);
        format!("{tgid} was seen to move it {times} times, {seeks} of which otherwise than by reading on")
    }));
    let (state, certainty, severity, summary) = if seeks > 0 {
        let summary = format!(
            "{who} read {file} by one descriptor that the fork has left to both: each moves the place at which the other \
             reads on"
        );
        (HAZARD.state, HAZARD.certainty, HAZARD.severity, summary)
    } else {
        let summary = format!(
            "{who} read {file} by one descriptor that the fork has left to both: each gets only a part of it"
        );
        (State::Suspected, Certainty::Heuristic, Severity::Info, summary)
    };
    let facts = Facts { age: Some(case.age()), notes, ..Facts::default() };
    Some(Verdict { state, certainty, severity, summary, facts, remedy: advice(&case.seen.program) })
}

fn python() -> Remedy {
    remedy(
        "Open the file in each worker, not before the fork: in the initializer of a Pool, in worker_init_fn of a \
         DataLoader, or when it is first used, if os.getpid() has changed. Or read by os.pread. Workers that are \
         started by spawn or forkserver get no open file.",
        "https://docs.python.org/3/library/os.html#os.pread",
    )
}

fn general() -> Remedy {
    remedy(
        "Open the file in each process for itself, after the fork, or read by pread(2), which needs no offset.",
        "https://man7.org/linux/man-pages/man2/pread.2.html",
    )
}

/// What to change in this program.
fn advice(program: &Program) -> Remedy {
    let file = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str());
    if file.is_some_and(|file| matches!(stem(file), "python" | "pypy")) { python() } else { general() }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("Python", python()), ("any program", general())]
}
