//! The HTTP server: metrics, health and a landing page.
//!
//! Every connection answers one request and must be done within [`CONNECTION_TIME`], and there are at most
//! [`MAX_CONNECTIONS`] at a time; more wait in the kernel's queue. So no client can hold anything for long, and
//! Prometheus, which scrapes every few seconds, loses nothing by a new connection each time.

mod listen;
mod page;
mod scrape;

use std::{
    convert::Infallible,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

pub use self::listen::{BindError, bind};
use self::page::Site;

/// Most connections at a time.
pub const MAX_CONNECTIONS: usize = 64;
/// Longest that a connection may take, from its acceptance to the last byte of the answer.
pub const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Longest that a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Longest that the end of the program waits for connections.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// Pause after a failed accept: the usual cause, no free file descriptor, does not pass by asking again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whether the watch is on: shared by whoever starts it and `/-/ready`. Not ready at first.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Sets what `/-/ready` answers from now on.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Renders the metrics; an error becomes the text of a 500.
pub type Render = Box<dyn Fn() -> Result<String, Box<dyn std::error::Error + Send + Sync>> + Send>;

/// Why the server cannot run.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve HTTP on a bound socket: {0}")]
pub struct ServeError(#[from] std::io::Error);

/// Serves until `shutdown` is done, then closes the listeners and gives the connections there are a moment to end.
/// To be run in a tokio runtime with its I/O and time drivers.
pub async fn serve(
    listeners: Vec<TcpListener>,
    telemetry_path: &str,
    render: Render,
    ready: Ready,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (scrapes, renderer) = scrape::channel(render);
    let site = Arc::new(Site::new(telemetry_path, scrapes, ready));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut acceptors = JoinSet::new();
    for listener in listeners {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        acceptors.spawn(accept(listener, Arc::clone(&site), Arc::clone(&permits)));
    }
    let renderer = tokio::spawn(renderer);

    shutdown.await;
    acceptors.shutdown().await;
    // Each connection holds a permit until it ends.
    let all = permits.acquire_many(u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX));
    if tokio::time::timeout(SHUTDOWN_TIME, all).await.is_err() {
        tracing::debug!("HTTP connections are cut off");
    }
    renderer.abort();
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, site: Arc<Site>, permits: Arc<Semaphore>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // An error would mean that the semaphore was closed, which nothing does.
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
                tokio::spawn(connection(stream, Arc::clone(&site), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>, _permit: OwnedSemaphorePermit) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let site = Arc::clone(&site);
        async move { Ok::<_, Infallible>(site.answer(request.method(), request.uri().path()).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    match tokio::time::timeout(CONNECTION_TIME, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an HTTP connection broke"),
        Err(_) => tracing::debug!("an HTTP connection took too long"),
    }
}

#[cfg(test)]
mod tests;
