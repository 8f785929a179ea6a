//! Locks that threads hold, at the moment or again and again.

use super::{
    Reason, Weight,
    threads::{Bearing, known},
};
use crate::{
    detect::{held_locks::what, multithreaded_fork::BY_DESIGN},
    model::{
        held_lock::{HeldLock, LockKind},
        held_now::LockNow,
        inventory::Inventory,
        sampling::{Sampled, Sampling},
        thread::{Occupation, SeenThread, occupation},
    },
    remedy::{ecosystem, remedy},
};

/// Locks that are told one by one.
const SHOWN: usize = 4;

/// Why a held lock speaks against a fork.
const COPIED_LOCKED: &str = "A fork by any other thread copies the lock as it is, and nobody in the child can release it: the child hangs as \
     soon as it needs it. Whether a library makes its own locks anew in the child (pthread_atfork) cannot be seen from \
     outside.";
const MADE_ANEW: &str = "fork(3) makes the locks of FILEs anew in the child, and Python that of sys.stdout's and sys.stderr's own \
     buffers. Other buffers of the same descriptor keep theirs locked, and what was not written yet is written twice.";

/// What the locks of the process say, which its users know by this name.
pub(super) fn locks(seen: &Inventory, name: &str) -> Vec<Reason> {
    let mut reasons = match &seen.sampling {
        Some(sampling) => sampled(seen, sampling),
        None => held(seen),
    };
    // Their children save data, and need nothing that the other threads have.
    if BY_DESIGN.contains(&name) {
        for reason in &mut reasons {
            reason.weight = Weight::Info;
        }
    }
    reasons
}

/// Whether a lock of this thread is of any concern: it may be that nobody forks beside it but threads whose libraries
/// see to their locks.
fn matters(holder: &SeenThread, seen: &Inventory) -> bool {
    let is_unknown = |thread: &SeenThread| known(*thread, &seen.whereabouts).bearing >= Bearing::Awaited;
    match seen.threads.iter().find(|thread| thread.tid == holder.tid) {
        Some(thread) => is_unknown(thread),
        // The main thread is not among them, or there are more than are listed.
        None => seen.threads.iter().any(is_unknown),
    }
}

fn held(seen: &Inventory) -> Vec<Reason> {
    let locks = seen.held.as_deref().map_or(&[][..], |held| &held.locks);
    // Somebody waits for these, which is told already.
    let is_told = |now: &&LockNow| seen.contended.iter().any(|lock| lock.address == now.lock.address);
    let (renewed, copied): (Vec<&LockNow>, Vec<&LockNow>) = locks
        .iter()
        .filter(|now| !is_told(now) && matters(&now.thread, seen))
        .partition(|now| is_renewed(&now.lock));
    let words = |locks: &[&LockNow]| {
        let mut words: Vec<String> = locks.iter().take(SHOWN).map(|now| momentary(now, seen)).collect();
        if locks.len() > SHOWN {
            words.push(format!("and {} more", locks.len() - SHOWN));
        }
        format!("held at this moment: {}", words.join("; "))
    };
    let mut reasons = Vec::new();
    if !copied.is_empty() {
        reasons.push(reason(seen, Weight::Unsafe, words(&copied)));
    }
    if !renewed.is_empty() {
        reasons.push(reason(seen, Weight::Info, words(&renewed)));
    }
    reasons
}

fn momentary(now: &LockNow, seen: &Inventory) -> String {
    format!("{}, by {}", what(&now.lock), who(&now.thread, &seen.occupations))
}

fn sampled(seen: &Inventory, sampling: &Sampling) -> Vec<Reason> {
    let concerns = |lock: &&Sampled| lock.holder().is_some_and(|holder| matters(&holder, seen));
    let mut locks: Vec<&Sampled> =
        sampling.locks.iter().filter(|lock| lock.held > 0).filter(concerns).collect();
    locks.sort_by_key(|lock| {
        std::cmp::Reverse(u64::from(lock.held) * 1_000_000 / u64::from(lock.looks.max(1)))
    });
    let reason = |lock: &&Sampled| {
        let by = lock.holder().map_or_else(String::new, |holder| {
            let others = lock.by.len() - 1;
            let more = if others > 0 { format!(" and {others} more") } else { String::new() };
            format!(" by {}{more}", who(&holder, &seen.occupations))
        });
        let share = share(lock.held, lock.looks);
        if is_renewed(&lock.lock) {
            return reason(
                seen,
                Weight::Info,
                format!("{} is held {share} of the time{by}", what(&lock.lock)),
            );
        }
        let chance = chance(lock.held, lock.looks);
        let what = format!(
            "{} is held {share} of the time{by}: a fork by another thread has {chance} to copy it locked",
            what(&lock.lock)
        );
        reason(seen, Weight::Unsafe, what)
    };
    locks.iter().take(SHOWN).map(reason).collect()
}

fn reason(seen: &Inventory, weight: Weight, what: String) -> Reason {
    let (why, remedy) = if weight == Weight::Unsafe {
        (COPIED_LOCKED, ecosystem::recognise(&seen.program, &seen.threads).remedy())
    } else {
        (
            MADE_ANEW,
            remedy(
                "Nothing for the locks; flush the streams before the fork (fflush, sys.stdout.flush).",
                "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
            ),
        )
    };
    Reason { id: "held-lock", weight, what, why, remedy }
}

/// Whether a child gets it free, as far as that is known: of the standard streams it may also be another's buffer.
fn is_renewed(lock: &HeldLock) -> bool {
    let is_standard = |name: &String| name.starts_with("standard ");
    lock.kind == LockKind::Stream
        || lock.kind == LockKind::Buffer && lock.name.as_ref().is_some_and(is_standard)
}

fn who(thread: &SeenThread, occupations: &[Occupation]) -> String {
    let place = occupation(thread.tid, occupations).and_then(Occupation::place);
    let place = place.map_or_else(String::new, |place| format!(": {place}"));
    format!("{} ({}){place}", thread.name(occupations), thread.tid)
}

/// `12 %`.
pub fn share(part: u32, whole: u32) -> String {
    let percent = u64::from(part) * 100 / u64::from(whole.max(1));
    match percent {
        0 if part > 0 => "less than 1 %".to_owned(),
        percent => format!("{percent} %"),
    }
}

/// `1 chance in 8`.
fn chance(part: u32, whole: u32) -> String {
    if part.saturating_mul(2) > whole {
        return format!("{} chances in 100", u64::from(part) * 100 / u64::from(whole.max(1)));
    }
    let part = part.max(1);
    format!("1 chance in {}", (u64::from(whole) + u64::from(part) / 2) / u64::from(part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        held_lock::LostOwner, held_now::HeldNow, inventory::Whereabouts, lock::Mapping, stack::Frame,
        time::BootTime,
    };

    fn now(kind: LockKind, name: Option<&str>, tid: u32) -> LockNow {
        let lock = HeldLock {
            object: 0x1000,
            address: 0x1000,
            kind,
            owner: LostOwner { id: Some(tid), name: None },
            name: name.map(str::to_owned),
            mapping: Mapping { name: "/opt/libfoo.so".to_owned(), offset: 0, shared: false },
            from_before: false,
            untouched: false,
        };
        LockNow { lock, thread: SeenThread { tid, comm: "python".into() } }
    }

    fn look(whole: bool, locks: Vec<LockNow>) -> HeldNow {
        HeldNow { at: BootTime(1), whole, threads: 2, count: 1, locks, searched: 0, skipped: 0, took: 1 }
    }

    fn process(locks: Vec<LockNow>) -> Inventory {
        let at = Frame {
            function: Some("push".to_owned()),
            module: Some("/srv/metrics.py".to_owned()),
            line: Some(12),
            ..Frame::default()
        };
        Inventory {
            threads: vec![SeenThread { tid: 8, comm: "python".into() }],
            thread_count: 1,
            occupations: vec![Occupation {
                tid: 8,
                name: Some("metrics-push".to_owned()),
                at: Some(at),
                queue: None,
            }],
            held: Some(Box::new(look(true, locks))),
            ..Inventory::default()
        }
    }

    fn told(seen: &Inventory) -> Vec<(Weight, String)> {
        locks(seen, "app").into_iter().map(|reason| (reason.weight, reason.what)).collect()
    }

    #[test]
    fn what_is_held_now_is_named_with_its_holder() {
        let seen = process(vec![now(LockKind::Mutex, Some("registry"), 8)]);
        let words = "held at this moment: `registry` in libfoo.so, by metrics-push (8): push (metrics.py:12)";
        assert_eq!(told(&seen), [(Weight::Unsafe, words.to_owned())]);
        assert_eq!(locks(&seen, BY_DESIGN[0])[0].weight, Weight::Info);
        // A child gets these free.
        for (kind, name) in [(LockKind::Stream, "stdout"), (LockKind::Buffer, "standard error's buffer")] {
            let reasons = told(&process(vec![now(kind, Some(name), 8)]));
            assert!(matches!(&reasons[..], [(Weight::Info, what)] if what.contains(name)), "{reasons:?}");
        }
        assert_eq!(told(&process(Vec::new())), []);
    }

    #[test]
    fn locks_of_threads_whose_library_sees_to_them_do_not_matter() {
        let mut seen = process(vec![now(LockKind::Mutex, None, 8)]);
        let start = Some("/v/libopenblas.so.0".to_owned());
        let thread = SeenThread { tid: 8, comm: "python".into() };
        seen.whereabouts =
            vec![Whereabouts { thread, start, native: Vec::new(), script: Vec::new(), ends_at_forks: false }];
        assert_eq!(told(&seen), []);
        // Beside such threads alone, the main thread's do not either.
        seen.held = Some(Box::new(look(true, vec![now(LockKind::Mutex, None, 7)])));
        assert_eq!(told(&seen), []);
        seen.whereabouts.clear();
        assert_eq!(told(&seen).len(), 1);
    }

    #[test]
    fn how_often_a_lock_is_held_is_told_with_the_chance_to_copy_it() {
        let mut seen = process(Vec::new());
        let mut sampling = Sampling::default();
        let lock = || vec![now(LockKind::Mutex, Some("registry"), 8)];
        sampling.take_in(&look(true, lock()));
        seen.sampling = Some(Box::new(sampling.clone()));
        assert_eq!(told(&seen), [], "it was found held, and not looked at since");
        for turn in 0..50 {
            sampling.take_in(&look(false, if turn % 8 == 0 { lock() } else { Vec::new() }));
        }
        seen.sampling = Some(Box::new(sampling));
        let words = "`registry` in libfoo.so is held 14 % of the time by metrics-push (8): push (metrics.py:12): a fork \
                     by another thread has 1 chance in 7 to copy it locked";
        assert_eq!(told(&seen), [(Weight::Unsafe, words.to_owned())]);
    }

    #[test]
    fn shares_and_chances_are_told_in_whole_numbers() {
        for (part, whole, share_, chance_) in [
            (12, 100, "12 %", "1 chance in 8"),
            (1, 3, "33 %", "1 chance in 3"),
            (1, 1000, "less than 1 %", "1 chance in 1000"),
            (1, 2, "50 %", "1 chance in 2"),
            (4, 5, "80 %", "80 chances in 100"),
            (7, 7, "100 %", "100 chances in 100"),
        ] {
            assert_eq!((&*share(part, whole), &*chance(part, whole)), (share_, chance_), "{part} of {whole}");
        }
    }
}
