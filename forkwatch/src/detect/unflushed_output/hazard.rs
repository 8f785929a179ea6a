//! `unflushed-output`: a child carries output that its forker had not written yet at the fork.
//!
//! That it does is a fact. Whether it comes twice depends on how the child ends, which nobody can foresee: exit(3) and a
//! return from main flush it, and `_exit(2)`, a signal and exec do not.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{ProcessKey, escape},
        program_name::called,
        time::nanoseconds,
        unflushed::{ForkersCopy, Unflushed, UnflushedStream},
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("unflushed-output"),
    title: "A child carries output from before the fork, which can be written twice",
    what: "What a program has printed to a file or a pipe stays in a buffer of its own until that is full or flushed. A \
           fork copies the buffer. If the child then ends by exit(3), or returns from main, its copy is written too: \
           lines come twice, or in the middle of others. If it ends by _exit(2), or execs, nothing happens.",
    detection: "A child that lives on without exec is looked at once, when its grace is over. The streams of the C library \
                (glibc) say what they have not written yet. That is from before the fork if nobody has written the \
                memory of the buffer since, or if the parent has the same bytes at the same place. Where the child has \
                printed something since, nothing is said; nor of the buffers of Python, Perl, Ruby and Go.",
    certainty: Certainty::Heuristic,
    certainty_reason: "The bytes are there. Whether the child will write them, nothing tells. If both print the same \
                       after the fork, that looks the same.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "Output that was flushed before the fork.",
        "Standard output that goes to a terminal: it is flushed with each line.",
        "What the child itself has printed since.",
        "A child that has exec'd.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man3/fflush.3.html",
        "https://man7.org/linux/man-pages/man2/_exit.2.html",
    ],
    watches: "output from before a fork that children still have in their buffers",
    sees: &[(Aspect::Memory, Wanted::Each), (Aspect::Descriptors, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// The verdict.
pub(super) fn judge(child: ProcessKey, forker: ProcessKey, was_seen: bool, seen: &Unflushed) -> Verdict {
    let name = called(&seen.program);
    let bytes: u64 = seen.streams.iter().fold(0, |sum, stream| sum.saturating_add(stream.bytes));
    let of = match seen.streams.as_slice() {
        [one] => name_of(one),
        several => format!("{} streams", several.len()),
    };
    let by = if was_seen { "forked by" } else { "a forked process of" };
    let unit = if bytes == 1 { "byte" } else { "bytes" };
    let summary = format!(
        "{}, {by} {name} (pid {}), has {bytes} {unit} of {of} in a buffer from before the fork: they are written twice if it \
         ends by exit, and not if it ends by _exit",
        child.tgid, forker.tgid
    );
    let notes = seen.streams.iter().map(|stream| {
        let forker = match stream.forker {
            ForkersCopy::Written => format!(", which {} has written", forker.tgid),
            ForkersCopy::Unwritten => format!(", which {} has not written yet either", forker.tgid),
            ForkersCopy::Unknown => String::new(),
        };
        format!("{} bytes of {}{forker}", stream.bytes, name_of(stream))
    });
    let age = Some(nanoseconds(seen.at.since(child.start)));
    Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts { age, notes: notes.collect(), ..Facts::default() },
        remedy: advice(),
    }
}

/// `standard output (/var/log/booked.log)`.
fn name_of(stream: &UnflushedStream) -> String {
    let path = escape(stream.path.as_bytes());
    match stream.fd {
        1 => format!("standard output ({path})"),
        2 => format!("standard error ({path})"),
        _ => path,
    }
}

fn advice() -> Remedy {
    remedy(
        "Call fflush(NULL) right before the fork, and have the child end by _exit(2), not by exit(3) or a return from main.",
        "https://man7.org/linux/man-pages/man3/fflush.3.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![
        ("any program", advice()),
        (
            "C++",
            remedy(
                "std::cout uses the C library's buffer unless sync_with_stdio(false) was called: call std::cout.flush() \
                 and fflush(NULL) right before the fork, and end the child by _exit or quick_exit.",
                "https://en.cppreference.com/w/cpp/io/ios_base/sync_with_stdio",
            ),
        ),
    ]
}
