//! The HTTP server, with TLS where that is wanted: metrics, health, the interface for programs and the page; the same over
//! the local socket.
//!
//! Every connection answers one request and must be done within [`CONNECTION_TIME`], but for those that listen to what
//! happens, and there are at most [`MAX_CONNECTIONS`] at a time; a newcomer gets the place of one that says nothing. So no
//! client can hold anything for long, keep others out, or have those who listen lose their places, and Prometheus, which scrapes every few seconds, loses nothing by
//! a new connection each time.

mod access;
mod api;
mod assets;
mod body;
mod door;
mod hosts;
mod listen;
mod page;
mod peer;
mod places;
mod probe;
mod refusal;
mod response;
mod scrape;
mod secure;
mod via;

use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};

pub use self::{
    access::{Access, TokenError},
    api::{Api, Describe},
    door::{Door, LocalSocket, LocalSocketError},
    hosts::Hosts,
    listen::{BindError, bind},
    peer::Allowed,
    places::{Place, Places},
    secure::Secure,
};
use self::{body::Answer, door::OpenDoor, page::Site, probe::Probe, secure::Client, via::Via};
use crate::{health::Pulse, resources::left_files};

/// Most connections at a time; fewer where few files can be open.
pub const MAX_CONNECTIONS: usize = 64;
/// Longest that a connection may take, from its acceptance to the last byte of the answer.
pub const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// Longest that a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Longest that the end of the program waits for connections.
const SHUTDOWN_TIME: Duration = Duration::from_secs(2);
/// Longest that a listener may take to read its last words.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Pause after a failed accept: what the cause is does not pass by asking again at once.
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
pub enum ServeError {
    /// It could not begin.
    #[error("cannot serve HTTP on a bound socket: {0}")]
    Listen(#[from] std::io::Error),
    /// It has ended without being asked to.
    #[error("a part of the HTTP server has ended: nothing is served any more")]
    Ended,
}

/// What is served.
pub struct Offer {
    /// Path of the metrics.
    pub telemetry_path: String,
    /// By which names the server may be asked.
    pub hosts: Hosts,
    /// Who may see what.
    pub access: Access,
    /// What those see who come by the network.
    pub secure: Secure,
    /// Whether the watch is on.
    pub ready: Ready,
    /// The heartbeats of its parts.
    pub pulse: Pulse,
    /// What programs and the page ask; without it there is neither.
    pub api: Option<Api>,
}

/// Serves until `shutdown` is done, then closes the listeners and gives the connections there are a moment to end.
/// Fails where it cannot go on. To be run in a tokio runtime with its I/O and time drivers.
pub async fn serve(
    doors: Vec<Door>,
    offer: Offer,
    render: Render,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let (scrapes, renderer) = scrape::channel(render);
    let (pulse, secure) = (offer.pulse.clone(), offer.secure.clone());
    let site = Arc::new(Site::new(offer, scrapes));
    // The other half is for what else wants a descriptor: to look at processes goes before.
    let count = (left_files() / 2).clamp(1, MAX_CONNECTIONS);
    let places = Places::new(count);
    // None of them ends by itself.
    let mut parts = JoinSet::new();
    let mut acceptors = Vec::new();
    for door in doors {
        let door = OpenDoor::new(door, &secure)?;
        let (sender, receiver) = mpsc::channel(1);
        acceptors.push(sender);
        parts.spawn(accept(door, receiver, Arc::clone(&site), places.clone()));
    }
    parts.spawn(probe::probe(pulse, acceptors));
    // Needed by the connections that are still there at the end.
    let mut renderer = tokio::spawn(renderer);
    tokio::select! {
        () = shutdown => {}
        _ = parts.join_next() => return Err(ServeError::Ended),
        _ = &mut renderer => return Err(ServeError::Ended),
    }
    parts.shutdown().await;
    // Each connection holds a place until it ends.
    if tokio::time::timeout(SHUTDOWN_TIME, places.all_free(count)).await.is_err() {
        tracing::debug!("HTTP connections are cut off");
    }
    renderer.abort();
    Ok(())
}

/// Takes connections one after the other, each as soon as there is room for it.
async fn accept(door: OpenDoor, mut probes: mpsc::Receiver<Probe>, site: Arc<Site>, places: Places) {
    let mut accepted: Option<Client> = None;
    loop {
        tokio::select! {
            // Connections first: a probe that gets its turn shows that none waits that could not be accepted.
            biased;
            place = places.take(), if accepted.is_some() => {
                let (Some(client), Some(place)) = (accepted.take(), place) else { return };
                tokio::spawn(connection(client, Arc::clone(&site), Some(place)));
            }
            result = door.accept(), if accepted.is_none() => match result {
                Ok(client) => accepted = client,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an HTTP connection");
                    // The usual cause is that there is no free file descriptor: those who say nothing have some.
                    places.end_silent();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            probe = probes.recv() => {
                let Some(probe) = probe else { return };
                let client = Client::Here(Box::new(probe), door.via());
                tokio::spawn(connection(client, Arc::clone(&site), None));
            }
        }
    }
}

/// Serves one request. A probe has no place: it is our own.
async fn connection(client: Client, site: Arc<Site>, place: Option<Place>) {
    // Where it listens to what happens: what tells that it was dropped.
    let listens: OnceLock<Arc<Notify>> = OnceLock::new();
    let answer = |request: Request<Incoming>, via: Via| {
        let (site, place, listens) = (&site, place.as_ref(), &listens);
        if let Some(place) = place {
            place.has_asked();
        }
        async move {
            let is_heartbeat = place.is_none() && request.uri().path() == probe::PATH;
            let answer = if is_heartbeat {
                site.heartbeat().await
            } else if let Some(refused) = site.misdirected(&request, &via) {
                refused
            } else {
                site.answer(request, &via).await
            };
            if let Answer::Live(live) = answer.body() {
                // There is one request for each connection.
                let _ = listens.set(live.dropped());
                if let Some(place) = place {
                    place.stays();
                }
            }
            Ok::<_, Infallible>(answer)
        }
    };
    let served = async {
        let greeted =
            client.greet().await.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed"));
        let Ok(Some((stream, via))) = greeted else { return Ok(()) };
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service_fn(|request| answer(request, via.clone())))
            .await
    };
    let lost = async {
        match &place {
            Some(place) => place.lost().await,
            None => std::future::pending().await,
        }
    };
    let too_long = async {
        tokio::time::sleep(CONNECTION_TIME).await;
        if let Some(dropped) = listens.get() {
            dropped.notified().await;
            tokio::time::sleep(LAST_WORDS).await;
        }
    };
    tokio::select! {
        result = served => match result {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "an HTTP connection broke"),
        },
        () = too_long => tracing::debug!("an HTTP connection took too long"),
        () = lost => tracing::debug!("an HTTP connection that was silent gave its place to another"),
    }
}

#[cfg(test)]
mod tests;
