//! One look at all processes, for what forks have left behind.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use super::{clock, file, left_locks, pids::last_pid, program::executable, stat::Stat, status::Status};
use crate::model::{
    process::ProcessKey,
    seen::{Sweep, Swept},
    time::nanoseconds,
};

/// Most processes of each kind that are told.
const MOST: usize = 65_536;

/// What the last sweep found out of forked processes by reading files of each. While they do not exec it stays true, so that
/// with thousands of them the next sweep need not read it again.
static ORIGINS: Mutex<Origins> = Mutex::new(Origins::new());

/// By the process, and its parent.
type Origins = BTreeMap<(ProcessKey, Option<ProcessKey>), Origin>;

/// What is known of how a process came to be.
#[derive(Clone, Copy)]
struct Origin {
    /// Its real uid.
    uid: Option<u32>,
    /// The process that forked it, if it may be its parent.
    forker: Option<ProcessKey>,
}

impl Origin {
    fn of(process: &Stat, parent: Option<ProcessKey>) -> Self {
        let uid = Status::of_process(process.id).ok().map(|status| status.uid);
        Self { uid, forker: parent.filter(|parent| is_forker(*parent, process)) }
    }
}

/// What there is now; absent where nothing was forked since the mark, or `/proc` cannot be read.
pub(super) fn sweep(mark: Option<u64>) -> Option<Sweep> {
    let (at, begin) = (clock::now(), Instant::now());
    let last = last_pid().ok()?;
    if mark == Some(last) {
        return None;
    }
    let stats: HashMap<u32, Stat> = file::numbers("/proc", usize::MAX)
        .ok()?
        .into_iter()
        .filter_map(|tgid| Some((tgid, Stat::of_process(tgid).ok()?)))
        .filter(|(_, stat)| !stat.is_kernel_thread())
        .collect();
    let parent = |stat: &Stat| -> Option<ProcessKey> { stats.get(&stat.parent).map(Stat::key) };
    let processes = stats.values().filter(|stat| !stat.process_has_ended()).count();
    let before = mem::take(&mut *ORIGINS.lock().unwrap_or_else(PoisonError::into_inner));
    let mut origins = Origins::new();
    let mut unexeced = Vec::new();
    let mut zombies = Vec::new();
    for stat in stats.values() {
        let swept = |uid, parent| Swept { process: stat.key(), comm: stat.comm, uid, parent };
        if stat.process_has_ended() {
            zombies.push(swept(None, parent(stat)));
        } else if stat.is_unexeced() {
            let (parent, key) = (parent(stat), stat.key());
            let origin = before.get(&(key, parent)).copied().unwrap_or_else(|| Origin::of(stat, parent));
            unexeced.push(swept(origin.uid, origin.forker));
            origins.insert((key, parent), origin);
        }
    }
    *ORIGINS.lock().unwrap_or_else(PoisonError::into_inner) = origins;
    // A map's order is random, and a recording must not be.
    for found in [&mut unexeced, &mut zombies] {
        found.sort_unstable_by_key(|swept| (swept.process.start, swept.process.tgid));
        found.truncate(MOST);
    }
    let waits = left_locks::waits();
    let took = nanoseconds(begin.elapsed());
    let processes = u32::try_from(processes).unwrap_or(u32::MAX);
    Some(Sweep { at, took, mark: last, processes, unexeced, zombies, waits })
}

/// Whether a parent may be the process that forked this one, which has not exec'd since: it is no younger, and runs the
/// same program. Those that outlive their forker get another parent.
fn is_forker(parent: ProcessKey, child: &Stat) -> bool {
    let same = || Some(executable(child.id).ok()? == executable(parent.tgid).ok()?);
    parent.start.ticks() <= child.start && same().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use nix::sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    };

    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn a_forked_child_is_found_alive_and_then_dead() {
        let child = Forked::new();
        let tgid = child.tgid();
        let own = Stat::of_process(std::process::id()).unwrap().key();
        let among = |swept: &[Swept]| swept.iter().find(|swept| swept.process.tgid == tgid).copied();
        let alive = sweep(None).unwrap();
        assert_eq!(among(&alive.unexeced).unwrap().parent, Some(own));
        assert_eq!(among(&alive.zombies), None);

        kill(child.pid(), Signal::SIGKILL).unwrap();
        waitid(Id::Pid(child.pid()), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        let dead = sweep(None).unwrap();
        assert_eq!(among(&dead.unexeced), None);
        assert_eq!(among(&dead.zombies).unwrap().parent, Some(own));
    }
}
