//! Leaves out what tells of people: command lines, paths of users, addresses, the host's name. What was left out is marked,
//! so that whoever reads it sees that something stood there.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

/// Keys whose values are command lines, or parts of them.
const COMMAND_LINES: [&str; 3] = ["args", "cmdline", "settings"];
/// Folders below which paths tell of people.
const HOMES: [&str; 4] = ["/home/", "/root/", "/var/home/", "/run/user/"];

/// What is left out, and how often it was.
pub(super) struct Personal {
    is_kept: bool,
    host: Option<String>,
    commands: u64,
    paths: u64,
    addresses: u64,
}

impl Personal {
    /// Leaves it out, unless it is to be kept.
    pub(super) fn new(is_kept: bool) -> Self {
        let host =
            nix::sys::utsname::uname().ok().and_then(|name| name.nodename().to_str().map(str::to_owned));
        Self { is_kept, host, commands: 0, paths: 0, addresses: 0 }
    }

    /// Of a document, in all its parts.
    pub(super) fn document(&mut self, document: &mut Value) {
        if self.is_kept {
            return;
        }
        match document {
            Value::String(text) => *text = self.text(text),
            Value::Array(parts) => parts.iter_mut().for_each(|part| self.document(part)),
            Value::Object(parts) => {
                for (key, value) in parts {
                    if COMMAND_LINES.contains(&key.as_str())
                        && value.as_array().is_some_and(|all| !all.is_empty())
                    {
                        self.commands += 1;
                        *value = Value::Array(vec!["[command line]".into()]);
                    } else if key == "host" && !value.is_array() {
                        self.host(value);
                    } else {
                        self.document(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn host(&mut self, value: &mut Value) {
        match value {
            Value::String(name) => "[host]".clone_into(name),
            Value::Object(parts) => {
                if let Some(name) = parts.get_mut("name") {
                    *name = "[host]".into();
                }
            }
            other => self.document(other),
        }
    }

    /// Of a text.
    pub(super) fn text(&mut self, text: &str) -> String {
        if self.is_kept {
            return text.to_owned();
        }
        let text = self.without_paths(text);
        let text = self.without_addresses(&text);
        // A short name may stand in other words.
        match &self.host {
            Some(host) if host.len() > 4 => text.replace(host, "[host]"),
            _ => text,
        }
    }

    /// The file's name is left: it says which library or script it is.
    fn without_paths(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((at, home)) = first_home(rest) {
            let (before, path) = rest.split_at(at);
            out.push_str(before);
            let is_end = |letter: char| letter.is_whitespace() || "\"'`,;:()<>|".contains(letter);
            let end = path.find(is_end).unwrap_or(path.len());
            let (path, after) = path.split_at(end);
            let below = path.strip_prefix(home).unwrap_or_default();
            let name = below.rsplit('/').next().filter(|_| below.contains('/')).unwrap_or_default();
            out.push_str("[home]");
            if !name.is_empty() {
                out.push('/');
                out.push_str(name);
            }
            self.paths += 1;
            rest = after;
        }
        out + rest
    }

    fn without_addresses(&mut self, text: &str) -> String {
        let is_part = |letter: char| letter.is_ascii_hexdigit() || letter == '.' || letter == ':';
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(is_part) {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let (word, after) = from.split_at(from.find(|letter| !is_part(letter)).unwrap_or(from.len()));
            // Part of a longer word: no address.
            let joins =
                |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
            if joins(before.chars().next_back()) || joins(after.chars().next()) {
                out.push_str(word);
            } else {
                out.push_str(&self.address(word));
            }
            rest = after;
        }
        out + rest
    }

    /// What stands for a word that is an address; the loopback's and "any" tell nothing.
    fn address(&mut self, word: &str) -> String {
        let bare = word.trim_end_matches(['.', ':']);
        let tail = word.get(bare.len()..).unwrap_or_default();
        let (ip, port) = match (bare.parse::<IpAddr>(), bare.parse::<SocketAddr>()) {
            (Ok(ip), _) => (ip, String::new()),
            (_, Ok(address)) => (address.ip(), format!(":{}", address.port())),
            _ => return word.to_owned(),
        };
        if ip.is_loopback() || ip.is_unspecified() {
            return word.to_owned();
        }
        self.addresses += 1;
        format!("[address]{port}{tail}")
    }

    /// What was left out.
    pub(super) fn words(&self) -> String {
        if self.is_kept {
            return "PERSONAL DATA IS IN IT: command lines, the environment of the processes, paths, addresses and the \
                    host's name."
                .to_owned();
        }
        format!(
            "Left out, and marked where they stood: {} command lines, {} paths of users, {} addresses, the host's name; \
             and the environment. Names of programs, threads, units and containers, and uids are in it. With --personal \
             nothing is left out.",
            self.commands, self.paths, self.addresses
        )
    }
}

/// Where the first path begins that is below a home. What lies deeper in another path is none.
fn first_home(text: &str) -> Option<(usize, &'static str)> {
    let begins = |at: usize| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        before.is_none_or(|letter| !letter.is_alphanumeric() && !"_-./".contains(letter))
    };
    let of = |home: &'static str| {
        text.match_indices(home).map(|(at, _)| at).find(|at| begins(*at)).map(|at| (at, home))
    };
    HOMES.iter().filter_map(|home| of(home)).min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn personal() -> Personal {
        Personal { is_kept: false, host: Some("web-042".to_owned()), commands: 0, paths: 0, addresses: 0 }
    }

    #[test]
    fn what_tells_of_people_is_left_out_and_marked() {
        let mut of = personal();
        for (text, left) in [
            ("PostgreSQL at 10.0.0.7:5432.", "PostgreSQL at [address]:5432."),
            ("[2001:db8::1]:443 and fe80::1", "[[address]]:443 and [address]"),
            ("127.0.0.1:80, 0.0.0.0:80, ::1", "127.0.0.1:80, 0.0.0.0:80, ::1"),
            ("at 22:14:03 for 2.5 s, python3.11, libc.so.6", "at 22:14:03 for 2.5 s, python3.11, libc.so.6"),
            ("work (/home/alice/shop/app.py:12)", "work ([home]/app.py:12)"),
            ("/home/alice", "[home]"),
            ("7f12-7f13 r-xp /root/.venv/lib/x.so\n", "7f12-7f13 r-xp [home]/x.so\n"),
            ("/srv/app/home/x.py and /home/bob/y.py", "/srv/app/home/x.py and [home]/y.py"),
            ("the host web-042 is", "the host [host] is"),
        ] {
            assert_eq!(of.text(text), left, "{text}");
        }
    }

    #[test]
    fn documents_lose_it_in_all_their_parts() {
        let mut document = json!({
            "host": { "name": "web-042", "boot": { "id": "1" } },
            "process": { "args": ["python", "--password", "secret"], "executable": "/home/alice/bin/python" },
            "forkwatch": { "finding": { "evidence": { "connection": { "peer": "10.0.0.7:5432" } } } },
            "number": 7,
        });
        let mut of = personal();
        of.document(&mut document);
        let text = document.to_string();
        for word in ["secret", "alice", "10.0.0.7", "web-042"] {
            assert!(!text.contains(word), "{word} in {text}");
        }
        assert!(text.contains("[home]/python") && text.contains("\"number\":7"), "{text}");
        assert!(of.words().contains("1 command lines, 1 paths of users, 1 addresses"), "{}", of.words());
        let mut all = json!({ "args": ["secret"] });
        let mut kept = Personal { is_kept: true, ..personal() };
        kept.document(&mut all);
        assert!(all.to_string().contains("secret") && kept.words().contains("PERSONAL"));
    }

    #[test]
    fn a_user_alone_is_left_out_too() {
        assert_eq!(personal().text("cwd /home/alice/ x"), "cwd [home] x");
    }
}
