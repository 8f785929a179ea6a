//! One look at all processes, for what forks have left behind.

use std::{collections::HashMap, io, time::Instant};

use super::{clock, file, program::executable, stat::Stat, status::Status};
use crate::model::{
    process::ProcessKey,
    seen::{Sweep, Swept},
    time::nanoseconds,
};

/// Most processes of each kind that are told.
const MOST: usize = 65_536;

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
    let mut unexeced = Vec::new();
    let mut zombies = Vec::new();
    for stat in stats.values() {
        let swept = |uid, parent| Swept { process: stat.key(), comm: stat.comm, uid, parent };
        if stat.process_has_ended() {
            zombies.push(swept(None, parent(stat)));
        } else if stat.is_unexeced() {
            let uid = Status::of_process(stat.id).ok().map(|status| status.uid);
            unexeced.push(swept(uid, parent(stat).filter(|parent| is_forker(*parent, stat))));
        }
    }
    // A map's order is random, and a recording must not be.
    for found in [&mut unexeced, &mut zombies] {
        found.sort_unstable_by_key(|swept| (swept.process.start, swept.process.tgid));
        found.truncate(MOST);
    }
    let took = nanoseconds(begin.elapsed());
    let processes = u32::try_from(processes).unwrap_or(u32::MAX);
    Some(Sweep { at, took, mark: last, processes, unexeced, zombies })
}

/// Whether a parent may be the process that forked this one, which has not exec'd since: it is no younger, and runs the
/// same program. Those that outlive their forker get another parent.
fn is_forker(parent: ProcessKey, child: &Stat) -> bool {
    let same = || Some(executable(child.id).ok()? == executable(parent.tgid).ok()?);
    parent.start.ticks() <= child.start && same().unwrap_or_default()
}

/// Whether anything was created since a sweep, as far as that can be told.
pub fn created_since(mark: u64) -> bool {
    last_pid().map_or(true, |last| last != mark)
}

/// The pid that was given out last: while it stays, nothing was created (`proc_loadavg(5)`).
fn last_pid() -> io::Result<u64> {
    const PATH: &str = "/proc/loadavg";
    let text = file::read_small(PATH)?;
    let last = std::str::from_utf8(&text).ok().and_then(|text| text.split_ascii_whitespace().next_back());
    last.and_then(|pid| pid.parse().ok()).ok_or_else(|| file::unknown_layout(PATH))
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
