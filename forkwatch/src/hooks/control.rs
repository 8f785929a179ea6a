//! The local socket of the process that runs hooks: who asks how it goes, switches hooks, and tries them.
//!
//! HTTP, as on the watch's own: root may ask, and whoever it runs as.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::unistd::geteuid;
use serde::Serialize;
use tokio::{
    net::{UnixListener, UnixStream},
    task::spawn_blocking,
};

use super::{TrialDocument, hub::Hub, trial};
use crate::serve::{Place, Places};

/// Most connections at a time.
const MOST: usize = 8;
/// Longest that a client may take to send its request.
const HEADER_TIME: Duration = Duration::from_secs(5);
/// Pause after a failed accept.
const PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Answers whoever connects, for ever.
pub(super) async fn answer_all(listener: UnixListener, hub: Arc<Hub>) -> Infallible {
    let places = Places::new(MOST);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let Some(place) = places.take().await else { continue };
                let hub = Arc::clone(&hub);
                tokio::spawn(converse(stream, hub, place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the socket of the hooks");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, hub: Arc<Hub>, place: Place) {
    let own = geteuid().as_raw();
    let may = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own);
    let respond = service_fn(|request: Request<Incoming>| {
        let hub = Arc::clone(&hub);
        place.has_asked();
        if may && request.uri().path().ends_with("/test") {
            // That takes as long as the hook.
            place.stays();
        }
        async move {
            let answer = if may {
                answer(&request, &hub).await
            } else {
                text(
                    StatusCode::FORBIDDEN,
                    "only root may ask about hooks and switch them, and the user that runs them",
                )
            };
            Ok::<_, Infallible>(answer)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), respond);
    tokio::select! {
        served = served => if let Err(error) = served {
            tracing::debug!(%error, "a connection about hooks broke");
        },
        () = place.lost() => tracing::debug!("a connection about hooks gave its place to another"),
    }
}

async fn answer(request: &Request<Incoming>, hub: &Arc<Hub>) -> Answer {
    let path: Vec<&str> = request.uri().path().split('/').skip(1).collect();
    match (request.method(), path.as_slice()) {
        (&Method::GET, ["hooks"]) => json(&hub.document()),
        (&Method::POST, ["reload"]) => match hub.reload() {
            Ok(()) => json(&hub.document()),
            Err(error) => text(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::POST, ["hooks", name, deed @ ("enable" | "disable" | "test")]) => {
            let Some(entry) = hub.book.find(name) else {
                let why = format!("there is no hook {name:?}: `forkwatch hook list` shows them");
                return text(StatusCode::NOT_FOUND, &why);
            };
            if *deed != "test" {
                entry.switch(*deed == "enable");
                tracing::info!(hook = *name, "was {deed}d by request");
                return json(&hub.document());
            }
            let stop = Arc::clone(&hub.stop);
            let tried = Arc::clone(&entry);
            let tried = spawn_blocking(move || trial::try_until(&tried.hook, &stop)).await;
            match tried {
                Ok(Ok(ran)) => json(&TrialDocument::new(name, entry.is_enabled(), &ran)),
                Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
            }
        }
        (_, ["hooks" | "reload"] | ["hooks", _, "enable" | "disable" | "test"]) => {
            text(StatusCode::METHOD_NOT_ALLOWED, "GET /hooks is a question, and everything else is a POST")
        }
        _ => text(
            StatusCode::NOT_FOUND,
            "there are GET /hooks, POST /hooks/NAME/enable, …/disable, …/test, and POST /reload",
        ),
    }
}

fn json(document: &impl Serialize) -> Answer {
    match serde_json::to_vec(document) {
        Ok(mut body) => {
            body.push(b'\n');
            let mut answer = Response::new(Full::new(body.into()));
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn text(status: StatusCode, why: &str) -> Answer {
    let mut answer = Response::new(Full::new(format!("{why}\n").into()));
    *answer.status_mut() = status;
    answer
}
