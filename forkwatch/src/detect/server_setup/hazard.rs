//! `server-setup`: a server is set up so that its workers will be hurt by it.

use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::{ProcessKey, escape},
    },
    remedy::{ecosystem, remedy},
    workers::hints::Hint,
};

/// Servers that run an application, whose master may load it, so that a worker has something to renew. Whose a thread is
/// follows from its script, which is known of Python alone.
pub(super) const RENEWS: [&str; 3] = ["gunicorn", "uWSGI", "Celery"];

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("server-setup"),
    title: "A server is set up so that its workers are not replaced, or lack what they need",
    what: "uWSGI without `master` has no process that looks after its workers: one that crashes is missing from then on. \
           Without `enable-threads` the threads that an application starts exist and never run, as Python's global \
           lock is not set up for them: a background thread that sends metrics or renews a token does nothing. An \
           application that is loaded before the fork (gunicorn's --preload, uWSGI without lazy-apps, Celery's prefork pool) \
           leaves its connections to every worker and its threads to none, unless a hook renews them.",
    detection: "The server's command line, and whether one of its workers has threads that Python has started. A server whose \
                options stand in a file, or whose title has taken the place of its command line, is not judged by these. \
                Of gunicorn, uWSGI and Celery one worker is looked at 10 s after it was seen to wait for work: whether it \
                lacks threads that the application has in the master since before the fork, and has none of the same name; and, \
                but for Celery, whether it holds client connections of the master's and has none of its own to the same \
                place. It is told if nothing was renewed, and if nothing else was found about the forks of this master \
                (multithreaded-fork, held-locks, lost-threads, shared-connection), which says more.",
    certainty: Certainty::Heuristic,
    certainty_reason: "The command line is what the server was started with. An environment variable (UWSGI_MASTER) can \
                       set the same. A connection that a hook has given up without closing it (SQLAlchemy's \
                       dispose(close=False)) looks like one that is kept, until the worker has opened its own. A thread \
                       may be wanted in the master alone.",
    state: State::Suspected,
    severity: Severity::Info,
    look_alikes: &[
        "A server whose options stand in a file.",
        "uWSGI with `threads`, which turns threads on, too; with threads of its own (`offload-threads`) or of a library (NumPy's).",
        "Workers without threads of their own.",
        "A hook that starts a thread anew in each worker, or connects there.",
        "Threads that end before each fork (OpenBLAS's, gunicorn's for its control socket), or that are the server's own.",
    ],
    remedies,
    links: &[
        "https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html",
        "https://uwsgi-docs.readthedocs.io/en/latest/WSGIquickstart.html",
    ],
    watches: "servers that are set up so that their workers will be hurt by it",
    sees: &[
        (Aspect::Calls, Wanted::Each),
        (Aspect::Descriptors, Wanted::Each),
        (Aspect::Memory, Wanted::Helps),
    ],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen what other users' workers do: only one's own are judged",
    )),
    needs: &[],
    knows_threads: true,
    tells_who_hangs: false,
    ends: &[],
};

/// What to say of a master that lacks these, of which there is one at least.
pub(super) fn judge(master: ProcessKey, name: &str, hints: &[Hint]) -> Verdict {
    let words: Vec<&str> = hints.iter().map(|hint| words(*hint)).collect();
    let summary = format!("{} (pid {}) {}", escape(name), master.tgid, words.join("; and it "));
    let remedy = hints.first().map_or_else(|| advice(Hint::NoMaster), |hint| advice(*hint));
    Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts::default(),
        remedy,
    }
}

const fn words(hint: Hint) -> &'static str {
    match hint {
        Hint::NoMaster => "runs without a master process: no worker that ends is replaced",
        Hint::ThreadsOff => {
            "runs without enable-threads, but its workers have threads of their own: Python threads never run there"
        }
    }
}

fn advice(hint: Hint) -> Remedy {
    const LINK: &str = "https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html";
    match hint {
        Hint::NoMaster => remedy("Add `master = true` (--master).", LINK),
        Hint::ThreadsOff => remedy("Add `enable-threads = true` (--enable-threads).", LINK),
    }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    let of_application = ecosystem::remedies().into_iter().filter(|(whose, _)| RENEWS.contains(whose));
    let of_options = [("uWSGI without a master", Hint::NoMaster), ("uWSGI with threads", Hint::ThreadsOff)];
    of_options.map(|(whose, hint)| (whose, advice(hint))).into_iter().chain(of_application).collect()
}
