//! What each path answers.

use std::sync::atomic::{AtomicBool, Ordering};

use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    Access, Api, Hosts, Offer, Ready,
    access::Verdict,
    api, assets,
    body::Answer,
    response::{TEXT, respond},
    scrape::Scrapes,
    via::Via,
};
use crate::{
    api::PREFIX,
    health::{self, Failing, PATIENCE, Pulse},
};

/// Prometheus 3 fails a scrape whose content type it cannot read; this is the text format's, to the letter.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";

/// The pages.
pub(super) struct Site {
    telemetry_path: String,
    page: String,
    landing: String,
    hosts: Hosts,
    access: Access,
    /// Whether the log has told of a name that was refused.
    told: AtomicBool,
    scrapes: Scrapes,
    ready: Ready,
    pulse: Pulse,
    api: Option<Api>,
}

impl Site {
    pub(super) fn new(offer: Offer, scrapes: Scrapes) -> Self {
        let Offer { telemetry_path, hosts, access, secure: _, ready, pulse, api } = offer;
        let landing = landing(&telemetry_path, &access);
        let page = assets::index(&escape(&telemetry_path));
        let told = AtomicBool::new(false);
        Self { telemetry_path, page, landing, hosts, access, told, scrapes, ready, pulse, api }
    }

    /// Refuses a request by a name that is not this server's. Those who come over the local socket are no browsers.
    pub(super) fn misdirected<B>(&self, request: &Request<B>, via: &Via) -> Option<Response<Answer>> {
        let is_loopback = match via {
            Via::Loopback => true,
            Via::Network { .. } => false,
            Via::Local { .. } => return None,
        };
        let host = self.hosts.check(request, is_loopback).err()?;
        // Once, or whoever asks could fill the log.
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                host,
                "a request by a name that is not this server's was refused, as all further ones are: add the name to \
                 web.allowed_hosts if it is, or ask by IP address"
            );
        }
        let body = format!(
            "\"{host}\" is none of this server's names. Ask by IP address, or add the name to web.allowed_hosts in the \
             configuration of forkwatch.\n"
        );
        Some(respond(StatusCode::MISDIRECTED_REQUEST, TEXT, body))
    }

    /// Shows that requests are answered, and that scrapes would be.
    pub(super) async fn heartbeat(&self) -> Response<Answer> {
        match self.scrapes.heartbeat().await {
            Ok(()) => respond(StatusCode::OK, TEXT, ""),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error),
        }
    }

    /// Says that the program is in a state, or why it is not: every part is asked now.
    async fn vouch(&self, state: &str) -> Response<Answer> {
        let failing = self.pulse.round(PATIENCE).await;
        if failing.is_empty() {
            return respond(StatusCode::OK, TEXT, format!("forkwatch is {state}.\n"));
        }
        let why = health::describe(&failing);
        respond(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("forkwatch is not {state}: {why}.\n"))
    }

    /// Answers a request. To a HEAD, hyper sends the headers of this and leaves out the body.
    pub(super) async fn answer(&self, request: Request<Incoming>, via: &Via) -> Response<Answer> {
        let path = request.uri().path();
        let is_open = path == self.telemetry_path || matches!(path, HEALTHY | READY);
        let is_api = path.strip_prefix(PREFIX).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let asset = if is_api || is_open { None } else { assets::find(path) };
        if !is_open {
            if asset.is_none() && !(is_api && self.api.is_some()) {
                return respond(StatusCode::NOT_FOUND, TEXT, "Not found. / lists the pages.\n");
            }
            if let Some(refused) = self.refused(path, via, request.headers()) {
                return refused;
            }
            if let Some(api) = self.api.as_ref().filter(|_| is_api) {
                return api::answer(api, request, via, self.failing()).await;
            }
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut answer = respond(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET and HEAD.\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match (path, asset) {
            ("/", _) => respond(StatusCode::OK, HTML, self.page.clone()),
            (_, Some(asset)) => respond(StatusCode::OK, asset.kind, asset.text),
            (HEALTHY, _) => self.vouch("healthy").await,
            (READY, _) if self.ready.get() => self.vouch("ready").await,
            (READY, _) => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "forkwatch is not ready: it is starting, or ending.\n",
            ),
            _ => self.metrics().await,
        }
    }

    /// Refuses what is not told to whoever came by this way.
    fn refused(&self, path: &str, via: &Via, headers: &hyper::HeaderMap) -> Option<Response<Answer>> {
        match self.access.judge(via, headers) {
            Verdict::Granted => None,
            // What has always been here.
            Verdict::Closed if path == "/" => Some(respond(StatusCode::OK, HTML, self.landing.clone())),
            Verdict::Closed => Some(respond(
                StatusCode::FORBIDDEN,
                TEXT,
                "This address may be reached from elsewhere, and no token is set: only metrics and health are told here. \
                 Set web.token_file, or ask on the host itself.\n",
            )),
            Verdict::Token => {
                let why = "The token of web.token_file is needed, as a bearer token or as the password of any user.\n";
                let mut answer = respond(StatusCode::UNAUTHORIZED, TEXT, why);
                for scheme in ["Basic realm=\"forkwatch\", charset=\"UTF-8\"", "Bearer realm=\"forkwatch\""] {
                    answer.headers_mut().append(WWW_AUTHENTICATE, HeaderValue::from_static(scheme));
                }
                Some(answer)
            }
        }
    }

    /// The parts that do not work, each asked now, and whether the watch is on.
    async fn failing(&self) -> (Vec<Failing>, bool) {
        (self.pulse.round(PATIENCE).await, self.ready.get())
    }

    /// Every part is asked first, so that what the metrics say of it is of this moment.
    async fn metrics(&self) -> Response<Answer> {
        self.pulse.round(PATIENCE).await;
        match self.scrapes.collect().await {
            Ok(page) => respond(StatusCode::OK, METRICS, page),
            Err(error) => respond(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }
}

/// What those see who may not see the page.
fn landing(telemetry_path: &str, access: &Access) -> String {
    let path = escape(telemetry_path);
    let version = env!("CARGO_PKG_VERSION");
    let more = if access.is_closed() {
        "<p>Findings and the page are shown on the host itself, and here once web.token_file is set.</p>\n"
    } else {
        ""
    };
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>forkwatch</title>
</head>
<body>
<h1>forkwatch</h1>
<p>Watches every fork on this host and says which were unsafe. Version {version}.</p>
<ul>
<li><a href="{path}">Metrics</a> for Prometheus</li>
<li><a href="{HEALTHY}">Healthy</a>: whether every part of the program answers</li>
<li><a href="{READY}">Ready</a>: whether it watches, and every part answers</li>
</ul>
{more}</body>
</html>
"#
    )
}

/// For HTML text and quoted attributes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, character| {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(character),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_landing_page_cannot_be_broken_out_of() {
        let page = landing("/\"><script>alert('x')</script>&", &Access::default());
        assert!(
            page.contains("<a href=\"/&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\">")
        );
        assert!(!page.contains("<script>"));
    }
}
