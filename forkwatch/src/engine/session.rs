//! What every command that watches does first: load, attach, prove the kernel side right, take in what lives already,
//! and give up the capabilities that are not needed any more.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use caps::Capability;

use super::{
    collector::{Asker, Collector},
    kernel_log::Listener,
};
use crate::{
    health::Pulse,
    host::{self, ScanError, Scope, sight::Sight},
    kernel::{self, Kernel, Living, Ring, Seed, self_test},
    model::{process::ProcessKey, reported::Reported},
    output::Context,
    privilege,
    reader::{Answer, Answered, Client, Ear, Question, Starter, Unanswered},
};

/// Most events that are kept of those that come during the self-test. It takes milliseconds, unless in a storm.
const MOST_EARLY: usize = 65_536;

/// A defect: there is one reader's client.
const GIVEN: &str = "the reader is used elsewhere already";

/// A watch that has begun.
pub(crate) struct Session {
    /// The loaded programs and their tables.
    pub(crate) kernel: Kernel,
    /// The ring that the programs write their records to.
    pub(crate) ring: Ring,
    /// Events that came during the self-test.
    pub(crate) early: Vec<Reported>,
    /// What outputs must know of the host.
    pub(crate) context: Context,
    /// Who looks into other processes.
    reader: Option<Client>,
    /// Capabilities that it lacks for that.
    pub(crate) missing: Vec<Capability>,
}

impl Session {
    /// Begins. `targets` and their descendants pass the task filter, where that is set. Must be called while the
    /// process has one thread. The reader works meanwhile on what it will be asked first, if that is known.
    pub(crate) fn start(
        options: &kernel::Options,
        targets: &[host::Process],
        first: Option<Question>,
    ) -> Result<Self> {
        privilege::require_for_load()?;
        let missing = privilege::missing_for_others()?;
        // Before anything is opened that it would hold, too.
        let mut reader = Client::new(Starter::start()?);
        // It comes while the kernel side is loaded, and is there before any fork is told.
        reader.begin()?;
        let (mut kernel, mut ring) = Kernel::start(options)?;
        if let Some(question) = first {
            reader.ask_ahead(question)?;
        }
        for target in targets {
            want(&mut kernel, target.key)?;
        }
        let (mut early, mut dropped) = (Vec::new(), 0_u64);
        self_test::run(&mut kernel, &mut ring, own_cgroup(), |event| {
            if early.len() < MOST_EARLY { early.push(event) } else { dropped += 1 }
        })?;
        if dropped > 0 {
            tracing::warn!(dropped, "events that came in a storm during the self-test are not shown");
        }
        if !targets.is_empty() {
            want_descendants(&mut kernel, targets)?;
        }
        seed(&mut kernel)?;
        privilege::reduce()?;
        Ok(Self { kernel, ring, early, context: context(), reader: Some(reader), missing })
    }

    /// Passes on what the kernel side says of its decisions, for as long as the result lives, where that was asked for.
    pub(crate) fn listen(&mut self) -> Result<Option<Listener>> {
        let log = self.kernel.take_log();
        log.map(Listener::start).transpose().context("cannot listen to the kernel log")
    }

    /// What this host lets be seen, tried on at most so many processes.
    pub(crate) fn sight(&mut self, most: usize) -> Result<Sight> {
        sight(self.reader.as_mut().context(GIVEN)?, most)
    }

    /// A reader of its own for somebody who listens to what processes write. To be had before the thread that has questions
    /// answered.
    pub(crate) fn ear(&mut self) -> Result<Ear> {
        Ok(self.reader.as_mut().context(GIVEN)?.ear()?)
    }

    /// The thread that has questions answered, about processes in scope. Can be had once.
    pub(crate) fn collector(&mut self, scope: Scope) -> Result<Collector> {
        let reader = self.reader.take().context(GIVEN)?;
        Collector::start(reader, scope, Pulse::default())
            .context("cannot start the thread that collects evidence")
    }
}

/// What this host lets be seen, tried on at most so many processes. Where no answer comes in time, nothing is known.
pub(crate) fn sight(reader: &mut Client, most: usize) -> Result<Sight> {
    match reader.ask(&Question::Sight(most)) {
        Ok(Answered { answer: Answer::Sight(sight), .. }) => Ok(sight),
        Ok(_) | Err(Unanswered::Aside(_)) => Ok(Sight::default()),
        Err(error) => Err(error.into()),
    }
}

/// What outputs must know of the host and of the watch, which begins now.
pub(crate) fn context() -> Context {
    Context {
        host_name: host::clock::host_name(),
        boot_id: host::clock::boot_id(),
        wall_offset: host::clock::wall_offset(),
        pid_max: host::clock::pid_max(),
        began: host::clock::now(),
    }
}

/// The id of forkwatch's own cgroup, as the file system tells it.
pub(crate) fn own_cgroup() -> Option<u64> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = memberships.lines().find_map(|line| line.strip_prefix("0::"))?;
    host::cgroup_tree::find(path).ok().map(|cgroup| cgroup.id)
}

/// Lets a process pass the filter, unless its pid is another's by now.
fn want(kernel: &mut Kernel, key: ProcessKey) -> Result<()> {
    kernel.let_through(key.tgid)?;
    if host::look_again(key).is_none() {
        kernel.filter_out(key.tgid);
    }
    Ok(())
}

/// Lets the descendants that live already pass the filter. Those that are forked meanwhile by one that does not yet
/// pass escape one reading of `/proc`, so it is read until nothing new turns up.
fn want_descendants(kernel: &mut Kernel, targets: &[host::Process]) -> Result<()> {
    let mut known = Vec::new();
    loop {
        let processes = host::processes()?;
        let found = targets.iter().flat_map(|target| host::descendants(target.key.tgid, &processes));
        let new: Vec<ProcessKey> =
            found.map(|process| process.key).filter(|key| !known.contains(key)).collect();
        if new.is_empty() {
            return Ok(());
        }
        for key in new {
            want(kernel, key)?;
            known.push(key);
        }
    }
}

/// Takes in what was forked before the watch began: how many children have not exec'd; those whose children would be of
/// a later generation than they seem; and kernel workers, so that they are not taken for threads.
fn seed(kernel: &mut Kernel) -> Result<()> {
    let (processes, at) = settled_processes(kernel)?;
    let unexeced = processes.iter().filter(|process| process.unexeced).count();
    kernel.begin_with(u64::try_from(unexeced).unwrap_or(u64::MAX), at);
    let generations = Generations::new(&processes);
    for process in &processes {
        if process.workers > 0 {
            let look = || host::look_again(process.key).map_or(0, |now| u64::from(now.workers));
            kernel.seed_workers(process.key.tgid, u64::from(process.workers), look);
        }
        // The kernel side takes an un-exec'd process that it does not know for one of the first generation.
        let Some(generation @ 2..) = generations.of(process) else { continue };
        let seed = Seed { child: process.key, parent_tgid: process.parent, generation };
        // It may have exec'd or ended before it was entered, and then nobody would take it out.
        if kernel.seed(&seed) && !host::look_again(process.key).is_some_and(|now| now.unexeced) {
            kernel.unseed(process.key);
        }
    }
    Ok(())
}

/// The living processes, with the kernel side's numbers that go with them. Whoever is forked, execs or ends during the
/// scan would stay in the count of un-exec'd children for ever, so it is repeated while there are such; on a host that
/// never rests the last one has to do.
fn settled_processes(kernel: &Kernel) -> Result<(Vec<host::Process>, (u64, u64))> {
    /// A scan takes some milliseconds.
    const SCANS: usize = 5;
    let mut before = kernel.copying_and_ended()?;
    let mut scans = 0;
    loop {
        let processes = host::processes()?;
        let after = kernel.copying_and_ended()?;
        scans += 1;
        if after == before || scans == SCANS {
            return Ok((processes, after));
        }
        before = after;
    }
}

/// What the kernel side must know of a process that a request is about. What `/proc` hides from the watch itself, whoever
/// looks into other processes may see.
pub(crate) fn living(asker: &Asker, key: ProcessKey) -> Option<Living> {
    /// Little: the stream waits.
    const PATIENCE: Duration = Duration::from_millis(100);
    let now = match host::find(key.tgid) {
        Ok(now) => Some(now).filter(|now| now.key == key),
        Err(ScanError::Hidden(_)) => match asker.ask_now(Question::Living(key), PATIENCE) {
            Some(Answer::Living(now)) => now,
            _ => None,
        },
        Err(_) => None,
    }?;
    Some(Living { parent_tgid: now.parent, unexeced: now.unexeced })
}

/// Who was forked by whom without exec, by pid.
struct Generations<'a>(std::collections::HashMap<u32, &'a host::Process>);

impl<'a> Generations<'a> {
    fn new(processes: &'a [host::Process]) -> Self {
        let unexeced = processes.iter().filter(|process| process.unexeced);
        Self(unexeced.map(|process| (process.key.tgid, process)).collect())
    }

    /// Forks since the last exec, as far as the parents still live; none for what has exec'd.
    fn of(&self, process: &host::Process) -> Option<u32> {
        if !process.unexeced {
            return None;
        }
        let parents = std::iter::successors(Some(process), |process| self.0.get(&process.parent).copied());
        // Bounded, because pids that are reused during the scan could close a circle.
        u32::try_from(parents.take(1000).count()).ok()
    }
}

/// Says what stays unseen of other users' processes, where that is so.
pub(crate) fn warn_of_what_is_unseen(missing: &[Capability]) {
    if !missing.is_empty() {
        let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
        let programs = if missing.contains(&privilege::PTRACE) {
            "findings name their programs by comm and command line alone, and "
        } else {
            ""
        };
        tracing::warn!(
            "without {} other users' processes are seen in part: {programs}nothing is judged that wants a look into \
             their memory or file descriptors, such as orphaned locks and shared connections; forkwatch doctor lists \
             what is limited",
            names.join(" and ")
        );
    }
}

/// The runtime that everything runs on: one thread, so that the capabilities are one thread's.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}
