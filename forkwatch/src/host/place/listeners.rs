//! Listening sockets: `/proc/PID/net/{tcp,tcp6,unix}`, of the process's own network namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::super::file;
use crate::model::process::escape;

/// Some six thousand sockets of each kind. Those of TCP that listen come first (`listening_get_first`,
/// `net/ipv4/tcp_ipv4.c`).
const MAX_TABLE: u64 = 1024 * 1024;
/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTEN: &str = "0A";
/// `__SO_ACCEPTCON`, the flags of a Unix socket that listens (include/linux/net.h).
const ACCEPTS: &str = "00010000";
/// Addresses that are told.
const MAX_LISTENERS: usize = 16;

/// The addresses that the process could accept connections on, of sockets with these inode numbers.
pub(super) fn listeners(tgid: u32, inodes: &[u64]) -> Vec<String> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let table = |name: &str| file::read(format!("/proc/{tgid}/net/{name}"), MAX_TABLE).unwrap_or_default();
    let among = |found: &(u64, String)| inodes.contains(&found.0);
    let mut found = Vec::new();
    for name in ["tcp", "tcp6"] {
        found.extend(String::from_utf8_lossy(&table(name)).lines().filter_map(internet).filter(among));
    }
    found.extend(String::from_utf8_lossy(&table("unix")).lines().filter_map(local).filter(among));
    found.into_iter().map(|(_, address)| address).take(MAX_LISTENERS).collect()
}

/// `sl local_address rem_address st queues timer retransmits uid timeout inode ...` (`get_tcp4_sock`).
fn internet(line: &str) -> Option<(u64, String)> {
    let mut fields = line.split_ascii_whitespace();
    let address = fields.nth(1)?;
    (fields.nth(1)? == LISTEN).then_some(())?;
    Some((fields.nth(5)?.parse().ok()?, socket_address(address)?.to_string()))
}

/// Hexadecimal words of 32 bits in the machine's byte order, and the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = address.get(index * 8..index * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (index, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(index)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// `Num RefCount Protocol Flags Type St Inode Path` (`unix_seq_show`, `net/unix/af_unix.c`). The path is the socket
/// owner's choice, and may hold blanks.
fn local(line: &str) -> Option<(u64, String)> {
    let mut fields = line.splitn(8, ' ');
    (fields.nth(3)? == ACCEPTS).then_some(())?;
    // The inode number is padded on its left, so that blanks before it make empty fields.
    let rest = line.split_once(ACCEPTS)?.1;
    let mut fields = rest.trim_start().splitn(3, ' ');
    let (_, _, rest) = (fields.next()?, fields.next()?, fields.next()?.trim_start());
    let (inode, path) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((inode.parse().ok()?, escape(path.as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::{
        net::TcpListener,
        os::{fd::AsRawFd, unix::net::UnixListener},
    };

    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = (internet(&text), local(&text), socket_address(&text));
        }
    }
}
