use std::{
    net::{TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, BorrowedFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream},
    },
};

use super::*;

/// This process, as another would be seen.
fn own() -> Sockets {
    Sockets::of(Stat::of_process(std::process::id()).unwrap().key()).unwrap()
}

fn look(sockets: &mut Sockets, socket: &impl AsRawFd) -> Option<Socket> {
    let number = socket.as_raw_fd();
    // SAFETY: the caller's socket is open.
    let inode = fstat(unsafe { BorrowedFd::borrow_raw(number) }).unwrap().st_ino;
    sockets.look(number.try_into().unwrap(), inode)
}

/// The peer of a connected socket.
fn peer(sockets: &mut Sockets, socket: &impl AsRawFd) -> Option<Peer> {
    match look(sockets, socket) {
        Some(Socket::Connected { peer, .. }) => Some(peer),
        _ => None,
    }
}

fn tcp(address: SocketAddr) -> Peer {
    Peer::Tcp(address.to_string())
}

#[test]
fn a_tcp_connection_and_a_listener_are_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = TcpStream::connect(address).unwrap();
    assert_eq!(peer(&mut own(), &client), Some(tcp(address)));
    assert_eq!(look(&mut own(), &listener), Some(Socket::Listening(tcp(address))));
    // The same from the tables, as where no duplicate can be had.
    let mut without = Sockets { pidfd: None, ..own() };
    assert_eq!(peer(&mut without, &client), Some(tcp(address)));
    assert_eq!(look(&mut without, &listener), Some(Socket::Listening(tcp(address))));
}

#[test]
fn a_version_4_peer_of_a_version_6_socket_is_shown_as_version_4() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Ok(client) = TcpStream::connect(format!("[::ffff:127.0.0.1]:{port}")) else {
        eprintln!("not tested: no IPv6 here");
        return;
    };
    let name = Peer::Tcp(format!("127.0.0.1:{port}"));
    assert_eq!(peer(&mut own(), &client), Some(name));
}

#[test]
fn a_unix_connection_is_named_by_where_it_leads() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(".s.PGSQL.5432");
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let name = Peer::Unix(path.to_string_lossy().into_owned());
    assert_eq!(peer(&mut own(), &client), Some(name.clone()));
    assert_eq!(look(&mut own(), &listener), Some(Socket::Listening(name)));
    // Its peer has no name.
    assert_eq!(look(&mut own(), &accepted), Some(Socket::Other));

    let name = format!("forkwatch-test-{}", std::process::id());
    let address = UnixAddress::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let client = UnixStream::connect_addr(&address).unwrap();
    assert_eq!(peer(&mut own(), &client), Some(Peer::Unix(format!("@{name}"))));
}

#[test]
fn pairs_datagrams_and_the_unconnected_are_nothing() {
    let (one, _other) = UnixStream::pair().unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.connect("127.0.0.1:9").unwrap();
    let unconnected = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    assert_eq!(look(&mut own(), &one), Some(Socket::Other));
    assert_eq!(look(&mut own(), &datagrams), Some(Socket::Other));
    assert_eq!(look(&mut own(), &unconnected), Some(Socket::Other));
}

#[test]
fn a_descriptor_that_is_another_socket_by_now_is_not_described() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = socket.as_raw_fd().try_into().unwrap();
    assert_eq!(own().look(number, u64::MAX), None);
    assert_eq!(own().look(1_000_000, 1), None);
}

#[test]
fn a_process_of_another_start_is_not_asked() {
    let mut key = Stat::of_process(std::process::id()).unwrap().key();
    key.start.0 += crate::model::time::TICK;
    assert!(Sockets::of(key).is_none());
}
