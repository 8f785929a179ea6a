//! What the core orders while a question is open: tables are filled, and programs attached with the first entry and
//! detached with the last.

use std::collections::HashSet;

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
    programs::links::FdLink,
};
use forkwatch_ebpf::{Family, Sharer, Signalled, Socket, act, flag, kind, map};

use super::{
    error::KernelError,
    hooks::{Hooks, NoHook},
    maps::{map_error, take},
    on_demand::SLEEPERS,
    wire::{FamilyCell, SharerCell, SignalledCell, SocketCell, SocketUserCell},
};
use crate::model::{order::Order, process::ProcessKey, time::TICK};

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

/// What stands, and what is attached for it.
pub(super) struct Orders {
    hooks: Hooks,
    parents: HashMap<MapData, u32, u8>,
    signalled: HashMap<MapData, u32, SignalledCell>,
    sharers: HashMap<MapData, u32, SharerCell>,
    sockets: HashMap<MapData, u64, SocketCell>,
    users: HashMap<MapData, SocketUserCell, u8>,
    /// What was ordered: the kernel side takes children into its table by itself.
    ordered_parents: HashSet<u32>,
    ordered_signals: HashSet<u32>,
    ordered_sharers: HashSet<u32>,
    ordered_sockets: HashSet<u64>,
    /// Dropping one detaches it.
    family_links: Vec<FdLink>,
    signal_links: Vec<FdLink>,
    socket_links: Vec<FdLink>,
    /// Whether a failure has been told: the next ones are only for those who look for them.
    complained: bool,
}

impl Orders {
    pub(super) fn new(ebpf: &mut Ebpf, hooks: Hooks) -> Result<Self, KernelError> {
        Ok(Self {
            hooks,
            parents: take(ebpf, map::PARENTS)?,
            signalled: take(ebpf, map::SIGNALLED)?,
            sharers: take(ebpf, map::SHARERS)?,
            sockets: take(ebpf, map::SOCKETS)?,
            users: take(ebpf, map::SOCKET_USERS)?,
            ordered_parents: HashSet::new(),
            ordered_signals: HashSet::new(),
            ordered_sharers: HashSet::new(),
            ordered_sockets: HashSet::new(),
            family_links: Vec::new(),
            signal_links: Vec::new(),
            socket_links: Vec::new(),
            complained: false,
        })
    }

    pub(super) const fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Forgets what was tried and reported something else than what happened.
    pub(super) fn distrust(&mut self, signals: Result<(), String>, sockets: Result<(), String>) {
        let untrue = |what: &'static str| {
            move |why: String| {
                tracing::warn!(
                    why,
                    "{what} cannot be watched on this kernel: what was tried at the start came out wrong"
                );
                NoHook::Untrue(why)
            }
        };
        if let Err(why) = signals.map_err(untrue("the senders of signals")) {
            self.hooks.signals = Err(why);
            self.signal_links.clear();
        }
        if let Err(why) = sockets.map_err(untrue("the uses of sockets")) {
            self.hooks.sockets = Err(why);
            self.socket_links.clear();
        }
    }

    /// Tells of no sleepers any more, for this reason.
    pub(super) fn no_sleepers(&mut self, error: &KernelError) {
        tracing::warn!(%error, "children that fall asleep are looked at later from now on");
        self.hooks.sleepers = Err(NoHook::refused(SLEEPERS.program, error));
    }

    /// Attaches all programs, unless they are, and detaches what nothing is ordered of.
    pub(super) fn try_hooks(&mut self, ebpf: &mut Ebpf) -> &Hooks {
        self.attach_families(ebpf);
        self.attach_signals(ebpf);
        self.attach_sockets(ebpf);
        self.detach_idle();
        &self.hooks
    }

    pub(super) fn obey(
        &mut self,
        ebpf: &mut Ebpf,
        family: &mut HashMap<MapData, u32, FamilyCell>,
        order: &Order,
        look: impl Fn(ProcessKey) -> Option<Living>,
    ) {
        let done = match *order {
            Order::Follow { child, parent_tgid } => follow(family, child, parent_tgid, look),
            Order::WatchSignals(process) => {
                self.attach_signals(ebpf);
                self.ordered_signals.insert(process.tgid);
                let start = process.start.0;
                let signalled = SignalledCell(Signalled { start, since: 0, told: 0, sender: 0, reserved: 0 });
                self.signalled.insert(process.tgid, signalled, 0).map_err(map_error(map::SIGNALLED))
            }
            Order::UnwatchSignals(process) => {
                self.ordered_signals.remove(&process.tgid);
                // Here and below: where it is not there, all is well.
                let _ = self.signalled.remove(&process.tgid);
                Ok(())
            }
            Order::WatchFamily(parent) => {
                self.attach_families(ebpf);
                self.ordered_parents.insert(parent.tgid);
                self.parents.insert(parent.tgid, 1, 0).map_err(map_error(map::PARENTS))
            }
            Order::UnwatchFamily(parent) => {
                self.ordered_parents.remove(&parent.tgid);
                let _ = self.parents.remove(&parent.tgid);
                Ok(())
            }
            Order::WatchSocket(inode) => {
                self.attach_sockets(ebpf);
                self.ordered_sockets.insert(inode);
                let socket = SocketCell(Socket { last: [0; act::COUNT], told: 0 });
                self.sockets.insert(inode, socket, 0).map_err(map_error(map::SOCKETS))
            }
            Order::UnwatchSocket(inode) => {
                self.ordered_sockets.remove(&inode);
                let _ = self.sockets.remove(&inode);
                self.forget_users(|user| user == inode);
                Ok(())
            }
            Order::Share(process) => {
                self.attach_sockets(ebpf);
                self.ordered_sharers.insert(process.tgid);
                self.share(process, look)
            }
            Order::Unshare(process) => {
                self.ordered_sharers.remove(&process.tgid);
                let _ = self.sharers.remove(&process.tgid);
                Ok(())
            }
        };
        self.detach_idle();
        match done {
            Ok(()) => tracing::debug!(?order, "obeyed"),
            Err(error) if self.complained => tracing::debug!(?order, %error, "not obeyed"),
            Err(error) => {
                self.complained = true;
                tracing::warn!(
                    ?order,
                    %error,
                    "what is wanted for a proof cannot be watched, so that proof will be missing"
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

    fn forget_users(&mut self, is_forgotten: impl Fn(u64) -> bool) {
        let users: Vec<SocketUserCell> =
            self.users.keys().filter_map(Result::ok).filter(|user| is_forgotten(user.0.inode)).collect();
        for user in users {
            let _ = self.users.remove(&user);
        }
    }

    fn attach_families(&mut self, ebpf: &mut Ebpf) {
        if self.family_links.is_empty() {
            self.family_links = self.hooks.attach_families(ebpf);
        }
    }

    fn attach_signals(&mut self, ebpf: &mut Ebpf) {
        if self.signal_links.is_empty() {
            self.signal_links = self.hooks.attach_signals(ebpf);
        }
    }

    fn attach_sockets(&mut self, ebpf: &mut Ebpf) {
        if self.socket_links.is_empty() {
            self.socket_links = self.hooks.attach_sockets(ebpf);
        }
    }

    /// Detaches what nothing is ordered of any more.
    fn detach_idle(&mut self) {
        if self.ordered_parents.is_empty() {
            self.family_links.clear();
        }
        if self.ordered_signals.is_empty() {
            self.signal_links.clear();
        }
        if self.ordered_sharers.is_empty() && self.ordered_sockets.is_empty() && !self.socket_links.is_empty()
        {
            // What stays attached finds its tables empty.
            if self.hooks.sockets_reattach() {
                self.socket_links.clear();
            }
            // Children that the kernel side took in by itself, whose end it does not see from now on.
            let left: Vec<u32> = self.sharers.keys().filter_map(Result::ok).collect();
            for tgid in left {
                let _ = self.sharers.remove(&tgid);
            }
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
