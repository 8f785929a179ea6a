//! The other end of the connections that programs under watch share.

use std::{
    fs,
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::net::UnixListener,
    thread,
};

use anyhow::{Context as _, Result};

/// Where it listens by TCP.
pub(crate) const TCP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10048);
/// Where it listens by a named Unix socket.
pub(crate) const UNIX: &str = "/tmp/guest-server";

/// Takes one connection by TCP, and reads it to its end.
pub(crate) fn tcp() -> Result<()> {
    let listener = TcpListener::bind(TCP).context("cannot listen by TCP")?;
    take(move || listener.accept().map(|(connection, _)| connection));
    Ok(())
}

/// Takes one connection by a named Unix socket, and reads it to its end.
pub(crate) fn unix() -> Result<()> {
    // Not there the first time.
    let _ = fs::remove_file(UNIX);
    let listener = UnixListener::bind(UNIX).context("cannot listen by a Unix socket")?;
    take(move || listener.accept().map(|(connection, _)| connection));
    Ok(())
}

fn take<C: Read>(accept: impl FnOnce() -> io::Result<C> + Send + 'static) {
    thread::spawn(move || {
        // What is not read shows in the sender, which then stops.
        accept().and_then(|mut connection| io::copy(&mut connection, &mut io::sink()))
    });
}
