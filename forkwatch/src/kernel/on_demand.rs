//! What the core requests while a question is open: tables are filled, and their probes switched on with the first entry
//! and off with the last.

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
};
use forkwatch_ebpf::{
    Family, Forker, SHARER_MARKS, Sharer, Signalled, Socket, act, flag, kind, map, mark_of,
};

use super::{
    error::KernelError,
    maps::{map_error, take},
    probes::{Probe, SLEEPER},
    switch::{Asker, Switch},
    ways::Probes,
    wire::{FamilyCell, ForkerCell, SharerCell, SignalledCell, SocketCell, SocketUserCell},
};
use crate::model::{
    probe_request::ProbeRequest,
    process::ProcessKey,
    time::{BootTime, TICK},
};

/// Insert only where there is no entry yet, or only where there is one (include/uapi/linux/bpf.h).
const BPF_NOEXIST: u64 = 1;
const BPF_EXIST: u64 = 2;

/// How often a change is tried again that the kernel side has come before.
const ATTEMPTS: usize = 3;

/// What `/proc` says of a living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Living {
    /// Its present parent.
    pub parent_tgid: u32,
    /// Whether it was forked and has not exec'd since.
    pub unexeced: bool,
}

/// What is requested now: the entries of the tables, and the probes that are on for them.
pub(super) struct OnDemand {
    switch: Switch,
    parents: HashMap<MapData, u32, u8>,
    signalled: HashMap<MapData, u32, SignalledCell>,
    sharers: HashMap<MapData, u32, SharerCell>,
    /// Where the kernel side looks first whether a process may be a sharer.
    marked: Array<MapData, u64>,
    sockets: HashMap<MapData, u64, SocketCell>,
    users: HashMap<MapData, SocketUserCell, u8>,
    forkers: HashMap<MapData, u32, ForkerCell>,
    /// Whether a failure has been told: the next ones are only for those who look for them.
    complained: bool,
}

impl OnDemand {
    pub(super) fn new(ebpf: &mut Ebpf, switch: Switch) -> Result<Self, KernelError> {
        Ok(Self {
            switch,
            parents: take(ebpf, map::PARENTS)?,
            signalled: take(ebpf, map::SIGNALLED)?,
            sharers: take(ebpf, map::SHARERS)?,
            marked: take(ebpf, map::SHARER_MARKED)?,
            sockets: take(ebpf, map::SOCKETS)?,
            users: take(ebpf, map::SOCKET_USERS)?,
            forkers: take(ebpf, map::FORKERS)?,
            complained: false,
        })
    }

    pub(super) const fn probes(&self) -> &Probes {
        self.switch.probes()
    }

    /// Forgets a probe that was tried and reported something else than what happened.
    pub(super) fn distrust(&mut self, probe: Probe, why: String) {
        self.switch.distrust(probe, why);
    }

    /// Tells of no sleepers any more, for this reason.
    pub(super) fn no_sleepers(&mut self, error: &KernelError) {
        tracing::warn!(%error, "children that fall asleep are looked at later from now on");
        self.switch.refuse(Probe::Sleepers, SLEEPER.name, error);
    }

    /// Attaches all programs, unless they are, and detaches what nobody has requested.
    pub(super) fn try_probes(&mut self, ebpf: &mut Ebpf) -> &Probes {
        self.switch.try_all(ebpf);
        self.detach_idle();
        self.probes()
    }

    pub(super) fn probe(
        &mut self,
        ebpf: &mut Ebpf,
        family: &mut HashMap<MapData, u32, FamilyCell>,
        request: &ProbeRequest,
        look: impl Fn(ProcessKey) -> Option<Living>,
    ) {
        let done = match *request {
            ProbeRequest::Follow { child, parent_tgid } => follow(family, child, parent_tgid, look),
            ProbeRequest::WatchSignals(process) => {
                self.switch.on(ebpf, Probe::Signals, Asker::Process(process.tgid));
                let start = process.start.0;
                let signalled = SignalledCell(Signalled { start, since: 0, told: 0, sender: 0, reserved: 0 });
                self.signalled.insert(process.tgid, signalled, 0).map_err(map_error(map::SIGNALLED))
            }
            ProbeRequest::UnwatchSignals(process) => {
                self.switch.off(Probe::Signals, Asker::Process(process.tgid));
                // Here and below: where it is not there, all is well.
                let _ = self.signalled.remove(&process.tgid);
                Ok(())
            }
            ProbeRequest::WatchFamily(parent) => {
                self.switch.on(ebpf, Probe::Families, Asker::Process(parent.tgid));
                self.parents.insert(parent.tgid, 1, 0).map_err(map_error(map::PARENTS))
            }
            ProbeRequest::UnwatchFamily(parent) => {
                self.switch.off(Probe::Families, Asker::Process(parent.tgid));
                let _ = self.parents.remove(&parent.tgid);
                Ok(())
            }
            ProbeRequest::WatchSocket(inode) => {
                self.switch.on(ebpf, Probe::Sockets, Asker::Socket(inode));
                let socket = SocketCell(Socket { last: [0; act::COUNT], told: 0 });
                self.sockets.insert(inode, socket, 0).map_err(map_error(map::SOCKETS))
            }
            ProbeRequest::UnwatchSocket(inode) => {
                self.switch.off(Probe::Sockets, Asker::Socket(inode));
                let _ = self.sockets.remove(&inode);
                self.forget_users(|user| user == inode);
                Ok(())
            }
            ProbeRequest::Share(process) => {
                self.switch.on(ebpf, Probe::Sockets, Asker::Process(process.tgid));
                self.share(process, look)
            }
            ProbeRequest::Unshare(process) => {
                self.switch.off(Probe::Sockets, Asker::Process(process.tgid));
                let _ = self.sharers.remove(&process.tgid);
                Ok(())
            }
            ProbeRequest::Cover(forker) => self.know(forker, BootTime(0), true),
            ProbeRequest::Disregard { forker, until } => self.know(forker, until, false),
        };
        self.detach_idle();
        match done {
            Ok(()) => tracing::debug!(?request, "done"),
            Err(error) if self.complained => tracing::debug!(?request, %error, "not done"),
            Err(error) => {
                self.complained = true;
                tracing::warn!(
                    ?request,
                    %error,
                    "what a proof needs cannot be watched, so that proof will be missing"
                );
            }
        }
    }

    /// Enters a process with what `/proc` says of it: the program that is attached tells only of what changes.
    fn share(
        &mut self,
        process: ProcessKey,
        look: impl Fn(ProcessKey) -> Option<Living>,
    ) -> Result<(), KernelError> {
        let mut known = look(process);
        for _ in 0..ATTEMPTS {
            let Some(Living { parent_tgid, unexeced }) = known else { break };
            let sharer = Sharer { start: process.start.0, parent_tgid, unexeced: u32::from(unexeced) };
            self.sharers.insert(process.tgid, SharerCell(sharer), 0).map_err(map_error(map::SHARERS))?;
            self.mark(process.tgid)?;
            // It may have exec'd or ended before it was entered, and then nobody would tell.
            let now = look(process);
            if now.is_some_and(|now| now.unexeced == unexeced) {
                return Ok(());
            }
            known = now;
        }
        let _ = self.sharers.remove(&process.tgid);
        Ok(())
    }

    fn mark(&mut self, tgid: u32) -> Result<(), KernelError> {
        self.marked.set(mark_of(tgid), 1, 0).map_err(map_error(map::SHARER_MARKED))
    }

    /// Takes away the marks of those that are sharers no more. Others may become some meanwhile: the kernel side enters each
    /// before it marks it, so that it is found in the table afterwards.
    fn mark_anew(&mut self) {
        for mark in 0..SHARER_MARKS {
            // The places are those of the array.
            let _ = self.marked.set(mark, 0, 0);
        }
        let sharers: Vec<u32> = self.sharers.keys().filter_map(Result::ok).collect();
        for tgid in sharers {
            let _ = self.mark(tgid);
        }
    }

    /// Has the kernel side tell of all children of a process that are born with connections, or of none before a time.
    fn know(&mut self, forker: ProcessKey, until: BootTime, is_covered: bool) -> Result<(), KernelError> {
        let (start, covered) = (forker.start.0, u32::from(is_covered));
        let cell = ForkerCell(Forker { start, quiet_until: until.0, covered, reserved: 0 });
        self.forkers.insert(forker.tgid, cell, 0).map_err(map_error(map::FORKERS))
    }

    fn forget_users(&mut self, is_forgotten: impl Fn(u64) -> bool) {
        let users: Vec<SocketUserCell> =
            self.users.keys().filter_map(Result::ok).filter(|user| is_forgotten(user.0.inode)).collect();
        for user in users {
            let _ = self.users.remove(&user);
        }
    }

    /// Detaches what nobody requests any more.
    fn detach_idle(&mut self) {
        if self.switch.detach_idle().contains(&Probe::Sockets) {
            // Children that the kernel side took in by itself, whose end it does not see from now on.
            let left: Vec<u32> = self.sharers.keys().filter_map(Result::ok).collect();
            for tgid in left {
                let _ = self.sharers.remove(&tgid);
            }
            self.mark_anew();
            self.forget_users(|_| true);
        }
    }
}

/// Marks a child as one whose outcome is waited for, keeping what is remembered of it.
fn follow(
    family: &mut HashMap<MapData, u32, FamilyCell>,
    child: ProcessKey,
    parent_tgid: u32,
    look: impl Fn(ProcessKey) -> Option<Living>,
) -> Result<(), KernelError> {
    const FLAGS: u8 = flag::STREAMED | flag::FOLLOWED;
    let is_child = |entry: &Family| entry.start.abs_diff(child.start.0) < TICK;
    let mut marked = Ok(());
    // The kernel side may take the entry out between the look at it and the change.
    for _ in 0..ATTEMPTS {
        let (entry, condition) = match family.get(&child.tgid, 0) {
            Ok(FamilyCell(entry)) if is_child(&entry) => {
                (Family { flags: entry.flags | FLAGS, ..entry }, BPF_EXIST)
            }
            // One that another process of this tgid left behind is none.
            Ok(_) => (followed(child, parent_tgid, FLAGS), BPF_EXIST),
            Err(_) => (followed(child, parent_tgid, FLAGS), BPF_NOEXIST),
        };
        marked = family.insert(child.tgid, FamilyCell(entry), condition).map_err(map_error(map::FAMILY));
        if marked.is_ok() {
            break;
        }
    }
    // It may have exec'd or ended before it was entered, and then nobody would take it out.
    if !look(child).is_some_and(|now| now.unexeced)
        && family.get(&child.tgid, 0).is_ok_and(|FamilyCell(entry)| is_child(&entry))
    {
        let _ = family.remove(&child.tgid);
    }
    marked
}

/// The entry of a child that nothing is remembered of: its forker had exec'd, so it is of the first generation.
const fn followed(child: ProcessKey, parent_tgid: u32, flags: u8) -> Family {
    Family {
        start: child.start.0,
        blocked: 0,
        parent_tgid,
        generation: 1,
        kind: kind::COPYING,
        hazards: 0,
        flags,
        reserved: [0; 5],
    }
}
