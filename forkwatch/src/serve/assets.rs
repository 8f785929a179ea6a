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
        "/servers.js" => ("text/javascript; charset=utf-8", include_str!("page/servers.js")),
        "/hazards.js" => ("text/javascript; charset=utf-8", include_str!("page/hazards.js")),
        "/icon.svg" => ("image/svg+xml", include_str!("page/icon.svg")),
        _ => return None,
    };
    Some(Asset { kind: HeaderValue::from_static(kind), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATHS: [&str; 9] = [
        "/page.css",
        "/page.js",
        "/parts.js",
        "/overview.js",
        "/findings.js",
        "/processes.js",
        "/servers.js",
        "/hazards.js",
        "/icon.svg",
    ];

    #[test]
    fn the_page_loads_what_is_there_and_nothing_from_elsewhere() {
        let index = find("/").unwrap().text;
        for path in PATHS {
            let asset = find(path).unwrap();
            assert!(!asset.text.is_empty(), "{path}");
            // Its own name space is no address.
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("http://") && !text.contains("https://"), "{path} leads elsewhere");
            assert!(
                !text.contains("innerHTML") && !text.contains("insertAdjacentHTML"),
                "{path} makes markup"
            );
            if let Some(name) = path.strip_suffix(".js") {
                let is_loaded =
                    [index].into_iter().chain(PATHS.into_iter().filter_map(|one| Some(find(one)?.text)));
                assert!(
                    is_loaded.into_iter().any(|text| text.contains(&format!("{name}.js\""))),
                    "{path} is not loaded"
                );
            }
        }
        assert!(
            !index.contains("style=") && !index.contains("<style") && !index.contains("<script>"),
            "inline"
        );
        assert!(find("/../page.css").is_none());
    }
}
