//! `forkwatch inspect`: the server that a process belongs to, what each of its workers does and holds, and what a fork of
//! it would find.

mod describe;
mod document;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};

use anyhow::{Context, Result, bail};
use clap::Args;

pub(super) use self::{
    describe::Family,
    document::{Member, Server, schema},
    text::{does, mebibytes, process},
};
use self::{describe::Looked, document::Document};
use super::{
    check::{PATIENCE, held, inventory},
    exit::Exit,
    shown::Reply,
};
use crate::{
    api::{Brief, Findings, MOST_LISTED, PREFIX, ServerDocument, Servers, WorkerEndDocument},
    client::Watch,
    host::{self, Process},
    model::{inventory::Inventory, server::Tree},
    reader::{Answer, Answered, Client, Question, Starter},
};

/// Which process, and how the answer is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The process: a master, a worker, or any other
    #[arg(value_name = "PID")]
    pid: u32,
    /// How the answer is shown; JSON has the structure `forkwatch.inspect/1`
    #[arg(short, long, value_enum, default_value_t)]
    output: Reply,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    if options.pid == std::process::id() {
        bail!("process {} is this forkwatch itself: give the pid of a process of the server", options.pid);
    }
    let process = host::find(options.pid)?;
    let mut reader = Client::new(Starter::start()?).with_patience(PATIENCE);
    let tree = tree(&mut reader, &process)?;
    let asked = look(&mut reader, &process)?;
    // The first of a tree may have ended since.
    let first = tree.members.first().map(|first| first.process).filter(|first| *first != process.key);
    let master = first.and_then(host::look_again).map(|master| look(&mut reader, &master)).transpose();
    let (master, unseen) = match master {
        Ok(master) => (master, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let mut document =
        Document::new(&Looked { asked: &process, tree: &tree, inventory: &asked, master: master.as_ref() });
    document.findings = followed(&document);
    document.ends = ends(&document);
    let text = match options.output {
        Reply::Text => text::text(&document),
        Reply::Json => serde_json::to_string_pretty(&document)? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    if let Some(unseen) = unseen {
        eprintln!("forkwatch: whether a fork of the master would be safe is not known: {unseen}");
    }
    Ok(if document.is_denied() { Exit::Privilege } else { Exit::Fine })
}

/// Processes about which a daemon is asked at once.
const ASKED_AT_ONCE: usize = 500;

/// What a running daemon has found about these processes. Where none can be asked, nothing is missing.
fn followed(document: &Document) -> Option<Vec<Brief>> {
    let watch = Watch::at(None);
    let mut all: Vec<Brief> = Vec::new();
    for processes in document.processes.chunks(ASKED_AT_ONCE) {
        let pids: Vec<String> = processes.iter().map(|process| process.pid.to_string()).collect();
        let path = format!("{PREFIX}/findings?state=open&limit={MOST_LISTED}&pid={}", pids.join(","));
        let found: Findings = watch.get(&path).ok()?;
        all.extend(
            found
                .findings
                .into_iter()
                .filter(|brief| !all.iter().any(|known| known.id == brief.id))
                .collect::<Vec<_>>(),
        );
    }
    Some(all)
}

/// How the last workers of this server ended, as a running daemon has seen it.
fn ends(document: &Document) -> Option<Vec<WorkerEndDocument>> {
    let is_here = |server: &ServerDocument| {
        document.processes.first().is_some_and(|master| master.pid == server.master_pid)
    };
    let known: Servers = Watch::at(None).get(&format!("{PREFIX}/servers")).ok()?;
    known.servers.into_iter().find(is_here).map(|server| server.ends)
}

fn tree(reader: &mut Client, process: &Process) -> Result<Tree> {
    let pid = process.key.tgid;
    match reader.ask(&Question::Tree(*process))? {
        Answered { answer: Answer::Tree(tree), .. } => Ok(*tree?),
        Answered { answer: Answer::Failed(defect), .. } => {
            bail!("the look at process {pid} failed, which is a defect of forkwatch: {defect}")
        }
        _ => bail!("the look at process {pid} was answered by something else"),
    }
}

/// What a process holds, the locks of its threads included.
fn look(reader: &mut Client, process: &Process) -> Result<Inventory> {
    let mut seen = inventory(reader, process)?;
    held::look(reader, process.key, None, &mut seen)?;
    Ok(seen)
}
