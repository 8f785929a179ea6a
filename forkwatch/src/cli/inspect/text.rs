//! The answer for a reader, in 80 columns.

use super::document::{Connection, Document, Inspected, Member, NextFork, Server, Stream, Thread};
use crate::{
    api::{Brief, WorkerEndDocument},
    model::{finding::Severity, lasted::lasted, time::nanoseconds},
    paragraph, privilege,
};

/// Where what belongs to a line's first word begins.
const INDENT: &str = "            ";
/// Columns of what a process is for; a longer title is cut.
const ROLE: usize = 17;
/// Entries of one list that are told.
const SHOWN: usize = 8;
/// From this part of its limit on a process is short of descriptors.
const SHORT: u64 = 80;

pub(super) fn text(document: &Document) -> String {
    let mut out = String::new();
    head(&mut out, document);
    if document.processes.len() > 1 {
        out.push('\n');
        table(&mut out, document);
    }
    if let Some(own) = document.processes.iter().find(|process| process.pid == document.pid) {
        out.push('\n');
        one(&mut out, own, Some(&document.inspected));
    }
    out.push('\n');
    let is_masters = document.server.is_some()
        && document.processes.first().is_some_and(|first| first.pid == document.next_fork.pid);
    next_fork(&mut out, &document.next_fork, is_masters);
    findings(&mut out, document.findings.as_deref().unwrap_or_default(), document.pid);
    ends(&mut out, document.ends.as_deref().unwrap_or_default());
    out
}

fn head(out: &mut String, document: &Document) {
    let first = document.processes.first();
    let Some((server, first)) = document.server.as_ref().zip(first) else {
        let own = first.map_or_else(|| "it".to_owned(), titled);
        paragraph::add(
            out,
            "",
            "",
            &format!(
                "{own} belongs to no server: it is none that forkwatch knows, and has not kept two forked children."
            ),
        );
        return;
    };
    let version = server.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
    let workers = document.processes.iter().filter(|process| process.is_worker()).count();
    let count = match workers {
        0 => "no workers".to_owned(),
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let more = if document.complete { "" } else { " at least: there is more than was looked at" };
    let known = if server.known { "" } else { ", no server that forkwatch knows" };
    let (pid, identity) = (first.pid, first.identity.join(", "));
    paragraph::add(
        out,
        "",
        "",
        &format!("{}{version} (pid {pid}, {identity}){known}: {count}{more}", server.name),
    );
    settings(out, server);
}

fn settings(out: &mut String, server: &Server) {
    let all: Vec<String> =
        server.settings.iter().map(|setting| format!("{} {}", setting.name, setting.value)).collect();
    if !all.is_empty() {
        line(out, "set", &all.join("; "));
    }
    if !server.listens.is_empty() {
        line(out, "listens", &several(&server.listens, ", "));
    }
}

/// The name of a process and whose it is.
fn titled(process: &Member) -> String {
    format!("{} (pid {}, {})", process.name, process.pid, process.identity.join(", "))
}

fn table(out: &mut String, document: &Document) {
    row(out, ' ', ["PID", "ROLE", "AGE", "THR", "OPEN", "OWN MEM"], "DOES");
    for process in &document.processes {
        let mark = if process.pid == document.pid { '>' } else { ' ' };
        let role = process.title.as_deref().or(process.role).unwrap_or_default();
        let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
        let short = if is_short(process) { "!" } else { "" };
        let cells = [
            process.pid.to_string(),
            role.chars().take(ROLE - 1).collect(),
            lasted(nanoseconds(process.age())),
            number(process.thread_count.map(u64::from)),
            number(process.descriptors.map(|descriptors| descriptors.open.into())) + short,
            process.memory.map_or_else(|| "?".to_owned(), |memory| mebibytes(memory.copied)),
        ];
        row(out, mark, cells.each_ref().map(String::as_str), &does(process));
    }
}

fn row(out: &mut String, mark: char, cells: [&str; 6], does: &str) {
    let [pid, role, age, threads, open, memory] = cells;
    let line = format!("{mark} {pid:<8}{role:<ROLE$}{age:<8}{threads:<4}{open:<6}{memory:<10}{does}");
    out.push_str(line.trim_end());
    out.push('\n');
}

/// What its main thread does, or that it does nothing any more.
pub(in crate::cli) fn does(process: &Member) -> String {
    match (process.state, process.threads.first()) {
        ("zombie", _) => "has ended".to_owned(),
        ("stopped", _) => "is stopped".to_owned(),
        (_, Some(main)) => main.does.clone(),
        (_, None) => "?".to_owned(),
    }
}

fn is_short(process: &Member) -> bool {
    process.descriptors.is_some_and(|descriptors| {
        let used = u64::from(descriptors.open) * 100;
        descriptors.limit.is_some_and(|limit| used >= limit.saturating_mul(SHORT))
    })
}

/// All that is known of one process of a server, without what takes a look at it alone.
pub(in crate::cli) fn process(process: &Member) -> String {
    let mut out = String::new();
    one(&mut out, process, None);
    out
}

/// All that is known of one process.
fn one(out: &mut String, process: &Member, inspected: Option<&Inspected>) {
    let role = process.role.map_or_else(String::new, |role| format!(", {role}"));
    let age = lasted(nanoseconds(process.age()));
    paragraph::add(out, "", "", &format!("pid {}{role}, {}, for {age}", process.pid, process.state));
    if process.state == "zombie" {
        line(out, "ended", &format!("its parent, process {}, has not asked how", process.parent));
        return;
    }
    if let Some(main) = process.threads.first() {
        line(out, "does", &doing(main, true));
    }
    queues(out, process);
    threads(out, process);
    if let Some(descriptors) = process.descriptors {
        let limit = descriptors.limit.map_or_else(String::new, |limit| format!(" of {limit}"));
        let short = if is_short(process) { ": it will soon get no more" } else { "" };
        line(out, "open", &format!("{}{limit} descriptors{short}", descriptors.open));
    }
    if let Some(memory) = process.memory {
        let own = if process.forked { "copied or new since the fork" } else { "its own" };
        let text = format!(
            "{}, of which {} are shared and {} {own}",
            mebibytes(memory.resident),
            mebibytes(memory.shared),
            mebibytes(memory.copied)
        );
        line(out, "memory", &text);
    }
    connections(out, &process.connections);
    for running in inspected.iter().flat_map(|inspected| &inspected.loops) {
        line(out, "loop", &format!("{}: thread {} is in {}", running.of, running.thread, running.function));
    }
    let held = inspected.and_then(|inspected| inspected.held_locks.as_ref());
    for lock in held.into_iter().flatten().take(SHOWN) {
        let name = lock.name.as_deref().unwrap_or("a lock");
        line(out, "holds", &format!("{name} at {}: thread {}", lock.address, lock.thread));
    }
    output(out, process);
    if let Some(hidden) = &process.hidden {
        unknown(out, "threads, descriptors or memory", &hidden.why, hidden.denied);
    }
    for missing in inspected.iter().flat_map(|inspected| &inspected.unknown) {
        unknown(out, missing.what, &missing.why, missing.denied);
    }
}

fn doing(thread: &Thread, is_long: bool) -> String {
    let call = thread.call.as_ref().map_or_else(String::new, |call| format!(" ({call})"));
    let on = if thread.on.is_empty() { String::new() } else { format!(" on {}", several(&thread.on, ", ")) };
    let since = thread.since_ns.map_or_else(String::new, |since| format!(", for {}", lasted(since)));
    let at = thread.at.as_ref().map_or_else(String::new, |at| format!(", in {at}"));
    if is_long {
        format!("{}{call}{on}{since}{at}", thread.does)
    } else {
        format!("{}{since}{at}", thread.does)
    }
}

/// What many threads of it wait for together.
fn queues(out: &mut String, process: &Member) {
    let is_cut = process.thread_count.is_some_and(|count| count as usize > process.threads.len());
    for queue in &process.queues {
        let least = if is_cut { "at least " } else { "" };
        let what = match (&queue.lock, queue.mutex) {
            (Some(lock), _) => format!("one lock, {lock},"),
            (None, true) => "one lock".to_owned(),
            (None, false) => "one wake-up, of a lock, a semaphore or a condition,".to_owned(),
        };
        let since =
            queue.since_ns.map_or_else(String::new, |since| format!(", the first for {}", lasted(since)));
        let count = queue.threads.len();
        let names = several(&queue.threads, ", ");
        line(
            out,
            "queue",
            &format!("{least}{count} threads wait for {what} at {}{since}: {names}", queue.address),
        );
    }
}

fn threads(out: &mut String, process: &Member) {
    let mut others = process.threads.iter().skip(1);
    for thread in others.by_ref().take(SHOWN) {
        let known = if thread.in_master { " (the master has one, too)" } else { "" };
        line(out, "thread", &format!("{}{known}: {}", thread.name, doing(thread, false)));
    }
    let told = process.threads.len().min(SHOWN + 1);
    let more = process.thread_count.map_or(0, |count| count as usize).saturating_sub(told);
    if more > 0 {
        line(out, "thread", &format!("and {more} more"));
    }
    if !process.lacks_threads.is_empty() {
        line(out, "lacks", &format!("threads of the master: {}", several(&process.lacks_threads, ", ")));
    }
}

fn connections(out: &mut String, all: &[Connection]) {
    let (accepted, own): (Vec<_>, Vec<_>) = all.iter().partition(|connection| connection.accepted);
    for connection in own.iter().take(SHOWN) {
        let service = connection.service.map_or_else(String::new, |service| format!(" ({service})"));
        let shared = shared_with(&connection.shared_with, ", open in");
        line(out, "connected", &format!("{}{service}{shared}", connection.peer));
    }
    if own.len() > SHOWN {
        line(out, "connected", &format!("and {} more", own.len() - SHOWN));
    }
    if !accepted.is_empty() {
        line(
            out,
            "serves",
            &match accepted.len() {
                1 => "1 connection of a client".to_owned(),
                count => format!("{count} connections of clients"),
            },
        );
    }
}

fn output(out: &mut String, process: &Member) {
    let say = |out: &mut String, what: &str, stream: &Stream| {
        line(out, what, &format!("{}{}", stream.to, shared_with(&stream.shared_with, ", shared by")));
    };
    match (&process.stdout, &process.stderr) {
        (Some(stdout), Some(stderr)) if stdout == stderr => say(out, "output", stdout),
        (stdout, stderr) => {
            for (what, stream) in [("stdout", stdout), ("stderr", stderr)] {
                if let Some(stream) = stream {
                    say(out, what, stream);
                }
            }
        }
    }
}

fn shared_with(pids: &[u32], how: &str) -> String {
    let pids: Vec<String> = pids.iter().map(ToString::to_string).collect();
    if pids.is_empty() { String::new() } else { format!("{how} {}, too", several(&pids, ", ")) }
}

fn unknown(out: &mut String, what: &str, why: &str, denied: bool) {
    let advice = if denied { format!("; that takes {}", privilege::to_look()) } else { String::new() };
    line(out, "unknown", &format!("{what}: {why}{advice}"));
}

fn next_fork(out: &mut String, next: &NextFork, is_masters: bool) {
    let whose = if is_masters { "of the master " } else { "" };
    let verdict = match next.verdict {
        "safe" => "would be safe",
        "risky" => "would be risky",
        "unsafe" => "would be unsafe, unless the child execs at once",
        _ => "is undecided: not all could be looked at",
    };
    paragraph::add(out, "", "", &format!("A fork {whose}now (pid {}) {verdict}.", next.pid));
    let weighty: Vec<_> = next.reasons.iter().filter(|reason| reason.weight != "info").collect();
    for reason in &weighty {
        line(out, reason.weight, &reason.what);
    }
    if !weighty.is_empty() {
        line(out, "->", &format!("`forkwatch check {}` says why, and what to change.", next.pid));
    }
}

/// How the last workers ended, the latest first.
fn ends(out: &mut String, all: &[WorkerEndDocument]) {
    if all.is_empty() {
        return;
    }
    out.push('\n');
    paragraph::add(out, "", "", "The daemon has seen these workers end, the latest first:");
    for end in all.iter().rev() {
        let how = end.words.as_deref().unwrap_or("was found gone");
        let stuck = end.stuck.as_ref().map_or_else(String::new, |stuck| format!(": {stuck}"));
        let told = format!("pid {} {how}, after {}{stuck}", end.pid, lasted(end.lifetime_ns));
        line(out, end.at.get(11..19).unwrap_or(&end.at), &told);
    }
}

/// What the daemon has found.
fn findings(out: &mut String, found: &[Brief], pid: u32) {
    if found.is_empty() {
        return;
    }
    out.push('\n');
    paragraph::add(out, "", "", "The daemon has found about these processes, and still follows:");
    let (own, others): (Vec<&Brief>, Vec<&Brief>) = found.iter().partition(|brief| brief.is_about(pid));
    let found: Vec<&Brief> = own.into_iter().chain(others).collect();
    for brief in found.iter().take(SHOWN) {
        let among = brief.also_pids.contains(&pid);
        let among = if among { format!(" (it is about pid {pid}, too)") } else { String::new() };
        line(out, severity(brief), &format!("{}: {}{among}", brief.hazard, brief.summary));
    }
    let more = found.len().saturating_sub(SHOWN);
    if more > 0 {
        line(out, "more", &format!("{more}: see `forkwatch findings --state open`"));
    }
    if let Some(first) = found.first() {
        line(out, "->", &format!("`forkwatch findings {}` shows the evidence.", first.id));
    }
}

const fn severity(brief: &Brief) -> &'static str {
    match brief.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
}

fn line(out: &mut String, first: &str, text: &str) {
    paragraph::add(out, &format!("  {first:<9} "), INDENT, text);
}

/// The first few of a list.
fn several(all: &[String], between: &str) -> String {
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    let more = all.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(between) + &more
}

/// `114 MiB`, `0.4 MiB`.
pub(in crate::cli) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    match tenths {
        0..100 => format!("{}.{} MiB", tenths / 10, tenths % 10),
        tenths => format!("{} MiB", tenths / 10),
    }
}
