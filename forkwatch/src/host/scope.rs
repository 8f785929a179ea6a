//! Whose processes a sweep may bring in: those that the filters let pass.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    program::program,
    scan::{descendants, processes},
};
use crate::model::{
    process::ProcessKey,
    seen::{Sweep, Swept},
};

/// The filters of a watch, for what the kernel side did not tell of. Without any, everything is in scope.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// These processes and their descendants.
    pub roots: Vec<ProcessKey>,
    /// Those of this real uid.
    pub uid: Option<u32>,
    /// Those in this cgroup (version 2) and below it.
    pub cgroup: Option<String>,
}

impl Scope {
    /// Leaves in what is in scope.
    pub(super) fn narrow(&self, sweep: &mut Sweep) {
        if !self.roots.is_empty() {
            let family = self.family();
            let is_kin = |swept: &Swept| {
                let parent = swept.parent.map_or(0, |parent| parent.tgid);
                family.contains(&swept.process.tgid) || family.contains(&parent)
            };
            sweep.unexeced.retain(is_kin);
            sweep.zombies.retain(is_kin);
            sweep.waits.retain(|wait| family.contains(&wait.waiter.tgid));
        }
        if self.uid.is_some() || self.cgroup.is_some() {
            sweep.unexeced.retain(|swept| self.admits(swept.process, swept.uid));
            sweep.zombies.retain(|swept| self.admits(swept.parent.unwrap_or(swept.process), None));
            sweep.waits.retain(|wait| self.admits(wait.waiter, None));
        }
    }

    /// The roots that live, and their descendants.
    fn family(&self) -> HashSet<u32> {
        let processes = processes().unwrap_or_default();
        let living = processes.iter().filter(|process| self.roots.contains(&process.key));
        let roots: Vec<u32> = living.map(|process| process.key.tgid).collect();
        let kin = roots.iter().flat_map(|root| descendants(*root, &processes));
        kin.map(|process| process.key.tgid).chain(roots.iter().copied()).collect()
    }

    /// Whether a process, whose real uid may be known already, is of the user and in the cgroup that are asked for.
    fn admits(&self, process: ProcessKey, uid: Option<u32>) -> bool {
        let is_asked = self.uid.is_none_or(|asked| uid.is_none_or(|uid| uid == asked));
        if !is_asked || self.cgroup.is_none() && uid.is_some() {
            return is_asked;
        }
        let Some(program) = program(process) else { return false };
        let is_below = |path: &str| {
            let of_process = program.cgroup.as_deref().unwrap_or_default();
            let below = of_process.strip_prefix(path.trim_end_matches('/'));
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.uid.is_none_or(|uid| program.uid == Some(uid)) && self.cgroup.as_deref().is_none_or(is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host, model::time::BootTime};

    fn sweep() -> Sweep {
        let own = host::find(std::process::id()).unwrap();
        let parent = host::find(own.parent).ok().map(|parent| parent.key);
        let itself = Swept { process: own.key, comm: own.comm, uid: None, parent };
        let first = host::find(1).unwrap();
        let other = Swept { process: first.key, comm: first.comm, uid: None, parent: None };
        Sweep {
            at: BootTime(0),
            took: 0,
            mark: 0,
            processes: 2,
            unexeced: vec![itself, other],
            zombies: Vec::new(),
            waits: Vec::new(),
        }
    }

    fn left(scope: &Scope) -> Vec<u32> {
        let mut sweep = sweep();
        scope.narrow(&mut sweep);
        sweep.unexeced.iter().map(|swept| swept.process.tgid).collect()
    }

    #[test]
    fn only_what_the_filters_let_pass_is_brought_in() {
        let own = std::process::id();
        let key = host::find(own).unwrap().key;
        assert_eq!(left(&Scope::default()), [own, 1]);
        assert_eq!(left(&Scope { roots: vec![key], ..Scope::default() }), [own]);
        let uid = Some(nix::unistd::getuid().as_raw());
        assert!(left(&Scope { uid, ..Scope::default() }).contains(&own));
        assert!(!left(&Scope { uid: Some(4_000_000_000), ..Scope::default() }).contains(&own));
        // What the sweep knows of the uid is not read again.
        let scope = Scope { uid: Some(7), ..Scope::default() };
        assert!(scope.admits(key, Some(7)) && !scope.admits(key, Some(8)) && !scope.admits(key, None));
        let cgroup = program(key).and_then(|program| program.cgroup);
        assert!(left(&Scope { cgroup, ..Scope::default() }).contains(&own));
        let elsewhere = Some("/no/such/cgroup".to_owned());
        assert!(left(&Scope { cgroup: elsewhere, ..Scope::default() }).is_empty());
    }

    #[test]
    fn a_root_that_has_ended_has_no_family() {
        let gone = ProcessKey { tgid: std::process::id(), start: BootTime(1 << 60) };
        assert!(left(&Scope { roots: vec![gone], ..Scope::default() }).is_empty());
    }
}
