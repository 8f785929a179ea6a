//! The TCP sockets of a process's network namespace.

use std::collections::HashMap;

use super::{Socket, tcp_peer};
use crate::host::net::{self, Tcp};

/// Some 50 000 sockets; of a host that has more, the rest stays unknown.
const MAX_TABLE: u64 = 8 * 1024 * 1024;

/// They, by inode number.
#[derive(Default)]
pub(super) struct Table(HashMap<u64, Socket>);

impl Table {
    /// Empty where it may not be read.
    pub(super) fn read(tgid: u32) -> Self {
        let mut table = HashMap::new();
        // What lies beyond the bound is missing.
        let _ = net::tcp(tgid, MAX_TABLE, |socket| {
            table.insert(socket.inode, what(&socket));
        });
        Self(table)
    }

    pub(super) fn look(&self, inode: u64) -> Option<Socket> {
        self.0.get(&inode).cloned()
    }
}

fn what(socket: &Tcp) -> Socket {
    let local = tcp_peer(socket.local);
    if socket.listens() {
        Socket::Listening(local)
    } else if socket.is_connected() {
        Socket::Connected { peer: tcp_peer(socket.remote), local: Some(local) }
    } else {
        Socket::Other
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use nix::sys::stat::fstat;

    use super::*;
    use crate::model::connection::Peer;

    #[test]
    fn the_peers_of_own_sockets_are_found() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else {
                eprintln!("not tested: {at} cannot be bound here");
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let table = Table::read(std::process::id());
            let inode = |socket: std::os::fd::BorrowedFd<'_>| fstat(socket).unwrap().st_ino;
            let name = Peer::Tcp(listener.local_addr().unwrap().to_string());
            let own = Peer::Tcp(client.local_addr().unwrap().to_string());
            let connected = Socket::Connected { peer: name.clone(), local: Some(own) };
            assert_eq!(table.look(inode(client.as_fd())), Some(connected));
            assert_eq!(table.look(inode(listener.as_fd())), Some(Socket::Listening(name)));
        }
    }
}
