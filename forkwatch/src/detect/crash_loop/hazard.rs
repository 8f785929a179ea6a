//! `crash-loop`: the children of one process keep dying and being replaced.

use crate::{
    core::{Judgement, Verdict},
    detect::Hazard,
    model::{
        detector::{DetectorState, Observable},
        event::{CloneKind, Exit, ExitStatus},
        exit_code::{UWSGI_AT_WORK, meaning},
        facts::HistoryFacts,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        lasted::lasted,
        process::{ProcessKey, Program},
        program_name::{bare_name, stem},
        resolution::Resolution,
        signals::signal_name,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("crash-loop"),
    title: "Forked children keep dying and being replaced",
    what: "A server that finds a worker dead forks the next one. Where whatever killed the first is still there (a \
           broken configuration, a database that refuses, a native crash, a memory limit), the next one dies too. \
           The server looks alive all the time, uses a CPU on starting workers, and answers little or nothing.",
    detection: "The kernel side reports each forked child that ends by a signal or with a code other than 0 and had \
                not exec'd. Five ends of the same kind within 60 s, of children of one parent that had lived less \
                than that, begin a run, which lasts while that rate does. It is reported when it has lasted 20 s and \
                when three of the dead came one after the other: each was forked after the one before had died. From \
                the third death on, the kernel side also reports how the other children of that parent end. It is \
                certain only for servers that are known to replace their workers, where none of those that were forked \
                since ended well, and where those that died were young (10 s, the median) and another was forked in \
                their place within 2 s. Else it is strong. Of exits with a code it may be information, for they may \
                be jobs that fail, and of SIGKILL a suspicion, for whoever forks them may be the one that kills them.",
    certainty: Certainty::Certain,
    certainty_reason: "It is a count of ends that the kernel reported, with the codes and signals that wait(2) \
                       shows, and of the forks that followed them. Why they ended is not known, nor always what they \
                       were for: children that are to die, as in a test of what kills a program, look the same.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "All workers ending at once, because the server stops, reloads or is killed: none of them was forked after \
         another had died.",
        "Ends that somebody asked for: by SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGALRM or SIGPIPE, or with the code \
         that stands for one of them (129, 130, 143).",
        "Jobs: a program that forks a child for each piece of work, some of which fail. Where others that were forked \
         meanwhile end well, exits with a code are silent.",
        "Programs that could not be started: the codes 126 and 127, and the 255 of Python's subprocess module, \
         where the child ends within 100 ms.",
        "Celery's workers that have done their share of tasks (max_tasks_per_child): they end with code 155.",
        "Shells, make and test runners: a subshell or test that fails is their daily work.",
        "Servers that fork a child for each connection (PostgreSQL, sshd, smbd, ...), as far as the children exit \
         with a code: that tells of the session, such as a refused login. Signals count there too.",
        "Children that exec: they are programs of their own.",
    ],
    remedies,
    links: &["https://man7.org/linux/man-pages/man2/wait.2.html"],
    watches: "forked children that keep dying and being replaced",
    sees: &[],
    without_sight: None,
    needs: &[(
        Observable::GoodEnds,
        DetectorState::Limited,
        "jobs that fail may be taken for workers that die, for the good ends of children cannot be watched",
    )],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[Resolution::Ended, Resolution::Cleared],
};

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGQUIT: u8 = 3;
const SIGKILL: u8 = 9;
const SIGPIPE: u8 = 13;
const SIGALRM: u8 = 14;
const SIGTERM: u8 = 15;

/// A shell's way to say that SIGHUP, SIGINT or SIGTERM ended something: 128 and the signal's number.
const ASKED_CODES: [u8; 3] = [128 + SIGHUP, 128 + SIGINT, 128 + SIGTERM];
/// What a forked child exits with where exec fails: not executable, or not found (POSIX, Shell Command Language,
/// 2.8.2). glibc, Ruby and supervisors do the same as shells.
const FAILED_EXEC: [u8; 2] = [126, 127];
/// The same in `CPython` (`child_exec`, `Modules/_posixsubprocess.c`).
const FAILED_EXEC_PYTHON: u8 = 255;
/// Longer than it takes to find that there is no such program.
const FAILED_EXEC_WITHIN: u64 = 100_000_000;
/// `EX_RECYCLE`: a worker of Celery that has done its share of tasks (`billiard/pool.py`).
const BILLIARD_RECYCLE: u8 = 155;

/// Whether the end of a child may be one of a crash loop.
pub(super) fn is_crash(exit: &Exit) -> bool {
    exit.kind == CloneKind::Copying
        && match exit.status {
            ExitStatus::Code(0 | BILLIARD_RECYCLE) => false,
            ExitStatus::Code(FAILED_EXEC_PYTHON) => exit.lifetime > FAILED_EXEC_WITHIN,
            ExitStatus::Code(code) => !FAILED_EXEC.contains(&code) && !ASKED_CODES.contains(&code),
            ExitStatus::Signal { number, .. } => {
                !matches!(number, SIGHUP | SIGINT | SIGQUIT | SIGPIPE | SIGALRM | SIGTERM)
            }
        }
}

/// Whether a child ended as it should, so that what its parent forks is not what keeps dying.
pub(super) const fn is_success(exit: &Exit) -> bool {
    matches!(exit.status, ExitStatus::Code(0 | BILLIARD_RECYCLE))
}

/// What tells workers that are replaced from jobs that come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Succession {
    /// Whether the good ends were seen too.
    pub(super) seen: bool,
    /// Children that were forked since the first death and ended well.
    pub(super) well: u32,
    /// Whether nearly each death was followed by a fork at once.
    pub(super) replaced_at_once: bool,
    /// Whether those that died had not lived long enough to have done much.
    pub(super) young: bool,
}

impl Succession {
    /// Whether all that is forked dies young and is replaced at once.
    const fn is_loop(self) -> bool {
        self.seen && self.well == 0 && self.replaced_at_once && self.young
    }
}

/// So many good ends show that the children are jobs: one may be a helper of a server's master.
const JOBS: u32 = 2;

/// Servers that keep a number of workers, and fork another where one is dead: none of their children is a job.
const SERVERS: [&str; 17] = [
    "gunicorn",
    "uwsgi",
    "celery",
    "puma",
    "unicorn",
    "unicorn_rails",
    "pitchfork",
    "php-fpm",
    "apache2",
    "httpd",
    "nginx",
    "Passenger",
    "uvicorn",
    "hypercorn",
    "granian",
    "haproxy",
    "sidekiq",
];

/// Programs for which a child that fails is daily work.
const SHELLS: [&str; 16] = [
    "sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "busybox", "fish", "csh", "tcsh", "make", "gmake",
    "ninja", "ctest", "prove",
];
/// The same, by what an interpreter runs.
const TEST_RUNNERS: [&str; 8] =
    ["pytest", "py.test", "unittest", "nose2", "trial", "runtests.py", "rspec", "minitest"];
/// Programs that fork a child for each session: its code tells of the session. In Chromium, Electron and their like
/// the zygote forks a child for each page.
const SESSIONS: [&str; 25] = [
    "postgres",
    "postmaster",
    "sshd",
    "sshd-session",
    "dropbear",
    "smbd",
    "vsftpd",
    "proftpd",
    "pure-ftpd",
    "xinetd",
    "inetd",
    "socat",
    "ncat",
    "rsync",
    "exim",
    "exim4",
    "distccd",
    "svnserve",
    "cron",
    "crond",
    "atd",
    "stunnel",
    "chrome",
    "chromium",
    "electron",
];

/// A run of children that died one after the other.
pub(super) struct LoopCase<'a> {
    /// The process that forks them.
    pub(super) parent: ProcessKey,
    /// What runs in it.
    pub(super) program: &'a Program,
    /// The name that it goes by in metrics.
    pub(super) program_name: &'a str,
    /// How most of them ended.
    pub(super) how: ExitStatus,
    /// How many ended like that.
    pub(super) count: u32,
    /// Nanoseconds that these lived, the median.
    pub(super) lifetime: u64,
    /// How all children ended that have ended so far.
    pub(super) history: HistoryFacts,
    /// What became of the other children, and of the places of the dead.
    pub(super) succession: Succession,
}

/// Whether that is a crash loop, or how this program works.
pub(super) fn judge(case: &LoopCase<'_>) -> Judgement {
    let name = case.program_name;
    let by_code = matches!(case.how, ExitStatus::Code(_));
    let bare = bare_name(case.program);
    let is = |names: &[&str]| {
        names.contains(&bare.as_str()) || names.iter().any(|wanted| runs(case.program, wanted))
    };
    if is(&SHELLS) || is(&TEST_RUNNERS) || by_code && is(&SESSIONS) {
        return Judgement::Clean;
    }
    let is_server = is(&SERVERS);
    let at_work = matches!(case.how, ExitStatus::Code(code) if UWSGI_AT_WORK.contains(&code));
    let jobs = by_code && !is_server && case.succession.well >= JOBS;
    if jobs || at_work && is(&["uwsgi"]) {
        return Judgement::Clean;
    }
    let standing = Standing::of(case, by_code, is_server);
    let ended = match case.how {
        ExitStatus::Code(code) => {
            let meaning = meaning(code, name).map(|meaning| format!(" ({meaning})")).unwrap_or_default();
            format!("ended with code {code}{meaning}")
        }
        ExitStatus::Signal { core_dumped, .. } => {
            let core = if core_dumped { ", leaving core dumps" } else { "" };
            format!("were killed by {}{core}", how(case.how))
        }
    };
    let what = if standing.may_be_jobs() {
        "forks children that fail, workers or jobs"
    } else {
        "keeps forking children that die"
    };
    let beside = match case.succession.well {
        0 => String::new(),
        1 => "; another ended well".to_owned(),
        well => format!("; {well} others ended well"),
    };
    Judgement::Unsafe(Box::new(Verdict {
        state: standing.state,
        certainty: standing.certainty,
        severity: standing.severity,
        summary: format!(
            "{name} (pid {}) {what}: {} {ended} within {}, after a life of {} (the median){beside}",
            case.parent.tgid,
            case.count,
            lasted(case.history.window_ns),
            lasted(case.lifetime),
        ),
        facts: Facts { history: Some(Box::new(case.history.clone())), ..Facts::default() },
        remedy: advice(case.how, standing.may_be_jobs()).1,
    }))
}

/// How a run of deaths stands.
struct Standing {
    state: State,
    certainty: Certainty,
    severity: Severity,
}

impl Standing {
    fn of(case: &LoopCase<'_>, by_code: bool, is_server: bool) -> Self {
        let Succession { well, replaced_at_once, young, .. } = case.succession;
        let (state, severity) = (HAZARD.state, HAZARD.severity);
        if case.succession.is_loop() && is_server {
            return Self { state, certainty: HAZARD.certainty, severity };
        }
        let doubted = Self { state: State::Suspected, certainty: Certainty::Heuristic, severity };
        // Another process sent it: the parent itself may be the one that limits what its jobs take.
        if matches!(case.how, ExitStatus::Signal { number: SIGKILL, .. }) && !is_server {
            return doubted;
        }
        // Any other signal is a fault, whatever it ended.
        if !by_code || is_server || well == 0 && replaced_at_once && young {
            return Self { certainty: Certainty::Strong, state, severity };
        }
        Self { severity: Severity::Info, ..doubted }
    }

    fn may_be_jobs(&self) -> bool {
        self.state == State::Suspected
    }
}

/// Whether the executable or, where that cannot be read, the command goes by this name.
fn runs(program: &Program, name: &str) -> bool {
    let exe = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|exe| exe.to_str());
    let shown = || program.cmdline.first().map(|first| first.rsplit('/').next().unwrap_or(first));
    exe.or_else(shown).is_some_and(|exe| {
        let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
        exe == name || stem(exe) == name
    })
}

/// How a process ended, in a few words: `code 3`, `SIGKILL`.
pub(super) fn how(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("code {code}"),
        ExitStatus::Signal { number, .. } => signal_name(number.into()),
    }
}

fn advice(how: ExitStatus, may_be_jobs: bool) -> (&'static str, Remedy) {
    match how {
        ExitStatus::Code(_) if may_be_jobs => (
            "children that exit with a code after they have worked",
            remedy(
                "Read what the last of them logged. If they are jobs, they failed; if they are workers that are forked \
                 anew, something ends them again and again.",
                "https://man7.org/linux/man-pages/man3/exit.3.html",
            ),
        ),
        ExitStatus::Code(_) => (
            "children that exit with a code",
            remedy(
                "Read what the last of them logged: it ended itself, usually on an exception while it started. Run \
                 one worker in the foreground to see it. Stop the server until that is mended, or have it give up \
                 after some attempts.",
                "https://man7.org/linux/man-pages/man3/exit.3.html",
            ),
        ),
        ExitStatus::Signal { number: SIGKILL, .. } if may_be_jobs => (
            "children of an unknown program that SIGKILL ends",
            remedy(
                "Find out who sends it: the program itself, where its children take too long or too much, or the \
                 kernel's out-of-memory killer (`journalctl -k --grep oom`). What the program does on purpose needs \
                 no change.",
                "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
            ),
        ),
        ExitStatus::Signal { number: SIGKILL, .. } => (
            "children that SIGKILL ends",
            remedy(
                "Look into the kernel log for the out-of-memory killer (`journalctl -k --grep oom`) and raise the \
                 memory limit or lower what a worker takes; else the server or a watchdog kills workers that do not \
                 answer in time.",
                "https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files",
            ),
        ),
        ExitStatus::Signal { .. } => (
            "children that another signal ends",
            remedy(
                "Look at a core dump: `coredumpctl info` names the function, `coredumpctl debug` opens it. A native \
                 extension that was set up before the fork (a GPU, a database driver, a thread pool) is the first \
                 suspect: set it up in the child.",
                "https://man7.org/linux/man-pages/man5/core.5.html",
            ),
        ),
    }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    [SIGKILL, SIGTERM]
        .map(|number| ExitStatus::Signal { number, core_dumped: false })
        .into_iter()
        .chain([ExitStatus::Code(1)])
        .map(|how| advice(how, false))
        .chain([
            advice(ExitStatus::Code(1), true),
            advice(ExitStatus::Signal { number: SIGKILL, core_dumped: false }, true),
        ])
        .collect()
}

#[cfg(test)]
mod tests;
