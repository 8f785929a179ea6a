//! The hooks: a TOML file of its own, `/etc/forkwatch/hooks.toml` by default, with a `[[hook]]` for each.
//!
//! Whatever is wrong in it is said with its line, and then none of it is used.

mod argument;
mod criteria;
mod rate;
mod trust;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

pub use self::{
    argument::{Argument, Placeholder, Values},
    criteria::{Criteria, On, Told},
    rate::Rate,
    trust::Writer,
};
use super::{ConfigError, MOST_BYTES, value};
use crate::input_file;

/// Most hooks of a file.
const MOST_HOOKS: usize = 64;
/// Most arguments of a program, and bytes of one.
const MOST_ARGUMENTS: usize = 64;
const LONGEST_ARGUMENT: usize = 4096;
/// Longest name of a hook, in letters.
const LONGEST_NAME: usize = 40;
/// How long a hook may take where nothing is said.
const USUAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a POST that fails is tried again where nothing is said.
const USUAL_RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 10;

/// What is done when something happens.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Hook {
    /// What it is called, in the log and by `forkwatch hook`.
    pub name: String,
    /// When it is run.
    pub criteria: Criteria,
    /// What is done then.
    pub deed: Deed,
    /// Those with a lesser number run first. Of equal ones, the last of the file does.
    pub order: i64,
    /// Whether it is run at all, until somebody says otherwise.
    pub enabled: bool,
    /// How long a run, or an attempt to POST, may take.
    pub timeout: Duration,
    /// How often it runs at most for what each user's processes do.
    pub at_most: Rate,
}

/// What a hook does.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Runs a program, with the document on its standard input.
    Exec(Vec<Argument>),
    /// Sends the document to an address.
    Post {
        /// The address.
        url: Url,
        /// The authorities that sign the server's certificate, where it is not signed by one that this host trusts.
        ca_file: Option<PathBuf>,
        /// What is sent with it.
        headers: BTreeMap<String, String>,
        /// How often it is tried again.
        retries: u32,
    },
}

/// An address that a document can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS comes first: `https`.
    pub is_secure: bool,
    /// Name or IP address; of an IPv6 address without its brackets.
    pub host: String,
    /// The TCP port; 80 where none is written, or 443.
    pub port: u16,
    /// Host and port as they were written.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

/// A hook as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    on: Vec<String>,
    #[serde(default)]
    hazard: Vec<String>,
    certainty: Option<String>,
    severity: Option<String>,
    state: Option<Vec<String>>,
    unit: Option<String>,
    server: Option<String>,
    comm: Option<String>,
    uid: Option<u32>,
    #[serde(default)]
    how: Vec<String>,
    exec: Option<Vec<String>>,
    url: Option<String>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    retries: Option<u32>,
    #[serde(default)]
    order: i64,
    #[serde(default = "yes")]
    enabled: bool,
    timeout: Option<String>,
    at_most: Option<String>,
}

const fn yes() -> bool {
    true
}

impl TryFrom<Written> for Hook {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let name = written.name.clone();
        Self::read(written).map_err(|why| format!("hook {name:?}: {why}"))
    }
}

impl Hook {
    /// Who may decide what its program is, or whom it trusts, beside root and us; none where it has no file for that.
    pub fn writer(&self) -> Option<io::Result<Option<Writer>>> {
        match &self.deed {
            Deed::Exec(arguments) => Some(Writer::of(Path::new(&arguments.first()?.shown()))),
            Deed::Post { ca_file, .. } => Some(Writer::of(ca_file.as_deref()?)),
        }
    }

    fn read(written: Written) -> Result<Self, String> {
        let Written { hazard, certainty, severity, state, unit, server, comm, uid, how, .. } = written;
        let criteria = criteria::Written { hazard, certainty, severity, state, unit, server, comm, uid, how };
        let Written {
            name, on, exec, url, ca_file, headers, retries, order, enabled, timeout, at_most, ..
        } = written;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty()
            || name.len() > LONGEST_NAME
            || name.starts_with('-')
            || !name.bytes().all(is_plain)
        {
            return Err(format!(
                "`name` must be 1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores, such as \"page-me\""
            ));
        }
        let criteria = Criteria::read(&on, criteria)?;
        let deed = match (exec, url) {
            (Some(_), Some(_)) => return Err("it has both `exec` and `url`: make it two hooks".to_owned()),
            (None, None) => return Err("it does nothing: give it `exec` or `url`".to_owned()),
            (Some(_), None) if !headers.is_empty() || retries.is_some() || ca_file.is_some() => {
                return Err(
                    "`headers`, `retries` and `ca_file` belong to `url`, and it has `exec`".to_owned()
                );
            }
            (Some(words), None) => Deed::Exec(program(&words)?),
            (None, Some(url)) => {
                check_headers(&headers)?;
                let retries = retries.unwrap_or(USUAL_RETRIES);
                if retries > MOST_RETRIES {
                    return Err(format!("`retries` is {retries}: {MOST_RETRIES} at most"));
                }
                let url = Url::read(&url)?;
                match &ca_file {
                    Some(_) if !url.is_secure => {
                        return Err("`ca_file` is for https, and `url` is http".to_owned());
                    }
                    Some(path) if !path.is_absolute() => {
                        return Err(format!("`ca_file` must be an absolute path: {} is not", path.display()));
                    }
                    _ => {}
                }
                Deed::Post { url, ca_file, headers, retries }
            }
        };
        let timeout = timeout.as_deref().map_or(Ok(USUAL_TIMEOUT), value::hook_timeout);
        let timeout = timeout.map_err(|why| format!("`timeout`: {why}"))?;
        let at_most = at_most.as_deref().map_or(Ok(Rate::USUAL), Rate::read);
        let at_most = at_most.map_err(|why| format!("`at_most`: {why}"))?;
        Ok(Self { name, criteria, deed, order, enabled, timeout, at_most })
    }
}

/// The program and its arguments.
fn program(words: &[String]) -> Result<Vec<Argument>, String> {
    let Some(program) = words.first() else {
        return Err("`exec` is empty: give the program and its arguments, as a list".to_owned());
    };
    if !Path::new(program).is_absolute() {
        return Err(format!(
            "`exec` must begin with the absolute path of the program: {program:?} would be looked for in whatever PATH is"
        ));
    }
    if words.len() > MOST_ARGUMENTS {
        return Err(format!("`exec` has {} arguments: {MOST_ARGUMENTS} at most", words.len()));
    }
    if let Some(word) = words.iter().find(|word| word.len() > LONGEST_ARGUMENT || word.contains('\0')) {
        let start: String = word.chars().take(20).collect();
        return Err(format!(
            "the argument of `exec` that begins with {start:?} is longer than {LONGEST_ARGUMENT} bytes, or has a null in it"
        ));
    }
    let mut arguments = words.iter().map(|word| Argument::read(word));
    let first = arguments.next().transpose()?.unwrap_or_default();
    if !first.is_plain() {
        return Err("the program of `exec` cannot depend on the event: only its arguments can".to_owned());
    }
    std::iter::once(Ok(first)).chain(arguments).collect()
}

fn check_headers(headers: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in headers {
        let taken = ["host", "content-length", "transfer-encoding", "connection"];
        if taken.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("the header {name:?} is forkwatch's own to set"));
        }
        // The value may be a secret, so it is not shown.
        if hyper::header::HeaderName::try_from(name).is_err()
            || hyper::header::HeaderValue::try_from(value).is_err()
        {
            return Err(format!("the header {name:?} has a name or a value that HTTP does not allow"));
        }
    }
    Ok(())
}

impl Url {
    /// As it is written, but for a user's name, which it cannot have.
    pub fn shown(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }

    fn read(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!("`url` is {text:?}, {why}: write it like \"https://alerts.example.org/forkwatch\"")
        };
        let uri: hyper::Uri = text.parse().map_err(|_| wrong("which is no address"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("which begins neither with http:// nor with https://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("which names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("with a name or a password in it, which belongs into `headers`"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(wrong("which names no host"));
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => Some(if is_secure { 443 } else { 80 }),
            Some(rest) => rest.strip_prefix(':').and_then(|port| port.parse().ok()).filter(|port| *port > 0),
            None => None,
        };
        let port = port.ok_or_else(|| wrong("whose port is none"))?;
        Ok(Self {
            is_secure,
            host,
            port,
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

/// All hooks of a file, in the order in which they run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hooks(pub Vec<Hook>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    hook: Vec<Hook>,
}

impl Hooks {
    /// Reads a file. What others than root and we decide is refused: the file, and the programs and authorities that it
    /// names.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = input_file::read(path, MOST_BYTES)?;
        let name = path.display().to_string();
        let conflict = |problem| ConfigError::Conflict { name: name.clone(), problem };
        match Writer::of(path) {
            Ok(None) => {}
            Ok(Some(writer)) => return Err(conflict(format!("others may decide what hooks do: {writer}"))),
            Err(error) => return Err(conflict(format!("who may write it cannot be found out: {error}"))),
        }
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText(path.to_owned()))?;
        let hooks = Self::parse(&name, &text)?;
        for hook in &hooks.0 {
            // A program that is not there yet may come, and a group may have been given the right on purpose.
            if let Some(Ok(Some(writer))) = hook.writer()
                && !writer.is_group()
            {
                let what = format!("hook {:?}: others may decide what it does: {writer}", hook.name);
                return Err(conflict(what));
            }
        }
        Ok(hooks)
    }

    /// Reads a text; `name` stands for it in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let File { hook: mut hooks } = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { name: name.to_owned(), source: Box::new(source) })?;
        let conflict = |problem| ConfigError::Conflict { name: name.to_owned(), problem };
        if hooks.len() > MOST_HOOKS {
            return Err(conflict(format!("it has {} hooks: {MOST_HOOKS} at most", hooks.len())));
        }
        let twice = hooks
            .iter()
            .enumerate()
            .find(|(place, hook)| hooks.iter().take(*place).any(|other| other.name == hook.name));
        if let Some((_, hook)) = twice {
            return Err(conflict(format!(
                "two hooks are called {:?}: each needs a name of its own",
                hook.name
            )));
        }
        // As with pthread_atfork(3): what was registered last comes first.
        hooks.reverse();
        hooks.sort_by_key(|hook| hook.order);
        Ok(Self(hooks))
    }
}

#[cfg(test)]
mod tests;
