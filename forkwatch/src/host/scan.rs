//! The processes that already live when a watch begins.

use std::{
    collections::{HashMap, HashSet},
    io,
};

use serde::{Deserialize, Serialize};

use super::{absence, file, place, stat::Stat, status::Status, task};
use crate::model::process::{Comm, ProcessKey};

/// Why the running processes could not be listed, or one of them not found.
#[derive(Debug, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScanError {
    /// There is no such process.
    #[error(
        "there is no process {0}: it has ended, or it is known by that pid in another pid namespace only"
    )]
    NoSuchProcess(u32),
    /// There is one, but `/proc` does not show it.
    #[error(
        "process {0} is hidden from you (/proc is mounted with hidepid): run as root, or with CAP_SYS_PTRACE"
    )]
    Hidden(u32),
    /// It has ended, and its parent has not fetched how.
    #[error(
        "process {pid} ({}) has ended: it is a zombie, and stays one until its parent, process {parent}, waits for it",
        .comm.to_text()
    )]
    Zombie {
        /// The id that was asked for.
        pid: u32,
        /// Its comm: at most 15 bytes, of its own choice.
        comm: Comm,
        /// The pid of its parent.
        parent: u32,
    },
    /// The id is that of a thread.
    #[error("{tid} is a thread of process {tgid}: give {tgid}")]
    Thread {
        /// The id that was asked for.
        tid: u32,
        /// Its process.
        tgid: u32,
    },
    /// It is one of the kernel's own.
    #[error("{0} is a thread of the kernel: it runs no program, and forks none")]
    KernelThread(u32),
    /// Something in `/proc` could not be read.
    #[error("cannot read {path}: {source}; run as root, or with CAP_SYS_PTRACE where /proc has hidepid")]
    Unreadable {
        /// What could not be read.
        path: String,
        /// What the system or the parser said.
        #[serde(with = "as_number")]
        source: io::Error,
    },
}

/// Most children of one process that are told.
const MOST_CHILDREN: usize = 512;

/// A process that lives already. Its start is rounded down to a clock tick, as `/proc` shows it: compare ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Which process: its tgid, and when it started.
    pub key: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Its present parent, which need not be the process that forked it.
    pub parent: u32,
    /// Whether it was forked and has not exec'd since.
    pub unexeced: bool,
    /// Kernel workers (of `io_uring` or vhost) among its threads.
    pub workers: u32,
}

/// Every living process of user space, by ascending pid. Those that end meanwhile may be missing.
pub fn processes() -> Result<Vec<Process>, ScanError> {
    let tgids = file::numbers("/proc", usize::MAX)
        .map_err(|source| ScanError::Unreadable { path: "/proc".to_owned(), source })?;
    Ok(tgids.into_iter().filter_map(process).collect())
}

fn process(tgid: u32) -> Option<Process> {
    let stat = Stat::of_process(tgid).ok()?;
    if stat.process_has_ended() || stat.is_kernel_thread() {
        return None;
    }
    let workers = if stat.threads > 1 { task::worker_count(tgid).unwrap_or_default() } else { 0 };
    Some(Process {
        key: stat.key(),
        comm: stat.comm,
        parent: stat.parent,
        unexeced: stat.is_unexeced(),
        workers,
    })
}

/// The process with that pid.
pub fn find(pid: u32) -> Result<Process, ScanError> {
    // `/proc/TID` exists, unlisted, for threads too.
    match Status::thread_group(pid) {
        Ok(tgid) if tgid != pid => Err(ScanError::Thread { tid: pid, tgid }),
        Ok(_) => match Stat::of_process(pid) {
            Ok(stat) if stat.is_kernel_thread() => Err(ScanError::KernelThread(pid)),
            Ok(stat) if stat.process_has_ended() => {
                Err(ScanError::Zombie { pid, comm: stat.comm, parent: stat.parent })
            }
            _ => process(pid).ok_or(ScanError::NoSuchProcess(pid)),
        },
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(ScanError::Unreadable { path: format!("/proc/{pid}/status"), source: error })
        }
        Err(_) if absence::exists(pid) => Err(ScanError::Hidden(pid)),
        Err(_) => Err(ScanError::NoSuchProcess(pid)),
    }
}

/// The process as it is now, unless it has ended.
pub fn look_again(key: ProcessKey) -> Option<Process> {
    find(key.tgid).ok().filter(|now| now.key == key)
}

/// An error of the system is its number.
mod as_number {
    use std::io;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(error: &io::Error, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(error.raw_os_error().unwrap_or(libc::EIO))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<io::Error, D::Error> {
        i32::deserialize(deserializer).map(io::Error::from_raw_os_error)
    }
}

/// The children of a process that were forked and have not exec'd: none where the kernel does not list them
/// (`CONFIG_PROC_CHILDREN`). Reads what never waits.
pub fn forked_children(parent: ProcessKey) -> Vec<Process> {
    let children = place::children(parent.tgid, MOST_CHILDREN).into_iter().filter_map(process);
    children.filter(|child| child.parent == parent.tgid && child.unexeced).collect()
}

/// The children of a process, their children, and so on, without itself. A child whose parent has ended belongs to
/// another family by then. Forks during the scan can escape one reading: watch what was found, and read again
/// until nothing new turns up.
pub fn descendants(tgid: u32, processes: &[Process]) -> Vec<Process> {
    let mut children: HashMap<u32, Vec<&Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut seen = HashSet::from([tgid]);
    let mut open = vec![tgid];
    while let Some(parent) = open.pop() {
        for child in children.get(&parent).into_iter().flatten() {
            // Processes are read one after the other, so that reused pids could close a circle.
            if seen.insert(child.key.tgid) {
                open.push(child.key.tgid);
                found.push(**child);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::model::time::BootTime;

    fn made_up(tgid: u32, parent: u32) -> Process {
        let key = ProcessKey { tgid, start: BootTime(0) };
        Process { key, comm: "x".into(), parent, unexeced: false, workers: 0 }
    }

    #[test]
    fn descendants_are_found_through_all_generations_and_circles_end() {
        let processes = [
            made_up(1, 0),
            made_up(2, 1),
            made_up(3, 2),
            made_up(4, 3),
            made_up(5, 1),
            made_up(8, 9),
            made_up(9, 8),
        ];
        let mut found: Vec<u32> = descendants(2, &processes).iter().map(|process| process.key.tgid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
        assert_eq!(descendants(8, &processes).len(), 1);
        assert!(descendants(77, &processes).is_empty());
    }

    #[test]
    fn a_child_of_this_process_is_found_and_then_it_is_not() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let found = descendants(std::process::id(), &processes().unwrap());
        assert!(found.iter().any(|process| process.key.tgid == pid));
        assert_eq!(find(pid).unwrap().parent, std::process::id());
        child.kill().unwrap();
        while !Stat::of_process(pid).unwrap().process_has_ended() {
            std::thread::yield_now();
        }
        let own = std::process::id();
        assert_eq!(
            find(pid).unwrap_err().to_string(),
            format!(
                "process {pid} (cat) has ended: it is a zombie, and stays one until its parent, process {own}, waits \
                 for it"
            )
        );
        child.wait().unwrap();
        assert!(matches!(find(pid), Err(ScanError::NoSuchProcess(gone)) if gone == pid));
    }

    #[test]
    fn a_thread_is_told_from_a_process() {
        std::thread::spawn(|| {
            let thread = nix::unistd::gettid().as_raw().try_into().unwrap();
            let process = std::process::id();
            let error = find(thread).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{thread} is a thread of process {process}: give {process}")
            );
        })
        .join()
        .unwrap();
    }

    #[test]
    fn kernel_threads_are_left_out() {
        assert!(processes().unwrap().iter().all(|process| process.comm.bytes() != b"kthreadd"));
        let kernel_thread = |pid| Stat::of_process(pid).is_ok_and(|stat| stat.is_kernel_thread());
        // In a pid namespace of its own a container sees none.
        if kernel_thread(2) {
            assert!(matches!(find(2), Err(ScanError::KernelThread(2))));
        }
    }
}
