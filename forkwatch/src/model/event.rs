//! What happens in the lives of processes and threads, as the kernel side reports it.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey},
    signals::SignalSet,
    time::BootTime,
};

/// Where a record came from in the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The CPU that wrote it.
    pub cpu: u32,
    /// Counts that CPU's records from 0, also those that were dropped.
    pub sequence: u64,
}

/// How a process was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CloneKind {
    /// fork(2): its own copy of the address space.
    Copying,
    /// Shares its parent's memory for good.
    SharedMemory,
    /// vfork(2) or `posix_spawn(3)`: shares memory until exec, with the parent suspended.
    Vfork,
    /// A kernel thread or a user-mode helper of the kernel.
    Kernel,
}

impl CloneKind {
    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copying => "copying",
            Self::SharedMemory => "shared-memory",
            Self::Vfork => "vfork",
            Self::Kernel => "kernel",
        }
    }
}

/// A process was created; everything but the child's identity describes the forking thread at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// Whether it copies its parent's memory.
    pub kind: CloneKind,
    /// The process that forked.
    pub parent: ProcessKey,
    /// The thread of it that forked.
    pub parent_tid: u32,
    /// That thread's comm.
    pub comm: Comm,
    /// Real uid.
    pub uid: u32,
    /// Cgroup (version 2) id.
    pub cgroup: u64,
    /// Live threads, the forking one included, kernel workers excluded.
    pub threads: u32,
    /// Signals pending for the forking thread, and blocked.
    pub pending_thread: SignalSet,
    /// Signals pending for the process, and blocked by the forking thread.
    pub pending_shared: SignalSet,
    /// Signals that the forking thread blocks.
    pub blocked: SignalSet,
    /// The new process.
    pub child: ProcessKey,
    /// Its pid in its innermost pid namespace.
    pub child_namespace_pid: u32,
    /// Forks since the last exec on the way to this child: 1 for the child of an exec'd program.
    pub generation: u32,
    /// Whether the kernel will report how it ends: not where its table of children was full.
    pub tracked: bool,
}

impl Fork {
    /// Signals pending for the forking thread or its process, and blocked.
    pub const fn pending(&self) -> SignalSet {
        self.pending_thread.or(self.pending_shared)
    }
}

/// A process replaced its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// The process that called exec.
    pub process: ProcessKey,
    /// The thread that called exec: another than the tgid if it was not the main thread.
    pub from_tid: u32,
    /// The new comm.
    pub comm: Comm,
    /// Real uid.
    pub uid: u32,
    /// Cgroup (version 2) id.
    pub cgroup: u64,
    /// The process that forked it, or its present parent where the fork was not seen.
    pub parent_tgid: u32,
    /// Signals blocked in the new program from its start.
    pub blocked: SignalSet,
    /// The fork it ends; absent for a second exec, and where the fork was not seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fork: Option<ForkOfExec>,
}

/// What the kernel remembered of the fork that an exec ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkOfExec {
    /// How it was created.
    pub kind: CloneKind,
    /// Nanoseconds from the fork to the exec.
    pub since: u64,
    /// Signals that the forking thread blocked at the fork.
    pub blocked: SignalSet,
}

/// A forked process ended without ever having exec'd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// The process that has ended.
    pub process: ProcessKey,
    /// The process that forked it.
    pub parent_tgid: u32,
    /// How it was created.
    pub kind: CloneKind,
    /// Its comm at the end.
    pub comm: Comm,
    /// How it ended.
    pub status: ExitStatus,
    /// Nanoseconds from the fork to the end.
    pub lifetime: u64,
}

/// How a process ended, as wait(2) tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal {
        /// The signal's number.
        number: u8,
        /// Whether it left a core dump.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// From a wait status: signal in bits 0 to 6, core dump in bit 7, code in bits 8 to 15.
    pub const fn from_wait(status: u32) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(code),
            number => Self::Signal { number, core_dumped: low & 0x80 != 0 },
        }
    }
}

/// A thread was created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// Its tgid in the root pid namespace.
    pub tgid: u32,
    /// The thread that created it.
    pub parent_tid: u32,
    /// That thread's comm.
    pub comm: Comm,
    /// The new thread.
    pub tid: u32,
    /// Live threads of the process afterwards.
    pub threads: u32,
}

/// A system call of the clone family failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneFailure {
    /// Place in the stream.
    pub origin: Origin,
    /// When it returned.
    pub at: BootTime,
    /// The calling process.
    pub tgid: u32,
    /// The calling thread.
    pub tid: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Real uid.
    pub uid: u32,
    /// Cgroup (version 2) id.
    pub cgroup: u64,
    /// The error number, positive.
    pub errno: u32,
    /// Nanoseconds spent in the call.
    pub duration: u64,
}

/// Records that were dropped between two looks at the kernel's counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// When it was noticed.
    pub at: BootTime,
    /// The last time that nothing had been lost.
    pub since: BootTime,
    /// How many records.
    pub count: u64,
    /// Why it was lost.
    pub reason: LossReason,
}

/// Why records were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossReason {
    /// The ring had no room left.
    RingFull,
    /// A plain event gave way: the last quarter of the ring is kept for hazardous ones.
    PlainShed,
    /// A record did not have the layout this build knows.
    Malformed,
}

impl LossReason {
    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring-full",
            Self::PlainShed => "plain-shed",
            Self::Malformed => "malformed",
        }
    }
}

/// Something that happened in the life of a process or thread. Outputs are told of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A process was created.
    Fork(Fork),
    /// A process replaced its program.
    Exec(Exec),
    /// A forked and never exec'd process ended.
    Exit(Exit),
    /// A thread was created.
    Thread(Thread),
    /// A call of the clone family failed.
    CloneFailure(CloneFailure),
    /// Records were dropped.
    Lost(Lost),
}

impl Event {
    /// When it happened.
    pub const fn at(&self) -> BootTime {
        match self {
            Self::Fork(event) => event.at,
            Self::Exec(event) => event.at,
            Self::Exit(event) => event.at,
            Self::Thread(event) => event.at,
            Self::CloneFailure(event) => event.at,
            Self::Lost(event) => event.at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_read_as_wait_2_says() {
        assert_eq!(ExitStatus::from_wait(0), ExitStatus::Code(0));
        assert_eq!(ExitStatus::from_wait(7 << 8), ExitStatus::Code(7));
        assert_eq!(ExitStatus::from_wait(15), ExitStatus::Signal { number: 15, core_dumped: false });
        assert_eq!(ExitStatus::from_wait(0x8b), ExitStatus::Signal { number: 11, core_dumped: true });
    }
}
