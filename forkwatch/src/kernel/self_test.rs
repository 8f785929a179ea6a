//! Proof, at every start, that the programs read this kernel's structures right.
//!
//! The verifier refuses an offset that is out of range, not one that is merely wrong. So forkwatch forks two
//! children of its own, with known threads and known pending signals, and compares every field that is reported
//! with what `/proc` and the system calls say. It must run while the process has one thread.

use std::{
    fmt::Debug,
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        pthread::{pthread_kill, pthread_self},
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, SysconfVar, fork, getuid, pipe, read, sysconf},
};

use super::{
    Kernel,
    error::{KernelError, Mismatch, SELF_TEST_PATIENCE as PATIENCE},
    ring::Ring,
    trial::{self, Trial},
};
use crate::model::{
    event::{CloneKind, Event, Exec, Exit, ExitStatus, Fork},
    process::{Comm, ProcessKey},
    reported::Reported,
    signals::SignalSet,
    time::BootTime,
};

/// What forkwatch is called with when it execs itself for the test: it must exit at once.
pub const EXEC_ARGUMENT: &str = "__self-test-exec";

/// Threads of forkwatch during the test, the main one included.
const THREADS: u32 = 3;
/// Exit code of the child that does not exec.
const EXIT_CODE: u8 = 7;
/// Records taken before the clock is looked at, so that a storm of others cannot hold the test for ever.
const ROUND: usize = 4096;
/// Pending for the forking thread during the test, and for its process. Children are born without, and block them.
const PENDING: (Signal, Signal) = (trial::SIGNAL, Signal::SIGUSR2);

/// Runs the test. `own_cgroup` is the id of forkwatch's own cgroup, where that is known. Events of others that come
/// meanwhile are handed to `other`, in order. What is attached on demand is tried too; where it reports something else
/// than what happened, it is not used, and [`Kernel::probes`] says why.
pub fn run(
    kernel: &mut Kernel,
    ring: &mut Ring,
    own_cgroup: Option<u64>,
    mut other: impl FnMut(Reported),
) -> Result<(), KernelError> {
    let failed = |what| move |error: Errno| KernelError::SelfTestFailed { what, error: error.into() };
    let (expected, mut trial) = {
        let _signals = BlockedSignals::new().map_err(failed("blocking signals"))?;
        let threads = IdleThreads::start().map_err(failed("starting threads"))?;
        pthread_kill(pthread_self(), PENDING.0).map_err(failed("raising a signal"))?;
        kill(Pid::this(), PENDING.1).map_err(failed("raising a signal"))?;
        let connection = trial::Connection::new()
            .map_err(|error| KernelError::SelfTestFailed { what: "connecting to itself", error })?;
        let dropped = trial::dropped(kernel);
        let (release_exec, exec_child) = fork_waiting(exec_self).map_err(failed("forking"))?;
        let (release_exit, exit_child) = fork_waiting(|| ()).map_err(failed("forking"))?;
        let expected = Expected::read(exec_child, exit_child)
            .map_err(|error| KernelError::SelfTestFailed { what: "reading /proc", error })?;
        let (own, child) = (expected.own(), expected.exit_child.key());
        let trial = Trial::run(kernel, own, child, &connection, dropped).map_err(|error| {
            KernelError::SelfTestFailed { what: "trying what is watched on demand", error }
        })?;
        drop((release_exec, release_exit));
        drop(threads);
        (expected, trial)
    };
    let children = (expected.exec_child.pid, expected.exit_child.pid);
    let mut others = |reported| {
        if let Some(reported) = trial.take(reported) {
            other(reported);
        }
    };
    let reported = collect(ring, children, &mut others)?;
    trial.judge(kernel, expected.own(), expected.comm);
    for child in [children.0, children.1] {
        waitpid(child, None).map_err(failed("waiting for a child"))?;
    }
    Ok(expected.compare(&reported, own_cgroup)?)
}

/// `SIGUSR1` and `SIGUSR2` blocked, in this thread and those it starts, until this is dropped.
struct BlockedSignals {
    before: SigSet,
    ours: SigSet,
}

impl BlockedSignals {
    fn new() -> nix::Result<Self> {
        let ours: SigSet = [PENDING.0, PENDING.1].into_iter().collect();
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&ours), Some(&mut before))?;
        Ok(Self { before, ours })
    }
}

impl Drop for BlockedSignals {
    /// Takes the pending signals away before they could be delivered.
    fn drop(&mut self) {
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the set and the time-out live through the call, and no information is asked for.
        while unsafe { libc::sigtimedwait(self.ours.as_ref(), std::ptr::null_mut(), &raw const none) } > 0 {}
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Threads that do nothing until this is dropped.
struct IdleThreads {
    release: Option<OwnedFd>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl IdleThreads {
    fn start() -> nix::Result<Self> {
        let (gate, release) = pipe()?;
        let gate = std::sync::Arc::new(gate);
        let threads = (1..THREADS)
            .map(|_| {
                let gate = std::sync::Arc::clone(&gate);
                let builder = std::thread::Builder::new().stack_size(64 << 10);
                builder.spawn(move || wait_for_end(gate.as_fd())).map_err(|_| Errno::EAGAIN)
            })
            .collect::<nix::Result<_>>()?;
        Ok(Self { release: Some(release), threads })
    }
}

impl Drop for IdleThreads {
    fn drop(&mut self) {
        drop(self.release.take());
        for thread in self.threads.drain(..) {
            // It only reads a pipe, so there is no panic to pass on.
            drop(thread.join());
        }
    }
}

/// Returns when the pipe's other end is closed.
fn wait_for_end(gate: BorrowedFd<'_>) {
    let mut byte = [0];
    while matches!(read(gate, &mut byte), Err(Errno::EINTR) | Ok(1..)) {}
}

/// Forks a child that waits until the returned end is dropped, then does `then` and exits.
fn fork_waiting(then: fn()) -> nix::Result<(OwnedFd, Pid)> {
    let (gate, release) = pipe()?;
    // SAFETY: the child does nothing but system calls, although other threads may hold locks: read, exec, exit.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((release, child)),
        ForkResult::Child => {
            drop(release);
            wait_for_end(gate.as_fd());
            then();
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(i32::from(EXIT_CODE)) }
        }
    }
}

/// Replaces the child by forkwatch, which exits at once. Returns only if that failed.
fn exec_self() {
    const ARGUMENTS: [&std::ffi::CStr; 2] = [c"forkwatch", c"__self-test-exec"];
    let pointers = [ARGUMENTS[0].as_ptr(), ARGUMENTS[1].as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: constant strings, and arrays of them that end with a null pointer; no allocation.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
}

/// What the system says of both forks.
struct Expected {
    own_start: u64,
    comm: Comm,
    exec_child: Child,
    exit_child: Child,
}

/// What the system says of a child, before it goes on.
struct Child {
    pid: Pid,
    start: u64,
    namespace_pid: u32,
}

impl Expected {
    fn read(exec_child: Pid, exit_child: Pid) -> io::Result<Self> {
        Ok(Self {
            own_start: start_ticks("self")?,
            comm: Comm::new(fs::read("/proc/thread-self/comm")?.trim_ascii_end()),
            exec_child: Child::read(exec_child)?,
            exit_child: Child::read(exit_child)?,
        })
    }

    /// forkwatch itself.
    fn own(&self) -> ProcessKey {
        key(std::process::id(), self.own_start)
    }

    fn compare(&self, reported: &Records, own_cgroup: Option<u64>) -> Result<(), Mismatch> {
        self.compare_fork(&reported.exec_fork, &self.exec_child, own_cgroup)?;
        self.compare_fork(&reported.exit_fork, &self.exit_child, own_cgroup)?;

        let exec = &reported.exec;
        let child = self.exec_child.pid.as_raw().unsigned_abs();
        check("exec: tid before", exec.from_tid, child)?;
        check("exec: start", ticks(exec.process.start), self.exec_child.start)?;
        check("exec: comm", exec.comm, Comm::from("exe"))?;
        check("exec: uid", exec.uid, getuid().as_raw())?;
        check("exec: parent", exec.parent_tgid, std::process::id())?;
        check("exec: blocked signals", exec.blocked.and(pending()), pending())?;
        check("exec: kind of fork", exec.fork.map(|fork| fork.kind), Some(CloneKind::Copying))?;

        let exit = &reported.exit;
        check("exit: start", ticks(exit.process.start), self.exit_child.start)?;
        check("exit: comm", exit.comm, self.comm)?;
        check("exit: parent", exit.parent_tgid, std::process::id())?;
        check("exit: status", exit.status, ExitStatus::Code(EXIT_CODE))
    }

    fn compare_fork(&self, fork: &Fork, child: &Child, own_cgroup: Option<u64>) -> Result<(), Mismatch> {
        check("fork: kind", fork.kind, CloneKind::Copying)?;
        check("fork: parent", fork.parent.tgid, std::process::id())?;
        check("fork: parent's start", ticks(fork.parent.start), self.own_start)?;
        check("fork: forking thread", fork.parent_tid, nix::unistd::gettid().as_raw().unsigned_abs())?;
        check("fork: comm", fork.comm, self.comm)?;
        check("fork: uid", fork.uid, getuid().as_raw())?;
        check("fork: live threads", fork.threads, THREADS)?;
        check("fork: signals pending for the thread", fork.pending_thread.and(pending()), set(PENDING.0))?;
        check("fork: signals pending for the process", fork.pending_shared.and(pending()), set(PENDING.1))?;
        check("fork: blocked signals", fork.blocked.and(pending()), pending())?;
        check("fork: child's start", ticks(fork.child.start), child.start)?;
        // Unknown in a nested pid namespace where typed loads do not reach that deep: that is no lie.
        if fork.child_namespace_pid != 0 {
            check("fork: child's pid in its namespace", fork.child_namespace_pid, child.namespace_pid)?;
        }
        own_cgroup.map_or(Ok(()), |cgroup| check("fork: cgroup", fork.cgroup, cgroup))
    }
}

impl Child {
    fn key(&self) -> ProcessKey {
        key(self.pid.as_raw().unsigned_abs(), self.start)
    }

    fn read(pid: Pid) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let innermost = line.and_then(|pids| pids.split_whitespace().last()?.parse().ok());
        Ok(Self {
            pid,
            start: start_ticks(&pid.to_string())?,
            namespace_pid: innermost.unwrap_or_else(|| pid.as_raw().unsigned_abs()),
        })
    }
}

/// The records of both children.
struct Records {
    exec_fork: Fork,
    exit_fork: Fork,
    exec: Exec,
    exit: Exit,
}

/// Waits for the four records; everything else is somebody else's.
fn collect(
    ring: &mut Ring,
    (exec_child, exit_child): (Pid, Pid),
    other: &mut impl FnMut(Reported),
) -> Result<Records, KernelError> {
    let (mut exec_fork, mut exit_fork, mut exec, mut exit) = (None, None, None, None);
    let [exec_tgid, exit_tgid] = [exec_child, exit_child].map(|pid| pid.as_raw().unsigned_abs());
    let end = Instant::now() + PATIENCE;
    loop {
        let taken = ring.drain(ROUND, |reported| match reported {
            Reported::Event(Event::Fork(fork)) if fork.child.tgid == exec_tgid => exec_fork = Some(fork),
            Reported::Event(Event::Fork(fork)) if fork.child.tgid == exit_tgid => exit_fork = Some(fork),
            Reported::Event(Event::Exec(event)) if event.process.tgid == exec_tgid => exec = Some(event),
            Reported::Event(Event::Exit(event)) if event.process.tgid == exit_tgid => exit = Some(event),
            reported => other(reported),
        });
        if let (Some(exec_fork), Some(exit_fork), Some(exec), Some(exit)) =
            (&exec_fork, &exit_fork, &exec, &exit)
        {
            let (exec_fork, exit_fork) = (exec_fork.clone(), exit_fork.clone());
            return Ok(Records { exec_fork, exit_fork, exec: exec.clone(), exit: exit.clone() });
        }
        if Instant::now() >= end {
            let missing = [
                ("a child's fork", exec_fork.is_none() || exit_fork.is_none()),
                ("the child's exec", exec.is_none()),
            ];
            let missing = missing.iter().find(|(_, missing)| *missing);
            return Err(Mismatch::Missing(missing.map_or("the child's exit", |(record, _)| record)).into());
        }
        if taken < ROUND {
            wait_for_records(ring);
        }
    }
}

/// Until the ring wakes us, or for as long as the kernel keeps silent after a wake-up.
fn wait_for_records(ring: &Ring) {
    // SAFETY: the ring's descriptor stays open while it is borrowed.
    let descriptor = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
    let mut descriptors = [PollFd::new(descriptor, PollFlags::POLLIN)];
    let patience = PollTimeout::try_from(Duration::from_millis(2)).unwrap_or(PollTimeout::ZERO);
    // A failure (EINTR) only means that the ring is looked at earlier.
    let _ = poll(&mut descriptors, patience);
}

fn set(signal: Signal) -> SignalSet {
    SignalSet::of(&[(signal as i32).unsigned_abs()])
}

fn pending() -> SignalSet {
    set(PENDING.0).or(set(PENDING.1))
}

#[expect(clippy::needless_pass_by_value, reason = "a line a field reads better without borrows")]
fn check<T: PartialEq + Debug>(field: &'static str, reported: T, actual: T) -> Result<(), Mismatch> {
    if reported == actual {
        return Ok(());
    }
    Err(Mismatch::Field { field, reported: format!("{reported:?}"), actual: format!("{actual:?}") })
}

/// In the unit of `/proc/PID/stat`.
fn ticks(time: BootTime) -> u64 {
    time.0 / tick()
}

/// Of a start in that unit.
fn key(tgid: u32, start: u64) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(start.saturating_mul(tick())) }
}

/// Nanoseconds.
fn tick() -> u64 {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    1_000_000_000 / per_second.filter(|ticks| *ticks > 0).unwrap_or(100)
}

/// Field 22 of `/proc/PID/stat`, proc(5): the start of the process. The comm before it may hold anything.
fn start_ticks(pid: &str) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().nth(19).and_then(|field| field.parse().ok());
    ticks.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "/proc/PID/stat has no start time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_a_sentence() {
        let missing = KernelError::from(Mismatch::Missing("the child's exec")).to_string();
        assert!(missing.contains(": no record of the child's exec arrived within 5 s. "), "{missing}");
        let wrong = check("fork: live threads", 2, THREADS).unwrap_err().to_string();
        assert_eq!(wrong, "fork: live threads was reported as 2, and is 3");
        assert!(check("fork: live threads", THREADS, THREADS).is_ok());
    }
}
