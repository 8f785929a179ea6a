//! The memory of the processes that a process has forked and that have not exec'd: its workers.

use std::time::{Duration, Instant};

use crate::{
    host::{file, rollup, stat::Stat},
    model::{
        inventory::{MAX_ENTRIES, Worker},
        server::Memory,
    },
};

/// Threads of the forker whose children are listed.
const MAX_THREADS: usize = 512;
/// How long all of that may take: the kernel walks through all memory of each.
const PATIENCE: Duration = Duration::from_millis(500);

/// Those of a process, as far as the kernel lists its children (`CONFIG_PROC_CHILDREN`) and they may be looked at.
pub(super) fn workers(tgid: u32) -> Vec<Worker> {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    for child in children(tgid) {
        if found.len() >= MAX_ENTRIES || Instant::now() >= deadline {
            break;
        }
        found.extend(worker(tgid, child));
    }
    found
}

fn children(tgid: u32) -> Vec<u32> {
    let threads = file::numbers(format!("/proc/{tgid}/task"), MAX_THREADS).unwrap_or_default();
    let lists = threads
        .into_iter()
        .filter_map(|tid| file::read_small(format!("/proc/{tgid}/task/{tid}/children")).ok());
    let mut all: Vec<u32> = Vec::new();
    for list in lists {
        let text = String::from_utf8_lossy(&list);
        all.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    all
}

fn worker(parent: u32, pid: u32) -> Option<Worker> {
    let is_worker = |stat: &Stat| stat.parent == parent && stat.is_unexeced() && !stat.process_has_ended();
    let stat = Stat::of_process(pid).ok().filter(is_worker)?;
    let Memory { resident, shared, copied } = rollup::memory(pid).ok()?;
    Stat::lives(stat.key()).then_some(Worker { pid, comm: stat.comm, resident, shared, copied })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn what_a_child_writes_is_its_own() {
        const SIZE: usize = 8 << 20;
        let mut memory = vec![1_u8; SIZE];
        let idle = Forked::new();
        let writes = Forked::into(|| memory.fill(2));
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let all = workers(std::process::id());
            let own = |child: &Forked| {
                all.iter().find(|worker| worker.pid == child.tgid()).map(|worker| worker.copied)
            };
            // Other tests' children are there as well.
            let (Some(idle), Some(writes)) = (own(&idle), own(&writes)) else {
                if std::fs::metadata("/proc/self/task").is_ok() && children(std::process::id()).is_empty() {
                    crate::skip::skip("the kernel lists no children");
                    return;
                }
                continue;
            };
            // Some pages of its own each of them has.
            if writes >= SIZE as u64 && idle < SIZE as u64 / 2 {
                break;
            }
            assert!(Instant::now() < deadline, "{idle} {writes}");
        }
    }
}
