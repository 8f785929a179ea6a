//! Listening sockets and the connections accepted there, as `/proc/PID/net` lists them.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::model::{leak::Listener, process::escape};

/// A table with more bytes is not read: on hosts with so many connections it would take longer than it is worth.
const MAX_TABLE: u64 = 16 << 20;
/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const TCP_LISTEN: &str = "0A";
/// `__SO_ACCEPTCON`, the flag of a Unix socket that listens (include/linux/net.h).
const ACCEPTS: u64 = 1 << 16;

/// The sockets of a network namespace that have to do with listening.
#[derive(Default)]
pub(super) struct Tables {
    listening: HashMap<u64, Place>,
    /// All others that have an address.
    connected: HashMap<u64, Place>,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Internet { address: SocketAddr, queue: u32 },
    Unix { path: Vec<u8> },
}

impl Place {
    /// Whether a connection at this place may have been accepted from that listener.
    fn may_come_from(&self, listener: &Self) -> bool {
        match (self, listener) {
            (Self::Internet { address, .. }, Self::Internet { address: listens, .. }) => {
                address.port() == listens.port()
            }
            (Self::Unix { path }, Self::Unix { path: listens }) => path == listens,
            _ => false,
        }
    }
}

impl Tables {
    /// Those of the network namespace that a process is in.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        let mut tables = Self::default();
        for name in ["tcp", "tcp6"] {
            tables.read(&format!("/proc/{tgid}/net/{name}"), internet)?;
        }
        tables.read(&format!("/proc/{tgid}/net/unix"), local)?;
        Ok(tables)
    }

    fn read(&mut self, path: &str, parse: fn(&[u8]) -> Option<Row>) -> io::Result<()> {
        let file = match File::open(path) {
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let mut table = BufReader::new(file.take(MAX_TABLE));
        let (mut line, mut read) = (Vec::new(), 0);
        loop {
            line.clear();
            read += table.read_until(b'\n', &mut line)?;
            if line.is_empty() {
                break;
            }
            let Some(Row { inode, listens, place }) = parse(line.strip_suffix(b"\n").unwrap_or(&line)) else {
                continue;
            };
            let part = if listens { &mut self.listening } else { &mut self.connected };
            part.insert(inode, place);
        }
        if u64::try_from(read).unwrap_or(u64::MAX) >= MAX_TABLE {
            return Err(io::Error::other(format!("{path} is too long")));
        }
        Ok(())
    }

    /// The listening sockets, by inode number.
    pub(super) fn listening(&self) -> impl Iterator<Item = u64> {
        self.listening.keys().copied()
    }

    /// One of them.
    pub(super) fn listener(&self, inode: u64) -> Option<Listener> {
        Some(match self.listening.get(&inode)? {
            Place::Internet { address, queue } => {
                Listener { address: address.to_string(), queue: Some(*queue) }
            }
            Place::Unix { path } => Listener { address: escape(path), queue: None },
        })
    }

    /// Whether a socket is a connection that may have been accepted from that listener.
    pub(super) fn is_accepted(&self, inode: u64, listener: u64) -> bool {
        match (self.connected.get(&inode), self.listening.get(&listener)) {
            (Some(place), Some(listener)) => place.may_come_from(listener),
            _ => false,
        }
    }
}

struct Row {
    inode: u64,
    listens: bool,
    place: Place,
}

/// A line of `net/tcp` or `net/tcp6` (`get_tcp4_sock`, `net/ipv4/tcp_ipv4.c`). Of a socket that listens, the receive
/// queue counts the connections that wait to be accepted.
fn internet(line: &[u8]) -> Option<Row> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let address = socket_address(fields.nth(1)?)?;
    let listens = fields.nth(1)? == TCP_LISTEN;
    let (_, queue) = fields.next()?.split_once(':')?;
    let queue = u32::from_str_radix(queue, 16).ok()?;
    let inode = fields.nth(4)?.parse().ok()?;
    Some(Row { inode, listens, place: Place::Internet { address, queue } })
}

/// `0100007F:1F90`: the address in words of 32 bits, each in the byte order of the host, and the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word =
        |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// A line of `net/unix` (`unix_seq_show`, `net/unix/af_unix.c`). Sockets without a name are left out. The name is the
/// owner's choice, and may hold anything: what stands before it may not.
fn local(line: &[u8]) -> Option<Row> {
    let mut fields = line.splitn(7, |byte| *byte == b' ');
    let (_slot, _count, _protocol) = (fields.next()?, fields.next()?, fields.next()?);
    let flags = u64::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 16).ok()?;
    let (_type, _state) = (fields.next()?, fields.next()?);
    // The inode number is padded with blanks, and the name follows after one.
    let rest = fields.next()?.trim_ascii_start();
    let blank = rest.iter().position(|byte| *byte == b' ')?;
    let inode = std::str::from_utf8(rest.get(..blank)?).ok()?.parse().ok()?;
    let path = rest.get(blank + 1..)?.to_vec();
    (!path.is_empty()).then_some(Row { inode, listens: flags & ACCEPTS != 0, place: Place::Unix { path } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_internet_listener_has_its_address_and_its_queue() {
        let line = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 5871 1 0000 100";
        let row = internet(line).unwrap();
        assert!(row.listens);
        assert_eq!(row.inode, 5871);
        if cfg!(target_endian = "little") {
            let address = "127.0.0.1:8080".parse().unwrap();
            assert_eq!(row.place, Place::Internet { address, queue: 3 });
        }
        let six = b"   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 77 1 0";
        let row = internet(six).unwrap();
        assert!(!row.listens);
        if cfg!(target_endian = "little") {
            let address = "[::1]:22".parse().unwrap();
            assert_eq!(row.place, Place::Internet { address, queue: 0 });
        }
        assert!(internet(b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when").is_none());
    }

    #[test]
    fn a_unix_listener_has_its_path_whatever_stands_in_it() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01    23 /run/a  b";
        let row = local(line).unwrap();
        assert!(row.listens);
        assert_eq!((row.inode, row.place), (23, Place::Unix { path: b"/run/a  b".to_vec() }));
        let row = local(b"0000000000000000: 00000003 00000000 00000000 0001 03 123456 @/x").unwrap();
        assert_eq!((row.inode, row.listens), (123_456, false));
        assert!(local(b"0000000000000000: 00000003 00000000 00000000 0001 03 13562").is_none());
        assert!(local(b"Num       RefCount Protocol Flags    Type St Inode Path").is_none());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (internet(&line), local(&line));
        }

        #[test]
        fn no_fields_make_it_panic(fields in proptest::collection::vec("[0-9A-F:é]{0,34}", 0..12)) {
            let line = fields.join(" ");
            let _ = (internet(line.as_bytes()), local(line.as_bytes()));
        }
    }
}
