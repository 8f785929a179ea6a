//! By which names the server may be asked.
//!
//! A page in a browser may have its own name lead to an address that it could not ask otherwise, loopback for example,
//! and then read the answers: to the browser they are its own (DNS rebinding). The request bears that name, so names that
//! are not this server's are refused. Nobody can have an address, or `localhost`, lead elsewhere.

use std::{
    fs,
    net::{IpAddr, Ipv6Addr},
};

use hyper::{Request, header::HOST};

/// Longest name that is shown in an answer; names have at most 253 bytes (RFC 1035).
const LONGEST: usize = 253;

/// The names of a server.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// What the operator allows: names, `*.` before one for all below it, or `*` alone.
    allowed: Vec<String>,
    /// The names of the host.
    own: Vec<String>,
}

impl Hosts {
    /// Those of this host, and those that the operator allows.
    pub fn here(allowed: &[String]) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let name = read("/proc/sys/kernel/hostname");
        Self {
            allowed: allowed.iter().map(|name| plain(name)).collect(),
            own: own(&name, &read("/etc/hosts"), &read("/etc/resolv.conf")),
        }
    }

    /// Refuses a request by another name, and says which that is. A request without any was not made by a browser.
    pub(super) fn check<B>(&self, request: &Request<B>, is_loopback: bool) -> Result<(), String> {
        let mut names = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or("?"));
        let first = names.next();
        if names.next().is_some() {
            return Err("twice".to_owned());
        }
        let authority = request.uri().authority().map(hyper::http::uri::Authority::as_str);
        match authority.into_iter().chain(first).find(|name| !self.has(name, is_loopback)) {
            Some(name) => Err(name.chars().filter(char::is_ascii_graphic).take(LONGEST).collect()),
            None => Ok(()),
        }
    }

    /// Whether a host, perhaps with a port, is this server.
    fn has(&self, host: &str, is_loopback: bool) -> bool {
        let Some(name) = without_port(host) else { return true };
        if name.parse::<IpAddr>().is_ok() || name == "localhost" {
            return true;
        }
        let is_allowed = |allowed: &String| match allowed.strip_prefix('*') {
            Some("") => true,
            Some(rest) => name.strip_suffix(rest).is_some_and(|label| !label.is_empty()),
            None => *allowed == name,
        };
        self.allowed.iter().any(is_allowed) || (!is_loopback && self.own.contains(&name))
    }
}

/// The name as it is compared; none for an IPv6 address, which alone stands in brackets.
fn without_port(host: &str) -> Option<String> {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let has_port =
            rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
        if address.parse::<Ipv6Addr>().is_ok() && (rest.is_empty() || has_port) {
            return None;
        }
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    Some(plain(name))
}

/// Without the dot that may end a full name, and in small letters.
fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// The names of a host: what it calls itself, what its table of hosts gives as names of the same address, and its name in
/// the domains that are searched. Nothing is asked over a network.
fn own(name: &str, hosts: &str, resolver: &str) -> Vec<String> {
    let name = plain(name.trim());
    if name.is_empty() {
        return Vec::new();
    }
    let short = name.split('.').next().unwrap_or(&name).to_owned();
    let mut own = vec![name, short.clone()];
    for line in hosts.lines() {
        let names = line.split('#').next().unwrap_or_default().split_ascii_whitespace().skip(1).map(plain);
        let names: Vec<String> = names.collect();
        if names.iter().any(|name| own.contains(name)) {
            own.extend(names);
        }
    }
    for line in resolver.lines() {
        let mut words = line.split_ascii_whitespace();
        if matches!(words.next(), Some("search" | "domain")) {
            own.extend(words.map(|domain| format!("{short}.{}", plain(domain))));
        }
    }
    own.sort_unstable();
    own.dedup();
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let table = "127.0.0.1 localhost\n127.0.1.1 db7.corp.example db7 # this\n192.0.2.9 other\n";
        let resolver = "nameserver 192.0.2.1\nsearch corp.example lab.example.\n";
        Hosts {
            allowed: vec!["metrics.example.org".to_owned(), "*.proxy.example".to_owned()],
            own: own("DB7\n", table, resolver),
        }
    }

    fn asked(host: &str) -> Request<()> {
        Request::builder().uri("/metrics").header(HOST, host).body(()).unwrap()
    }

    #[test]
    fn addresses_and_localhost_are_nobodys_to_lead_elsewhere() {
        for host in [
            "localhost",
            "localhost:10047",
            "LOCALHOST.",
            "127.0.0.1:10047",
            "192.0.2.7",
            "[::1]:10047",
            "[::1]",
            "[2001:db8::1]:9",
        ] {
            for is_loopback in [true, false] {
                hosts().check(&asked(host), is_loopback).unwrap();
            }
        }
    }

    #[test]
    fn the_hosts_names_are_for_others_than_loopback_and_allowed_ones_for_all() {
        for host in ["db7", "db7:10047", "db7.corp.example.", "Db7.Lab.Example:1"] {
            hosts().check(&asked(host), false).unwrap();
            assert!(hosts().check(&asked(host), true).is_err(), "{host}");
        }
        for host in ["metrics.example.org", "a.proxy.example:1", "a.b.proxy.example"] {
            for is_loopback in [true, false] {
                hosts().check(&asked(host), is_loopback).unwrap();
            }
        }
        Hosts { allowed: vec!["*".to_owned()], own: Vec::new() }.check(&asked("evil.example"), true).unwrap();
    }

    #[test]
    fn all_other_names_are_refused_and_named() {
        for host in [
            "evil.example",
            "evil.example:10047",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "db7.evil.example",
            "proxy.example",
            ".proxy.example",
            "evilproxy.example",
            "other",
            "[evil]:1",
            "[::1].evil.example",
            "",
            ":80",
            "localhost:80:evil",
        ] {
            for is_loopback in [true, false] {
                let refused = hosts().check(&asked(host), is_loopback);
                assert_eq!(refused, Err(host.to_owned()));
            }
        }
        let twice =
            Request::builder().header(HOST, "localhost").header(HOST, "evil.example").body(()).unwrap();
        assert!(hosts().check(&twice, true).is_err());
        // The address of the request counts as well as the header.
        let absolute =
            Request::builder().uri("http://evil.example/metrics").header(HOST, "localhost").body(()).unwrap();
        assert_eq!(hosts().check(&absolute, true), Err("evil.example".to_owned()));
        hosts().check(&Request::builder().uri("/metrics").body(()).unwrap(), true).unwrap();
    }

    #[test]
    fn a_host_without_names_has_none() {
        assert_eq!(own("", "127.0.0.1 localhost\n", "search corp.example\n"), Vec::<String>::new());
    }
}
