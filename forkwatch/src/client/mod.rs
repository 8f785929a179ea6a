//! Asks a running watch over its local socket, or another process of forkwatch's over its own.

mod stream;

use std::{
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST},
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

pub use self::stream::Heard;

/// Where the service listens.
pub const SOCKET: &str = "/run/forkwatch/api.sock";
/// Names another socket.
pub const VARIABLE: &str = "FORKWATCH_SOCKET";
/// Where the process that runs hooks listens.
pub const HOOKS_SOCKET: &str = "/run/forkwatch-hooks/hooks.sock";
/// Names another one.
pub const HOOKS_VARIABLE: &str = "FORKWATCH_HOOKS_SOCKET";
/// Longest answer that is read.
const LONGEST: usize = 64 << 20;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a watch could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no {whom} answers at {}: {source}", path.display())]
    Nobody {
        /// Who was to be asked.
        whom: &'static str,
        /// The path of the local socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is wrong with the way there.
    #[error("cannot ask the {whom} at {}: {why}", path.display())]
    Broken {
        /// Who was to be asked.
        whom: &'static str,
        /// The path of the local socket.
        path: PathBuf,
        /// What went wrong on the way.
        why: String,
    },
    /// It refuses whoever asks.
    #[error("{0}")]
    Forbidden(String),
    /// It says what is wrong.
    #[error("the {0} says: {1}")]
    Refused(&'static str, String),
}

/// A watch that can be asked.
#[derive(Clone, Debug)]
pub struct Watch {
    path: PathBuf,
    whom: &'static str,
    patience: Duration,
}

impl Watch {
    /// The one at this socket; without one, the one that the environment names, else the service.
    pub fn at(path: Option<&Path>) -> Self {
        Self { path: place(path, VARIABLE, SOCKET), whom: "forkwatch daemon", patience: PATIENCE }
    }

    /// The process that runs hooks, found in the same way, which is given so long to answer.
    pub fn hooks(path: Option<&Path>, patience: Duration) -> Self {
        Self { path: place(path, HOOKS_VARIABLE, HOOKS_SOCKET), whom: "process that runs hooks", patience }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, and reads the document that comes.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (_, body) = self.ask(Method::GET, path, Bytes::new())?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    /// Asks, and gives what comes as it is.
    pub fn get_bytes(&self, path: &str) -> Result<Bytes, AskError> {
        Ok(self.ask(Method::GET, path, Bytes::new())?.1)
    }

    /// Reads a document that came.
    pub fn read<T: DeserializeOwned>(&self, bytes: &Bytes) -> Result<T, AskError> {
        serde_json::from_slice(bytes).map_err(|error| self.broken(&error))
    }

    /// Tells it a document.
    pub fn post(&self, path: &str, document: &impl serde::Serialize) -> Result<(), AskError> {
        let body = serde_json::to_vec(document).map_err(|error| self.broken(&error))?;
        self.ask(Method::POST, path, body.into()).map(drop)
    }

    /// Asks it to do something, and reads the document that comes.
    pub fn order<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (_, body) = self.ask(Method::POST, path, Bytes::new())?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::Broken { whom: self.whom, path: self.path.clone(), why: why.to_string() }
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = async {
            let asked = tokio::time::timeout(self.patience, self.exchange(method, path, body)).await;
            asked.map_err(|_| self.broken(&"it does not answer"))?
        };
        runtime.map_err(|error| self.broken(&error))?.block_on(asked)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), AskError> {
        let (mut sender, connection) = self.connect().await?;
        let request = self.request(method, path, body)?;
        let answered = async {
            let answer = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), LONGEST).collect().await;
            Ok((status, body.map_err(|error| self.broken(&error))?.to_bytes()))
        };
        tokio::pin!(answered);
        let (status, body) = tokio::select! {
            answered = &mut answered => answered?,
            // The connection may end right after the answer.
            _ = connection => answered.await?,
        };
        let said = || String::from_utf8_lossy(&body).trim_end().to_owned();
        match status {
            StatusCode::FORBIDDEN => Err(AskError::Forbidden(said())),
            status if status.is_success() => Ok((status, body)),
            _ => Err(AskError::Refused(self.whom, said())),
        }
    }

    async fn connect(&self) -> Result<(http1::SendRequest<Full<Bytes>>, Connection), AskError> {
        let nobody = |source| AskError::Nobody { whom: self.whom, path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(nobody)?;
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(&error))
    }

    fn request(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, AskError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))
    }
}

type Connection = http1::Connection<TokioIo<UnixStream>, Full<Bytes>>;

fn place(path: Option<&Path>, variable: &str, usual: &str) -> PathBuf {
    let path = path.map(Path::to_owned).or_else(|| env::var_os(variable).map(PathBuf::from));
    path.unwrap_or_else(|| usual.into())
}
