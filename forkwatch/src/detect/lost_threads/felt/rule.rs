//! When a child feels that it lacks a thread of its program.

use std::time::Duration;

use crate::{
    core::Verdict,
    detect::calls::named,
    model::{
        finding::{Certainty, Facts, Severity, State},
        lock::ThreadAt,
        process::{ProcessKey, Program},
        program_name::called,
        stack::Frame,
        thread::{Occupation, SeenThread},
    },
    remedy::ecosystem,
};

/// A thread that waits where one that is missing would be needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Felt {
    /// The thread of the parent.
    pub(super) lost: Occupation,
    /// The thread of the child.
    pub(super) waiter: SeenThread,
    /// Where that waits.
    pub(super) at: Frame,
}

/// Whether a thread ran code of its program, which a child may miss: not only that of an interpreter, and with a line.
pub(super) fn concern(occupation: &Occupation) -> bool {
    occupation.at.as_ref().is_some_and(|at| at.line.is_some() && at.is_of_program())
}

/// Whether a thread of the child is in the function that the missing one was in: it was started again.
pub(super) fn is_there(lost: &Occupation, places: &[ThreadAt]) -> bool {
    let Some(at) = &lost.at else { return true };
    let is_it = |frame: &Frame| frame.module == at.module && frame.function == at.function;
    places.iter().any(|place| place.script.iter().flat_map(|script| &script.frames).any(is_it))
}

/// A thread that a server has started, that waits without end in a file in which a missing thread worked, and not where that
/// did. A thread that was started from that file may be idle there. In a child of one thread its wait is judged as such.
pub(super) fn felt(lost: &[Occupation], places: &[ThreadAt]) -> Option<Felt> {
    if places.len() < 2 {
        return None;
    }
    places.iter().find_map(|place| {
        let script = place.script.as_ref().filter(|script| script.missing.is_none())?;
        let mut own = script.frames.iter().filter(|frame| !frame.is_of_interpreter());
        let inner = own.next()?;
        let outer = own.next_back()?;
        if outer.module == inner.module || !waits_without_end(place) {
            return None;
        }
        let is_near = |lost: &&Occupation| {
            lost.at.as_ref().is_some_and(|at| at.module == inner.module && at.line != inner.line)
        };
        let lost = lost.iter().find(is_near)?.clone();
        Some(Felt { lost, waiter: place.thread, at: inner.clone() })
    })
}

/// Whether a thread sleeps at a condition variable or a semaphore, and for no certain time. So do those of `CPython` and
/// CRuby that wait for a queue, a condition, an event or a lock.
fn waits_without_end(place: &ThreadAt) -> bool {
    const WAITS: [&str; 4] = ["pthread_cond_wait", "__pthread_cond_wait", "sem_wait", "__new_sem_wait"];
    const TIMED: [&str; 5] = [
        "pthread_cond_timedwait",
        "__pthread_cond_timedwait",
        "pthread_cond_clockwait",
        "sem_timedwait",
        "sem_clockwait",
    ];
    place.calls(&WAITS, &[]) && !place.calls(&TIMED, &[])
}

/// A child that waits so.
pub(super) struct Case<'a> {
    pub(super) parent: ProcessKey,
    pub(super) program: &'a Program,
    pub(super) child: ProcessKey,
    pub(super) felt: &'a Felt,
    /// What the missing thread is called.
    pub(super) name: String,
    pub(super) lost: Option<SeenThread>,
    pub(super) waited: Duration,
    /// Nanoseconds since the fork.
    pub(super) age: u64,
}

pub(super) fn judge(case: Case<'_>) -> Verdict {
    let Case { parent, program, child, felt, name, lost, waited, age } = case;
    let place = |frame: &Frame| named(frame).unwrap_or_default();
    let worked = felt.lost.at.as_ref().map(place).unwrap_or_default();
    let summary = format!(
        "{} (pid {}) forked {}, which lacks the thread {name} that {} has ({worked}): thread {} ({}) of the child has \
         waited in the same file for {} s, in {}, probably for what that thread would bring",
        called(program),
        parent.tgid,
        child.tgid,
        parent.tgid,
        felt.waiter.tid,
        felt.waiter.comm,
        waited.as_secs(),
        place(&felt.at),
    );
    let threads: Vec<SeenThread> = lost.into_iter().collect();
    let remedy = ecosystem::recognise(program, &threads).remedy();
    Verdict {
        state: State::Suspected,
        certainty: Certainty::Heuristic,
        severity: Severity::Warning,
        summary,
        facts: Facts {
            thread_count: Some(1),
            occupations: vec![felt.lost.clone()],
            threads,
            age: Some(age),
            ..Facts::default()
        },
        remedy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stack::Stack;

    fn frame(function: &str, module: &str, line: Option<u32>) -> Frame {
        Frame {
            function: Some(function.to_owned()),
            module: Some(module.to_owned()),
            line,
            ..Frame::default()
        }
    }

    fn lost() -> Occupation {
        let at = frame("block (3 levels) in <main>", "/srv/config.ru", Some(3));
        Occupation { tid: 71, name: Some("mailer".to_owned()), at: Some(at), queue: None }
    }

    /// A thread in a native call, with these calls of its script, the inner ones first.
    fn thread(tid: u32, native: &str, script: &[(&str, u32)]) -> ThreadAt {
        let script = script.iter().map(|(module, line)| frame("call", module, Some(*line))).collect();
        ThreadAt {
            thread: SeenThread { tid, comm: "puma srv tp 001".into() },
            stack: Stack { frames: vec![frame(native, "/lib/libc.so.6", None)], missing: None },
            script: Some(Stack { frames: script, missing: None }),
        }
    }

    const POOL: (&str, u32) = ("/gems/puma/thread_pool.rb", 147);

    fn main_thread() -> ThreadAt {
        thread(80, "select", &[("/gems/puma/server.rb", 9)])
    }

    #[test]
    fn a_handler_that_waits_where_a_missing_thread_worked_feels_it() {
        let waits = thread(81, "pthread_cond_wait", &[("/srv/config.ru", 6), POOL]);
        let felt = felt(&[lost()], &[main_thread(), waits]).unwrap();
        assert_eq!((felt.waiter.tid, felt.at.line, felt.lost.tid), (81, Some(6), 71));
    }

    #[test]
    fn others_that_wait_do_not() {
        for other in [
            // Idle, in the server's own file.
            thread(81, "pthread_cond_wait", &[POOL, ("/gems/puma/server.rb", 1)]),
            // Started from that file: an idle thread of the program's own, or its main one.
            thread(81, "pthread_cond_wait", &[("/srv/config.ru", 6)]),
            thread(
                81,
                "pthread_cond_wait",
                &[("/srv/config.ru", 6), ("/srv/lib.rb", 1), ("/srv/config.ru", 1)],
            ),
            // Where the missing one was; in another file; for some time only; for something else.
            thread(81, "pthread_cond_wait", &[("/srv/config.ru", 3), POOL]),
            thread(81, "pthread_cond_wait", &[("/srv/other.rb", 6), POOL]),
            thread(81, "pthread_cond_timedwait", &[("/srv/config.ru", 6), POOL]),
            thread(81, "poll", &[("/srv/config.ru", 6), POOL]),
        ] {
            assert_eq!(felt(&[lost()], &[main_thread(), other.clone()]), None, "{other:?}");
        }
        // A child of one thread, and a stack that is cut off.
        let waits = thread(81, "pthread_cond_wait", &[("/srv/config.ru", 6), POOL]);
        assert_eq!(felt(&[lost()], std::slice::from_ref(&waits)), None);
        let mut cut = waits;
        cut.script = cut.script.map(|script| Stack { missing: Some("cut".to_owned()), ..script });
        assert_eq!(felt(&[lost()], &[main_thread(), cut]), None);
    }

    #[test]
    fn a_thread_that_was_started_again_is_there() {
        let mut again = thread(90, "pthread_cond_wait", &[("/srv/config.ru", 3)]);
        assert!(!is_there(&lost(), &[main_thread(), again.clone()]));
        again.script = Some(Stack { frames: lost().at.into_iter().collect(), missing: None });
        assert!(is_there(&lost(), &[main_thread(), again]));
    }

    #[test]
    fn only_what_runs_a_script_of_the_program_concerns() {
        let at = |module: &str, line| Occupation { at: Some(frame("f", module, line)), ..lost() };
        assert!(concern(&lost()));
        assert!(!concern(&at("/usr/lib/python3.11/threading.py", Some(3))));
        assert!(!concern(&at("/usr/lib/librdkafka.so.1", None)));
        assert!(!concern(&Occupation { at: None, ..lost() }));
    }
}
