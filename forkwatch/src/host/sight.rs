//! What this host lets forkwatch see of other processes: tried on some of them, not concluded from capabilities.
//! Security modules, Yama, seccomp, user namespaces and `hidepid` each hide other things than those.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use crate::model::detector::Aspect;

use super::{absence, call::Activity, descriptors::Table, file, memory_users, socket, stat::Stat};

/// Processes that are listed for the trial.
const MOST_LISTED: usize = 65_536;
/// Descriptors of one process among which a socket is looked for.
const MOST_DESCRIPTORS: usize = 16;

/// Tries to see this of a process; absent where the process has nothing of the kind. Reads no byte of its memory, and
/// opens nothing that it could have chosen.
fn attempt(aspect: Aspect, tgid: u32) -> io::Result<Option<()>> {
    let table = || Table::of_process(tgid);
    match aspect {
        Aspect::Descriptors => Ok(table().list(1)?.first().map(|_| ())),
        Aspect::Details => match table().list(1)?.first() {
            Some(first) => {
                file::read_small(format!("/proc/{tgid}/fdinfo/{}", first.number)).map(|_| Some(()))
            }
            None => Ok(None),
        },
        Aspect::Sockets => {
            let descriptors = table().list(MOST_DESCRIPTORS)?;
            match descriptors.iter().find(|descriptor| descriptor.socket().is_some()) {
                Some(socket) => socket::may_be_asked(tgid, socket.number).map(Some),
                None => Ok(None),
            }
        }
        Aspect::Calls => Activity::of_thread(tgid, tgid).map(|_| Some(())),
        Aspect::Memory => {
            File::open(format!("/proc/{tgid}/pagemap"))?;
            File::open(format!("/proc/{tgid}/mem")).map(|_| Some(()))
        }
        Aspect::Sharing => memory_users::may_be_compared(tgid).map(Some),
        Aspect::Executable => fs::read_link(format!("/proc/{tgid}/exe")).map(|_| Some(())),
        Aspect::Traffic => file::read_small(format!("/proc/{tgid}/io")).map(|_| Some(())),
    }
}

/// What was tried on one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its process id.
    pub tgid: u32,
    /// Whether it is of forkwatch's own user.
    pub own: bool,
    /// What could be seen of it.
    pub seen: Vec<Aspect>,
    /// What could not, and why.
    pub refused: Vec<(Aspect, String)>,
}

impl View {
    /// Why an aspect could not be seen; absent where it could, or was not there to be tried.
    pub fn refusal(&self, aspect: Aspect) -> Option<&str> {
        self.refused.iter().find(|(refused, _)| *refused == aspect).map(|(_, why)| why.as_str())
    }

    /// Absent where it has ended meanwhile.
    fn of(tgid: u32) -> Option<Self> {
        let own = fs::metadata(format!("/proc/{tgid}")).ok()?.uid() == geteuid().as_raw();
        let mut view = Self { tgid, own, seen: Vec::new(), refused: Vec::new() };
        for aspect in Aspect::ALL {
            match attempt(aspect, tgid) {
                Ok(Some(())) => view.seen.push(aspect),
                Ok(None) => {}
                // What an ending process has given up is not hidden.
                Err(error) if absence::is_gone(&error) => {}
                Err(error) => view.refused.push((aspect, error.to_string())),
            }
        }
        Stat::of_process(tgid).is_ok_and(|stat| !stat.process_has_ended()).then_some(view)
    }
}

/// What could be seen of some processes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Whether even pid 1 is missing from the list of processes, as with `hidepid`.
    pub hides_processes: bool,
    /// The processes that it was tried on, pid 1 first.
    pub views: Vec<View>,
}

/// Tries on at most so many processes: on pid 1, and on the youngest others but forkwatch itself.
pub fn sight(most: usize) -> Sight {
    let Ok(mut tgids) = file::numbers("/proc", MOST_LISTED) else {
        return Sight { hides_processes: true, views: Vec::new() };
    };
    let hides_processes = !tgids.contains(&1);
    tgids.sort_unstable();
    let others = tgids.iter().rev().filter(|tgid| **tgid != 1);
    let own = std::process::id();
    let is_program = |tgid: &u32| {
        *tgid != own
            && Stat::of_process(*tgid).is_ok_and(|stat| !stat.is_kernel_thread() && !stat.process_has_ended())
    };
    let tried = [1].into_iter().filter(|_| !hides_processes).chain(others.copied().filter(is_program));
    Sight { hides_processes, views: tried.filter_map(View::of).take(most).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn of_a_child_everything_is_seen() {
        let child = Forked::new();
        let view = View::of(child.stat().id).unwrap();
        assert!(view.own && view.refused.is_empty(), "{view:?}");
        for aspect in [
            Aspect::Descriptors,
            Aspect::Calls,
            Aspect::Memory,
            Aspect::Sharing,
            Aspect::Executable,
            Aspect::Traffic,
        ] {
            assert!(view.seen.contains(&aspect), "{aspect:?} in {view:?}");
        }
        let tgid = view.tgid;
        drop(child);
        assert_eq!(View::of(tgid), None);
    }

    #[test]
    fn init_comes_first_and_the_trial_is_bounded() {
        let _child = Forked::new();
        let sight = sight(3);
        assert!(sight.views.len() <= 3 && !sight.views.is_empty());
        assert_eq!(sight.views[0].tgid == 1, !sight.hides_processes);
        assert!(sight.views.iter().all(|view| view.tgid != std::process::id()));
    }
}
