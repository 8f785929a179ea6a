//! Asks a running watch over its local socket.

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

/// Where the service listens.
pub const SOCKET: &str = "/run/forkwatch/api.sock";
/// Names another socket.
pub const VARIABLE: &str = "FORKWATCH_SOCKET";
/// Longest answer that is read.
const LONGEST: usize = 64 << 20;
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a watch could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens there.
    #[error("no forkwatch daemon answers at {}: {source}", path.display())]
    Nobody {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else is wrong with the way there.
    #[error("cannot ask the forkwatch daemon at {}: {why}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It refuses whoever asks.
    #[error("{0}")]
    Forbidden(String),
    /// It says what is wrong.
    #[error("the forkwatch daemon says: {0}")]
    Refused(String),
}

/// A watch that can be asked.
#[derive(Clone, Debug)]
pub struct Watch {
    path: PathBuf,
}

impl Watch {
    /// The one at this socket; without one, the one that the environment names, else the service.
    pub fn at(path: Option<&Path>) -> Self {
        let path = path.map(Path::to_owned).or_else(|| env::var_os(VARIABLE).map(PathBuf::from));
        Self { path: path.unwrap_or_else(|| SOCKET.into()) }
    }

    /// Asks, and reads the document that comes.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AskError> {
        let (_, body) = self.ask(Method::GET, path, Bytes::new())?;
        serde_json::from_slice(&body).map_err(|error| self.broken(&error))
    }

    /// Tells it a document.
    pub fn post(&self, path: &str, document: &impl serde::Serialize) -> Result<(), AskError> {
        let body = serde_json::to_vec(document).map_err(|error| self.broken(&error))?;
        self.ask(Method::POST, path, body.into()).map(drop)
    }

    fn broken(&self, why: &dyn std::fmt::Display) -> AskError {
        AskError::Broken { path: self.path.clone(), why: why.to_string() }
    }

    fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), AskError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let asked = async {
            let asked = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
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
        let nobody = |source| AskError::Nobody { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(nobody)?;
        let connected = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = connected.map_err(|error| self.broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))?;
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
            _ => Err(AskError::Refused(said())),
        }
    }
}
