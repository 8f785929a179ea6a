//! `lock-left-behind`: a child keeps a lock on a file that the process which took it has ended with, or closed.
//!
//! That the lock lasts, in whom, and who waits for it are facts of the kernel's. That it is a fault follows from nothing that
//! can be seen: a program may take a lock, fork into the background and mean its child to keep it. So it is never certain.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        inventory::FileLockKind,
        left_lock::{CarriedLock, CarriedLocks, Taker},
        process::{ProcessKey, Program, escape},
        program_name::{called, stem},
        time::{BootTime, nanoseconds},
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("lock-left-behind"),
    title: "A child keeps a lock on a file whose taker has ended, and another process waits for it",
    what: "A lock by flock(2), or by fcntl(2) with F_OFD_SETLK, belongs to the open file, and a forked child has the \
           same open file. When the process that took the lock ends, or closes the file, the lock is not released: it \
           lasts until the last child has closed its copy. Whoever waits for it waits as long as that child lives.",
    detection: "A child that lives on without exec is looked at when its grace is over, then ever less often, up to \
                about every two minutes. Its descriptors tell which locks it carries (fdinfo), and who took them. If \
                the process that forked it took one and has ended, or has no descriptor of that open file any more, \
                the host's table of locks tells who waits for it. It is reported once the same process has been seen to \
                wait for 5 s. Each look at all processes asks that table, too, who waits for a lock by flock(2) that its \
                taker has no longer, such as flock(1) or a script. If one has waited for 5 s, all processes are searched \
                for the lock, exec'd or not. It is reported if all that have it were started after its taker, and have \
                lost their parent: a job that was left in the background. Who asks again and again instead of waiting \
                (LOCK_NB) is not seen.",
    certainty: Certainty::Strong,
    certainty_reason: "The kernel names who took the lock, who has it now and who waits. But a program may take a lock, \
                       fork, and mean the child to keep it. It is a suspicion where the child has left the session of \
                       its forker, as a daemon does, where it is not known who took the lock, and where who keeps it \
                       has exec'd: information only, if that is a daemon.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "A lock that the process which forked still has: it releases it for all by LOCK_UN, or keeps it on purpose.",
        "A lock that the child itself took, after the fork.",
        "A lock that flock(1) took for a shell, which holds the file itself, and for what that shell runs.",
        "A lock that a process keeps whose parent lives.",
        "A lock that nobody waits for, such as one on a pid file.",
        "Locks by fcntl(2) with F_SETLK, and by lockf(3): a child does not get them.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/flock.2.html",
        "https://man7.org/linux/man-pages/man2/F_GETLK.2const.html",
    ],
    watches: "locks on files that live on in forked children while others wait for them",
    sees: &[
        (Aspect::Descriptors, Wanted::Each),
        (Aspect::Details, Wanted::Each),
        (Aspect::Sharing, Wanted::Each),
    ],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes cannot be read: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// A lock that a child carries and somebody waits for.
pub(super) struct Case<'a> {
    pub(super) child: ProcessKey,
    /// The process that forked it, where that is known.
    pub(super) forker: Option<ProcessKey>,
    /// Whether the fork was seen.
    pub(super) was_seen: bool,
    /// All locks that the child carries.
    pub(super) carried: &'a CarriedLocks,
    /// The one of them that somebody waits for.
    pub(super) lock: &'a CarriedLock,
    /// Since when somebody is known to wait.
    pub(super) since: BootTime,
}

/// The verdict.
pub(super) fn judge(case: &Case<'_>) -> Verdict {
    let Case { child, carried, lock, since, .. } = case;
    let may_be_meant = carried.in_background && lock.taker != Taker::Closed;
    let is_known = case.was_seen && lock.taker != Taker::Unknown;
    let (state, certainty, severity) = if is_known && !may_be_meant {
        (HAZARD.state, HAZARD.certainty, HAZARD.severity)
    } else {
        (State::Suspected, Certainty::Heuristic, Severity::Info)
    };
    let name = match lock.kind {
        FileLockKind::OpenFile => "a lock by F_OFD_SETLK",
        FileLockKind::Flock | FileLockKind::Posix => "a lock by flock",
    };
    let waited = carried.at.since(*since).as_secs();
    let held = format!("{name}, which {} has by descriptor {}", child.tgid, lock.file.fd);
    let mut notes = vec![held, format!("waited for since {waited} s at least")];
    if may_be_meant {
        notes.push(format!("{} is in the background, and may keep it on purpose", child.tgid));
    }
    let age = Some(nanoseconds(carried.at.since(child.start)));
    Verdict {
        state,
        certainty,
        severity,
        summary: case.summary(),
        facts: Facts { age, notes, ..Facts::default() },
        remedy: advice(&carried.program),
    }
}

impl Case<'_> {
    fn summary(&self) -> String {
        let (name, child) = (called(&self.carried.program), self.child.tgid);
        let file = escape(self.lock.file.path.as_bytes());
        let waits = self.who_waits();
        match (self.lock.taker, self.forker) {
            (Taker::Closed, Some(forker)) => format!(
                "{name} (pid {}) took a lock on {file} and has closed the file, but its forked child {child} has it \
                 open and so keeps the lock: {waits}",
                forker.tgid
            ),
            (Taker::Ended, Some(forker)) => format!(
                "{name} (pid {}) took a lock on {file} and has ended, but its forked child {child} has the file open \
                 and so keeps the lock: {waits}",
                forker.tgid
            ),
            _ => format!(
                "{name} (pid {child}) keeps a lock on {file} that it may have got by a fork, from a process that has \
                 ended or closed the file: {waits}"
            ),
        }
    }

    fn who_waits(&self) -> String {
        let waiters = &self.lock.waiters;
        if waiters.iter().any(|waiter| Some(waiter.process) == self.forker) {
            return "it waits for its own lock".to_owned();
        }
        let named = waiters.first().map(|waiter| format!("{} (pid {})", waiter.comm, waiter.process.tgid));
        let named = named.unwrap_or_default();
        match waiters.len() {
            0 | 1 => format!("{named} waits for it"),
            2 => format!("{named} and another process wait for it"),
            more => format!("{named} and {} others wait for it", more - 1),
        }
    }
}

/// What users of a language have to change.
struct Language {
    /// What its interpreters are called.
    names: &'static [&'static str],
    whom: &'static str,
    advice: &'static str,
    link: &'static str,
}

static LANGUAGES: [Language; 5] = [
    Language {
        names: &["php", "php-fpm", "php-cgi"],
        whom: "PHP",
        advice: "Call flock($file, LOCK_UN) before the process ends: fclose and the end release nothing while a child \
                 has the file. Or have the child call fclose($file) first thing after pcntl_fork.",
        link: "https://www.php.net/manual/en/function.flock.php",
    },
    Language {
        names: &["python", "pypy"],
        whom: "Python",
        advice: "Release the lock by fcntl.flock(file, LOCK_UN), or FileLock.release(), before the process ends, or \
                 have the child close the file first thing (os.register_at_fork). Start workers by spawn or forkserver: \
                 they get no file that is not passed to them. fcntl.lockf takes a lock that no child gets.",
        link: "https://docs.python.org/3/library/fcntl.html#fcntl.flock",
    },
    Language {
        names: &["bash", "sh", "dash", "zsh", "ksh", "busybox"],
        whom: "shells",
        advice: "Close the descriptor of the lock for what goes on in the background: `worker 9>&- &`, or \
                 `flock --close FILE command`.",
        link: "https://man7.org/linux/man-pages/man1/flock.1.html",
    },
    Language {
        names: &["perl"],
        whom: "Perl",
        advice: "Call flock($file, LOCK_UN) before the process ends: close releases nothing while a child has the file. \
                 Or close it in the child first thing after fork.",
        link: "https://perldoc.perl.org/functions/flock",
    },
    Language {
        names: &["ruby"],
        whom: "Ruby",
        advice: "Call file.flock(File::LOCK_UN) before the process ends: close releases nothing while a child has the \
                 file. Or close it in the child first thing after fork.",
        link: "https://docs.ruby-lang.org/en/master/File.html#method-i-flock",
    },
];

/// What to change in this program.
fn advice(program: &Program) -> Remedy {
    let file = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str());
    let is_it = |language: &&Language| file.is_some_and(|file| language.names.contains(&stem(file)));
    LANGUAGES.iter().find(is_it).map_or_else(general, |known| remedy(known.advice, known.link))
}

/// The same for a process that has exec'd: what runs in it need not be what has left it the file.
pub(super) fn after_exec() -> Remedy {
    remedy(
        "Close the file for what goes on in the background. In a shell: `worker 9>&- &`, or `flock --close FILE command`. \
         In a program: open it with O_CLOEXEC (PHP: fopen with mode \"ce\"), so that no program that it starts gets it; or \
         call flock(fd, LOCK_UN) before it ends.",
        "https://man7.org/linux/man-pages/man1/flock.1.html",
    )
}

fn general() -> Remedy {
    remedy(
        "Release the lock by flock(fd, LOCK_UN) before the process ends, which releases it for every child, or close the \
         descriptor in the child first thing after the fork. A lock by fcntl(2) with F_SETLK belongs to the process, and \
         no child gets it.",
        "https://man7.org/linux/man-pages/man2/flock.2.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let known = LANGUAGES.iter().map(|known| (known.whom, remedy(known.advice, known.link)));
    known.chain([("any program", general()), ("a program that has exec'd", after_exec())]).collect()
}
