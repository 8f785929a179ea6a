//! The sockets of a network namespace: `/proc/PID/net/{tcp,tcp6,unix}`.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, ErrorKind, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// `TCP_LISTEN` (`include/net/tcp_states.h`).
const LISTENING: u8 = 10;
/// States of the same in which a socket has a peer: established, both FIN waits, close wait, last ack and closing.
const CONNECTED: [u8; 6] = [1, 4, 5, 8, 9, 11];
/// `__SO_ACCEPTCON`, the flag of a Unix socket that listens (include/linux/net.h).
const ACCEPTS: u64 = 1 << 16;

/// A TCP socket that a process holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tcp {
    /// Its inode number.
    pub(super) inode: u64,
    /// Its own address.
    pub(super) local: SocketAddr,
    /// The other end's, where it is connected.
    pub(super) remote: SocketAddr,
    /// Of a socket that listens, how many connections wait to be accepted.
    pub(super) queue: u32,
    state: u8,
}

/// A Unix socket that has a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unix {
    /// Its inode number.
    pub(super) inode: u64,
    /// Whether it listens.
    pub(super) listens: bool,
    /// Its path, or `@` and its abstract name.
    pub(super) path: Vec<u8>,
}

impl Tcp {
    /// Whether it listens.
    pub(super) const fn listens(&self) -> bool {
        self.state == LISTENING
    }

    /// Whether it has a peer.
    pub(super) fn is_connected(&self) -> bool {
        CONNECTED.contains(&self.state)
    }
}

/// Shows the TCP sockets in a process's network namespace, those that listen first (`listening_get_first`,
/// `net/ipv4/tcp_ipv4.c`). An error where a table has more bytes than `limit`, or cannot be read: then some have been
/// shown.
pub(super) fn tcp(tgid: u32, limit: u64, mut visit: impl FnMut(Tcp)) -> io::Result<()> {
    let mut read = |name| rows(&format!("/proc/{tgid}/net/{name}"), limit, parse_tcp, &mut visit);
    let version_4 = read("tcp");
    read("tcp6").and(version_4)
}

/// The same with the Unix sockets.
pub(super) fn unix(tgid: u32, limit: u64, mut visit: impl FnMut(Unix)) -> io::Result<()> {
    rows(&format!("/proc/{tgid}/net/unix"), limit, parse_unix, &mut visit)
}

fn rows<T>(
    path: &str,
    limit: u64,
    parse: fn(&[u8]) -> Option<T>,
    visit: &mut impl FnMut(T),
) -> io::Result<()> {
    let file = match File::open(path) {
        // A kernel without IPv6 has no such table.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut table = BufReader::new(file.take(limit));
    let mut line = Vec::new();
    loop {
        line.clear();
        table.read_until(b'\n', &mut line)?;
        match line.strip_suffix(b"\n").map(parse) {
            Some(row) => row.into_iter().for_each(&mut *visit),
            None if table.get_ref().limit() == 0 => {
                return Err(io::Error::other(format!("{path} is too long")));
            }
            None => return Ok(()),
        }
    }
}

/// `sl local_address rem_address st queues timer retransmits uid timeout inode ...` (`get_tcp4_sock`,
/// `net/ipv4/tcp_ipv4.c`). The inode number is 0 where no process holds the socket any more.
fn parse_tcp(line: &[u8]) -> Option<Tcp> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (_, queue) = fields.next()?.split_once(':')?;
    let queue = u32::from_str_radix(queue, 16).ok()?;
    let inode = fields.nth(4)?.parse().ok().filter(|inode| *inode != 0)?;
    Some(Tcp { inode, local, remote, queue, state })
}

/// `0100007F:1F90`: the address in words of 32 bits, each in the byte order of the host, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// `Num RefCount Protocol Flags Type St Inode Path` (`unix_seq_show`, `net/unix/af_unix.c`). The path is the socket
/// owner's choice, and may hold anything: what stands before it may not.
fn parse_unix(line: &[u8]) -> Option<Unix> {
    let mut fields = line.splitn(7, |byte| *byte == b' ');
    let (_slot, _count, _protocol) = (fields.next()?, fields.next()?, fields.next()?);
    let flags = u64::from_str_radix(std::str::from_utf8(fields.next()?).ok()?, 16).ok()?;
    let (_type, _state) = (fields.next()?, fields.next()?);
    // The inode number is padded with blanks, and the name follows after one.
    let rest = fields.next()?.trim_ascii_start();
    let blank = rest.iter().position(|byte| *byte == b' ')?;
    let inode = std::str::from_utf8(rest.get(..blank)?).ok()?.parse().ok()?;
    let path = rest.get(blank + 1..)?.to_vec();
    (!path.is_empty()).then_some(Unix { inode, listens: flags & ACCEPTS != 0, path })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_tcp_socket_has_its_addresses_and_its_queue() {
        let line = b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000  1000        0 5871 1 0000 100";
        let socket = parse_tcp(line).unwrap();
        assert!(socket.listens() && !socket.is_connected());
        assert_eq!((socket.inode, socket.local, socket.queue), (5871, "127.0.0.1:8080".parse().unwrap(), 3));
        let six = b"   3: 0000000000000000FFFF00000100007F:A001 0000000000000000FFFF00000700000A:1538 01 \
                    00000000:00000000 00:00000000 00000000     0        0 4711 1 0 20 4 30 10 -1";
        let socket = parse_tcp(six).unwrap();
        assert!(!socket.listens() && socket.is_connected());
        assert_eq!(socket.local, "[::ffff:127.0.0.1]:40961".parse().unwrap());
        assert_eq!(socket.remote, "[::ffff:10.0.0.7]:5432".parse().unwrap());
        let six = String::from_utf8(six.to_vec()).unwrap();
        assert_eq!(parse_tcp(six.replace(" 4711 ", " 0 ").as_bytes()), None, "nobody's");
        assert!(!parse_tcp(six.replace(" 01 ", " 02 ").as_bytes()).unwrap().is_connected());
        assert_eq!(parse_tcp(b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when"), None);
    }

    #[test]
    fn a_unix_socket_has_its_path_whatever_stands_in_it() {
        let line = b"0000000000000000: 00000002 00000000 00010000 0001 01    23 /run/a  b";
        assert_eq!(parse_unix(line), Some(Unix { inode: 23, listens: true, path: b"/run/a  b".to_vec() }));
        let socket = parse_unix(b"0000000000000000: 00000003 00000000 00000000 0001 03 123456 @/x").unwrap();
        assert_eq!((socket.inode, socket.listens), (123_456, false));
        assert_eq!(parse_unix(b"0000000000000000: 00000003 00000000 00000000 0001 03 13562"), None);
        assert_eq!(parse_unix(b"Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }

    #[test]
    fn a_table_that_is_too_long_is_an_error_but_shown_as_far_as_it_goes() {
        let listeners: Vec<_> = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let own = std::process::id();
        let (mut all, mut some) = (0, 0);
        tcp(own, u64::MAX, |_| all += 1).unwrap();
        // A header and a line: the kernel fills each up to 150 bytes.
        assert!(tcp(own, 300, |_| some += 1).is_err());
        assert!(some < all && all >= listeners.len());
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (parse_tcp(&line), parse_unix(&line));
        }

        #[test]
        fn no_fields_make_it_panic(fields in proptest::collection::vec("[0-9A-F:é]{0,34}", 0..12)) {
            let line = fields.join(" ");
            let _ = (parse_tcp(line.as_bytes()), parse_unix(line.as_bytes()));
        }
    }
}
