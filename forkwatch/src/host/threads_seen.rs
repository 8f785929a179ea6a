//! The threads of a forked process, and how much it has done.

use std::{collections::BTreeSet, io};

use super::{clock, file, place, stat::Stat, task};
use crate::model::{
    seen::{MAX_THREADS, ThreadsSeen},
    stack::Stacks,
    time::TICK,
};

/// What `stat`'s process looks like now. An error where it has exec'd, or has more names of threads than anybody
/// wants to compare: a list that was cut would make threads seem to be missing.
pub(super) fn threads_seen(stat: &Stat, stacks: Stacks) -> io::Result<ThreadsSeen> {
    if stat.process_has_ended() || !stat.is_unexeced() {
        return Err(io::ErrorKind::NotFound.into());
    }
    let threads = task::user_threads(stat.id)?;
    let comms: BTreeSet<_> = threads.iter().map(|thread| thread.comm).collect();
    if comms.len() > MAX_THREADS || threads.len() >= task::MAX_TASKS {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let path = format!("/proc/{}/stat", stat.id);
    let ran = ticks_run(&file::read_small(&path)?).ok_or_else(|| file::unknown_layout(&path))?;
    Ok(ThreadsSeen {
        at: clock::now(),
        comms: comms.into_iter().collect(),
        ran: ran.saturating_mul(TICK),
        moved: file::read_small(format!("/proc/{}/io", stat.id)).ok().and_then(|text| bytes_moved(&text)),
        places: if stacks == Stacks::None { Vec::new() } else { place::everywhere(stat.key(), &threads) },
    })
}

/// utime and stime in `/proc/PID/stat` (`do_task_stat`, fs/proc/array.c): of all threads, also of those that have
/// ended. They are the 14th and 15th field, and the 12th and 13th after the comm.
fn ticks_run(stat: &[u8]) -> Option<u64> {
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let [user, system]: [u64; 2] = [fields.next()?.parse().ok()?, fields.next()?.parse().ok()?];
    Some(user.saturating_add(system))
}

/// rchar and wchar in `/proc/PID/io` (`proc_pid_io(5)`): what read and write moved, from sockets too; send and recv are
/// not in it.
fn bytes_moved(io: &[u8]) -> Option<u64> {
    let read: u64 = file::field(io, "rchar:")?.parse().ok()?;
    let written: u64 = file::field(io, "wchar:")?.parse().ok()?;
    Some(read.saturating_add(written))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn figures_are_read_from_their_fields() {
        let stat = b"7 (a) b) S 77 1 1 0 -1 64 100 0 0 0 150 30 9 9 20 0 1 0 133629 3133440 390 1844\n";
        assert_eq!(ticks_run(stat), Some(180));
        assert_eq!(ticks_run(b"7 (a) S 77 1"), None);
        let io = b"rchar: 4292\nwchar: 8\nsyscr: 13\nsyscw: 0\n";
        assert_eq!(bytes_moved(io), Some(4300));
        assert_eq!(bytes_moved(b"rchar: 4292\n"), None);
    }

    #[test]
    fn a_forked_child_shows_its_threads_and_an_execed_process_does_not() {
        let child = Forked::new();
        let stat = child.stat();
        let seen = threads_seen(&stat, Stacks::Light).unwrap();
        assert_eq!(seen.comms, [stat.comm]);
        assert!(seen.moved.is_some());
        assert_eq!(seen.places.iter().map(|place| place.thread.tid).collect::<Vec<_>>(), [stat.id]);
        assert!(threads_seen(&stat, Stacks::None).unwrap().places.is_empty());
        // The test runner was started by exec.
        assert!(threads_seen(&Stat::of_process(std::process::id()).unwrap(), Stacks::None).is_err());
    }
}
