//! The addresses at which a process could accept connections.

use crate::{host::net, model::process::escape};

/// Some six thousand sockets of each kind. Those of TCP that listen come first.
const MAX_TABLE: u64 = 1024 * 1024;
/// Addresses that are told.
const MAX_LISTENERS: usize = 16;

/// Those of sockets with these inode numbers.
pub(super) fn listeners(tgid: u32, inodes: &[u64]) -> Vec<String> {
    let mut found = Vec::new();
    if inodes.is_empty() {
        return found;
    }
    // What lies beyond the bound, or cannot be read, is not told.
    let _ = net::tcp(tgid, MAX_TABLE, |socket| {
        if socket.listens() && inodes.contains(&socket.inode) {
            found.push(socket.local.to_string());
        }
    });
    let _ = net::unix(tgid, MAX_TABLE, |socket| {
        if socket.listens && inodes.contains(&socket.inode) {
            found.push(escape(socket.path));
        }
    });
    found.truncate(MAX_LISTENERS);
    found
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::net::UnixListener},
    };

    use super::{super::super::descriptors::Table, *};

    fn inode(descriptor: &impl AsRawFd) -> u64 {
        let number = descriptor.as_raw_fd().try_into().unwrap();
        Table::of_process(std::process::id()).get(number).unwrap().unwrap().socket().unwrap()
    }

    #[test]
    fn sockets_that_listen_are_found_by_their_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a socket \x1b[31m");
        let (four, local) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let of = |inode| listeners(std::process::id(), &[inode]);
        assert_eq!(of(inode(&four)), [four.local_addr().unwrap().to_string()]);
        assert_eq!(of(inode(&local)), [escape(path.to_str().unwrap().as_bytes())]);
        if let Ok(six) = TcpListener::bind("[::1]:0") {
            assert_eq!(of(inode(&six)), [six.local_addr().unwrap().to_string()]);
        }
    }

    #[test]
    fn a_connected_socket_does_not_listen() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(server.local_addr().unwrap()).unwrap();
        assert!(listeners(std::process::id(), &[inode(&client)]).is_empty());
    }
}
