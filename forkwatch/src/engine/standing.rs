//! What `check` and `scan` see of a process when a watch of it begins.

use std::time::Duration;

use super::collector::Asker;
use crate::{
    detect::{fork_check::assess, orphaned_lock::hazard},
    host::{self, clock},
    model::{
        evidence::{Evidence, Request},
        lock::LocksSeen,
        standing::{Reason, Standing},
    },
    reader::{Answer, Question, unanswered},
};

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the processes. One that has ended meanwhile is left out.
pub(crate) fn look(processes: &[host::Process], asker: &Asker) -> Vec<Standing> {
    let all = host::processes().unwrap_or_default();
    let standing = |process: &host::Process| {
        let Some(Answer::Inventory(Ok(inventory))) = asker.ask_now(Question::Inventory(*process), PATIENCE)
        else {
            return None;
        };
        let descendants = host::descendants(process.key.tgid, &all);
        let unexeced: Vec<_> = descendants.into_iter().filter(|child| child.unexeced).collect();
        let look = |request: &Request| match asker.ask_now(Question::Core(request.clone()), PATIENCE) {
            Some(Answer::Core(evidence)) => *evidence,
            _ => unanswered(request, "no answer came"),
        };
        let seen: Vec<_> = unexeced.iter().map(|child| (child, waits_as_if_stuck(child, look))).collect();
        let stuck = seen.iter().filter(|(_, stuck)| *stuck == Some(true));
        let assessment = assess(&inventory);
        let reasons = assessment.reasons.into_iter().map(|reason| Reason {
            id: reason.id.to_owned(),
            weight: reason.weight,
            what: reason.what,
        });
        Some(Standing {
            at: clock::now(),
            process: process.key,
            program: inventory.program,
            verdict: assessment.verdict,
            reasons: reasons.collect(),
            children: unexeced.len() as u64,
            stuck: stuck.map(|(child, _)| child.key.tgid).collect(),
            unseen: seen.iter().filter(|(_, stuck)| stuck.is_none()).count() as u64,
        })
    };
    processes.iter().filter_map(standing).collect()
}

/// Whether it waits in a way that proves something; absent where that cannot be told.
fn waits_as_if_stuck(child: &host::Process, look: impl FnOnce(&Request) -> Evidence) -> Option<bool> {
    let parent = host::find(child.parent).ok().map(|parent| parent.key);
    let (child, forked_at) = (child.key, Some(child.key.start));
    let seen = look(&Request::Locks { child, parent, forked_at, forking_tid: None });
    match seen {
        Evidence::Locks { seen: LocksSeen::Unreadable(_), .. } => None,
        Evidence::Locks { seen: LocksSeen::Alive(locks), .. } => {
            Some(hazard::waits_as_if_stuck(child, &locks))
        }
        _ => Some(false),
    }
}
