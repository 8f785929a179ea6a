//! Against real processes: every Python there is, and this one.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::host::{stack::tests::pythons, task};

/// Threads of every sort: each tells its tid when it is where it stays.
const SCRIPT: &str = "
import queue, sys, threading, time, _thread
try:
    from concurrent.futures import ThreadPoolExecutor
except ImportError:
    sys.exit(0)
def holder(ready):
    ready.set()
    time.sleep(1000)
def waits(ready):
    ready.set()
    threading.Event().wait()
class Flusher(threading.Thread):
    def __init__(self, ready):
        self.before = 1
        super().__init__(name='r\\u00e9sum\\u00e9-flusher')
        self.ready = ready
    def run(self):
        self.ready.set()
        queue.Queue().get()
class Open(Flusher):
    pass
def start(thread, ready):
    thread.daemon = True
    thread.start()
    ready.wait()
    return thread
for make in (
    lambda ready: threading.Thread(target=holder, args=(ready,), name='cache-refresher'),
    lambda ready: threading.Thread(target=waits, args=(ready,), name='x' * 100),
    Flusher,
    Open,
):
    ready = threading.Event()
    thread = start(make(ready), ready)
# With a dictionary of its own, and a name of its own choice.
thread.__dict__['more'] = 1
thread.name = 'renamed'
pool = ThreadPoolExecutor(1, thread_name_prefix='pool')
pool.submit(int).result()
_thread.start_new_thread(time.sleep, (1000,))
print('ready')
sys.stdout.flush()
time.sleep(1000)
";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn threads_of_python_have_their_names_and_places() {
    let pythons = pythons();
    if pythons.is_empty() {
        crate::skip::skip("there is no python3 here");
    }
    for program in pythons {
        let mut child = Running(
            Command::new(&program)
                .args(["-c", SCRIPT])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Stat::of_process(child.0.id()).unwrap().key();
        let program = program.display().to_string();
        // Those before 3.7, and not yet known ones.
        if line != "ready\n" || stack::scripts(process).is_none_or(|scripts| scripts.is_err()) {
            eprintln!("not tested: {program}");
            continue;
        }
        let told =
            |name: &str, function: &str, file: &str| (name.to_owned(), function.to_owned(), file.to_owned());
        let long = format!("{}...", "x".repeat(64));
        let pool = told("pool_0", "_worker", "thread.py");
        let expected = [
            told("", "<module>", "<string>"),
            told("cache-refresher", "holder", "<string>"),
            told(&long, "waits", "<string>"),
            told("résumé-flusher", "run", "<string>"),
            told("renamed", "run", "<string>"),
            pool,
        ];
        let mut seen = Vec::new();
        let patience = Instant::now() + Duration::from_secs(10);
        // What is ready need not be where it stays yet.
        while seen != expected {
            assert!(Instant::now() < patience, "{program}: {seen:?}");
            let threads = task::user_threads(process.tgid).unwrap();
            assert_eq!(threads.len(), 7, "{program}");
            let occupations = occupations(process, &threads, Stacks::Light);
            // The last was started without any script to run, so that only its native calls are there.
            seen = occupations
                .into_iter()
                .filter(|occupation| occupation.tid != threads[6].id)
                .map(|Occupation { name, at, .. }| {
                    let at = at.unwrap_or_default();
                    let function = at.function.unwrap_or_default();
                    let function = function.rsplit('.').next().unwrap_or_default();
                    let file = at.module.unwrap_or_default();
                    told(&name.unwrap_or_default(), function, file.rsplit('/').next().unwrap_or_default())
                })
                .collect();
        }
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn forkwatch_test_keeps_busy() -> libc::c_int {
    // SAFETY: a sleep with no memory of its own.
    let left = unsafe { libc::sleep(1000) };
    std::hint::black_box(left.cast_signed())
}

#[test]
fn a_thread_without_a_script_is_in_its_innermost_named_function() {
    let child = crate::host::forked::Forked::into(|| {
        forkwatch_test_keeps_busy();
    });
    let process = child.key();
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let threads = task::user_threads(process.tgid).unwrap();
        let seen = occupations(process, &threads, Stacks::Light);
        let at = seen.first().and_then(|occupation| occupation.at.clone());
        if at.is_some_and(|at| at.function.as_deref() == Some("forkwatch_test_keeps_busy")) {
            break;
        }
        assert!(Instant::now() < patience, "{seen:?}");
        thread::yield_now();
    }
    assert_eq!(occupations(process, &task::user_threads(process.tgid).unwrap(), Stacks::None), []);
}

/// Says what the collector is like, and stays so.
const COLLECTED: &str = "
import gc, sys, time
exec(sys.argv[1])
kept = [[] for _ in range(100000)]
exec(sys.argv[2])
count = sum(len(gc.get_objects(generation=g)) for g in range(3)) if sys.version_info >= (3, 8) else 0
print(int(gc.isenabled()), gc.get_freeze_count(), count)
sys.stdout.flush()
time.sleep(1000)
";

#[test]
fn the_collector_of_python_is_told_as_it_is() {
    let pythons = pythons();
    if pythons.is_empty() {
        crate::skip::skip("there is no python3 here");
    }
    for program in pythons {
        for (before, after) in [("pass", "pass"), ("gc.disable()", "pass"), ("pass", "gc.freeze()")] {
            let mut child = Running(
                Command::new(&program)
                    .args(["-c", COLLECTED, before, after])
                    .stdout(Stdio::piped())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap(),
            );
            let mut line = String::new();
            BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let process = Stat::of_process(child.0.id()).unwrap().key();
            let program = program.display().to_string();
            let numbers: Vec<u64> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
            // 2.7 and 3.6 cannot freeze.
            let ([enabled, frozen, tracked], Some(seen)) = (&numbers[..], stack::collector(process)) else {
                eprintln!("not tested: {program}");
                continue;
            };
            assert_eq!((u64::from(seen.enabled), seen.frozen), (*enabled, *frozen), "{program} {seen:?}");
            assert!(seen.whole, "{program} {seen:?}");
            // Printing makes a few more, or fewer.
            assert!(*tracked == 0 || seen.tracked.abs_diff(*tracked) < 2000, "{program} {tracked} {seen:?}");
            // A list with its head takes 56 to 72 bytes.
            let lists = if after == "pass" { 100_000 * 56..100_000 * 200 } else { 0..1_000_000 };
            assert!(lists.contains(&seen.copies), "{program} {seen:?}");
        }
    }
}

/// Threads that take from queues, and a child that puts into its copies of these.
const QUEUES: &str = "
import os, queue, sys, threading, time
try:
    from concurrent.futures import ThreadPoolExecutor
except ImportError:
    sys.exit(0)
first, second = queue.Queue(), queue.PriorityQueue()
for one in (first, second):
    threading.Thread(target=one.get, daemon=True).start()
    while not one.not_empty._waiters:
        pass
pool = ThreadPoolExecutor(1)
pool.submit(int).result()
parent = os.getpid()
if os.fork() == 0:
    for one, count in ((first, 7), (second, 5)):
        for number in range(count):
            one.put(number)
    for number in range(3):
        pool.submit(int)
    print(os.getpid())
    sys.stdout.flush()
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(0)
time.sleep(1000)
";

#[test]
fn what_lies_in_queues_of_a_child_is_counted() {
    let pythons = pythons();
    if pythons.is_empty() {
        crate::skip::skip("there is no python3 here");
    }
    for program in pythons {
        let mut python = Running(
            Command::new(&program)
                .args(["-c", QUEUES])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let mut line = String::new();
        BufReader::new(python.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let process = Stat::of_process(python.0.id()).unwrap().key();
        let program = program.display().to_string();
        let child = line.trim().parse().ok().and_then(|child| Stat::of_process(child).ok());
        let (Some(child), Some(Ok(_))) = (child, stack::scripts(process)) else {
            eprintln!("not tested: {program}");
            continue;
        };
        let patience = Instant::now() + Duration::from_secs(10);
        let queues = loop {
            let threads = task::user_threads(process.tgid).unwrap();
            let seen = occupations(process, &threads, Stacks::Light);
            let queues: Vec<u64> = seen.iter().filter_map(|occupation| occupation.queue).collect();
            if queues.len() == 3 {
                break queues;
            }
            assert!(Instant::now() < patience, "{program}: {seen:?}");
            thread::yield_now();
        };
        assert_eq!(
            stack::queue_lengths(child.key(), &queues),
            Some(vec![Some(7), Some(5), Some(3)]),
            "{program}"
        );
        assert_eq!(stack::queue_lengths(process, &queues), Some(vec![Some(0); 3]), "{program}");
        assert_eq!(stack::queue_lengths(process, &[8, queues[0] + 8]), Some(vec![None; 2]), "{program}");
    }
}
