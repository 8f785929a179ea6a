//! Looking at processes through `/proc`.

use std::fs;

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

/// A process, told apart from a later one of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    start: u64,
}

/// The fields of `/proc/PID/stat` that are needed here.
struct Stat {
    state: char,
    parent: i32,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    // The comm in parentheses may hold anything, parentheses too.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some(Stat { state, parent, start: fields.nth(17)?.parse().ok()? })
}

impl Identity {
    /// Who bears this pid now; absent if nobody does or only a zombie.
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).filter(|stat| stat.state != 'Z').map(|stat| Self { pid, start: stat.start })
    }

    /// Whether it runs still.
    pub fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Kills it, and reaps it if it is ours to reap.
    pub fn kill(self) {
        if self.lives() {
            // Both fail only if it has ended meanwhile, which is what is wanted.
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGKILL);
        }
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Whether all threads of a process are stopped.
pub fn is_stopped(pid: i32) -> bool {
    numbers(&format!("/proc/{pid}/task"))
        .into_iter()
        .all(|tid| stat(tid).is_some_and(|stat| stat.state == 'T'))
}

/// Whether a thread of a process waits for a lock in this place. It may lie some words behind its beginning.
pub fn waits_for(pid: i32, lock: u64) -> bool {
    const LARGEST: u64 = 64;
    let waits = |tid: i32| {
        // proc_pid_syscall(5): the call's number and its arguments in hexadecimal.
        let call = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
        let (number, arguments) = call.split_once(" 0x")?;
        let word = u64::from_str_radix(arguments.split_whitespace().next()?, 16).ok()?;
        let futex = number.parse() == Ok(libc::SYS_futex);
        (futex && (lock..lock + LARGEST).contains(&word)).then_some(())
    };
    numbers(&format!("/proc/{pid}/task")).into_iter().any(|tid| waits(tid).is_some())
}

/// The pids of a folder like `/proc` or `/proc/PID/task`.
fn numbers(folder: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// All living descendants of a process.
pub fn descendants(root: i32) -> Vec<Identity> {
    let parents: Vec<(i32, i32)> =
        numbers("/proc").into_iter().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    family.into_iter().skip(1).filter_map(Identity::of).collect()
}

/// How often the threads of a process and of its descendants went to sleep of their own will so far: each time, they
/// had been woken before. Absent where one of them ends meanwhile.
pub fn times_slept(root: i32) -> Option<u64> {
    let mut sum = 0;
    for pid in descendants(root).into_iter().map(|one| one.pid).chain([root]) {
        for tid in numbers(&format!("/proc/{pid}/task")) {
            let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).ok()?;
            let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            sum += count.trim().parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

/// The comms of a process's threads.
pub fn thread_names(pid: i32) -> Vec<String> {
    let name = |tid: i32| fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok();
    let names = numbers(&format!("/proc/{pid}/task")).into_iter().filter_map(name);
    names.map(|name| String::from_utf8_lossy(name.trim_ascii_end()).into_owned()).collect()
}
