//! `/proc/PID/status` and `/proc/PID/task/TID/status`.

use std::io;

use super::file;
use crate::model::signals::SignalSet;

/// What of a task's `status` is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Real uid.
    pub(super) uid: u32,
    /// Its id as it sees it itself: in the innermost pid namespace that it is in.
    pub(super) own_id: u32,
    /// Whether that is another one than forkwatch's.
    pub(super) namespaced: bool,
    /// Whether a debugger holds it.
    pub(super) traced: bool,
    /// Signals pending for this thread.
    pub(super) pending_thread: SignalSet,
    /// Signals pending for its process.
    pub(super) pending_shared: SignalSet,
    /// Signals that this thread blocks. A thread waiting in `sigwait`, `sigsuspend` or `ppoll` shows the mask of
    /// that wait: what it waits for is not in it (`do_sigtimedwait`, kernel/signal.c).
    pub(super) blocked: SignalSet,
    /// Signals for which its process has a handler.
    pub(super) caught: SignalSet,
    /// How often it has given up the CPU, or lost it. Where that is the same later, it has not woken meanwhile.
    pub(super) switches: u64,
}

impl Status {
    /// Reads the `status` of a process: of its main thread.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{tgid}/status"))
    }

    /// Reads the `status` of one thread.
    pub(super) fn of_thread(process: u32, thread: u32) -> io::Result<Self> {
        Self::read(&format!("/proc/{process}/task/{thread}/status"))
    }

    fn read(path: &str) -> io::Result<Self> {
        let text = file::read_small(path)?;
        Self::parse(&text).ok_or_else(|| file::unknown_layout(path))
    }

    /// The process that a task belongs to.
    pub(super) fn thread_group(id: u32) -> io::Result<u32> {
        let path = format!("/proc/{id}/status");
        file::field(&file::read_small(&path)?, "Tgid:")
            .and_then(|tgid| tgid.parse().ok())
            .ok_or_else(|| file::unknown_layout(&path))
    }

    /// The pid of a process in each pid namespace that it is in, from forkwatch's to the innermost.
    pub(super) fn ids(tgid: u32) -> io::Result<Vec<u32>> {
        let path = format!("/proc/{tgid}/status");
        let ids = file::field(&file::read_small(&path)?, "NSpid:")
            .map(|ids| ids.split_ascii_whitespace().filter_map(|id| id.parse().ok()).collect());
        ids.ok_or_else(|| file::unknown_layout(&path))
    }

    /// The effective capabilities of a process's main thread, as bits.
    pub(super) fn effective_capabilities(tgid: u32) -> Option<u64> {
        file::mask(&file::read_small(format!("/proc/{tgid}/status")).ok()?, "CapEff:")
    }

    /// No comm can forge a line: the kernel escapes newlines in `Name:` (`proc_task_name`, fs/proc/array.c).
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let number = |key| file::field(text, key)?.parse::<u64>().ok();
        let signals = |key| file::mask(text, key).map(SignalSet);
        let mut ids = file::field(text, "NSpid:")?.split_ascii_whitespace();
        Some(Self {
            uid: file::field(text, "Uid:")?.split_ascii_whitespace().next()?.parse().ok()?,
            own_id: ids.next_back()?.parse().ok()?,
            namespaced: ids.next().is_some(),
            traced: number("TracerPid:")? != 0,
            pending_thread: signals("SigPnd:")?,
            pending_shared: signals("ShdPnd:")?,
            blocked: signals("SigBlk:")?,
            caught: signals("SigCgt:")?,
            switches: number("voluntary_ctxt_switches:")?
                .saturating_add(number("nonvoluntary_ctxt_switches:")?),
        })
    }

    /// Signals that are pending and blocked, of the thread or its process.
    pub(super) const fn held_back(&self) -> SignalSet {
        self.pending_thread.or(self.pending_shared).and(self.blocked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] =
        b"Name:\tevil\\nUid:\t0\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t7\nTracerPid:\t0\nUid:\t1000\t0\t0\t0\n\
        NSpid:\t4711\t9\nThreads:\t1\nSigQ:\t0/7823\nSigPnd:\t0000000000004000\nShdPnd:\t0000000000000001\n\
        SigBlk:\t0000000000004001\nSigIgn:\t0000000000000000\n\
        SigCgt:\t0000000000004002\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";

    #[test]
    fn masks_and_the_real_user_are_read() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!(status.uid, 1000);
        assert_eq!(status.pending_thread, SignalSet::of(&[15]));
        assert_eq!(status.pending_shared, SignalSet::of(&[1]));
        assert_eq!(status.held_back(), SignalSet::of(&[1, 15]));
    }

    #[test]
    fn a_sleep_is_known_by_its_switches_and_its_own_id() {
        let status = Status::parse(TEXT).unwrap();
        assert_eq!((status.own_id, status.namespaced, status.traced), (9, true, false));
        assert_eq!((status.caught, status.switches), (SignalSet::of(&[2, 15]), 42));
        let text = String::from_utf8(TEXT.to_vec()).unwrap();
        let outside = text.replace("4711\t9", "4711").replace("TracerPid:\t0", "TracerPid:\t77");
        let status = Status::parse(outside.as_bytes()).unwrap();
        assert_eq!((status.own_id, status.namespaced, status.traced), (4711, false, true));
    }

    #[test]
    fn a_missing_line_is_not_taken_for_zero() {
        let text = String::from_utf8(TEXT.to_vec()).unwrap();
        for line in ["SigBlk", "NSpid", "SigCgt", "nonvoluntary_ctxt_switches"] {
            assert_eq!(Status::parse(text.replace(line, "Xxx").as_bytes()), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Status::parse(&text);
        }

        #[test]
        fn no_value_makes_it_panic(uid in "\\PC*", mask in "\\PC*") {
            let text = String::from_utf8_lossy(TEXT).replace("1000", &uid).replace("0000000000004002", &mask);
            let _ = Status::parse(text.as_bytes());
        }
    }
}
