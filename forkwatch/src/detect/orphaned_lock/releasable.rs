//! Whether a finding proves that a lock is orphaned, so that somebody else may release it.

use super::HAZARD;
use crate::{
    detect::calls::name_of,
    model::{
        facts::{LockFacts, Proof},
        finding::{Certainty, Finding, State},
        stack::Frame,
    },
};

/// A lock that nobody has any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// A thread that waits for it.
    pub thread: u32,
    /// The address of the lock.
    pub address: u64,
}

/// Why that is not proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// It waits, but for no lock.
    #[error("what it waits for is no lock, but something that a thread of the parent would bring")]
    NoLock,
    /// Another story fits as well.
    #[error("that the lock is orphaned is suspected, and not proven: the child itself may have taken it")]
    Suspected,
    /// The owner lives on.
    #[error(
        "the thread that called fork held the lock, and goes on in the child: it may still be in the midst of what the lock \
         guards"
    )]
    OwnerLives,
    /// What it waits for may be something else.
    #[error(
        "the calls of the waiting thread cannot be read, and the words alone do not prove that it wants a lock"
    )]
    Unread,
    /// What it waits for is something else.
    #[error(
        "the calls of the waiting thread say that it waits for no lock, but for a condition, a barrier or the like"
    )]
    Condition,
}

/// Calls in which a thread waits for something that looks like a lock.
const OTHERS: [&str; 4] = ["pthread_cond_", "pthread_barrier_", "pthread_once", "pthread_join"];

/// The lock, where nothing speaks against its release.
pub fn orphan(finding: &Finding) -> Result<Orphan, Doubt> {
    let lock = finding.facts.lock.as_deref().filter(|_| finding.hazard == HAZARD.id).ok_or(Doubt::NoLock)?;
    if finding.state != State::Confirmed || finding.certainty == Certainty::Heuristic {
        return Err(Doubt::Suspected);
    }
    match lock.proof {
        Proof::SelfOwned => return Err(Doubt::OwnerLives),
        // The words name the owner, so that they are those of a lock.
        Proof::Owner => {}
        Proof::NoCatcher | Proof::Differential | Proof::Queue | Proof::HeldAtFork | Proof::Frames => {
            calls(lock)?;
        }
    }
    let address =
        u64::from_str_radix(lock.address.trim_start_matches("0x"), 16).map_err(|_| Doubt::NoLock)?;
    Ok(Orphan { thread: lock.waiting_thread, address })
}

/// Whether the calls, too, say that it wants a lock.
fn calls(lock: &LockFacts) -> Result<(), Doubt> {
    let frames = lock.stack.as_ref().map_or(&[][..], |stack| &stack.frames);
    if frames.is_empty() {
        return Err(Doubt::Unread);
    }
    let is_other =
        |frame: &Frame| name_of(frame).is_some_and(|name| OTHERS.iter().any(|other| name.contains(other)));
    if frames.iter().any(is_other) { Err(Doubt::Condition) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        facts::LockOwner,
        finding::{Facts, HazardId, Remedy, Severity},
        process::{Comm, ProcessKey, Program},
        stack::Stack,
        time::BootTime,
    };

    fn stack(functions: &[&str]) -> Stack {
        let frame = |name: &&str| Frame { function: Some((*name).to_owned()), ..Frame::default() };
        Stack { frames: functions.iter().map(frame).collect(), ..Stack::absent("") }
    }

    fn finding(proof: Proof, functions: &[&str]) -> Finding {
        let child = ProcessKey { tgid: 7, start: BootTime(0) };
        let lock = LockFacts {
            proof,
            address: "0x7f10".to_owned(),
            mapping: None,
            symbol: None,
            owner: Some(LockOwner { id: 9, name: None, doing: None }),
            waiting_thread: 8,
            waiting_threads: 1,
            waited_ns: 0,
            operation: 0x80,
            value: 2,
            words: None,
            parent_words: None,
            held_at_fork: None,
            stack: Some(stack(functions)),
            script: None,
            blocks: Vec::new(),
        };
        Finding {
            at: BootTime(0),
            number: 1,
            hazard: HAZARD.id,
            state: State::Confirmed,
            certainty: Certainty::Strong,
            severity: Severity::Critical,
            summary: String::new(),
            parent: child,
            program: Program::default(),
            program_name: String::new(),
            child,
            child_comm: Comm::default(),
            child_uid: None,
            facts: Facts { lock: Some(Box::new(lock)), ..Facts::default() },
            remedy: Remedy { text: String::new(), link: String::new() },
            repeats: 0,
        }
    }

    #[test]
    fn a_lock_that_names_a_lost_owner_is_an_orphan_whatever_the_calls_are() {
        let expected = Ok(Orphan { thread: 8, address: 0x7f10 });
        assert_eq!(orphan(&finding(Proof::Owner, &[])), expected);
        assert_eq!(orphan(&finding(Proof::NoCatcher, &["__new_sem_wait_slow64", "main"])), expected);
    }

    #[test]
    fn what_another_story_fits_is_none() {
        let owned = finding(Proof::Owner, &[]);
        let suspected = Finding { state: State::Suspected, ..owned.clone() };
        let guessed = Finding { certainty: Certainty::Heuristic, ..owned.clone() };
        let other = Finding { hazard: HazardId::new("waits-for-lost-thread"), ..owned.clone() };
        let without = Finding { facts: Facts::default(), ..owned };
        assert_eq!(orphan(&suspected), Err(Doubt::Suspected));
        assert_eq!(orphan(&guessed), Err(Doubt::Suspected));
        assert_eq!(orphan(&other), Err(Doubt::NoLock));
        assert_eq!(orphan(&without), Err(Doubt::NoLock));
        assert_eq!(orphan(&finding(Proof::SelfOwned, &["main"])), Err(Doubt::OwnerLives));
        assert_eq!(orphan(&finding(Proof::Differential, &[])), Err(Doubt::Unread));
        let waits = ["__futex_abstimed_wait_common", "__pthread_cond_wait", "main"];
        assert_eq!(orphan(&finding(Proof::Differential, &waits)), Err(Doubt::Condition));
    }
}
