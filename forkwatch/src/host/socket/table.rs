//! The tables of TCP sockets in `/proc/PID/net`.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Socket, tcp_peer};
use crate::host::file;

/// Some 50 000 sockets; of a host that has more, the rest stays unknown.
const MAX_TABLE: u64 = 8 * 1024 * 1024;

/// States of `include/net/tcp_states.h` in which a socket has a peer: established, both FIN waits, close wait, last ack
/// and closing.
const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];
const LISTENING: u8 = 10;

/// The TCP sockets in a process's network namespace, by inode number.
#[derive(Default)]
pub(super) struct Table(HashMap<u64, Socket>);

impl Table {
    /// Empty where it may not be read.
    pub(super) fn read(tgid: u32) -> Self {
        let mut table = Self::default();
        for name in ["tcp", "tcp6"] {
            if let Ok(text) = file::read(format!("/proc/{tgid}/net/{name}"), MAX_TABLE) {
                table.0.extend(text.split(|byte| *byte == b'\n').filter_map(parse));
            }
        }
        table
    }

    pub(super) fn look(&self, inode: u64) -> Option<Socket> {
        self.0.get(&inode).cloned()
    }
}

/// A line, as `get_tcp4_sock` (`net/ipv4/tcp_ipv4.c`) writes it: number, local address, remote address, state, and as
/// the tenth the inode number, which is 0 where no process holds the socket any more.
fn parse(line: &[u8]) -> Option<(u64, Socket)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let inode = fields.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
    let socket = match state {
        LISTENING => Socket::Listening(tcp_peer(local)),
        state if CONNECTED.contains(&state) => {
            Socket::Connected { peer: tcp_peer(remote), local: Some(tcp_peer(local)) }
        }
        _ => Socket::Other,
    };
    Some((inode, socket))
}

/// An address as words of 32 bits that were read in the byte order of the host, in hexadecimal, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = (0..address.len())
        .step_by(8)
        .map(|start| Some(u32::from_str_radix(address.get(start..start + 8)?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let ip: IpAddr = match *words.as_slice() {
        [word] => Ipv4Addr::from(word).into(),
        [_, _, _, _] => Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::fd::AsFd as _,
    };

    use nix::sys::stat::fstat;
    use proptest::prelude::*;

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

    #[test]
    #[cfg(target_endian = "little")]
    fn a_mapped_address_is_shown_as_version_4_and_a_free_socket_is_nobodys() {
        let line = b"   3: 0000000000000000FFFF00000100007F:A001 0000000000000000FFFF00000700000A:1538 01 \
                     00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1";
        let peer = |address: &str| Peer::Tcp(address.to_owned());
        let connected =
            Socket::Connected { peer: peer("10.0.0.7:5432"), local: Some(peer("127.0.0.1:40961")) };
        assert_eq!(parse(line), Some((4711, connected)));
        let line = String::from_utf8(line.to_vec()).unwrap();
        assert_eq!(parse(line.replace(" 4711 ", " 0 ").as_bytes()), None);
        assert_eq!(parse(line.replace(" 01 ", " 02 ").as_bytes()), Some((4711, Socket::Other)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9A-F: \\PC]*") {
            let _ = parse(text.as_bytes());
            let _ = address(&text);
        }
    }
}
