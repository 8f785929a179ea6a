//! TLS on the addresses of the network, with a certificate that may be renewed while forkwatch serves.

use std::{
    fmt, io,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{HEADER_TIME, refusal::refuse, via::Via};
use crate::tls::Stream;

/// The first byte of every TLS connection: the type of a record with a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;
/// What is said to those who speak plain HTTP.
const PLAIN: &str = "This port speaks TLS (web.tls_server_config): ask it by https://\n";

/// What those see who come by the network: a certificate, or none, and then HTTP is plain. Clones are the same, so that
/// whoever reads the configuration anew can change it for the server.
#[derive(Clone, Default)]
pub struct Secure(Arc<Mutex<Option<Arc<ServerConfig>>>>);

impl fmt::Debug for Secure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in it leads to a private key.
        out.write_str("Secure")
    }
}

impl Secure {
    /// Starts with this certificate.
    pub fn new(config: Option<Arc<ServerConfig>>) -> Self {
        Self(Arc::new(Mutex::new(config)))
    }

    /// Takes on another. Connections that there are keep the old one.
    pub fn set(&self, config: Option<Arc<ServerConfig>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What the next client sees.
    fn now(&self) -> Option<Arc<ServerConfig>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A client that has come by the network.
    pub(super) fn client(&self, stream: TcpStream, via: Via) -> Client {
        match self.now() {
            Some(config) => Client::Stranger { stream, config, via },
            None => Client::Here(Box::new(stream), via),
        }
    }
}

/// Somebody who has connected.
pub(super) enum Client {
    /// It can be listened to.
    Here(Box<dyn Stream>, Via),
    /// TLS comes first.
    Stranger { stream: TcpStream, config: Arc<ServerConfig>, via: Via },
}

impl Client {
    /// What the client says comes out of this; nothing where it does not speak TLS, and was told to. It may take as long as
    /// a request may. To be called where the client has a place already: one that never ends its handshake is as silent as
    /// one that never asks.
    pub(super) async fn greet(self) -> io::Result<Option<(Box<dyn Stream>, Via)>> {
        let (stream, config, via) = match self {
            Self::Here(stream, via) => return Ok(Some((stream, via))),
            Self::Stranger { stream, config, via } => (stream, config, via),
        };
        let shaken = async {
            let mut first = [0];
            // Only looked at: rustls would answer plain HTTP in TLS.
            if stream.peek(&mut first).await? == 0 {
                return Ok(None);
            }
            if first != [HANDSHAKE] {
                refuse(stream, "400 Bad Request", PLAIN).await;
                return Ok(None);
            }
            let stream = TlsAcceptor::from(config).accept(stream).await?;
            let (_, session) = stream.get_ref();
            // It was asked for only where it was looked at, too.
            let is_certified = session.peer_certificates().is_some();
            Ok(Some((Box::new(stream) as Box<dyn Stream>, via.certified(is_certified))))
        };
        match tokio::time::timeout(HEADER_TIME, shaken).await {
            Ok(shaken) => shaken,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")),
        }
    }
}
