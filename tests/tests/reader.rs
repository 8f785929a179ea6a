//! The process that looks into others: it can do nothing else, and no process that it looks into can keep the watch
//! from its work, from ending, or from judging another's.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, bpf,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    host::{needs_root, skip},
    metrics::{Scrape, free_address},
    process::{self, Identity},
    program::{Launch, Program},
    runner::Tests,
    tests,
    wait::until,
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::{Mode, SFlag, makedev, mknod},
    },
    unistd::Pid,
};

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        each_of_the_three_processes_has_what_it_needs_and_no_more,
        memory_that_never_answers_keeps_nobody_else_waiting,
        a_look_that_hangs_is_given_up_and_named,
        a_reader_that_no_signal_ends_keeps_nobody_waiting,
        programs_on_a_silent_file_system_keep_nobody_else_waiting,
        a_reader_that_is_killed_is_replaced,
        the_watch_does_not_outlive_the_starter,
    ])
}

/// `CAP_DAC_READ_SEARCH` and `CAP_SYS_PTRACE` (linux/capability.h).
const LOOKING: u64 = 1 << 2 | 1 << 19;
/// `CAP_BPF`, which reading a map wants before Linux 5.19.
const BPF: u64 = 1 << 39;
/// The names of the other two, as `ps` shows them.
const STARTER: &str = "fw-starter";
const READER: &str = "fw-reader";

/// For what takes some looks, of which one may wait until a process is looked into again.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `/proc/PID/status` says under a name, as a number.
fn status(pid: i32, name: &str, radix: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let value = value.with_context(|| format!("no {name} of {pid}"))?;
    Ok(u64::from_str_radix(value.trim(), radix)?)
}

/// What the descriptors of a process are open on.
fn descriptors(pid: i32) -> Result<Vec<String>> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect())
}

/// The descendants of a watch that go by this name.
fn called(forkwatch: i32, name: &str) -> Vec<Identity> {
    let is_called = |one: &Identity| process::thread_names(one.pid).first().is_some_and(|comm| comm == name);
    process::descendants(forkwatch).into_iter().filter(is_called).collect()
}

fn only(forkwatch: i32, name: &str) -> Result<Identity> {
    let found = called(forkwatch, name);
    ensure!(found.len() == 1, "{} processes are called {name}", found.len());
    found.first().copied().context("there is one")
}

fn each_of_the_three_processes_has_what_it_needs_and_no_more() -> Result<()> {
    needs_root()?;
    let daemon = Forkwatch::daemon([format!("--web.listen-address={}", free_address()?)])?;
    let (starter, reader) = (only(daemon.pid(), STARTER)?.pid, only(daemon.pid(), READER)?.pid);
    for (pid, capabilities, seccomp) in [(starter, LOOKING, 0), (reader, LOOKING, 2)] {
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            ensure!(status(pid, set, 16)? == capabilities, "{set} of {pid}");
        }
        ensure!(status(pid, "Seccomp", 10)? == seccomp, "seccomp of {pid}");
        ensure!(status(pid, "Threads", 10)? == 1, "threads of {pid}");
        let is_fine = |target: &String| {
            target == "/dev/null"
                || target.starts_with("socket:")
                || target == "anon_inode:[signalfd]" && pid == starter
                // Held, so that the mounts of the host have the ids that were read there.
                || target.ends_with("/mountinfo") && pid == reader
        };
        // While it looks at a process, as it does whenever one forks somewhere, it has that one's files open too.
        let open = until("it to hold nothing else", || {
            let open = descriptors(pid)?;
            Ok(open.iter().all(is_fine).then_some(open))
        })
        .with_context(|| format!("{pid} has {:?}", descriptors(pid)))?;
        // The reader has one to its watch, and one that asks the kernel for the other ends of socket pairs.
        let sockets = open.iter().filter(|target| target.starts_with("socket:")).count();
        ensure!(sockets == if pid == reader { 2 } else { 1 }, "{pid} has {open:?}");
    }
    ensure!(status(daemon.pid(), "CapEff", 16)? & !BPF == 0, "the watch keeps capabilities");
    for pid in [daemon.pid(), starter, reader] {
        ensure!(status(pid, "NoNewPrivs", 10)? == 1, "{pid} may gain privileges");
        for set in ["CapInh", "CapAmb"] {
            ensure!(status(pid, set, 16)? == 0, "{set} of {pid}");
        }
    }
    daemon.stop().map(drop)
}

/// A program of a user's whose file system never answers, and its children.
struct Silent {
    _program: Program,
}

impl Silent {
    fn start(kind: &str, children: &str) -> Result<Self> {
        needs_root()?;
        let binary = fixture::fixture("silent_files")?;
        let mut program = Program::hold(|folder| {
            let device = folder.join("fuse");
            let open_to_all = Mode::from_bits_truncate(0o666);
            mknod(&device, SFlag::S_IFCHR, open_to_all, makedev(10, 229)).context("cannot make a device")?;
            let copy = folder.join("silent_files");
            fs::copy(binary, &copy).context("cannot copy the fixture")?;
            Ok(Launch::new(copy).args([kind, children]).env("FUSE_DEVICE", device).user("nobody"))
        })?;
        program.release()?;
        match program.next_json() {
            Ok(_) => Ok(Self { _program: program }),
            Err(error) => match program.end(None)?.code() {
                Some(77) => skip(program.output().trim().to_owned()),
                _ => Err(error),
            },
        }
    }
}

/// A child of another user that waits for a lock which a thread of its parent holds.
fn honest() -> Result<(Program, i64)> {
    honest_of("daemon")
}

fn honest_of(user: &'static str) -> Result<(Program, i64)> {
    let mut program = fixture::hold_for(user, "orphan_mutex")?;
    program.release()?;
    let told = program.next_json()?;
    let child = told.get("child").and_then(serde_json::Value::as_i64).context("no child")?;
    Ok((program, child))
}

/// A daemon that reports what hangs soon.
fn daemon(folder: &Path, address: SocketAddr) -> Result<Forkwatch> {
    daemon_with(folder, address, "sweep_interval = \"1s\"")
}

fn daemon_with(folder: &Path, address: SocketAddr, setting: &str) -> Result<Forkwatch> {
    let file = folder.join("forkwatch.toml");
    fs::write(&file, format!("[judge]\nstuck_after = \"500ms\"\n{setting}\n"))?;
    Forkwatch::daemon([format!("--web.listen-address={address}"), format!("--config={}", file.display())])
}

fn is_stuck(event: &Event, child: i64) -> bool {
    event.pid() == Some(child)
        && event
            .finding()
            .is_some_and(|finding| finding.hazard() == "orphaned-lock" && finding.certainty() == "certain")
}

/// With such a program on the host, another's stuck child is found; the watch ends when it is told to, and when it is
/// killed nothing stays; and a scan ends.
fn nobody_else_is_kept_waiting(kind: &str, children: &str) -> Result<()> {
    let _silent = Silent::start(kind, children)?;
    let (_honest, child) = honest()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut watch = daemon(folder.path(), address)?;
    watch.wait_longer_for(PATIENCE, "another's stuck child", |event| is_stuck(event, child))?;
    let scanned = Command::new(binary::forkwatch()?).args(["scan", "--stuck-after", "500ms"]).output()?;
    let text = String::from_utf8_lossy(&scanned.stdout).into_owned();
    ensure!(scanned.status.code() == Some(10) && text.contains(&child.to_string()), "{scanned:?}");

    watch.signal(Signal::SIGTERM)?;
    let ended = watch.ended()?;
    ensure!(ended.code() == Some(0), "{ended}: {}", watch.stderr());
    let before: Vec<_> = bpf::ids(bpf::Kind::Link)?;
    let mut watch = daemon(folder.path(), address)?;
    let mut attached = bpf::ids(bpf::Kind::Link)?;
    attached.retain(|id| !before.contains(id));
    ensure!(!attached.is_empty(), "nothing is attached");
    watch.wait_longer_for(PATIENCE, "another's stuck child again", |event| is_stuck(event, child))?;
    let rest = called(watch.pid(), STARTER);
    watch.signal(Signal::SIGKILL)?;
    watch.ended()?;
    until("what was attached to be detached", || {
        let left = bpf::ids(bpf::Kind::Link)?.into_iter().any(|id| attached.contains(&id));
        Ok((!left).then_some(()))
    })?;
    TcpListener::bind(address).context("its port stays bound")?;
    until("its starter to end", || Ok(rest.iter().all(|one| !one.lives()).then_some(())))?;
    Ok(())
}

fn memory_that_never_answers_keeps_nobody_else_waiting() -> Result<()> {
    nobody_else_is_kept_waiting("memory", "3")
}

/// The reader, once what is asked at the start has been answered: the next question is about somebody.
fn idle_reader(watch: &Forkwatch, address: SocketAddr) -> Result<Identity> {
    let reader = only(watch.pid(), READER)?;
    until("it to have nothing to do", || {
        let waiting = Scrape::of(address)?.sum("forkwatch_evidence_unanswered_questions", "");
        let call = fs::read_to_string(format!("/proc/{}/syscall", reader.pid))?;
        let number = call.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
        Ok((waiting < 0.5 && number == Some(libc::SYS_recvfrom)).then_some(()))
    })?;
    Ok(reader)
}

/// A process that is frozen by a control group of the first version: no signal ends it before it is thawed, as none ends
/// one that waits for a file system in the kernel (`__refrigerator`, kernel/freezer.c).
struct Frozen {
    group: PathBuf,
    process: Identity,
}

impl Frozen {
    fn freeze(process: Identity) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let freezer = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (place, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            (kind == "cgroup" && options.split(',').any(|option| option == "freezer")).then_some(place)
        });
        let Some(freezer) = freezer else {
            return skip("no control group of the first version freezes processes here");
        };
        let group = Path::new(freezer).join(format!("forkwatch-test-{}", std::process::id()));
        fs::create_dir(&group).context("cannot make a control group")?;
        let frozen = Self { group, process };
        fs::write(frozen.group.join("cgroup.procs"), process.pid.to_string())?;
        frozen.set("FROZEN")?;
        until("it to be frozen", || Ok((frozen.state()? == "FROZEN").then_some(())))?;
        Ok(frozen)
    }

    fn state(&self) -> Result<String> {
        Ok(fs::read_to_string(self.group.join("freezer.state"))?.trim().to_owned())
    }

    fn set(&self, state: &str) -> Result<()> {
        fs::write(self.group.join("freezer.state"), state).context("cannot freeze or thaw")
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.set("THAWED");
        self.process.kill();
        let _ = until("its control group to be empty", || Ok(fs::remove_dir(&self.group).ok()));
    }
}

/// It is lost on its user's account, another takes its place, and the watch ends without it.
fn a_reader_that_no_signal_ends_keeps_nobody_waiting() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut watch = daemon_with(folder.path(), address, "sweep_interval = \"1h\"")?;
    let reader = idle_reader(&watch, address)?;
    let frozen = Frozen::freeze(reader)?;
    let (_one, child) = honest()?;
    until("it to be lost", || {
        Ok((Scrape::of(address)?.sum("forkwatch_lost_readers", "") >= 1.0).then_some(()))
    })?;
    // Whose account it was lost on depends on who else forked at this moment: it is one user's.
    let (_other, other) = honest_of("nobody")?;
    let is_found = |event: &Event| is_stuck(event, child) || is_stuck(event, other);
    watch.wait_longer_for(PATIENCE, "another user's stuck child", is_found)?;
    let starter = only(watch.pid(), STARTER)?;
    watch.signal(Signal::SIGTERM)?;
    let ended = watch.ended()?;
    ensure!(ended.code() == Some(0), "{ended}: {}", watch.stderr());
    ensure!(!starter.lives(), "the starter waits for its reader");
    ensure!(reader.lives() && frozen.state()? == "FROZEN", "a signal has ended it");
    TcpListener::bind(address).context("its port stays bound")?;
    drop(frozen);
    until("the reader to end", || Ok((!reader.lives()).then_some(())))
}

/// Stopped, it is as one that hangs in a look.
fn a_look_that_hangs_is_given_up_and_named() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut watch = daemon_with(folder.path(), address, "sweep_interval = \"1h\"")?;
    let first = idle_reader(&watch, address)?;
    kill(Pid::from_raw(first.pid), Signal::SIGSTOP)?;
    let (_honest, child) = honest()?;
    until("the log to name a process that cannot be looked into", || {
        let log = watch.stderr();
        // Whichever was asked about first: others may have forked at this moment, too.
        Ok(log.contains("cannot look into process ").then_some(()))
    })?;
    let scrape = Scrape::of(address)?;
    ensure!(scrape.sum("forkwatch_unreadable_processes", "") >= 1.0, "{}", scrape.0);
    ensure!(scrape.sum("forkwatch_lost_readers", "") == 0.0, "{}", scrape.0);
    ensure!(!first.lives(), "it was not ended");
    // It is looked into again after a while.
    watch.wait_longer_for(PATIENCE, "what was hidden meanwhile", |event| is_stuck(event, child))?;
    until("it to be no longer set aside", || {
        Ok((Scrape::of(address)?.sum("forkwatch_unreadable_processes", "") == 0.0).then_some(()))
    })?;
    watch.stop().map(drop)
}

fn programs_on_a_silent_file_system_keep_nobody_else_waiting() -> Result<()> {
    nobody_else_is_kept_waiting("program", "50")
}

fn a_reader_that_is_killed_is_replaced() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let address = free_address()?;
    let mut watch = daemon(folder.path(), address)?;
    let first = only(watch.pid(), READER)?;
    first.kill();
    let (_honest, child) = honest()?;
    watch.wait_for("what only a reader can see", |event| is_stuck(event, child))?;
    let second = only(watch.pid(), READER)?;
    ensure!(second.pid != first.pid, "it lives on");
    ensure!(Scrape::of(address)?.sum("forkwatch_readers_replaced_total", "") >= 1.0);
    watch.stop().map(drop)
}

/// Without it no reader could be had: the service manager has to start the whole anew.
fn the_watch_does_not_outlive_the_starter() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let mut watch = daemon(folder.path(), free_address()?)?;
    let reader = only(watch.pid(), READER)?;
    only(watch.pid(), STARTER)?.kill();
    let _honest = honest()?;
    let ended = watch.ended()?;
    ensure!(ended.code() == Some(1), "{ended}");
    ensure!(watch.stderr().contains("looks at processes has ended"), "{}", watch.stderr());
    until("its reader to end", || Ok((!reader.lives()).then_some(())))
}
