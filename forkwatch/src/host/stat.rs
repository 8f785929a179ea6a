//! `/proc/PID/stat` and `/proc/PID/task/TID/stat` (`do_task_stat`, fs/proc/array.c).

use std::io;

use super::{attention::attend_to, file, kernel_flags};
use crate::model::{
    process::{Comm, ProcessKey},
    time::BootTime,
};

/// What of a task's `stat` is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Its id: of a thread, or of a process and its main thread.
    pub(super) id: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub(super) comm: Comm,
    /// `R`, `S`, `D`, `T`, `t`, `Z`, `X`, ...
    pub(super) state: u8,
    /// The parent process.
    pub(super) parent: u32,
    /// The session that it is in, by the id of the process that began it.
    pub(super) session: u32,
    /// Bits of [`kernel_flags`].
    pub(super) flags: u32,
    /// Threads of its process, kernel workers and ending ones included.
    pub(super) threads: u32,
    /// Its start, in clock ticks since boot.
    pub(super) start: u64,
    /// Where the stack began that its program was given at its exec: the same in every process forked since, and in every
    /// process that shares its memory. 0 where there is none, or it may not be seen.
    pub(super) stack: u64,
}

/// Whether the main thread of a process runs, or waits for a processor to do so.
pub fn may_run(tgid: u32) -> bool {
    Stat::of_thread(tgid, tgid).is_ok_and(|stat| stat.state == b'R')
}

impl Stat {
    /// Reads the `stat` of a process: of its main thread.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        // Whoever is looked into is identified first.
        attend_to(tgid);
        Self::read(&format!("/proc/{tgid}/stat"))
    }

    /// Reads the `stat` of one thread.
    pub(super) fn of_thread(process: u32, thread: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{process}/task/{thread}/stat"))
    }

    /// The `stat` of that process; absent where it is gone, and its pid may be another's.
    pub(super) fn of(process: ProcessKey) -> Option<Self> {
        Self::of_process(process.tgid).ok().filter(|stat| stat.is(process))
    }

    /// Whether that process has not ended yet.
    pub(super) fn lives(process: ProcessKey) -> bool {
        Self::of(process).is_some_and(|stat| !stat.process_has_ended())
    }

    fn read(path: &str) -> io::Result<Self> {
        let text = file::read_small(path)?;
        Self::parse(&text).ok_or_else(|| file::unknown_layout(path))
    }

    /// The comm may hold blanks, parentheses and newlines; but no field after it holds a parenthesis, so that the
    /// last one in the text ends it.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let id = std::str::from_utf8(text.get(..open)?).ok()?.trim().parse().ok()?;
        let comm = Comm::new(text.get(open + 1..close)?);
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        // proc(5) counts from 1, and the first of these is the third: state, ppid, session (6), flags (9), num_threads
        // (20), starttime (22) and startstack (28) are used.
        let mut fields = rest.split_ascii_whitespace();
        Some(Self {
            id,
            comm,
            state: *fields.next()?.as_bytes().first()?,
            parent: fields.next()?.parse().ok()?,
            // -1 of one that is being taken out of the table (`do_task_stat`, fs/proc/array.c).
            session: fields.nth(1)?.parse::<i32>().ok()?.max(0).cast_unsigned(),
            flags: fields.nth(2)?.parse().ok()?,
            threads: fields.nth(10)?.parse().ok()?,
            start: fields.nth(1)?.parse().ok()?,
            stack: fields.nth(5).and_then(|field| field.parse().ok()).unwrap_or_default(),
        })
    }

    /// Whether this is that process, as precisely as a start in ticks can tell.
    pub(super) const fn is(&self, key: ProcessKey) -> bool {
        self.id == key.tgid && self.start == key.start.ticks()
    }

    /// The process by its start as `/proc` shows it: rounded down to a clock tick.
    pub(super) const fn key(&self) -> ProcessKey {
        ProcessKey { tgid: self.id, start: BootTime::from_ticks(self.start) }
    }

    /// Whether the whole process has ended: of one whose main thread ended first, the others live on.
    pub(super) const fn process_has_ended(&self) -> bool {
        self.has_ended() && self.threads <= 1
    }

    /// Whether this thread is a zombie, dead, or on the way there.
    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') || self.flags & kernel_flags::EXITING != 0
    }

    /// Whether a signal or a debugger has stopped it.
    pub(super) const fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }

    /// Whether it has forked and not exec'd since.
    pub(super) const fn is_unexeced(&self) -> bool {
        self.flags & kernel_flags::FORKNOEXEC != 0
    }

    /// Whether it is one of the kernel's own threads.
    pub(super) const fn is_kernel_thread(&self) -> bool {
        self.flags & kernel_flags::KTHREAD != 0
    }

    /// Whether it is a kernel worker among the threads of a process.
    pub(super) fn is_worker(&self) -> bool {
        self.flags & kernel_flags::worker() != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &[u8] =
        b" S 77 10463 7521 0 -1 4194368 100 0 0 0 0 0 0 0 20 0 1 0 133629 3133440 390 1844 1 2 140730 5\n";

    fn line(comm: &[u8]) -> Vec<u8> {
        [b"10468 (", comm, b")", TAIL].concat()
    }

    #[test]
    fn one_that_is_being_taken_out_of_the_table_has_ended() {
        let text = b"7 (sh) X 0 -1 -1 0 -1 4194316 9 0 0 0 0 0 0 0 20 0 0 0 133629 0 0 0 0 0 0 0\n";
        assert!(Stat::parse(text).unwrap().process_has_ended());
    }

    #[test]
    fn a_line_is_read_field_by_field() {
        let stat = Stat::parse(&line(b"cat")).unwrap();
        assert_eq!(
            stat,
            Stat {
                id: 10468,
                comm: "cat".into(),
                state: b'S',
                parent: 77,
                session: 7521,
                flags: 4_194_368,
                threads: 1,
                start: 133_629,
                stack: 140_730,
            }
        );
        assert!(stat.is_unexeced() && !stat.is_kernel_thread() && !stat.has_ended() && !stat.is_stopped());
        assert!(stat.is(ProcessKey { tgid: 10468, start: BootTime(1_336_299_999_999) }));
        assert!(!stat.is(ProcessKey { tgid: 10468, start: BootTime(1_336_300_000_000) }));
    }

    #[test]
    fn a_cut_line_is_refused() {
        let whole = line(b"cat");
        let start_ends = whole.windows(6).position(|part| part == b"133629").unwrap();
        for length in 0..start_ends {
            assert_eq!(Stat::parse(&whole[..length]), None, "cut at {length}");
        }
    }

    proptest! {
        #[test]
        fn no_comm_can_forge_a_field(comm in proptest::collection::vec(1_u8.., 0..16)) {
            let honest = Stat::parse(&line(b"x")).unwrap();
            prop_assert_eq!(Stat::parse(&line(&comm)), Some(Stat { comm: Comm::new(&comm), ..honest }));
        }

        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Stat::parse(&text);
        }
    }
}
