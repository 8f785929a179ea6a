//! `forkwatch bundle`: what belongs to a finding, in one file to attach to a bug report.

mod archive;
mod gather;
mod personal;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::{archive::Archive, gather::Process, personal::Personal};
use super::{
    exit::Exit,
    findings::{Source, text},
};
use crate::{
    api::{Brief, Kept, PREFIX},
    config::{Config, EventOutput},
    paragraph,
};

/// The configuration that names the event file, where it is there.
const CONFIG: &str = "/etc/forkwatch/forkwatch.toml";
/// Findings and events this long before and after belong to it.
const AROUND: SignedDuration = SignedDuration::from_secs(600);

/// Which finding, and what goes into the file.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The finding, as `forkwatch findings` names it
    #[arg(value_name = "ID")]
    id: String,
    /// The file to write, which must not be there [default: forkwatch-ID.tar]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With command lines, the environment of the processes, paths of users, addresses and the host's name
    #[arg(long)]
    personal: bool,
    /// The file to which the daemon writes events [default: that of /etc/forkwatch/forkwatch.toml]
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// The local socket of the daemon to ask; `FORKWATCH_SOCKET` names another default
    /// [default: /run/forkwatch/api.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "store")]
    socket: Option<PathBuf>,
    /// Read this store, of a daemon that does not run
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let source = Source::open(options.socket.as_deref(), options.store.as_deref())?;
    let kept = source.find(&options.id)?;
    let id = kept.brief.id.clone();
    let path = options.output.clone().unwrap_or_else(|| format!("forkwatch-{id}.tar").into());
    // Before all the work.
    archive::refuse_existing(&path)?;
    let mut bundle = Bundle {
        archive: Archive::new(format!("forkwatch-{id}")),
        personal: Personal::new(options.personal),
        missing: Vec::new(),
    };
    bundle.finding(&kept)?;
    bundle.around(&source, options, &kept.brief)?;
    for process in processes(&kept) {
        bundle.process(&process, options)?;
    }
    bundle.host(&source)?;
    let read_me = bundle.read_me(&id);
    bundle.archive.add("README.txt", read_me.as_bytes())?;
    let (files, bytes) = bundle.archive.write(&path)?;
    let mut said = String::new();
    let what =
        format!("{}: {files} files, {} kB, for its owner alone.", path.display(), bytes.div_ceil(1024));
    paragraph::add(&mut said, "", "", &what);
    paragraph::add(&mut said, "", "", &bundle.personal.words());
    for missing in &bundle.missing {
        paragraph::add(&mut said, "- ", "  ", &format!("not in it: {missing}"));
    }
    paragraph::add(&mut said, "", "", "Look through it before you pass it on.");
    print!("{said}");
    Ok(Exit::Fine)
}

/// What is gathered.
struct Bundle {
    archive: Archive,
    personal: Personal,
    /// What could not be had, and why.
    missing: Vec<String>,
}

impl Bundle {
    fn finding(&mut self, kept: &Kept) -> Result<()> {
        let mut document = serde_json::to_value(kept)?;
        self.personal.document(&mut document);
        self.json("finding.json", &document)?;
        // The text is made from what is left in the document.
        let left: Kept = serde_json::from_value(document)?;
        self.archive.add("finding.txt", text::one(&left).as_bytes())
    }

    /// Other findings of that time, and events.
    fn around(&mut self, source: &Source, options: &Options, brief: &Brief) -> Result<()> {
        let time = |text: &str| text.parse::<Timestamp>().unwrap_or_default();
        let (first, last) = (time(&brief.first_seen), time(&brief.last_seen));
        let from = first.saturating_sub(AROUND).unwrap_or(first);
        let to = last.saturating_add(AROUND).unwrap_or(last);
        match source.list(&format!("since={from}&until={to}&limit=1000")) {
            Ok(found) => {
                let mut document = serde_json::to_value(found)?;
                self.personal.document(&mut document);
                self.json("findings-around.json", &document)?;
            }
            Err(error) => self.missing.push(format!("findings around it: {error}")),
        }
        let file = options.events.clone().or_else(event_file);
        let Some(file) = file else {
            self.missing
                .push("events around it: the daemon writes none to a file (events.output)".to_owned());
            return Ok(());
        };
        match gather::events(&file, from, to) {
            Ok(lines) => {
                let mut text = String::new();
                for line in &lines {
                    if let Ok(mut document) = serde_json::from_str::<Value>(line) {
                        self.personal.document(&mut document);
                        text += &document.to_string();
                        text.push('\n');
                    }
                }
                self.archive.add("events.jsonl", text.as_bytes())
            }
            Err(error) => {
                self.missing.push(format!("events around it: {}: {error}", file.display()));
                Ok(())
            }
        }
    }

    /// What a process is and does now.
    fn process(&mut self, process: &Process, options: &Options) -> Result<()> {
        let (who, pid) = (process.who, process.pid);
        if let Some(why) = process.is_gone() {
            self.missing.push(format!("what the {who} (pid {pid}) does now: {why}"));
            return Ok(());
        }
        let gathered = gather::process(pid, options.personal);
        for (name, text) in gathered.files {
            let text = self.personal.text(&text);
            self.archive.add(&format!("{who}-{pid}/{name}"), text.as_bytes())?;
        }
        for (name, why) in gathered.missing {
            self.missing.push(format!("{name} of the {who} (pid {pid}): {why}"));
        }
        match gather::ask_oneself(&["inspect", &pid.to_string(), "-o", "json"], options.socket.as_deref()) {
            Ok(text) => self.answer(&format!("{who}-{pid}/inspect.json"), &text),
            Err(why) => {
                self.missing.push(format!("what `inspect` says of the {who} (pid {pid}): {why}"));
                Ok(())
            }
        }
    }

    /// What is known of the host and of the watch.
    fn host(&mut self, source: &Source) -> Result<()> {
        match gather::ask_oneself(&["doctor", "-o", "json"], None) {
            Ok(text) => self.answer("doctor.json", &text)?,
            Err(why) => self.missing.push(format!("what `doctor` says: {why}")),
        }
        let Some(watch) = source.watch() else {
            self.missing.push("the daemon's health, servers and processes: none was asked".to_owned());
            return Ok(());
        };
        for name in ["health", "servers", "processes"] {
            match watch.get::<Value>(&format!("{PREFIX}/{name}")) {
                Ok(mut document) => {
                    self.personal.document(&mut document);
                    self.json(&format!("{name}.json"), &document)?;
                }
                Err(error) => self.missing.push(format!("the daemon's {name}: {error}")),
            }
        }
        Ok(())
    }

    fn answer(&mut self, name: &str, text: &str) -> Result<()> {
        let mut document: Value = serde_json::from_str(text)?;
        self.personal.document(&mut document);
        self.json(name, &document)
    }

    fn json(&mut self, name: &str, document: &Value) -> Result<()> {
        self.archive.add(name, (serde_json::to_string_pretty(document)? + "\n").as_bytes())
    }

    fn read_me(&self, id: &str) -> String {
        let mut text = String::new();
        let version = env!("CARGO_PKG_VERSION");
        paragraph::add(
            &mut text,
            "",
            "",
            &format!("The finding {id}, gathered by forkwatch {version} at {:.0}.", Timestamp::now()),
        );
        text.push('\n');
        paragraph::add(&mut text, "", "", &self.personal.words());
        text.push('\n');
        if self.missing.is_empty() {
            paragraph::add(&mut text, "", "", "Everything could be had.");
        } else {
            paragraph::add(&mut text, "", "", "What could not be had:");
        }
        for missing in &self.missing {
            paragraph::add(&mut text, "- ", "  ", missing);
        }
        text
    }
}

/// The child and its forker.
fn processes(kept: &Kept) -> Vec<Process> {
    let brief = &kept.brief;
    let child = Process { who: "child", pid: brief.pid, name: brief.entity_id.clone() };
    let forker =
        brief.parent_pid.map(|pid| Process { who: "forker", pid, name: brief.parent_entity_id.clone() });
    std::iter::once(child).chain(forker).collect()
}

/// Where the service writes events.
fn event_file() -> Option<PathBuf> {
    match Config::load(CONFIG.as_ref()).ok()?.events.output {
        EventOutput::File(path) => Some(path),
        EventOutput::None | EventOutput::Stdout => None,
    }
}
