//! Connections that two processes hold.

use std::collections::BTreeMap;

use super::{
    client_libraries::client_libraries,
    clock,
    descriptors::{Descriptor, STANDARD, Table},
    program,
    socket::{self, Socket},
    stat::Stat,
};
use crate::model::{
    connection::{MAX_SOCKETS, Peer, SharedSocket, Sockets},
    process::ProcessKey,
};

/// Connections of the parent alone that are looked at.
const MAX_ENDED: usize = 16;
/// Listeners of a process that are looked at.
const MAX_LISTENERS: usize = 16;
/// Descriptors of each process that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;

/// See [`crate::model::evidence::Request::Sockets`]. A connection whose peer cannot be seen is left out.
pub(super) fn sockets(child: ProcessKey, parent: ProcessKey) -> Option<Sockets> {
    let parent_stat = Stat::of(parent)?;
    let list = |process: ProcessKey| Table::of_process(process.tgid).list(MAX_DESCRIPTORS).ok();
    let of_parent = list(parent)?;
    // A child that has ended held what its parent holds, each at the same descriptor.
    // Between its last descriptor and its end it has none.
    let of_child = list(child).filter(|of_child| !of_child.is_empty() && Stat::lives(child));
    let child_is_gone = of_child.is_none();
    let candidates = match &of_child {
        Some(of_child) => shared(of_child, &of_parent),
        None => shared(&of_parent, &of_parent),
    };
    let mut sockets = socket::Sockets::of(if child_is_gone { parent } else { child })?;
    let mut listeners = Listeners::of(parent, &of_parent);
    let shared = candidates
        .into_iter()
        .filter_map(|Candidate { inode, child_fd, parent_fd }| {
            let Some(Socket::Connected { peer, local }) = sockets.look(child_fd, inode) else { return None };
            let accepted = listeners.have_accepted(&peer, local.as_ref());
            // Nothing tells since when: sockets have no timestamps (`sock_alloc`, net/socket.c), nor does
            // `struct tcp_info` have an age; and links in /proc bear the time when somebody first looked.
            Some(SharedSocket { inode, peer, child_fd, parent_fd, accepted })
        })
        .take(MAX_SOCKETS)
        .collect();
    // Of a child that is gone, these are all that its parent has left.
    let ended = ended(parent, of_child.as_deref().unwrap_or_default(), &of_parent, &mut listeners);
    let has_any = |of: &[Descriptor]| of.iter().any(|descriptor| descriptor.socket().is_some());
    // They are looked for among all mappings.
    let is_of_use = has_any(&of_parent) || of_child.as_deref().is_some_and(has_any);
    let seen = Sockets {
        at: clock::now(),
        ended,
        program: program::read(parent.tgid, &parent_stat),
        shared,
        libraries: if is_of_use { client_libraries(parent.tgid) } else { Vec::new() },
        child_is_gone,
        of_child: of_child.map(|of_child| lowest(&of_child).into_keys().collect()),
        of_parent: Some(lowest(&of_parent).into_keys().collect()),
    };
    Stat::of(parent).filter(|_| child_is_gone || Stat::of(child).is_some()).map(|_| seen)
}

/// The connections that only the parent holds, and that are over for it.
fn ended(
    parent: ProcessKey,
    of_child: &[Descriptor],
    of_parent: &[Descriptor],
    listeners: &mut Listeners<'_>,
) -> Vec<SharedSocket> {
    let Some(mut sockets) = socket::Sockets::of(parent) else { return Vec::new() };
    let of_child = lowest(of_child);
    let alone = lowest(of_parent).into_iter().filter(|(inode, _)| !of_child.contains_key(inode));
    alone
        .filter(|(_, fd)| *fd > STANDARD)
        .take(MAX_ENDED)
        .filter_map(|(inode, fd)| {
            let (peer, local) = sockets.ended(fd, inode)?;
            let accepted = listeners.have_accepted(&peer, local.as_ref());
            Some(SharedSocket { inode, peer, child_fd: fd, parent_fd: fd, accepted })
        })
        .collect()
}

/// Where a process takes connections.
struct Listeners<'a> {
    process: ProcessKey,
    descriptors: &'a [Descriptor],
    /// Their ports, once somebody wanted to know them.
    ports: Option<Vec<String>>,
}

impl<'a> Listeners<'a> {
    const fn of(process: ProcessKey, descriptors: &'a [Descriptor]) -> Self {
        Self { process, descriptors, ports: None }
    }

    /// Whether a client has made this connection, as its ports show. Who connects gets a port of clients; who listens has
    /// such a port seldom, and is asked then.
    fn have_accepted(&mut self, peer: &Peer, local: Option<&Peer>) -> bool {
        let Some((local, port)) = local.and_then(|local| Some((local, local.port()?))) else { return false };
        peer.has_port_of_clients()
            && (!local.has_port_of_clients() || self.ports().iter().any(|listening| listening == port))
    }

    fn ports(&mut self) -> &[String] {
        let (process, descriptors) = (self.process, self.descriptors);
        self.ports.get_or_insert_with(|| {
            let Some(mut sockets) = socket::Sockets::of(process) else { return Vec::new() };
            let ports = lowest(descriptors).into_iter().filter_map(|(inode, fd)| {
                let Some(Socket::Listening(at)) = sockets.look(fd, inode) else { return None };
                at.port().map(str::to_owned)
            });
            ports.take(MAX_LISTENERS).collect()
        })
    }
}

/// A socket that both hold.
#[derive(Debug, PartialEq, Eq)]
struct Candidate {
    inode: u64,
    child_fd: u32,
    parent_fd: u32,
}

/// The sockets of both, each at its lowest descriptor. One that is also a standard descriptor of either is left out: a
/// connection there is the program's standard input or output, as inetd gives it.
fn shared(child: &[Descriptor], parent: &[Descriptor]) -> Vec<Candidate> {
    let parent = lowest(parent);
    let mut shared: Vec<Candidate> = lowest(child)
        .into_iter()
        .filter_map(|(inode, child_fd)| {
            let parent_fd = *parent.get(&inode)?;
            (child_fd > STANDARD && parent_fd > STANDARD).then_some(Candidate { inode, child_fd, parent_fd })
        })
        .collect();
    shared.sort_unstable_by_key(|candidate| candidate.child_fd);
    shared
}

/// The lowest descriptor of each socket.
fn lowest(descriptors: &[Descriptor]) -> BTreeMap<u64, u32> {
    let mut lowest = BTreeMap::new();
    for descriptor in descriptors {
        if let Some(inode) = descriptor.socket() {
            lowest.entry(inode).or_insert(descriptor.number);
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{
            fd::{AsRawFd, RawFd},
            unix::{net::UnixStream, process::CommandExt as _},
        },
        process::{Child, Command, Stdio},
    };

    use super::*;
    use crate::model::time::TICK;

    fn key(tgid: u32) -> ProcessKey {
        Stat::of_process(tgid).unwrap().key()
    }

    /// A child that holds these sockets of this process. It has exec'd once this returns.
    fn heir(sockets: &[RawFd]) -> Child {
        let sockets = sockets.to_vec();
        let mut command = Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let inherit = move || {
            for socket in &sockets {
                // SAFETY: a system call on a number. The duplicate is not closed by exec.
                unsafe { libc::dup(*socket) };
            }
            Ok(())
        };
        // SAFETY: what runs between fork and exec makes system calls only.
        unsafe { command.pre_exec(inherit) };
        command.spawn().unwrap()
    }

    #[test]
    fn a_connection_that_the_other_end_has_closed_is_told_where_the_parent_alone_holds_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let held = TcpStream::connect(address).unwrap();
        let (other, _) = listener.accept().unwrap();
        let fd = held.as_raw_fd().cast_unsigned();
        let of_parent = [Table::of_process(std::process::id()).get(fd).unwrap().unwrap()];
        let own = key(std::process::id());
        let ended =
            |of_child: &[Descriptor]| ended(own, of_child, &of_parent, &mut Listeners::of(own, &of_parent));
        assert_eq!(ended(&[]), []);
        drop(other);
        let seen = ended(&[]);
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert_eq!((&seen[0].peer, seen[0].parent_fd), (&Peer::Tcp(address.to_string()), fd));
        assert_eq!(ended(&of_parent), []);
    }

    #[test]
    fn a_connection_that_a_client_has_made_is_told_from_one_that_was_made_to_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (listener_fd, own) = (listener.as_raw_fd().cast_unsigned(), key(std::process::id()));
        let of_parent = [Table::of_process(own.tgid).get(listener_fd).unwrap().unwrap()];
        let mut listeners = Listeners::of(own, &of_parent);
        let mut have_accepted = |peer: &str, local: &str| {
            let tcp = |at: &str| Peer::Tcp(at.to_owned());
            listeners.have_accepted(&tcp(peer), Some(&tcp(local)))
        };
        let (at_client, at_server) = (client.local_addr().unwrap(), accepted.local_addr().unwrap());
        assert!(have_accepted(&at_client.to_string(), &at_server.to_string()));
        assert!(!have_accepted(&at_server.to_string(), &at_client.to_string()));
        assert!(have_accepted("10.0.0.7:40000", "10.0.0.1:443"));
        assert!(!have_accepted("10.0.0.1:443", "10.0.0.7:40000"));
        assert!(!Listeners::of(own, &[]).have_accepted(&Peer::Unknown, None));
    }

    #[test]
    fn what_parent_and_child_are_both_connected_to_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = TcpStream::connect(address).unwrap();
        let _own = TcpStream::connect(address).unwrap();
        let (pair, _other) = UnixStream::pair().unwrap();
        let mut child = heir(&[shared.as_raw_fd(), listener.as_raw_fd(), pair.as_raw_fd()]);
        let (child_key, own_key) = (key(child.id()), key(std::process::id()));

        let seen = sockets(child_key, own_key);
        let wrong =
            ProcessKey { start: child_key.start + std::time::Duration::from_nanos(TICK), ..child_key };
        let of_another =
            (sockets(wrong, own_key), sockets(child_key, ProcessKey { tgid: own_key.tgid, ..wrong }));
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = sockets(child_key, own_key);

        let seen = seen.unwrap();
        assert_eq!(seen.shared.len(), 1, "{seen:?}");
        assert_eq!(seen.shared[0].peer, Peer::Tcp(address.to_string()));
        assert_eq!(seen.shared[0].parent_fd, u32::try_from(shared.as_raw_fd()).unwrap());
        assert!(seen.shared[0].child_fd > 2);
        assert_eq!(seen.program.exe, Some(std::env::current_exe().unwrap()));
        assert_eq!(of_another.1, None);
        // Of a child that is gone, the parent tells what it has held.
        for gone in [of_another.0, gone] {
            let gone = gone.unwrap();
            let inodes: Vec<u64> = gone.shared.iter().map(|socket| socket.inode).collect();
            assert!(gone.child_is_gone && inodes.contains(&seen.shared[0].inode), "{gone:?}");
        }
    }

    #[test]
    fn the_standard_descriptors_are_shared_on_purpose() {
        let of = |sockets: &[(u32, u64)]| -> Vec<Descriptor> {
            sockets
                .iter()
                .map(|(number, inode)| Descriptor::made_up(*number, &format!("socket:[{inode}]")))
                .collect()
        };
        let parent = of(&[(1, 70), (5, 80), (6, 90), (9, 90), (11, 100)]);
        let child = of(&[(2, 80), (3, 70), (7, 80), (8, 90), (12, 110)]);
        assert_eq!(shared(&child, &parent), [Candidate { inode: 90, child_fd: 8, parent_fd: 6 }]);
    }
}
