//! What a thread does, in words.

use crate::model::server::{Doing, Open, Target, Wait};

/// What a thread does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// In few words: `awaits connections`.
    pub words: String,
    /// What it waits for or works on. Not safe for a terminal.
    pub on: Vec<String>,
}

/// What a thread does, given what its process has open. For one that waits in an event loop it tells whether new
/// connections are among what it waits for.
pub fn activity(doing: Option<&Doing>, open: Option<&Open>) -> Activity {
    let plain = |words: &str| Activity { words: words.to_owned(), on: Vec::new() };
    match doing {
        None => plain("not known"),
        Some(Doing::Runs) => plain("runs"),
        Some(Doing::Elsewhere) => plain("is in the kernel"),
        Some(Doing::Waits(wait)) => waits(wait, open),
    }
}

fn waits(wait: &Wait, open: Option<&Open>) -> Activity {
    let listeners: Vec<String> = open
        .into_iter()
        .flat_map(|open| &open.listeners)
        .filter(|listener| wait.on.contains(&listener.fd))
        .map(|listener| listener.peer.to_string())
        .collect();
    let words = match wait.call.as_str() {
        "accept" | "accept4" if !listeners.is_empty() => {
            return Activity { words: "awaits connections".to_owned(), on: listeners };
        }
        "accept" | "accept4" => "awaits connections",
        "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "ppoll" | "select" | "pselect6" => {
            if !listeners.is_empty() {
                return Activity { words: "awaits connections".to_owned(), on: listeners };
            }
            let is_timer = wait.on.is_empty() && !wait.call.starts_with("epoll");
            if is_timer { "sleeps" } else { "awaits events" }
        }
        "io_uring_enter" | "io_getevents" => "awaits events",
        "futex" | "futex_waitv" => "awaits a wake-up",
        "read" | "readv" | "pread64" | "recvfrom" | "recvmsg" | "recvmmsg" => "reads",
        "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" | "sendfile" | "splice" => "writes",
        "connect" => "connects",
        "nanosleep" | "clock_nanosleep" => "sleeps",
        "wait4" | "waitid" => "awaits a child's end",
        "rt_sigsuspend" | "rt_sigtimedwait" | "pause" => "awaits a signal",
        "flock" | "fcntl" => "awaits a file lock",
        "fsync" | "fdatasync" => "awaits the disk",
        "semop" | "semtimedop" => "awaits a semaphore",
        "msgrcv" | "mq_timedreceive" => "awaits a message",
        call => return Activity { words: format!("waits in {call}"), on: targets(wait, open) },
    };
    Activity { words: words.to_owned(), on: targets(wait, open) }
}

fn targets(wait: &Wait, open: Option<&Open>) -> Vec<String> {
    let known =
        |fd: &u32| open?.awaited.iter().find(|(number, _)| number == fd).map(|(_, target)| shown(target));
    wait.on.iter().filter_map(known).collect()
}

/// What a descriptor is open on: the other end of a connection, else what the kernel shows.
pub fn shown(target: &Target) -> String {
    target.peer.as_ref().map_or_else(|| target.link.clone(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{connection::Peer, server::Socket};

    fn told(call: &str, on: &[u32]) -> String {
        let tcp = |address: &str| Peer::Tcp(address.to_owned());
        let listener = Socket { fd: 5, inode: 50, peer: tcp("0.0.0.0:80"), accepted: false };
        let target = |link: &str, peer| Target { link: link.to_owned(), peer };
        let open = Open {
            listeners: vec![listener],
            awaited: vec![
                (5, target("socket:[50]", Some(tcp("0.0.0.0:80")))),
                (6, target("socket:[60]", Some(tcp("10.0.0.7:5432")))),
                (7, target("pipe:[70]", None)),
            ],
            ..Open::default()
        };
        let doing = Doing::Waits(Wait { call: call.to_owned(), on: on.to_vec(), futex: None });
        let Activity { words, on } = activity(Some(&doing), Some(&open));
        if on.is_empty() { words } else { format!("{words}: {}", on.join(", ")) }
    }

    #[test]
    fn a_worker_that_is_idle_awaits_connections() {
        assert_eq!(told("accept4", &[5]), "awaits connections: 0.0.0.0:80");
        assert_eq!(told("epoll_wait", &[5, 7]), "awaits connections: 0.0.0.0:80");
        assert_eq!(told("select", &[5]), "awaits connections: 0.0.0.0:80");
    }

    #[test]
    fn a_worker_that_waits_for_a_database_does_not() {
        assert_eq!(told("poll", &[6]), "awaits events: 10.0.0.7:5432");
        assert_eq!(told("recvfrom", &[6]), "reads: 10.0.0.7:5432");
        assert_eq!(told("epoll_wait", &[7]), "awaits events: pipe:[70]");
    }

    #[test]
    fn each_other_wait_has_its_words() {
        assert_eq!(told("poll", &[]), "sleeps");
        assert_eq!(told("epoll_wait", &[]), "awaits events");
        assert_eq!(told("futex", &[]), "awaits a wake-up");
        assert_eq!(told("wait4", &[]), "awaits a child's end");
        assert_eq!(told("system call 9999", &[]), "waits in system call 9999");
        assert_eq!(activity(None, None).words, "not known");
        assert_eq!(activity(Some(&Doing::Runs), None).words, "runs");
    }
}
