//! Against real processes and threads: this one's, and those that it starts.

use std::{
    os::unix::{process::CommandExt, thread::JoinHandleExt},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        signalfd::SignalFd,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::gettid,
};
use proptest::prelude::*;

use super::*;
use crate::host::forked::Forked;
use crate::model::{process::Comm, time::TICK};

fn own_key() -> ProcessKey {
    Stat::of_process(std::process::id()).unwrap().key()
}

fn own_tid() -> u32 {
    gettid().as_raw().try_into().unwrap()
}

/// A thread that lives until it is dropped.
struct Parked {
    tid: u32,
    release: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Parked {
    fn new(name: &str) -> Self {
        let (release, released) = mpsc::channel();
        let (report, reported) = mpsc::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                report.send(own_tid()).unwrap();
                let _ = released.recv();
            })
            .unwrap();
        Self { tid: reported.recv().unwrap(), release: Some(release), thread: Some(thread) }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.release.take();
        self.thread.take().map(JoinHandle::join);
    }
}

/// Held by tests that look for their threads among the first that are named.
fn few_threads() -> MutexGuard<'static, ()> {
    static FEW: Mutex<()> = Mutex::new(());
    FEW.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parent_seen_by(child: &Forked, forked_at: BootTime) -> ParentSeen {
    let request =
        Request::Parent { child: child.key(), parent: own_key(), forking_tid: own_tid(), forked_at };
    match answer(&request) {
        Evidence::Parent { child: about, seen, .. } if about == child.key() => seen.unwrap(),
        other => panic!("not an answer to the question: {other:?}"),
    }
}

#[test]
fn threads_older_than_the_fork_are_named_and_no_others() {
    let _few = few_threads();
    let hostile = Parked::new(") S 1 (\n");
    let child = Forked::new();
    let forked_at = clock::now();
    let younger = Parked::new("younger");
    let seen = parent_seen_by(&child, forked_at);
    let named = |tid| seen.threads.iter().find(|thread| thread.tid == tid).map(|thread| thread.comm);
    assert_eq!(named(hostile.tid), Some(Comm::new(b") S 1 (\n")));
    assert_eq!(named(younger.tid), None);
    assert_eq!(named(own_tid()), None);
    assert_eq!(seen.program.exe, std::env::current_exe().ok());
    assert!(seen.at >= forked_at);
}

#[test]
fn of_many_threads_the_first_are_named_and_all_are_counted() {
    let _few = few_threads();
    let threads: Vec<Parked> = (0..MAX_THREADS + 6).map(|_| Parked::new("many")).collect();
    let child = Forked::new();
    let seen = parent_seen_by(&child, clock::now());
    assert_eq!(seen.threads.len(), MAX_THREADS);
    assert!(seen.threads.is_sorted_by_key(|thread| thread.tid));
    assert!(usize::try_from(seen.thread_count).unwrap() >= threads.len());
}

#[test]
fn signals_that_the_forking_thread_holds_back_are_pending() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR2);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).unwrap();
    nix::sys::signal::raise(Signal::SIGUSR2).unwrap();
    let seen = parent_seen_by(&Forked::new(), clock::now());
    assert_eq!(seen.pending, SignalSet::of(&[12]));
    // Taken in, so that it ends nothing.
    assert_eq!(set.wait().unwrap(), Signal::SIGUSR2);
}

#[test]
fn another_process_under_the_same_pid_is_not_an_answer() {
    let child = Forked::new();
    let key = ProcessKey { start: BootTime(own_key().start.0 + TICK), ..own_key() };
    let request =
        Request::Parent { child: child.key(), parent: key, forking_tid: own_tid(), forked_at: clock::now() };
    assert_eq!(answer(&request), Evidence::Parent { child: child.key(), seen: None, ended: true });
    assert_eq!(answer(&Request::Execed { process: key }), Evidence::Execed { process: key, seen: None });
    assert_eq!(answer(&Request::Child { child: key }), Evidence::Child { child: key, seen: ChildSeen::Gone });
}

#[test]
fn a_child_is_alive_then_stopped_then_gone() {
    let child = Forked::new();
    let key = child.key();
    let ChildSeen::Alive { ran, stopped, comm, .. } = child_seen(key) else {
        panic!("{:?}", child_seen(key))
    };
    assert!(!stopped);
    assert_eq!(comm, Stat::of_thread(std::process::id(), own_tid()).unwrap().comm);
    assert_eq!(ran.is_some(), Schedule::of_process(std::process::id()).is_some());

    kill(child.pid(), Signal::SIGSTOP).unwrap();
    waitpid(child.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(child_seen(key), ChildSeen::Alive { stopped: true, .. }));

    // A zombie first: WNOWAIT leaves it there.
    kill(child.pid(), Signal::SIGKILL).unwrap();
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    let id = nix::sys::wait::Id::Pid(child.pid());
    assert!(matches!(nix::sys::wait::waitid(id, flags).unwrap(), WaitStatus::Signaled(..)));
    assert_eq!(child_seen(key), ChildSeen::Gone);
    waitpid(child.pid(), None).unwrap();
    assert_eq!(child_seen(key), ChildSeen::Gone);
}

/// `cat`, started with SIGTERM blocked.
fn deaf_cat() -> Child {
    let mut command = Command::new("cat");
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    // SAFETY: pthread_sigmask(3) is async-signal-safe, and the set is on the stack.
    unsafe {
        command.pre_exec(|| {
            let mut set = SigSet::empty();
            set.add(Signal::SIGTERM);
            Ok(pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&set), None)?)
        })
    };
    command.spawn().unwrap()
}

#[test]
fn what_runs_after_an_exec_is_seen_with_its_parent_and_its_mask() {
    let mut cat = deaf_cat();
    let key = Stat::of_process(cat.id()).unwrap().key();
    let Evidence::Execed { seen: Some(seen), .. } = answer(&Request::Execed { process: key }) else {
        panic!()
    };
    assert_eq!(seen.blocked, SignalSet::of(&[15]));
    assert_eq!(seen.awaited, Some(SignalSet::EMPTY));
    assert_eq!(seen.program.comm.bytes(), b"cat");
    assert_eq!(seen.program.cmdline, ["cat"]);
    let (parent, program) = seen.parent.unwrap();
    assert_eq!(parent, own_key());
    assert_eq!(program.exe, std::env::current_exe().ok());
    assert_eq!(child_seen(key), ChildSeen::Execed);
    cat.kill().unwrap();
    cat.wait().unwrap();
    assert_eq!(answer(&Request::Execed { process: key }), Evidence::Execed { process: key, seen: None });
}

#[test]
fn a_signalfd_shows_what_it_takes_in() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGWINCH);
    let signalfd = SignalFd::new(&set).unwrap();
    assert!(fdinfo::signalfd_mask(std::process::id()).unwrap().contains(28));
    drop(signalfd);
}

/// A thread in sigwait, which blocks SIGURG before.
fn waiting_thread() -> (JoinHandle<Signal>, u32) {
    let (report, reported) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut set = SigSet::empty();
        set.add(Signal::SIGURG);
        set.add(Signal::SIGIO);
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), None).unwrap();
        set.remove(Signal::SIGIO);
        report.send(own_tid()).unwrap();
        set.wait().unwrap()
    });
    (thread, reported.recv().unwrap())
}

#[test]
fn what_a_thread_waits_for_in_sigwait_does_not_count_as_blocked() {
    let (thread, tid) = waiting_thread();
    let patience = Instant::now() + Duration::from_secs(10);
    while Status::of_thread(std::process::id(), tid).unwrap().blocked != SignalSet::of(&[29]) {
        assert!(Instant::now() < patience, "never seen in sigwait");
        thread::yield_now();
    }
    // SAFETY: the thread lives until it gets this signal.
    assert_eq!(unsafe { libc::pthread_kill(thread.as_pthread_t(), libc::SIGURG) }, 0);
    assert_eq!(thread.join().unwrap(), Signal::SIGURG);
}

proptest! {
    #[test]
    fn no_schedstat_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = Schedule::parse(&text);
    }
}

#[test]
fn a_pid_is_enough_to_name_a_program() {
    let own = Stat::of_process(std::process::id()).unwrap();
    let Evidence::Program { tgid, seen: Some(seen) } = answer(&Request::Program { tgid: own.id }) else {
        panic!("this process is not found")
    };
    assert_eq!((tgid, seen.process, seen.stopped), (own.id, own.key(), false));
    assert_eq!(seen.program.exe, std::env::current_exe().ok());
    assert_eq!(
        answer(&Request::Program { tgid: u32::MAX }),
        Evidence::Program { tgid: u32::MAX, seen: None }
    );
}
