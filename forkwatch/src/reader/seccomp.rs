//! What a reader may ask of the kernel: to look, and to speak with whoever asks it. Nothing that changes another process,
//! reaches the network, or runs another program.
//!
//! What is not named here fails with EPERM.

use std::{
    collections::BTreeMap,
    os::fd::{AsRawFd as _, BorrowedFd},
    process,
};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use super::may::May;

/// The system calls that every reader may make.
const LOOKING: &[libc::c_long] = &[
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_process_vm_readv,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_getsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_get_robust_list,
];
/// To live, and to answer on the one socket.
const LIVING: &[libc::c_long] = &[
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_ppoll,
    libc::SYS_fcntl,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// The older forms of some of these, which other architectures never had.
#[cfg(target_arch = "x86_64")]
const OLDER: &[libc::c_long] =
    &[libc::SYS_readlink, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_poll];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[libc::c_long] = &[];
/// To stop a thread for its registers, where that was asked for.
const STOPPING: &[libc::c_long] = &[libc::SYS_ptrace, libc::SYS_wait4, libc::SYS_waitid];
/// To copy what lies in a pipe into one of its own, where that was asked for.
const LISTENING: &[libc::c_long] = &[libc::SYS_pipe2, libc::SYS_tee];
/// To end by a panic, which is told as a signal to oneself.
const SIGNALLING: &[libc::c_long] = &[libc::SYS_kill, libc::SYS_tgkill];

/// What opening a file may not ask for: to write to it, or to make it. Of `openat2(2)`, whose flags lie in memory, a
/// filter cannot tell.
const WRITING: libc::c_int = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC;

/// Confines this thread for good, and all that it starts. Nothing is written but to this socket.
pub(super) fn confine(may: May, socket: BorrowedFd<'_>) -> Result<(), Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let more = match may {
        May::Look => &[],
        May::Stop => STOPPING,
        May::Listen => LISTENING,
    };
    for call in [LOOKING, LIVING, OLDER, more].into_iter().flatten() {
        rules.insert(*call, Vec::new());
    }
    let only = |argument: u8, operation: SeccompCmpOp, value: u64| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)?;
        Ok::<_, Error>(vec![SeccompRule::new(vec![condition])?])
    };
    for call in SIGNALLING {
        rules.insert(*call, only(0, SeccompCmpOp::Eq, u64::from(process::id()))?);
    }
    let socket = u64::try_from(socket.as_raw_fd()).unwrap_or(u64::MAX);
    rules.insert(libc::SYS_write, only(0, SeccompCmpOp::Eq, socket)?);
    let writing = u64::from(WRITING.cast_unsigned());
    rules.insert(libc::SYS_openat, only(2, SeccompCmpOp::MaskedEq(writing), 0)?);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, architecture)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

/// Why a reader is not confined.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The filter cannot be made here.
    #[error("no seccomp filter can be made: {0}")]
    Made(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("the kernel does not take the seccomp filter: {0}")]
    Applied(#[from] seccompiler::Error),
}
