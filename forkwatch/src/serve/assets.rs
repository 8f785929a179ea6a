//! The page: files that are part of the program. Nothing comes from elsewhere.

use hyper::header::HeaderValue;

const INDEX: &str = include_str!("page/index.html");

/// The page, with its link to the metrics. The path is escaped already.
pub(super) fn index(telemetry_path: &str) -> String {
    INDEX.replace("%TELEMETRY_PATH%", telemetry_path).replace("%VERSION%", env!("CARGO_PKG_VERSION"))
}

/// A file of the page.
pub(super) struct Asset {
    pub(super) kind: HeaderValue,
    pub(super) text: &'static str,
}

/// The file with this path.
pub(super) fn find(path: &str) -> Option<Asset> {
    let (kind, text) = match path {
        "/" => ("text/html; charset=utf-8", INDEX),
        "/page.css" => ("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => ("text/javascript; charset=utf-8", include_str!("page/page.js")),
        "/parts.js" => ("text/javascript; charset=utf-8", include_str!("page/parts.js")),
        "/overview.js" => ("text/javascript; charset=utf-8", include_str!("page/overview.js")),
        "/findings.js" => ("text/javascript; charset=utf-8", include_str!("page/findings.js")),
        "/processes.js" => ("text/javascript; charset=utf-8", include_str!("page/processes.js")),
        "/hazards.js" => ("text/javascript; charset=utf-8", include_str!("page/hazards.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(Asset { kind: HeaderValue::from_static(kind), text })
}
