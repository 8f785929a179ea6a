//! `worker-not-replaced`: a worker of a server was killed, and the server runs so that nobody starts another.

use std::time::Duration;

use super::Case;
use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        child_end::{ChildEnd, SentBy},
        detector::{Aspect, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        program_name::called,
    },
    remedy::{ecosystem, remedy},
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("worker-not-replaced"),
    title: "A worker was killed, and its server does not replace it",
    what: "uWSGI starts its workers anew only where a master watches them (master = true). Without one, the first worker \
           forks the others and never looks after them. Each that crashes or is killed is missing from then on, and the \
           server answers with fewer, until the first has gone too.",
    detection: "When a signal has killed a child that never exec'd, its parent is looked at after 3 s, and then later and \
                later. It is reported if that is uWSGI, lives, and has forked nobody for 10 s.",
    certainty: Certainty::Strong,
    certainty_reason: "A master replaces a worker within a second or two. That one is told to wait for longer, or to do \
                       with fewer, is possible.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "A master that starts another worker.",
        "A worker that its master has killed, to reload, to stop, or to do with fewer (cheaper).",
        "A server that stops: its parent ends as well.",
        "Other servers and programs: whether they ought to replace a child is not known.",
    ],
    remedies,
    links: &["https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html"],
    watches: "workers that were killed and that their server does not replace",
    sees: &[(Aspect::Executable, Wanted::Helps)],
    without_sight: None,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// A master takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the parent itself has ended a child.
pub(super) fn is_wanted(end: &ChildEnd) -> bool {
    end.sent_by == Some(SentBy::Parent)
}

/// The verdict; none where nothing speaks for it.
pub(super) fn judge(case: &Case<'_>) -> Option<Verdict> {
    let family = case.second;
    let killed = case.killed.last()?;
    let is_known = ecosystem::recognise(&family.program, &[]).name() == "uWSGI";
    let is_replaced = case.forked.is_some_and(|forked| forked >= killed.at);
    let is_killed = killed.end.exit_code.is_none();
    if !is_known || !is_killed || is_replaced || family.forker.stopped || case.now.since(killed.at) < PATIENCE
    {
        return None;
    }
    let (name, parent) = (called(&family.program), family.forker.process.tgid);
    let left = match family.children.len() {
        0 => "no other is left".to_owned(),
        1 => "1 other is left".to_owned(),
        more => format!("{more} others are left"),
    };
    Some(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary: format!(
            "{name} (pid {parent}) does not replace its worker {}, which {} has killed: it runs without a master, and \
             {left}",
            killed.child.tgid,
            killed.signal()
        ),
        facts: Facts { notes: case.memory_note().into_iter().collect(), ..Facts::default() },
        remedy: advice(),
    })
}

fn advice() -> Remedy {
    remedy(
        "Set master = true (--master), so that uWSGI watches its workers and starts them anew. Find out why the worker was \
         killed.",
        "https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("uWSGI", advice())]
}
