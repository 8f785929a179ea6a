//! What hazards of pipes and listening sockets have in common: who holds them, and what has to be seen of those.

use crate::model::{
    detector::{Aspect, DetectorState, Reach, Wanted},
    facts::{DescriptorHolder, LeakFacts},
    finding::Facts,
    leak::{End, Holder, Holders, Listener},
    process::ProcessKey,
};

/// What has to be seen of processes for a verdict about a listening socket.
pub(super) const SEES_LISTENERS: &[(Aspect, Wanted)] =
    &[(Aspect::Descriptors, Wanted::All), (Aspect::Details, Wanted::All), (Aspect::Calls, Wanted::All)];

/// What is left where other users' processes may not be looked at.
pub(super) const WITHOUT_SIGHT: Option<(Reach, DetectorState, &str)> = Some((
    Reach::Programs,
    DetectorState::Undecided,
    "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes are hidden: who else holds a pipe or socket stays unknown, and nothing is reported",
));

/// `SIGIO`, by which a socket may tell of connections (`fcntl(2)`, `F_SETOWN`).
pub(super) const SIGIO: u32 = 29;

/// A process that holds a listening socket after its parent has ended, with two looks at everybody who holds it.
pub struct ListenerCase<'a> {
    /// The process: its tgid, and when it started.
    pub process: ProcessKey,
    /// The process that forked it, where that is known.
    pub forker: Option<ProcessKey>,
    /// Whether the forker was seen beside it, some time after the fork.
    pub forker_stayed: bool,
    /// The socket's inode number.
    pub inode: u64,
    /// The earlier look.
    pub first: &'a Holders,
    /// The later one.
    pub second: &'a Holders,
    /// Processes that are proven stuck.
    pub stuck: &'a [ProcessKey],
    /// The name of [`Holders::program`].
    pub program_name: &'a str,
}

impl ListenerCase<'_> {
    /// Whether the holders are known well enough for a verdict. Init may hide, and makes it less sure.
    pub(super) fn is_decided(&self) -> bool {
        self.first.are_all_but_init() && self.second.are_all_but_init()
    }

    /// Whether init, too, has let itself be looked at.
    pub(super) const fn knows_init(&self) -> bool {
        self.first.are_all() && self.second.are_all()
    }

    /// Whether a holder was the same at both looks, could have run, and has not.
    pub(super) fn rests(&self, now: &Holder) -> bool {
        self.first.of(now.process).is_some_and(|before| is_free(before) && now.has_not_run_since(before))
            && is_free(now)
            && !now.rest.caught.contains(SIGIO)
    }

    /// What is told beside the verdict.
    pub(super) fn facts(&self, listener: &Listener) -> Facts {
        let holders: Vec<&Holder> = self.second.holders.iter().collect();
        let init = "process 1 does not let itself be looked at, and may hold the socket too";
        Facts {
            leak: Some(Box::new(LeakFacts {
                inode: self.inode,
                address: Some(listener.address.clone()),
                holders: holder_facts(&holders, None),
            })),
            notes: (!self.knows_init()).then(|| init.to_owned()).into_iter().collect(),
            ..Facts::default()
        }
    }
}

/// Whether a holder may run, and has not got the socket from a service manager.
pub(super) fn is_free(holder: &Holder) -> bool {
    !holder.rest.stopped && holder.service.is_none()
}

/// What is told of holders; with the descriptors by which they hold that end of a pipe.
pub(super) fn holder_facts(holders: &[&Holder], end: Option<End>) -> Vec<DescriptorHolder> {
    let held = |holder: &Holder| {
        holder.held.iter().find(|held| end.is_none_or(|end| held.access.holds(end))).map(|held| held.fd)
    };
    let fact = |holder: &&Holder| {
        Some(DescriptorHolder {
            pid: holder.process.tgid,
            name: holder.comm.to_string(),
            uid: holder.uid,
            fd: held(holder)?,
            doing: holder.rest.doing.clone(),
        })
    };
    holders.iter().filter_map(fact).collect()
}
