//! What each path answers.

use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{Hosts, Ready, scrape::Scrapes};
use crate::health::{self, PATIENCE, Pulse};

/// Prometheus 3 fails a scrape whose content type it cannot read; this is the text format's, to the letter.
const METRICS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";

/// The pages.
pub(super) struct Site {
    telemetry_path: String,
    landing: String,
    hosts: Hosts,
    /// Whether the log has told of a name that was refused.
    told: AtomicBool,
    scrapes: Scrapes,
    ready: Ready,
    pulse: Pulse,
}

impl Site {
    pub(super) fn new(
        telemetry_path: &str,
        hosts: Hosts,
        scrapes: Scrapes,
        ready: Ready,
        pulse: Pulse,
    ) -> Self {
        let landing = landing(telemetry_path);
        let told = AtomicBool::new(false);
        Self { telemetry_path: telemetry_path.to_owned(), landing, hosts, told, scrapes, ready, pulse }
    }

    /// Refuses a request by a name that is not this server's.
    pub(super) fn misdirected<B>(
        &self,
        request: &Request<B>,
        is_loopback: bool,
    ) -> Option<Response<Full<Bytes>>> {
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
        Some(response(StatusCode::MISDIRECTED_REQUEST, TEXT, body))
    }

    /// Shows that requests are answered, and that scrapes would be.
    pub(super) async fn heartbeat(&self) -> Response<Full<Bytes>> {
        match self.scrapes.heartbeat().await {
            Ok(()) => response(StatusCode::OK, TEXT, ""),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error),
        }
    }

    /// Says that the program is in a state, or why it is not: every part is asked now.
    async fn vouch(&self, state: &str) -> Response<Full<Bytes>> {
        let failing = self.pulse.round(PATIENCE).await;
        if failing.is_empty() {
            return response(StatusCode::OK, TEXT, format!("forkwatch is {state}.\n"));
        }
        let why = health::describe(&failing);
        response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("forkwatch is not {state}: {why}.\n"))
    }

    /// Answers a request. To a HEAD, hyper sends the headers of this and leaves out the body.
    pub(super) async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known = path == self.telemetry_path || matches!(path, "/" | HEALTHY | READY);
        if !known {
            return response(StatusCode::NOT_FOUND, TEXT, "Not found. / lists the pages.\n");
        }
        if method != Method::GET && method != Method::HEAD {
            let mut answer = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Only GET and HEAD.\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/" => response(StatusCode::OK, HTML, self.landing.clone()),
            HEALTHY => self.vouch("healthy").await,
            READY if self.ready.get() => self.vouch("ready").await,
            READY => response(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "forkwatch is not ready: it is starting, or ending.\n",
            ),
            _ => self.metrics().await,
        }
    }

    /// Every part is asked first, so that what the metrics say of it is of this moment.
    async fn metrics(&self) -> Response<Full<Bytes>> {
        self.pulse.round(PATIENCE).await;
        match self.scrapes.collect().await {
            Ok(page) => response(StatusCode::OK, METRICS, page),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        }
    }
}

fn response(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}

fn landing(telemetry_path: &str) -> String {
    let path = escape(telemetry_path);
    let version = env!("CARGO_PKG_VERSION");
    format!(
        r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>forkwatch</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }}
:root {{ color-scheme: light dark }}
</style>
</head>
<body>
<h1>forkwatch</h1>
<p>Watches every fork on this host and says which were unsafe. Version {version}.</p>
<ul>
<li><a href="{path}">Metrics</a> for Prometheus</li>
<li><a href="{HEALTHY}">Healthy</a>: whether every part of the program answers</li>
<li><a href="{READY}">Ready</a>: whether it watches, and every part answers</li>
</ul>
</body>
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
        let page = landing("/\"><script>alert('x')</script>&");
        assert!(
            page.contains("<a href=\"/&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;\">")
        );
        assert!(!page.contains("<script>"));
    }
}
