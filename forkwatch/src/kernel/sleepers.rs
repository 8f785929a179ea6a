//! Which children fell asleep since the last look: one pass over all tasks in the kernel, which is a hundredth of what
//! `/proc` would cost.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read as _},
};

use aya::Ebpf;
use forkwatch_ebpf::Sleeper;

use super::{attach, error::KernelError};
use crate::model::{process::ProcessKey, time::BootTime};

/// Bytes of one record.
const SIZE: usize = size_of::<Sleeper>();

/// What the last pass has found.
#[derive(Default)]
pub(super) struct Sleepers {
    /// How often each sleeping thread had given up the CPU, by tid.
    switches: HashMap<u32, u64>,
}

impl Sleepers {
    /// The processes of which a thread sleeps that was awake since the last pass; of those that are wanted alone.
    pub(super) fn fell_asleep(
        &mut self,
        ebpf: &mut Ebpf,
        is_wanted: impl Fn(ProcessKey) -> bool,
    ) -> Result<Vec<ProcessKey>, KernelError> {
        let pass = attach::pass(ebpf)?;
        self.read(pass, is_wanted).map_err(KernelError::Pass)
    }

    fn read(
        &mut self,
        mut pass: File,
        is_wanted: impl Fn(ProcessKey) -> bool,
    ) -> io::Result<Vec<ProcessKey>> {
        let mut switches = HashMap::with_capacity(self.switches.len());
        let mut fell_asleep: Vec<ProcessKey> = Vec::new();
        // As much as the kernel gives at once (`bpf_seq_read`, kernel/bpf/bpf_iter.c), which is whole records.
        let mut bytes = vec![0; 32 << 10];
        loop {
            let length = match pass.read(&mut bytes) {
                Ok(0) => break,
                Ok(length) => length,
                // Again: the pass goes on where it was.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
                {
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (records, _) = bytes.get(..length).unwrap_or_default().as_chunks::<SIZE>();
            for Sleeper { start, switches: now, tgid, tid } in records.iter().map(decode) {
                let process = ProcessKey { tgid, start: BootTime(start) };
                if !is_wanted(process) {
                    continue;
                }
                switches.insert(tid, now);
                if self.switches.get(&tid) != Some(&now) && fell_asleep.last() != Some(&process) {
                    fell_asleep.push(process);
                }
            }
        }
        self.switches = switches;
        fell_asleep.sort_unstable_by_key(|process| (process.tgid, process.start.0));
        fell_asleep.dedup();
        Ok(fell_asleep)
    }
}

fn decode(bytes: &[u8; SIZE]) -> Sleeper {
    // SAFETY: integers without holes, whose size is asserted beside them; every pattern is a value of theirs.
    unsafe { std::mem::transmute::<[u8; SIZE], Sleeper>(*bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    /// A pass that tells of these threads: process, thread, switches.
    fn pass(threads: &[(u32, u32, u64)]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        for (tgid, tid, switches) in threads {
            for number in [u64::from(*tgid) * 10, *switches] {
                file.write_all(&number.to_ne_bytes()).unwrap();
            }
            for number in [*tgid, *tid] {
                file.write_all(&number.to_ne_bytes()).unwrap();
            }
        }
        file.rewind().unwrap();
        file
    }

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(u64::from(tgid) * 10) }
    }

    #[test]
    fn who_sleeps_on_is_told_once() {
        let mut sleepers = Sleepers::default();
        let mut look = |threads: &[(u32, u32, u64)]| sleepers.read(pass(threads), |_| true).unwrap();
        assert_eq!(look(&[(7, 7, 1), (9, 9, 5)]), [process(7), process(9)]);
        assert_eq!(look(&[(7, 7, 1), (9, 9, 5)]), []);
        assert_eq!(look(&[(7, 7, 1), (9, 9, 6)]), [process(9)], "it was awake meanwhile");
        assert_eq!(look(&[(7, 7, 1)]), [], "one that runs is not told");
        assert_eq!(look(&[(7, 7, 1), (9, 9, 8)]), [process(9)]);
    }

    #[test]
    fn a_process_is_told_once_for_all_its_threads_and_only_where_somebody_wants_it() {
        let mut sleepers = Sleepers::default();
        let threads = [(9, 9, 1), (7, 7, 1), (9, 10, 1), (8, 8, 1), (9, 11, 4)];
        let found = sleepers.read(pass(&threads), |process| process.tgid != 8).unwrap();
        assert_eq!(found, [process(7), process(9)]);
        let later = [(9, 9, 1), (7, 7, 1), (9, 10, 2), (8, 8, 3), (9, 11, 4)];
        assert_eq!(sleepers.read(pass(&later), |process| process.tgid != 8).unwrap(), [process(9)]);
        assert_eq!(sleepers.switches.len(), 4, "nothing is kept of others");
    }
}
