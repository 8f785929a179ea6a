//! Where clients come in: addresses of the network, and the local socket.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::Semaphore;

use super::{
    peer::{Allowed, Peer},
    refusal::refuse,
    secure::{Client, Secure},
    via::Via,
};

/// Most that are told at a time that they may not ask.
const MOST_REFUSALS: usize = 16;

/// A socket that clients connect to.
pub enum Door {
    /// An address.
    Network(TcpListener),
    /// A path, and who may ask there.
    Local(LocalSocket),
}

/// The local socket. Its path is gone when this is dropped.
pub struct LocalSocket {
    listener: UnixListener,
    allowed: Allowed,
    path: PathBuf,
}

/// Why there is no local socket.
#[derive(Debug, thiserror::Error)]
pub enum LocalSocketError {
    /// Another forkwatch answers there.
    #[error("another forkwatch answers at {}; name another path (socket.path, or --control of forkwatch hooks)", .0.display())]
    Taken(PathBuf),
    /// There is something else.
    #[error("{} is no socket, and is left as it is; name another path (socket.path, or --control of forkwatch hooks)", .0.display())]
    Other(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {}: {source}", path.display())]
    Listen {
        /// The path of the socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalSocket {
    /// Listens there. What an earlier watch has left there is replaced. Everybody may connect, so that whoever may not ask is
    /// told so; the kernel says who it is.
    pub fn bind(path: &Path, allowed: Allowed) -> Result<Self, LocalSocketError> {
        let failed = |source| LocalSocketError::Listen { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(LocalSocketError::Other(path.to_owned()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(LocalSocketError::Taken(path.to_owned()));
            }
            Ok(_) => fs::remove_file(path).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Self { listener, allowed, path: path.to_owned() };
        fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(failed)?;
        socket.listener.set_nonblocking(true).map_err(failed)?;
        Ok(socket)
    }

    /// The listener itself, for who serves something else there. The path is ours for as long as this lives.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the local socket's path stays");
        }
    }
}

/// The same, on a runtime.
pub(super) enum OpenDoor {
    Network(tokio::net::TcpListener, Via, Secure),
    Local {
        listener: tokio::net::UnixListener,
        allowed: Allowed,
        refusals: Arc<Semaphore>,
        _path: LocalSocket,
    },
}

impl OpenDoor {
    pub(super) fn new(door: Door, secure: &Secure) -> io::Result<Self> {
        Ok(match door {
            Door::Network(listener) => {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let is_loopback =
                    listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
                let via = if is_loopback { Via::Loopback } else { Via::Network { is_certified: false } };
                Self::Network(listener, via, secure.clone())
            }
            Door::Local(socket) => Self::Local {
                listener: tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?,
                allowed: socket.allowed.clone(),
                refusals: Arc::new(Semaphore::new(MOST_REFUSALS)),
                _path: socket,
            },
        })
    }

    /// By which way those come who come in here; of the local socket, forkwatch itself.
    pub(super) fn via(&self) -> Via {
        match self {
            Self::Network(_, via, _) => via.clone(),
            Self::Local { .. } => Via::Local { uid: 0 },
        }
    }

    /// The next client; none where it was sent away.
    pub(super) async fn accept(&self) -> io::Result<Option<Client>> {
        match self {
            Self::Network(listener, via, secure) => {
                let (stream, _) = listener.accept().await?;
                Ok(Some(secure.client(stream, via.clone())))
            }
            Self::Local { listener, allowed, refusals, .. } => {
                let (stream, _) = listener.accept().await?;
                let own = nix::unistd::geteuid().as_raw();
                match Peer::of(&stream) {
                    Ok(peer) if peer.is_in(allowed, own) => {
                        Ok(Some(Client::Here(Box::new(stream), Via::Local { uid: peer.uid })))
                    }
                    peer => {
                        let who = peer.map_or_else(|_| "you".to_owned(), |peer| format!("uid {}", peer.uid));
                        // Of a crowd of them, not all are told.
                        if let Ok(room) = Arc::clone(refusals).try_acquire_owned() {
                            let why =
                                format!("{who} may not ask this forkwatch: {allowed} may (socket.group).\n");
                            tokio::spawn(async move {
                                refuse(stream, "403 Forbidden", &why).await;
                                drop(room);
                            });
                        }
                        Ok(None)
                    }
                }
            }
        }
    }
}
