//! `task_struct` and what hangs on it.

use aya_ebpf::helpers::{bpf_get_current_uid_gid, generated::bpf_get_current_cgroup_id};
use forkwatch_ebpf::{ABSENT, COMM_LEN};

use crate::{kernel::Kernel, settings::*};

/// `SIGNAL_GROUP_EXIT` (include/linux/sched/signal.h).
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Asleep until it is woken or gets a signal (`TASK_INTERRUPTIBLE`, include/linux/sched.h).
const INTERRUPTIBLE: u32 = 1;

/// Set when a task begins to exit (include/linux/sched.h).
const PF_EXITING: u32 = 0x4;
/// Set at fork, cleared at exec (include/linux/sched.h).
const PF_FORKNOEXEC: u32 = 0x40;
/// A kernel thread (include/linux/sched.h).
const PF_KTHREAD: u32 = 0x20_0000;

/// How far a tree of cgroups is climbed: systemd's and Kubernetes' have some ten levels.
const CGROUP_LEVELS: u32 = 32;

/// A `struct task_struct`.
#[derive(Clone, Copy)]
pub(crate) struct Task(Kernel);

impl Task {
    /// From a `tp_btf` argument.
    #[inline(always)]
    pub(crate) fn new(pointer: *const u8) -> Self {
        Self(Kernel::new(pointer))
    }

    #[inline(always)]
    pub(crate) fn tid(self) -> u32 {
        self.0.field(&OFFSET_TASK_PID)
    }

    #[inline(always)]
    pub(crate) fn tgid(self) -> u32 {
        self.0.field(&OFFSET_TASK_TGID)
    }

    #[inline(always)]
    pub(crate) fn leader(self) -> Self {
        Self(self.0.pointer(&OFFSET_TASK_LEADER))
    }

    #[inline(always)]
    pub(crate) fn real_parent(self) -> Self {
        Self(self.0.pointer(&OFFSET_TASK_REAL_PARENT))
    }

    /// `start_boottime`, nanoseconds.
    #[inline(always)]
    pub(crate) fn start(self) -> u64 {
        self.0.field(&OFFSET_TASK_START)
    }

    #[inline(always)]
    pub(crate) fn comm(self) -> [u8; COMM_LEN] {
        let [low, high]: [u64; 2] = [self.0.field(&OFFSET_TASK_COMM), self.0.at(OFFSET_TASK_COMM.load() + 8)];
        // SAFETY: two u64 and sixteen bytes are the same size, and every pattern is a value of both.
        unsafe { core::mem::transmute([low, high]) }
    }

    #[inline(always)]
    pub(crate) fn is_worker(self) -> bool {
        self.0.field::<u32>(&OFFSET_TASK_FLAGS) & WORKER_FLAGS.load() != 0
    }

    /// Whether it was forked and has not exec'd; of a main thread this is true of its process.
    #[inline(always)]
    pub(crate) fn is_unexeced(self) -> bool {
        self.0.field::<u32>(&OFFSET_TASK_FLAGS) & PF_FORKNOEXEC != 0
    }

    /// Whether it is the kernel's own.
    #[inline(always)]
    pub(crate) fn is_kernel(self) -> bool {
        self.0.field::<u32>(&OFFSET_TASK_FLAGS) & PF_KTHREAD != 0
    }

    /// Whether it has begun to exit, so that it calls the kernel no more.
    #[inline(always)]
    pub(crate) fn is_exiting(self) -> bool {
        self.0.field::<u32>(&OFFSET_TASK_FLAGS) & PF_EXITING != 0
    }

    /// How often it has exec'd since its fork: a child begins with its forker's count, and keeps it as its parent's
    /// (`copy_process`, kernel/fork.c; `begin_new_exec`, fs/exec.c). Only `CLONE_PARENT` makes that another's.
    #[inline(always)]
    pub(crate) fn execs_since_fork(self) -> u64 {
        let own: u64 = self.0.field(&OFFSET_TASK_SELF_EXEC_ID);
        own.wrapping_sub(self.0.field(&OFFSET_TASK_PARENT_EXEC_ID))
    }

    /// Whether it sleeps in a way that a signal may end: in a system call, and not for a disk.
    #[inline(always)]
    pub(crate) fn is_asleep(self) -> bool {
        // `state` became `__state` and half as long in Linux 5.14 (commit 2f064a59a11f).
        let state: u32 = if OFFSET_TASK_STATE.load() == ABSENT {
            self.0.field::<u64>(&OFFSET_TASK_LONG_STATE) as u32
        } else {
            self.0.field(&OFFSET_TASK_STATE)
        };
        state & INTERRUPTIBLE != 0
    }

    /// How often it has given up the CPU, by itself and otherwise.
    #[inline(always)]
    pub(crate) fn switches(self) -> u64 {
        let own: u64 = self.0.field(&OFFSET_TASK_SWITCHES);
        own.wrapping_add(self.0.field(&OFFSET_TASK_FORCED_SWITCHES))
    }

    /// Whether there is none.
    #[inline(always)]
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Its address space: null where it has none.
    #[inline(always)]
    pub(crate) fn memory(self) -> Kernel {
        self.0.pointer(&OFFSET_TASK_MM)
    }

    /// What it shares with the other threads of its process.
    #[inline(always)]
    pub(crate) fn signal(self) -> Signal {
        Signal(self.0.pointer(&OFFSET_TASK_SIGNAL))
    }

    #[inline(always)]
    pub(crate) fn exit_code(self) -> u32 {
        self.0.field(&OFFSET_TASK_EXIT_CODE)
    }

    #[inline(always)]
    pub(crate) fn blocked(self) -> u64 {
        self.0.field(&OFFSET_TASK_BLOCKED)
    }

    #[inline(always)]
    pub(crate) fn pending(self) -> u64 {
        self.0.field(&OFFSET_TASK_PENDING)
    }

    /// Whether its cgroup in the version 2 hierarchy is the one of this id, or below it: the tree of its directories is
    /// climbed. For kernels that do not tell it otherwise; the newest have no such member.
    #[inline(always)]
    pub(crate) fn is_within(self, cgroup: u64) -> bool {
        if OFFSET_KERNFS_PARENT.load() == ABSENT {
            return false;
        }
        let mut directory =
            self.0.pointer(&OFFSET_TASK_CGROUPS).pointer(&OFFSET_CSS_SET_DFL_CGRP).pointer(&OFFSET_CGROUP_KN);
        let mut level = 0;
        while level < CGROUP_LEVELS && !directory.is_null() {
            if directory.field::<u64>(&OFFSET_KERNFS_ID) == cgroup {
                return true;
            }
            directory = directory.pointer(&OFFSET_KERNFS_PARENT);
            level += 1;
        }
        false
    }

    /// Its pid in its innermost pid namespace; 0 where that is out of reach ([`PID_LEVELS`]).
    #[inline(always)]
    pub(crate) fn namespace_pid(self) -> u32 {
        let pid = self.0.pointer(&OFFSET_TASK_THREAD_PID);
        let level: u32 = pid.field(&OFFSET_PID_LEVEL);
        if level == 0 {
            return self.tid();
        }
        // One branch a level, because the verifier allows only constant offsets into a structure. Namespaces nested
        // deeper than that are not seen in practice; user space then asks `/proc`.
        macro_rules! number {
            ($($at:literal)*) => {
                $(if level == $at && PID_LEVELS.load() >= $at {
                    return pid.at(OFFSET_PID_NUMBERS.load() + $at * SIZE_UPID.load() + OFFSET_UPID_NR.load());
                })*
            };
        }
        number!(1 2 3 4);
        0
    }
}

/// The real uid of the current task. The helper asks for no pointer, which would be dear at load time ([`Kernel`]).
#[inline(always)]
pub(crate) fn current_uid() -> u32 {
    bpf_get_current_uid_gid() as u32
}

/// Id of the current task's cgroup in the version 2 hierarchy; 0 where the kernel has none. Likewise.
#[inline(always)]
pub(crate) fn current_cgroup() -> u64 {
    if OFFSET_TASK_CGROUPS.load() == ABSENT {
        return 0;
    }
    // SAFETY: a helper without arguments, of kernels with CONFIG_CGROUPS.
    unsafe { bpf_get_current_cgroup_id() }
}

/// A `struct signal_struct`: one for each process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal(Kernel);

impl Signal {
    /// Threads that have not begun to exit, kernel workers included.
    #[inline(always)]
    pub(crate) fn live(self) -> u32 {
        self.0.field(&OFFSET_SIGNAL_LIVE)
    }

    /// Threads that have not been reaped, those that are exiting included.
    #[inline(always)]
    pub(crate) fn unreaped(self) -> u32 {
        self.0.field(&OFFSET_SIGNAL_NR_THREADS)
    }

    /// Signals pending for the whole process.
    #[inline(always)]
    pub(crate) fn pending(self) -> u64 {
        self.0.field(&OFFSET_SIGNAL_SHARED_PENDING)
    }

    /// The wait status of the process, which must be ending: the group's where there is one, else the main thread's
    /// (`wait_task_zombie`, kernel/exit.c).
    ///
    /// Both are loaded before one is chosen: the compiler would choose between the two structures instead, and
    /// verifiers before 6.8 lose track of which belongs to which offset.
    #[inline(always)]
    pub(crate) fn wait_status(self, leader: Task) -> u32 {
        let (group, own): (u32, u32) = (self.0.field(&OFFSET_SIGNAL_GROUP_EXIT_CODE), leader.exit_code());
        let exits_as_a_group = self.0.field::<u32>(&OFFSET_SIGNAL_FLAGS) & SIGNAL_GROUP_EXIT != 0;
        if exits_as_a_group { group } else { own }
    }
}
