//! The calls of a thread that waits in short waits: it wakes all the time, and goes back to sleep in the same calls.

use super::{
    back_to_sleep, name, open,
    registers::Registers,
    same,
    unwind::{self, Walk},
};
use crate::{
    host::{budget, bytes::Bytes, target_file::Files},
    model::{process::ProcessKey, stack::Stack},
};

/// Looks at the stack of one thread. The first may be the only one that is whole.
const MAX_LOOKS: u32 = 4;

/// The outer calls that two looks agree on, each at a moment when the thread sleeps. The thread may wake while its stack
/// is read: that of the calls that it does not leave stays what it is.
pub(in crate::host) fn of_restless_thread(process: ProcessKey, tid: u32) -> Stack {
    budget::part(|| agreed(process, tid)).unwrap_or_else(Err).unwrap_or_else(Stack::absent)
}

fn agreed(process: ProcessKey, tid: u32) -> Result<Stack, String> {
    let mut before: Option<Vec<u64>> = None;
    let mut why = format!("the calls of thread {tid} change too fast");
    for _ in 0..MAX_LOOKS {
        let (mut walk, files, memory) = match glimpse(process, tid) {
            Ok(seen) => seen,
            Err(error) => {
                why = error;
                continue;
            }
        };
        let addresses: Vec<u64> = walk.calls.iter().map(|(address, _)| *address).collect();
        let shared = before.as_deref().map_or(0, |before| common(before, &addresses));
        if shared > 0 {
            // Names cost most, and are looked up once.
            let calls = walk.calls.split_off(walk.calls.len().saturating_sub(shared));
            let stack = name(&files, &memory, Walk { calls, ..walk });
            return same(process).map(|()| stack);
        }
        before = Some(addresses);
    }
    Err(why)
}

/// How many of the outermost calls two stacks have in common.
fn common(one: &[u64], other: &[u64]) -> usize {
    one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}

fn glimpse(process: ProcessKey, tid: u32) -> Result<(Walk, Files, Bytes), String> {
    let (memory, maps) = open(process)?;
    let position = back_to_sleep(process, tid)?.position;
    let files = Files::of(process.tgid);
    let walk = unwind::walk(&files, &memory, &maps, Registers::new(position.instruction, position.stack));
    Ok((walk, files, memory))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
        time::{Duration, Instant},
    };

    use nix::unistd::gettid;

    use super::*;
    use crate::host::stat::Stat;

    fn nap(told: &mpsc::Sender<u32>, is_over: &AtomicBool) {
        told.send(gettid().as_raw().try_into().unwrap()).unwrap();
        while !is_over.load(Ordering::Relaxed) {
            thread::park_timeout(Duration::from_micros(200));
        }
    }

    #[test]
    fn a_thread_that_wakes_all_the_time_is_told_by_its_outer_calls() {
        let (told, tid) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let napping = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || nap(&told, &is_over)
        });
        let (tid, own) = (tid.recv().unwrap(), Stat::of_process(std::process::id()).unwrap().key());
        let patience = Instant::now() + Duration::from_secs(30);
        loop {
            let stack = of_restless_thread(own, tid);
            // What calls that is not known everywhere, for the standard library keeps no frame pointers.
            let parks = |name: &String| name.ends_with("park_timeout");
            if stack.frames.iter().any(|frame| frame.function.as_ref().is_some_and(parks)) {
                break;
            }
            assert!(Instant::now() < patience, "never seen: {stack:?}");
        }
        is_over.store(true, Ordering::Relaxed);
        napping.join().unwrap();
        assert!(of_restless_thread(own, tid).frames.is_empty(), "it has ended");
    }
}
