//! Whether processes have run since they were looked at. Reads what never waits, and what everybody may read.

use super::{file, task::MAX_TASKS};

/// How often, and for how long, the threads of some processes have run: the same again says that none of them has run
/// since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runs(Vec<(u32, Vec<u8>)>);

/// Of these processes; none where one of them has ended, or where the kernel does not count (`CONFIG_SCHED_INFO`).
pub fn runs(processes: impl IntoIterator<Item = u32>) -> Option<Runs> {
    let mut all = Vec::new();
    for tgid in processes {
        for tid in file::numbers(format!("/proc/{tgid}/task"), MAX_TASKS).ok()? {
            let counted = file::read_small(format!("/proc/{tgid}/task/{tid}/schedstat")).ok()?;
            // Any thread has run once when it can be seen to wait.
            if counted.starts_with(b"0 0 0") {
                return None;
            }
            all.push((tid, counted));
        }
    }
    Some(Runs(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn what_sleeps_counts_the_same_and_what_runs_does_not() {
        let child = Forked::new();
        let now = || runs([child.tgid()]);
        let Some(mut before) = now() else {
            eprintln!("not tested: this kernel does not count how often threads run");
            return;
        };
        // It may not have fallen asleep yet.
        let asleep = loop {
            let again = now().unwrap();
            if again == before {
                break again;
            }
            before = again;
        };
        assert_eq!(now(), Some(asleep));
        let own = || runs([std::process::id()]);
        let before = own();
        while own() == before {
            std::thread::yield_now();
        }
    }

    #[test]
    fn of_what_has_ended_nothing_is_said() {
        assert_eq!(runs([u32::MAX]), None);
    }
}
