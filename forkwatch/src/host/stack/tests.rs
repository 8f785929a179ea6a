//! Against real processes: forks of this one, and Pythons.

use std::{
    cell::UnsafeCell,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, gettid},
};
use proptest::prelude::*;

use super::*;
use crate::host::{bytes::Slice, maps::Mapping};

/// A variable of this program, for its name.
#[unsafe(no_mangle)]
static FORKWATCH_TEST_LOCK: Lock = Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the C library alone uses what is inside.
unsafe impl Sync for Lock {}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn forkwatch_test_waits() -> libc::c_int {
    // SAFETY: the mutex is initialised and never destroyed.
    let result = unsafe { libc::pthread_mutex_lock(FORKWATCH_TEST_LOCK.0.get()) };
    // So that the call above is none that replaces this one.
    std::hint::black_box(result)
}

/// A child that waits for the mutex that the parent held when it forked.
struct Stuck(Pid);

impl Stuck {
    fn new() -> Self {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // SAFETY: the mutex is initialised, and this thread does not hold it.
        ONCE.call_once(|| assert_eq!(unsafe { libc::pthread_mutex_lock(FORKWATCH_TEST_LOCK.0.get()) }, 0));
        // SAFETY: the child does nothing but wait for a mutex, which allocates nothing.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => {
                let waiting = Self(child);
                let is_stuck =
                    || Sleep::of(waiting.tgid(), waiting.tgid()).is_ok_and(|sleep| sleep.is_in_futex());
                until(is_stuck);
                waiting
            }
            ForkResult::Child => loop {
                forkwatch_test_waits();
            },
        }
    }

    fn tgid(&self) -> u32 {
        self.0.as_raw().try_into().unwrap()
    }

    fn key(&self) -> ProcessKey {
        Stat::of_process(self.tgid()).unwrap().key()
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

pub(super) fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about");
        thread::sleep(Duration::from_millis(1));
    }
}

fn functions(stack: &Stack) -> Vec<&str> {
    stack.frames.iter().filter_map(|frame| frame.function.as_deref()).collect()
}

#[test]
fn a_waiting_thread_shows_who_called() {
    let waiting = Stuck::new();
    let stack = of_thread(waiting.key(), waiting.tgid(), Stacks::Light);
    // Among all frames: without the C library's debugging symbols some between these two have no name.
    let position = |is_it: &dyn Fn(&str) -> bool| {
        stack.frames.iter().position(|frame| frame.function.as_deref().is_some_and(is_it))
    };
    let locks = position(&|name| name.ends_with("pthread_mutex_lock"));
    let waits = position(&|name| name == "forkwatch_test_waits");
    assert!(locks < waits && locks.is_some(), "{stack:?}");
    let here = std::env::current_exe().unwrap();
    let frame = stack.frames.get(waits.unwrap()).unwrap();
    assert_eq!(frame.module.as_deref(), here.to_str());
    assert!(frame.offset.is_some());
}

#[test]
fn with_all_registers_the_stack_is_whole_and_the_thread_waits_on() {
    let waiting = Stuck::new();
    let stack = of_thread(waiting.key(), waiting.tgid(), Stacks::Full);
    assert!(functions(&stack).contains(&"forkwatch_test_waits"), "{stack:?}");
    // The first function of a thread of the test harness.
    assert_eq!(stack.missing, None, "{stack:?}");
    until(|| Sleep::of(waiting.tgid(), waiting.tgid()).is_ok_and(|sleep| sleep.is_in_futex()));
    let status = std::fs::read_to_string(format!("/proc/{}/status", waiting.tgid())).unwrap();
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    assert!(status.contains("State:\tS"), "{status}");
}

#[test]
fn a_stopped_thread_is_where_it_slept() {
    let waiting = Stuck::new();
    let tid = waiting.tgid();
    let asleep = Sleep::of(tid, tid).unwrap();
    let registers = thread::spawn(move || stop::registers(tid)).join().unwrap().unwrap();
    assert_eq!(
        (registers.stack(), registers.instruction),
        (asleep.position.stack, asleep.position.instruction)
    );
    assert!(registers.complete);
    let foreign = thread::spawn(|| stop::registers(u32::MAX)).join().unwrap();
    assert!(foreign.is_err());
}

#[test]
fn a_variable_has_a_name() {
    let waiting = Stuck::new();
    let lock = &raw const FORKWATCH_TEST_LOCK as u64;
    assert_eq!(symbol(waiting.key(), lock).as_deref(), Some("FORKWATCH_TEST_LOCK"));
    assert_eq!(symbol(waiting.key(), lock + 8).as_deref(), Some("FORKWATCH_TEST_LOCK"));
    let on_the_stack = 0_u8;
    assert_eq!(symbol(waiting.key(), &raw const on_the_stack as u64), None);
    assert_eq!(symbol(waiting.key(), 0), None);
    assert_eq!(symbol(waiting.key(), u64::MAX), None);
}

#[test]
fn who_is_gone_or_somebody_else_has_no_stack() {
    let waiting = Stuck::new();
    let (key, tid) = (waiting.key(), waiting.tgid());
    let mut other = key;
    other.start.0 += crate::model::time::TICK;
    assert_eq!(of_thread(other, tid, Stacks::Light), Stack::absent(format!("process {tid} has ended")));
    assert_eq!(symbol(other, &raw const FORKWATCH_TEST_LOCK as u64), None);
    let foreign = u32::try_from(gettid().as_raw()).unwrap();
    let why = format!("process {tid} has no thread {foreign} any more");
    assert_eq!(of_thread(key, foreign, Stacks::Full), Stack::absent(why));
    drop(waiting);
    assert_eq!(of_thread(key, tid, Stacks::Light), Stack::absent(format!("process {tid} has ended")));
    assert_eq!(of_script(key, tid), None);
    assert!(of_thread(key, tid, Stacks::None).missing.is_some());
}

#[test]
fn a_thread_that_runs_is_not_guessed_at() {
    let own = Stat::of_process(std::process::id()).unwrap().key();
    let spinning = std::sync::atomic::AtomicBool::new(true);
    thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        let spinning = &spinning;
        scope.spawn(move || {
            send.send(gettid().as_raw()).unwrap();
            while spinning.load(std::sync::atomic::Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let tid = receive.recv().unwrap().try_into().unwrap();
        let stack = of_thread(own, tid, Stacks::Light);
        spinning.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(stack.frames.is_empty() && stack.missing.is_some(), "{stack:?}");
    });
}

/// A program that waits for ever in a child for a lock that its parent's other thread holds.
const SCRIPT: &str = "
import os, sys, threading, time
lock = threading.Lock()
lock.acquire()
def wait_for_it(text):
    lock.acquire()
class Worker(object):
    def handle(self):
        wait_for_it(u'\\u20ac')
def generate():
    yield Worker().handle()
pid = os.fork()
if pid == 0:
    list(generate())
print(pid)
sys.stdout.flush()
time.sleep(1000)
";

pub(in crate::host) struct Python {
    pub(in crate::host) parent: Child,
    pub(in crate::host) child: u32,
}

impl Python {
    pub(in crate::host) fn new(program: &PathBuf) -> Self {
        let mut parent = Command::new(program)
            .args(["-c", SCRIPT])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let child = line.trim().parse().unwrap();
        until(|| Sleep::of(child, child).is_ok_and(|sleep| sleep.is_in_futex()));
        Self { parent, child }
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.try_into().unwrap()), Signal::SIGKILL);
        let _ = self.parent.kill();
        let _ = self.parent.wait();
    }
}

/// Those that `cargo xtask test` provides, those that pyenv has, and the system's.
pub(in crate::host) fn pythons() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let pyenv = std::fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().flatten();
    let pyenv = pyenv.map(|version| version.path().join("bin/python"));
    let all = provided_pythons().into_iter().chain(pyenv).chain(["/usr/bin/python3".into()]);
    all.filter(|path| path.exists()).collect()
}

/// Those of a later release of Debian.
fn provided_pythons() -> Vec<PathBuf> {
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../.cache");
    let cache = std::env::var_os("FORKWATCH_CACHE").map_or_else(|| own.into(), PathBuf::from);
    let note = std::fs::read(cache.join("real/provided.json")).unwrap_or_default();
    let note: serde_json::Value = serde_json::from_slice(&note).unwrap_or_default();
    let present = note["present"].as_object().cloned().unwrap_or_default();
    let pythons = present.into_iter().filter(|(name, _)| name.starts_with("python3."));
    pythons.filter_map(|(_, python)| Some(python["path"].as_str()?.into())).collect()
}

#[test]
fn python_frames_are_named() {
    let pythons = pythons();
    if pythons.is_empty() {
        crate::skip::skip("there is no python3 here");
    }
    for program in pythons {
        let python = Python::new(&program);
        let key = Stat::of_process(python.child).unwrap().key();
        let stack = of_script(key, python.child).unwrap();
        let version = std::fs::canonicalize(&program).unwrap();
        let version = python::named_version(version.as_os_str().as_encoded_bytes()).unwrap();
        if matches!(version.as_str(), "2.7" | "3.6") {
            let command = format!("py-spy dump --pid {}", python.child);
            assert!(stack.missing.is_some_and(|missing| missing.contains(&command)), "{version}");
            continue;
        }
        let minor: u32 = version.strip_prefix("3.").unwrap().parse().unwrap();
        if minor > 15 {
            eprintln!("not tested, {version} is not known");
            continue;
        }
        let handle = if minor >= 11 { "Worker.handle" } else { "handle" };
        let frames: Vec<_> =
            stack.frames.iter().map(|frame| (frame.function.as_deref().unwrap(), frame.line)).collect();
        let expected = [("wait_for_it", 6), (handle, 9), ("generate", 11), ("<module>", 14)]
            .map(|(name, line)| (name, Some(line)));
        assert_eq!(frames, expected, "{version}");
        assert_eq!(stack.missing, None, "{version}");
        assert!(stack.frames.iter().all(|frame| frame.module.as_deref() == Some("<string>")), "{version}");
        let native = of_thread(key, python.child, Stacks::Light);
        // From 3.13.1 on a lock is a `PyMutex`, whose waiters sleep on a semaphore each.
        let waits = ["PyThread_acquire_lock_timed", "_PySemaphore_Wait"];
        let functions = functions(&native);
        assert!(waits.iter().any(|wait| functions.contains(wait)), "{version}: {native:?}");
    }
}

#[test]
fn what_is_no_python_has_no_script() {
    let waiting = Stuck::new();
    assert_eq!(of_script(waiting.key(), waiting.tgid()), None);
}

/// What a hostile process may keep in its memory.
fn look_at(page: &[u8]) {
    let start = 0x7000_0000;
    let end = start + page.len() as u64;
    let memory = Bytes::of(Slice { start, bytes: page.to_vec() });
    let files = Files::none();
    let head = Mapping { start, end, executable: true, path: b"/hostile".to_vec(), ..Mapping::default() };
    if let Ok(object) = Object::read(&memory, &head) {
        let address = start + 64;
        let _ = cfi::Entry::covering(&files, &memory, &object, address)
            .map(|entry| entry.with_row(address, |_, _, _| ()));
        let _ = symbols::names(&files, &memory, &object, Kind::Code, &[address]);
        let _ = symbols::address_of(&memory, &object, b"_PyRuntime");
    }
}

/// Where the object is mapped.
const OBJECT: u64 = 0x7000_0000_0000;

/// An object in memory with these symbols: start, size, and where in the strings the name is.
fn object_with(symbols: &[(u64, u64, u32)], strings: &[u8]) -> (Bytes, Object) {
    const START: u64 = OBJECT;
    const TABLE: u64 = 0x1000;
    let hash = TABLE + symbols.len() as u64 * 24;
    let names = hash + 8;
    let mut bytes = vec![0; 0x200];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"\x7fELF\x02\x01\x01");
    put(32, &64_u64.to_ne_bytes());
    put(56, &2_u16.to_ne_bytes());
    let segment = |kind: u32, at: u64, size: u64| {
        [u64::from(kind), at, at, at, size, size, 8].map(u64::to_ne_bytes).concat()
    };
    put(64, &segment(1, 0, u64::MAX / 4));
    put(120, &segment(2, 0x100, 80));
    let dynamic = [(6, TABLE), (4, hash), (5, names), (0, 0)];
    put(
        0x100,
        &dynamic
            .iter()
            .flat_map(|(tag, value)| [*tag, *value])
            .flat_map(u64::to_ne_bytes)
            .collect::<Vec<u8>>(),
    );
    bytes.resize(usize::try_from(TABLE).unwrap(), 0);
    for (start, size, name) in symbols {
        // A function, global, in some section.
        bytes.extend(
            [&name.to_ne_bytes()[..], &[0x12, 0, 1, 0], &start.to_ne_bytes(), &size.to_ne_bytes()].concat(),
        );
    }
    bytes.extend(1_u32.to_ne_bytes());
    bytes.extend(u32::try_from(symbols.len()).unwrap().to_ne_bytes());
    bytes.extend(strings);
    let head = Mapping { start: START, end: START + 0x1000, executable: true, ..Mapping::default() };
    let memory = Bytes::of(Slice { start: START, bytes });
    let object = Object::read(&memory, &head).unwrap();
    (memory, object)
}

#[test]
fn a_million_symbols_that_cover_an_address_cost_one_pass() {
    let strings = b"\0outer\0inner\0__inner\0";
    let mut symbols = vec![(0, u64::MAX / 8, 1); 1_000_000];
    symbols.insert(500_000, (0x5000, 0x100, 13));
    symbols.insert(500_001, (0x5000, 0x100, 7));
    symbols.insert(700_000, (0x5000, 0x100, 0));
    let (memory, object) = object_with(&symbols, strings);
    let names = |limits| {
        budget::question(limits, || {
            symbols::names(
                &Files::none(),
                &memory,
                &object,
                Kind::Code,
                &[OBJECT + 0x5010, OBJECT + 0x4000, OBJECT + 0x5010],
            )
        })
    };
    let name = |name: &str| Some(name.to_owned());
    let steps = budget::measured(budget::LARGE, || {
        assert_eq!(names(budget::LARGE), [name("inner"), name("outer"), name("inner")]);
    });
    assert!(steps.steps < 600, "{steps:?}");
    // Half a table names nothing, not even what stood in that half.
    let half = budget::Limits { bytes: 16 * 1024 * 1024, ..budget::LARGE };
    assert_eq!(names(half), [None, None, None]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_object_makes_it_panic(at in 0_usize..4096, garbage in proptest::collection::vec(any::<u8>(), 0..64), cut in 0_usize..8192) {
        let mut page = std::fs::read("/proc/self/exe").unwrap();
        page.truncate(64 * 1024);
        for (place, byte) in page.iter_mut().skip(at % 512).zip(garbage) {
            *place = byte;
        }
        page.truncate(64 + cut);
        look_at(&page);
    }

    #[test]
    fn no_stack_makes_it_panic(words in proptest::collection::vec(any::<u64>(), 16), instruction in any::<u64>()) {
        let own = std::process::id();
        let maps = Rc::new(Maps::of_process(own).unwrap());
        let memory = memory::of_process(own, Rc::clone(&maps)).unwrap();
        let files = Files::of(own);
        let stack = words.as_ptr().addr() as u64;
        // Anywhere, and anywhere in this program's code.
        for instruction in [instruction, no_stack_makes_it_panic as *const () as u64 + instruction % 100_000] {
            unwind::walk(&files, &memory, &maps, Registers::new(instruction, stack));
            unwind::walk(&files, &memory, &maps, Registers::complete(instruction, &words));
        }
    }
}
