//! `forkwatch findings`: what a daemon has found in the last days.

pub(super) mod text;

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use jiff::Timestamp;

use super::{
    daemon::open,
    exit::{Exit, UsageError},
};
use crate::{
    api::{Brief, Filter, FindingDocument, Findings, Kept, MOST_LISTED, PREFIX, markdown},
    client::{AskError, Watch},
    config::Config,
    detect,
    model::finding::HazardId,
    paragraph,
    store::{self, StoreError},
};

/// Where the service keeps them.
const STORE: &str = "/var/lib/forkwatch/findings.redb";

/// Which findings, and how they are shown.
#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Only this one, with its evidence
    #[arg(value_name = "ID")]
    id: Option<String>,
    /// Only those of which something was said since then: how long ago, such as 90m, 12h or 7d, or a time such as
    /// 2026-11-29T22:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only those that were reported before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this systemd unit or container, with * and ?
    #[arg(long, value_name = "GLOB")]
    unit: Option<String>,
    /// Only of this hazard
    #[arg(long, value_name = "HAZARD", value_parser = PossibleValuesParser::new(detect::ids().map(HazardId::name)), hide_possible_values = true)]
    hazard: Option<String>,
    /// Only those that matter at least this much: info, warning or critical
    #[arg(long, value_name = "LEVEL")]
    severity: Option<String>,
    /// Only those that are at least this sure: heuristic, strong or certain
    #[arg(long, value_name = "LEVEL")]
    certainty: Option<String>,
    /// Only those that stand so: open, suspected, confirmed, unknown, resolved, unwatched, or ended so: exited, killed,
    /// killed-by-parent and whatever else a list shows
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Only where this program is to blame, with * and ?
    #[arg(long, value_name = "GLOB")]
    program: Option<String>,
    /// Only about this process, also as one of several to which the same has happened, or forked by it
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
    /// How many at most
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How they are shown
    #[arg(short, long, value_enum, default_value_t, conflicts_with_all = ["json", "markdown"])]
    output: Form,
    /// The same as -o json
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// The same as -o markdown
    #[arg(long)]
    markdown: bool,
    /// The local socket of the daemon to ask; `FORKWATCH_SOCKET` names another default
    /// [default: /run/forkwatch/api.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "store")]
    socket: Option<PathBuf>,
    /// Read this store, of a daemon that does not run
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

/// How they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For a reader
    #[default]
    Text,
    /// A JSON document: `forkwatch.findings/1`, or `forkwatch.finding/1` of one
    Json,
    /// A section for an issue
    Markdown,
}

/// Where findings are read.
pub(super) enum Source {
    Watch(Watch),
    Saved(store::Saved),
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let form = match (options.json, options.markdown) {
        (true, _) => Form::Json,
        (_, true) => Form::Markdown,
        _ => options.output,
    };
    // What is wrong with the question is said before anybody is asked.
    let filter = options.filter()?;
    let source = Source::open(options.socket.as_deref(), options.store.as_deref())?;
    let text = match &options.id {
        Some(id) => one(&source, id, form)?,
        None => list(&source, options, filter, form)?,
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(Exit::Fine)
}

impl Options {
    fn asked(&self) -> Vec<(&'static str, String)> {
        let pid = self.pid.map(|pid| pid.to_string());
        let texts = [
            ("since", &self.since),
            ("until", &self.until),
            ("unit", &self.unit),
            ("hazard", &self.hazard),
            ("severity", &self.severity),
            ("certainty", &self.certainty),
            ("state", &self.state),
            ("program", &self.program),
            ("pid", &pid),
        ];
        texts.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect()
    }

    fn filter(&self) -> Result<Filter> {
        let mut filter = Filter::default();
        for (key, value) in self.asked() {
            filter.set(key, &value, Timestamp::now()).map_err(|error| UsageError(error.to_string()))?;
        }
        Ok(filter)
    }
}

impl Source {
    /// A daemon, where one answers; else what it has left.
    pub(super) fn open(socket: Option<&Path>, store: Option<&Path>) -> Result<Self> {
        if let Some(path) = store {
            return Ok(Self::Saved(saved(path)?));
        }
        let watch = Watch::at(socket);
        let error = match watch.get::<serde_json::Value>(&format!("{PREFIX}/findings?limit=1")) {
            Ok(_) => return Ok(Source::Watch(watch)),
            Err(error @ AskError::Nobody { .. }) if socket.is_none() => error,
            Err(error) => return Err(error.into()),
        };
        match saved(Path::new(STORE)) {
            Ok(saved) => {
                eprintln!(
                    "forkwatch: no daemon answers; these are the findings that the last one left in {STORE}"
                );
                Ok(Source::Saved(saved))
            }
            Err(StoreError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                bail!(
                    "{error}; and there is no {STORE} that one has left. Start it: systemctl start forkwatch"
                )
            }
            Err(other) => bail!("{error}; and {other}"),
        }
    }
}

fn saved(path: &Path) -> Result<store::Saved, StoreError> {
    let kept = Config::default().findings;
    store::read(path, open::bounds(kept.max, kept.keep))
}

impl Source {
    /// One finding.
    pub(super) fn find(&self, id: &str) -> Result<Kept> {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            let why = format!("{id:?} is no id of a finding: `forkwatch findings` lists them");
            return Err(UsageError(why).into());
        }
        match self {
            Self::Watch(watch) => {
                Ok(watch.get::<FindingDocument>(&format!("{PREFIX}/findings/{id}"))?.finding)
            }
            Self::Saved(saved) => {
                saved.find(id)?.with_context(|| format!("there is no finding {id}, or it is kept no more"))
            }
        }
    }

    /// Those that a query of the interface asks for.
    pub(super) fn list(&self, query: &str) -> Result<Vec<Brief>> {
        match self {
            Self::Watch(watch) => Ok(watch.get::<Findings>(&format!("{PREFIX}/findings?{query}"))?.findings),
            Self::Saved(saved) => Ok(saved.list(&Filter::parse(query, Timestamp::now())?)?.0),
        }
    }

    /// The running daemon, where that is asked.
    pub(super) const fn watch(&self) -> Option<&Watch> {
        match self {
            Self::Watch(watch) => Some(watch),
            Self::Saved(_) => None,
        }
    }
}

fn one(source: &Source, id: &str, form: Form) -> Result<String> {
    let finding = source.find(id)?;
    Ok(match form {
        Form::Text => text::one(&finding),
        Form::Json => {
            let document = FindingDocument { schema: "forkwatch.finding/1".to_owned(), finding };
            serde_json::to_string_pretty(&document)? + "\n"
        }
        Form::Markdown => markdown(&finding),
    })
}

fn list(source: &Source, options: &Options, filter: Filter, form: Form) -> Result<String> {
    let asked = filter.pids.first().copied();
    let found = gather(source, options, filter)?;
    Ok(match form {
        Form::Text if asked.is_some() && found.findings.is_empty() => {
            let mut text = text::list(&found, asked);
            let unnamed = unnamed(source, options)?;
            if unnamed > 0 {
                paragraph::add(
                    &mut text,
                    "",
                    "",
                    &format!(
                        "It may be one of {unnamed} children that are not named: of a program's repeats within a \
                         minute, 256 are. `forkwatch inspect PID` looks at one process, and `forkwatch scan` at all."
                    ),
                );
            }
            text
        }
        Form::Text => text::list(&found, asked),
        Form::Json => serde_json::to_string_pretty(&found)? + "\n",
        Form::Markdown => {
            let each = found.findings.iter().map(|brief| Ok(markdown(&whole(source, brief)?)));
            each.collect::<Result<Vec<_>>>()?.join("\n")
        }
    })
}

/// How many children the findings do not name that are asked for, whatever process they are about.
fn unnamed(source: &Source, options: &Options) -> Result<u64> {
    let options = Options { pid: None, count: u64::MAX, ..options.clone() };
    let all = gather(source, &options, options.filter()?)?;
    Ok(all.findings.iter().map(|brief| brief.unnamed).sum())
}

/// With its evidence; what has been removed meanwhile, without.
fn whole(source: &Source, brief: &Brief) -> Result<Kept> {
    let bare = || Kept { brief: brief.clone(), report: serde_json::Value::Null, end: None };
    Ok(match source {
        Source::Watch(watch) => {
            match watch.get::<FindingDocument>(&format!("{PREFIX}/findings/{}", brief.id)) {
                Ok(document) => document.finding,
                Err(AskError::Refused(..)) => bare(),
                Err(error) => return Err(error.into()),
            }
        }
        Source::Saved(saved) => saved.find(&brief.id)?.unwrap_or_else(bare),
    })
}

/// As many as were asked for, by as many questions as that takes.
fn gather(source: &Source, options: &Options, mut filter: Filter) -> Result<Findings> {
    let mut all: Option<Findings> = None;
    loop {
        let have = all.as_ref().map_or(0, |all| all.findings.len());
        let left = usize::try_from(options.count).unwrap_or(usize::MAX).saturating_sub(have);
        let limit = left.min(MOST_LISTED);
        let next = all.as_ref().and_then(|all| all.next.clone());
        filter.limit = Some(limit);
        filter.before = next.as_deref().and_then(|next| u64::from_str_radix(next, 16).ok());
        let page = match source {
            Source::Watch(watch) => watch.get(&path(options, limit, next.as_deref()))?,
            Source::Saved(saved) => {
                let (findings, next) = saved.list(&filter)?;
                Findings { schema: "forkwatch.findings/1".to_owned(), findings, next, store: saved.health() }
            }
        };
        let all = match &mut all {
            None => all.insert(page),
            Some(all) => {
                all.findings.extend(page.findings);
                all.next = page.next;
                all
            }
        };
        if all.next.is_none() || u64::try_from(all.findings.len()).unwrap_or(u64::MAX) >= options.count {
            return Ok(all.clone());
        }
    }
}

fn path(options: &Options, limit: usize, before: Option<&str>) -> String {
    let mut asked = options.asked();
    asked.push(("limit", limit.to_string()));
    asked.extend(before.map(|before| ("before", before.to_owned())));
    let pairs: Vec<String> = asked.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    format!("{PREFIX}/findings?{}", pairs.join("&"))
}

/// As a URL has it.
fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.~*:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
