//! Every parser of what strangers write, as a function of bytes. `cargo xtask fuzz` feeds them with coverage guidance; the
//! quick test feeds them what that has found (`fuzz/corpus`) and changes of it.
//!
//! A target fails by a panic, by going on after its budget has been used up, or by taking long.

use std::io::BufReader;

use jiff::Timestamp;

use crate::{
    api::Filter,
    config::{Config, hook::Hooks},
    core::{Core, Settings},
    detect::{
        self,
        orphaned_lock::hazard::{self as orphaned_lock, Case},
    },
    host::fuzz as host,
    kernel::btf::{Btf, Kind},
    model::{
        finding::Certainty,
        held_lock::{HeldLocks, PlainLock},
        lock::{Holder, LockWait, Locks, MAX_WAITS, Mapping, Parked, Words},
        process::{Comm, ProcessKey},
        signals::SignalSet,
        thread::SeenThread,
        time::BootTime,
    },
    output::recording::{Input, Reader},
};

/// What is fed.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes anything.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 12] = [
    Target { name: "btf", run: btf },
    Target { name: "config", run: config },
    Target { name: "demangle", run: host::demangle },
    Target { name: "locks", run: locks },
    Target { name: "maps", run: host::maps },
    Target { name: "mounts", run: host::mounts_and_cgroups },
    Target { name: "python", run: host::python },
    Target { name: "query", run: query },
    Target { name: "recording", run: recording },
    Target { name: "symbols", run: host::symbols },
    Target { name: "task", run: host::task },
    Target { name: "unwind", run: host::unwind },
];

/// The one of that name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// Type information of a kernel.
fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data) else { return };
    let wanted =
        [(Kind::Struct, "task_struct"), (Kind::Struct, "a"), (Kind::Function, "f"), (Kind::Typedef, "t")];
    for id in btf.find_all(&wanted).into_iter().flatten() {
        for path in ["signal.oom_mm.a", "pid", "a", "b.c"] {
            let _ = btf.member(id, path).map(|member| member.is_some());
        }
        let _ = btf.arguments(id);
        if let Ok(Some(of)) = btf.resolve(id) {
            let _ = btf.target(&of).map(|target| target.is_some());
        }
    }
    let _ = btf.has_function("f");
}

/// A configuration file.
fn config(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        match Config::parse("fuzz.toml", text) {
            Ok(config) => drop(config.restart_needed(&Config::default())),
            Err(error) => drop(error.to_string()),
        }
        drop(Hooks::parse("fuzz.toml", text).map_err(|error| error.to_string()));
    }
}

/// The query of a URL, by which findings are chosen.
fn query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Filter::parse(&text, Timestamp::UNIX_EPOCH) {
        Ok(filter) => drop(filter.limit()),
        Err(error) => drop(error.to_string()),
    }
}

/// A recording, fed to the core.
fn recording(data: &[u8]) {
    let Ok(inputs) = Reader::new(BufReader::new(data)) else { return };
    let mut core = Core::new(Settings::default(), detect::all());
    let (mut outputs, mut last) = (Vec::new(), BootTime::default());
    for input in inputs {
        let Ok(input) = input else { break };
        last = input.at().map_or(last, |at| last.max(at));
        match input {
            Input::Reported { reported, .. } => core.reported(&reported, &mut outputs),
            Input::Evidence { at, evidence } => core.evidence(at, &evidence, &mut outputs),
            Input::Advance(to) => core.advance(to, &mut outputs),
            Input::Particulars { .. } | Input::Standing(_) | Input::Rescued(_) | Input::End(_) => {}
            Input::Settings(settings) => drop(serde_json::from_value::<Settings>(settings)),
        }
        outputs.clear();
    }
    core.close(last, &mut outputs);
}

/// What a look at locks has seen, in which every word is another's.
fn locks(data: &[u8]) {
    let mut numbers = Numbers(data);
    let child = ProcessKey { tgid: 100, start: BootTime(1_000_000_000) };
    let thread = |tid: u32| SeenThread { tid, comm: Comm::new(b"x") };
    let flags = numbers.next();
    let flag = |bit: u32| flags >> bit & 1 == 1;
    let mut waits = Vec::new();
    while !numbers.0.is_empty() && waits.len() < MAX_WAITS {
        waits.push(numbers.wait(&thread));
    }
    let locks = Locks {
        at: BootTime(2_000_000_000),
        comm: Comm::new(b"x"),
        uid: Some(0),
        threads: flags >> 16 & 7,
        stopped: flag(0),
        waits,
        caught: SignalSet(flag(1).into()),
        python: flag(2),
        comparable: flag(3),
        parent: flag(4).then_some(ProcessKey { tgid: 50, start: BootTime(0) }),
        parent_threads: flag(5).then_some(2),
        adopted: flag(6),
    };
    let parent_threads = [thread(51), thread(52)];
    let plain = |address, held| PlainLock { object: 8, address, held, held_in_parent: Some(held) };
    let held = HeldLocks {
        at: BootTime(0),
        whole: true,
        locks: Vec::new(),
        count: 0,
        plain: vec![plain(0x1000, true), plain(0x1004, false)],
        searched: 0,
        skipped: 0,
        took: 0,
    };
    let case = Case {
        child,
        locks: &locks,
        left_threads_behind: flag(7).then_some(flag(8)),
        parent_threads: if flag(9) { &parent_threads } else { &[] },
        held: flag(10).then_some(&held),
    };
    let Some(proven) = orphaned_lock::prove(&case) else { return };
    assert!(!locks.stopped, "nothing can be concluded of what is stopped");
    let wait = locks.waits.get(proven.wait);
    let private = wait.is_some_and(|wait| wait.mapping.as_ref().is_none_or(|mapping| !mapping.shared));
    assert!(private, "a lock that others share proves nothing");
    let from_before =
        |wait: &LockWait| wait.holders.iter().any(|holder| holder.is_from_before && !holder.in_child);
    assert!(
        proven.certainty < Certainty::Certain || wait.is_some_and(from_before),
        "certain of an owner that may have come after the fork"
    );
}

/// Numbers from bytes; zeros when these are at their end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u32 {
        let (number, rest) = self.0.split_first_chunk().unwrap_or((&[0; 4], &[]));
        self.0 = rest;
        u32::from_le_bytes(*number)
    }

    fn words(&mut self) -> Words {
        let missing = self.next();
        // Seldom anything is.
        let is_there = |index: usize| missing & 3 != 0 || missing >> (index + 2) & 1 == 0;
        Words(std::array::from_fn(|index| Some(self.next()).filter(|_| is_there(index))))
    }

    fn wait(&mut self, thread: &impl Fn(u32) -> SeenThread) -> LockWait {
        let flags = self.next();
        let flag = |bit: u32| flags >> bit & 1 == 1;
        let holder = |named| Holder {
            named,
            offset: 8,
            in_child: flag(3),
            is_forker: flag(4).then_some(flag(5)),
            in_parent: flag(6).then(|| thread(51)),
            is_from_before: flag(7),
            is_older: flag(8).then_some(flag(9)),
        };
        LockWait {
            tid: 100 + (flags >> 16 & 3),
            comm: Comm::new(b"x"),
            address: 0x1000 + u64::from(flags >> 18 & 3) * 4,
            operation: if flag(10) { 0x80 } else { self.next() },
            value: self.next(),
            switches: u64::from(flags >> 24),
            slept: None,
            spins: flags & 1 << 23 != 0,
            words: flag(0).then(|| self.words()),
            parent_words: flag(1).then(|| self.words()),
            mapping: flag(2).then(|| Mapping { name: String::new(), offset: 0, shared: flag(11) }),
            holders: if flag(12) { vec![holder(self.next())] } else { Vec::new() },
            parked: flag(13).then(|| {
                Box::new(Parked {
                    address: 0x1000 + u64::from(flags >> 20 & 7),
                    words: self.words(),
                    parent_words: flag(14).then(|| self.words()),
                    mapping: Mapping { name: String::new(), offset: 0, shared: flag(15) },
                })
            }),
        }
    }
}

#[cfg(test)]
mod tests;
