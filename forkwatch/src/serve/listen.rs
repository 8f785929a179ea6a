//! Binding, apart from serving: readiness is told once the ports are ours.

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener},
};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", hint(*address, source))]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// Listens on all the addresses, or on none.
pub fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
    addresses
        .iter()
        .map(|address| {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        })
        .zip(addresses)
        .map(|(bound, address)| bound.map_err(|source| BindError { address: *address, source }))
        .collect()
}

/// What to do about it.
fn hint(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            ". `ss -ltnp sport = :{port}` shows who holds the port; choose another with --web.listen-address or \
             web.listen_addresses"
        ),
        ErrorKind::AddrNotAvailable => {
            ". No interface of this host has that address: `ip address` lists those there are".to_owned()
        }
        ErrorKind::PermissionDenied if port < 1024 => {
            ". Ports below 1024 want CAP_NET_BIND_SERVICE: choose a higher one".to_owned()
        }
        _ if address.is_ipv6() && error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
            format!(". This host has no IPv6: use 0.0.0.0:{port}")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_named_with_what_to_do() {
        let held = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = held[0].local_addr().unwrap();
        let message = bind(&[address]).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot listen on {address}: ")), "{message}");
        assert!(message.contains(&format!("`ss -ltnp sport = :{}`", address.port())), "{message}");
        assert!(message.contains("--web.listen-address"), "{message}");
    }

    #[test]
    fn an_address_of_another_host_is_named() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no host has it.
        let message = bind(&["192.0.2.1:0".parse().unwrap()]).unwrap_err().to_string();
        assert!(message.contains("192.0.2.1") && message.contains("No interface"), "{message}");
    }

    #[test]
    fn one_address_that_fails_frees_the_others() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [free.local_addr().unwrap(), held.local_addr().unwrap()];
        drop(free);
        assert_eq!(bind(&addresses).unwrap_err().address, addresses[1]);
        bind(&addresses[..1]).unwrap();
    }
}
