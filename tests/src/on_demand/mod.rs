//! What the kernel side reports on demand, on the running kernel and in the machines of `cargo xtask vm-test` alike.
//!
//! The kernel side is held here as forkwatch holds it, and after its start without the capabilities that it was loaded
//! with: attaching later must not need them.

use std::{
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail, ensure};
use forkwatch::{
    host,
    kernel::{Kernel, Living, NoProbe, Options, Probe, Ring},
    model::{
        connection::Act,
        event::{Event, ExitStatus},
        observation::{Heir, Observation, SocketUse},
        probe_request::ProbeRequest,
        process::ProcessKey,
        reported::Reported,
        time::BootTime,
    },
    privilege,
};
use forkwatch_ebpf::class;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    host::{Skip, is_confidential, needs_bpf, skip},
    kernel::lets_functions_be_watched,
    wait::until,
};

mod child;
mod connection;

use child::{Child, Task};
use connection::Connection;

type Test = (&'static str, fn() -> Result<()>);

/// All of them, each in a process of its own: one of a single thread, whose forks nobody streams.
const TESTS: [Test; 16] = [
    ("a followed child's end is told", a_followed_childs_end_is_told),
    ("a followed child's exec is told", a_followed_childs_exec_is_told),
    ("a bad end is told of a child that nobody follows", a_bad_end_is_told),
    ("a signal is told with its sender", a_signal_is_told_with_its_sender),
    ("the signal of a parent's end is nobody's", a_parents_end_sends_for_nobody),
    ("a signal that comes all the time is told once a second", a_flood_of_signals_is_told_once),
    ("every end of a watched family is told", every_end_of_a_family_is_told),
    ("turns on a shared TCP connection are told", || turns_are_told(&Connection::tcp()?)),
    ("turns on a shared Unix stream are told", || turns_are_told(&Connection::unix()?)),
    ("one that sends all the time is told once", one_that_sends_all_the_time_is_told_once),
    ("a shutdown of a TCP connection is told", a_tcp_shutdown_is_told),
    ("a shutdown of a Unix stream is told", a_unix_shutdown_is_told),
    ("what a child is born with is told", what_a_child_is_born_with_is_told),
    ("the next child of a covered forker is told at its birth", every_child_of_a_covered_forker_is_told),
    ("an ended forker is told", an_ended_forker_is_told),
    ("nothing is told once the requests are taken back", nothing_is_told_without_requests),
];

/// What the program of a test is called with, and the name of the test.
pub const ARGUMENT: &str = "on-demand";
/// Ends a test that cannot run here; its reason is on standard output.
const SKIPPED: u8 = 77;

/// The tests, which exec this program with [`ARGUMENT`]: it must then call [`run`].
pub fn all() -> Vec<(&'static str, impl FnOnce() -> Result<()> + Send)> {
    TESTS.iter().map(|(name, _)| (*name, || run_apart(name))).collect()
}

fn run_apart(name: &str) -> Result<()> {
    needs_bpf()?;
    let output = Command::new("/proc/self/exe").args([ARGUMENT, name]).stdin(Stdio::null()).output()?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).trim().to_owned());
    match output.status.code() {
        Some(0) => Ok(()),
        Some(code) if code == i32::from(SKIPPED) => skip(said.concat()),
        _ => bail!("{}", said.concat()),
    }
}

/// Runs one.
pub fn run(name: &str) -> ExitCode {
    let Some((_, test)) = TESTS.iter().find(|(known, _)| *known == name) else { return ExitCode::from(2) };
    match test() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error:#}");
            if error.is::<Skip>() { ExitCode::from(SKIPPED) } else { ExitCode::FAILURE }
        }
    }
}

/// The kernel side, and what it has reported.
struct Watched {
    kernel: Kernel,
    ring: Ring,
    reported: Vec<Reported>,
}

impl Watched {
    fn start() -> Result<Self> {
        Self::start_with(&Options::default())
    }

    /// With what enters the connections of a child by itself.
    fn start_with_heirs() -> Result<Self> {
        Self::start_with(&Options { asked: &[Probe::Heirs], ..Options::default() })
    }

    fn start_with(options: &Options) -> Result<Self> {
        let (kernel, ring) = Kernel::start(options)?;
        privilege::reduce()?;
        Ok(Self { kernel, ring, reported: Vec::new() })
    }

    fn probe(&mut self, request: ProbeRequest) {
        self.kernel.probe(&request, living);
    }

    /// Watches a connection that these processes hold.
    fn share(&mut self, connection: &Connection, processes: &[ProcessKey]) -> Result<u64> {
        if let Err(error @ NoProbe::Absent(_)) = self.kernel.probes().way(Probe::Sockets) {
            return skip(format!("sockets: {error}"));
        }
        let inode = connection.inode()?;
        for process in processes {
            self.probe(ProbeRequest::Share(*process));
        }
        self.probe(ProbeRequest::WatchSocket(inode));
        match self.kernel.probes().way(Probe::Sockets) {
            // Only the attempt to attach it tells; what else is refused is a failure.
            Err(error) if !lets_functions_be_watched()? => skip(format!("sockets: {error}")),
            _ => Ok(inode),
        }
    }

    /// Everything that has been reported so far.
    fn reported(&mut self) -> &[Reported] {
        let Self { ring, reported, .. } = self;
        while ring.drain(4096, |record| reported.push(record)) > 0 {}
        reported
    }

    fn wait_for<T>(&mut self, what: &str, find: impl Fn(&Reported) -> Option<T>) -> Result<T> {
        until(what, || Ok(self.reported().iter().find_map(&find)))
    }

    /// Waits for the uses of a socket, all of them, each as tgid, act and bytes.
    fn wait_for_uses(&mut self, inode: u64, wanted: &[(u32, Act, u64)]) -> Result<()> {
        let seen = |watched: &mut Self| -> Vec<(u32, Act, u64)> {
            let uses = watched.reported().iter().filter_map(socket_use).filter(|seen| seen.inode == inode);
            uses.map(|seen| (seen.user.process.tgid, seen.act, seen.bytes)).collect()
        };
        until("the uses of the socket", || Ok((seen(self) == wanted).then_some(())))
            .with_context(|| format!("seen {:?}, wanted {wanted:?}", seen(self)))
    }
}

const fn socket_use(reported: &Reported) -> Option<&SocketUse> {
    if let Reported::Observation(Observation::SocketUse(seen)) = reported { Some(seen) } else { None }
}

fn living(key: ProcessKey) -> Option<Living> {
    let now = host::find(key.tgid).ok().filter(|now| now.key.start.ticks() == key.start.ticks())?;
    Some(Living { parent_tgid: now.parent, unexeced: now.unexeced })
}

fn own_key() -> Result<ProcessKey> {
    Ok(host::find(std::process::id())?.key)
}

fn exit_of(tgid: u32) -> impl Fn(&Reported) -> Option<(ProcessKey, u32, ExitStatus)> {
    move |reported| match reported {
        Reported::Event(Event::Exit(exit)) if exit.process.tgid == tgid => {
            Some((exit.process, exit.parent_tgid, exit.status))
        }
        _ => None,
    }
}

fn a_followed_childs_end_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let (mut child, gone) = (Child::fork(None)?, Child::fork(None)?);
    let (key, gone_key) = (child.key()?, gone.key()?);
    gone.end()?;
    for child in [key, gone_key] {
        watched.probe(ProbeRequest::Follow { child, parent_tgid: std::process::id() });
    }
    child.perform(Task::Nothing)?;
    child.end()?;
    let (process, parent, status) = watched.wait_for("the child's end", exit_of(key.tgid))?;
    ensure!(process.start.ticks() == key.start.ticks(), "{process:?} is not {key:?}");
    ensure!(process.start != key.start, "its start is that of /proc, not its own");
    ensure!((parent, status) == (std::process::id(), ExitStatus::Code(0)), "{parent} {status:?}");
    ensure!(
        !watched.reported().iter().any(|reported| exit_of(gone_key.tgid)(reported).is_some()),
        "an end was told twice"
    );
    Ok(())
}

fn a_followed_childs_exec_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let mut child = Child::fork(None)?;
    let key = child.key()?;
    watched.probe(ProbeRequest::Follow { child: key, parent_tgid: std::process::id() });
    child.begin(Task::Exec)?;
    let since = watched.wait_for("the child's exec", |reported| match reported {
        Reported::Event(Event::Exec(exec)) if exec.process.tgid == key.tgid => {
            Some(exec.fork.map(|fork| fork.since))
        }
        _ => None,
    })?;
    ensure!(since.is_some_and(|since| since > 0), "it is not told as the first exec");
    child.end()
}

fn a_bad_end_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let [mut good, mut bad, killed] = [Child::fork(None)?, Child::fork(None)?, Child::fork(None)?];
    let tgids = [&good, &bad, &killed].map(Child::tgid);
    good.begin(Task::Exit(0))?;
    good.end()?;
    bad.begin(Task::Exit(3))?;
    bad.end()?;
    killed.kill(Signal::SIGKILL)?;
    killed.end()?;
    let [good, bad, killed] = tgids;
    let (_, parent, status) = watched.wait_for("the end of the last", exit_of(killed))?;
    ensure!(status == ExitStatus::Signal { number: 9, core_dumped: false }, "killed: {status:?}");
    ensure!(parent == std::process::id(), "its parent is {parent}");
    let told: Vec<_> = watched.reported().iter().filter_map(exit_of(bad)).collect();
    ensure!(matches!(told.as_slice(), [(_, _, ExitStatus::Code(3))]), "of the bad one: {told:?}");
    ensure!(
        !watched.reported().iter().any(|reported| exit_of(good)(reported).is_some()),
        "the good end is told"
    );
    Ok(())
}

fn a_signal_is_told_with_its_sender() -> Result<()> {
    let mut watched = Watched::start()?;
    if let Some(reason) = no_signals(&watched) {
        return skip(reason);
    }
    let (mut child, mut other) = (Child::fork(None)?, Child::fork(None)?);
    let key = child.key()?;
    watched.probe(ProbeRequest::WatchSignals(key));
    other.kill(Signal::SIGCONT)?;
    child.kill(Signal::SIGCONT)?;
    child.perform(Task::Alarm)?;
    child.kill(Signal::SIGUSR1)?;
    let signals = |watched: &mut Watched| -> Vec<(u32, u32, u32)> {
        let told = watched.reported().iter().filter_map(|reported| match reported {
            Reported::Observation(Observation::Signal(signal)) => {
                Some((signal.target.tgid, signal.number, signal.sender_tgid))
            }
            _ => None,
        });
        told.collect()
    };
    let [alarm, user] = [Signal::SIGALRM, Signal::SIGUSR1].map(|signal| (signal as i32).unsigned_abs());
    // SIGCONT does nothing to a process that runs, so it is not told.
    let wanted = [(key.tgid, alarm, 0), (key.tgid, user, std::process::id())];
    until("the signals", || Ok((signals(&mut watched) == wanted).then_some(()))).with_context(|| {
        format!(
            "{:?}, wanted {wanted:?}, {:?}",
            signals(&mut watched),
            watched.kernel.probes().way(Probe::Signals)
        )
    })?;
    watched.probe(ProbeRequest::UnwatchSignals(key));
    child.perform(Task::Alarm)?;
    other.perform(Task::Nothing)?;
    ensure!(signals(&mut watched).len() == 2, "a signal is told although nobody asks any more");
    child.end()?;
    other.end()
}

/// Whether signals cannot be watched here, for a reason that is none of forkwatch's.
fn no_signals(watched: &Watched) -> Option<String> {
    match watched.kernel.probes().way(Probe::Signals) {
        Err(error @ NoProbe::Absent(_)) => Some(format!("signals: {error}")),
        // Then only a load in place is left, which new kernels do not take.
        Err(error) if is_confidential() => Some(format!("signals: {error}")),
        _ => None,
    }
}

fn signals_to(watched: &mut Watched, tgid: u32) -> Vec<(u32, u32)> {
    let told = watched.reported().iter().filter_map(|reported| match reported {
        Reported::Observation(Observation::Signal(signal)) if signal.target.tgid == tgid => {
            Some((signal.number, signal.sender_tgid))
        }
        _ => None,
    });
    told.collect()
}

fn a_parents_end_sends_for_nobody() -> Result<()> {
    let mut watched = Watched::start()?;
    if let Some(reason) = no_signals(&watched) {
        return skip(reason);
    }
    let mut parent = Child::fork(None)?;
    parent.perform(Task::ForkDependent)?;
    let processes = host::processes()?;
    let dependent = processes.iter().find(|process| process.parent == parent.tgid());
    let dependent = dependent.context("there is no grandchild")?.key;
    watched.probe(ProbeRequest::WatchSignals(dependent));
    parent.end()?;
    let user = (Signal::SIGUSR1 as i32).unsigned_abs();
    let told = until("the signal of the parent's end", || {
        let told = signals_to(&mut watched, dependent.tgid);
        Ok((!told.is_empty()).then_some(told))
    });
    let pid = Pid::from_raw(i32::try_from(dependent.tgid)?);
    kill(pid, Signal::SIGKILL)?;
    // The process that ends is the current task, and has sent nothing.
    ensure!(told? == [(user, 0)], "{:?}", signals_to(&mut watched, dependent.tgid));
    Ok(())
}

fn a_flood_of_signals_is_told_once() -> Result<()> {
    const SIGNALS: usize = 100;
    let mut watched = Watched::start()?;
    if let Some(reason) = no_signals(&watched) {
        return skip(reason);
    }
    let mut child = Child::fork(None)?;
    // Its handlers are set then.
    child.perform(Task::Nothing)?;
    let key = child.key()?;
    watched.probe(ProbeRequest::WatchSignals(key));
    let start = Instant::now();
    for _ in 0..SIGNALS {
        child.kill(Signal::SIGUSR1)?;
    }
    child.kill(Signal::SIGTERM)?;
    let seconds = usize::try_from(start.elapsed().as_secs())?;
    let term = (Signal::SIGTERM as i32).unsigned_abs();
    let told = until("the last signal", || {
        let told = signals_to(&mut watched, key.tgid);
        Ok(told.iter().any(|(number, _)| *number == term).then_some(told))
    })?;
    ensure!(told.len() <= 2 * (seconds + 1), "told in {seconds} s: {told:?}");
    ensure!(told.iter().all(|(_, sender)| *sender == std::process::id()), "{told:?}");
    child.end()
}

fn every_end_of_a_family_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let own = own_key()?;
    let before = Child::fork(None)?;
    watched.probe(ProbeRequest::WatchFamily(own));
    let during = Child::fork(None)?;
    watched.probe(ProbeRequest::UnwatchFamily(own));
    let (mut after, mut last) = (Child::fork(None)?, Child::fork(None)?);
    let tgids = [&before, &during, &after, &last].map(Child::tgid);
    before.end()?;
    during.end()?;
    after.begin(Task::Exit(0))?;
    after.end()?;
    last.begin(Task::Exit(3))?;
    last.end()?;
    let [before, during, after, last] = tgids;
    watched.wait_for("the end of the last", exit_of(last))?;
    let mut is_told = |tgid| watched.reported().iter().find_map(exit_of(tgid));
    let (_, parent, status) = is_told(during).context("a good end is not told")?;
    ensure!((parent, status) == (own.tgid, ExitStatus::Code(0)), "{parent} {status:?}");
    for tgid in [before, after] {
        ensure!(is_told(tgid).is_none(), "a good end is told that nobody asked for");
    }
    Ok(())
}

fn turns_are_told(connection: &Connection) -> Result<()> {
    let mut watched = Watched::start()?;
    let own = own_key()?;
    let mut before = Child::fork(Some(connection))?;
    let before_key = before.key()?;
    let inode = watched.share(connection, &[own, before_key])?;
    // Taken in by the kernel side itself.
    let mut after = Child::fork(Some(connection))?;
    let own = own.tgid;

    connection.send(10)?;
    connection.send(11)?;
    before.perform(Task::Send(20))?;
    before.perform(Task::Send(21))?;
    connection.send(12)?;
    after.perform(Task::Send(30))?;
    connection.answer(4)?;
    connection.receive(2)?;
    after.perform(Task::Peek)?;
    after.perform(Task::Receive(2))?;
    let (first, second) = (before.tgid(), after.tgid());
    watched.wait_for_uses(
        inode,
        &[
            (own, Act::Sent, 10),
            (first, Act::Sent, 20),
            (own, Act::Sent, 12),
            (second, Act::Sent, 30),
            (own, Act::Received, 2),
            (second, Act::Received, 2),
        ],
    )?;
    for seen in watched.reported().iter().filter_map(socket_use) {
        let is_child = seen.user.process.tgid != own;
        ensure!(seen.user.unexeced == is_child, "not as forked: {seen:?}");
        ensure!(!is_child || seen.user.parent_tgid == own, "its parent is another: {seen:?}");
        ensure!(living(seen.user.process).is_some(), "there is no such process: {seen:?}");
    }
    // The child that was taken in is followed as well.
    let (second_key, status) = (after.key()?, ExitStatus::Code(0));
    after.end()?;
    before.end()?;
    let (process, parent, ended) =
        watched.wait_for("the end of the child that was taken in", exit_of(second))?;
    ensure!(process.start.ticks() == second_key.start.ticks(), "{process:?} is not {second_key:?}");
    ensure!((parent, ended) == (own, status), "{parent} {ended:?}");
    Ok(())
}

fn one_that_sends_all_the_time_is_told_once() -> Result<()> {
    const SENDS: usize = 10_000;
    let mut watched = Watched::start()?;
    let connection = Connection::tcp()?;
    let own = own_key()?;
    let inode = watched.share(&connection, &[own])?;
    let mut child = Child::fork(Some(&connection))?;
    let counted = |watched: &Watched| -> Result<[u64; 4]> {
        watched.kernel.counters()?.events.get(class::SOCKET).copied().context("it has no such row")
    };
    let before = counted(&watched)?;
    for _ in 0..SENDS {
        connection.send(1)?;
    }
    child.perform(Task::Send(7))?;
    watched.wait_for_uses(inode, &[(own.tgid, Act::Sent, 1), (child.tgid(), Act::Sent, 7)])?;
    let after = counted(&watched)?;
    let grown: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    // Of the fates filtered, submitted and both kinds of dropped.
    ensure!(grown == [9_999, 2, 0, 0], "by fate: {grown:?}");
    child.end()
}

fn a_tcp_shutdown_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let (connection, closed) = (Connection::tcp()?, Connection::tcp()?);
    let own = own_key()?;
    let inode = watched.share(&connection, &[own])?;
    if let Err(error @ NoProbe::Absent(_)) = watched.kernel.probes().way(Probe::TcpShutdown) {
        return skip(format!("shutdowns of TCP: {error}"));
    }
    let closed_inode = closed.inode()?;
    watched.probe(ProbeRequest::WatchSocket(closed_inode));
    let mut child = Child::fork(Some(&connection))?;
    // The child holds this one too, and closes it at its end, as the last one.
    drop(closed);
    child.perform(Task::ShutDown)?;
    watched.wait_for_uses(inode, &[(child.tgid(), Act::ShutDown, 0)])?;
    let tgid = child.tgid();
    child.end()?;
    watched.wait_for("the child's end", exit_of(tgid))?;
    watched.wait_for_uses(closed_inode, &[])
}

fn a_unix_shutdown_is_told() -> Result<()> {
    // Looked for with the functions of the clone calls alone, on kernels that need no other function.
    let options = Options { asked: &[Probe::CloneCalls], ..Options::default() };
    let mut watched = Watched::start_with(&options).or_else(|_| Watched::start())?;
    let connection = Connection::unix()?;
    let inode = watched.share(&connection, &[own_key()?])?;
    // Only the attempt to attach tells.
    if let Err(error) = watched.kernel.probes().way(Probe::UnixShutdown) {
        return skip(format!("shutdowns of Unix streams: {error}"));
    }
    let mut child = Child::fork(Some(&connection))?;
    child.perform(Task::ShutDown)?;
    watched.wait_for_uses(inode, &[(child.tgid(), Act::ShutDown, 0)])?;
    child.end()
}

/// Whether it cannot be told what children are born with, for a reason that is none of forkwatch's.
fn no_heirs(watched: &Watched) -> Option<String> {
    match watched.kernel.probes().way(Probe::Heirs) {
        Err(error @ (NoProbe::Absent(_) | NoProbe::Fields)) => Some(format!("heirs: {error}")),
        Err(error) if is_confidential() => Some(format!("heirs: {error}")),
        _ => None,
    }
}

/// The birth of this child, or what has moved until its end.
fn heir_of(tgid: u32, is_birth: bool) -> impl Fn(&Reported) -> Option<Heir> {
    move |reported| match reported {
        Reported::Observation(Observation::Heir(heir)) if is_birth && heir.child.tgid == tgid => {
            Some(heir.clone())
        }
        Reported::Observation(Observation::Moved(heir)) if !is_birth && heir.child.tgid == tgid => {
            Some(heir.clone())
        }
        _ => None,
    }
}

fn what_a_child_is_born_with_is_told() -> Result<()> {
    let mut watched = Watched::start_with_heirs()?;
    if let Some(reason) = no_heirs(&watched) {
        return skip(reason);
    }
    let (connection, pair) = (Connection::tcp()?, Connection::unix()?);
    let inode = connection.inode()?;
    connection.send(10)?;
    let own = own_key()?;
    let mut child = Child::fork(Some(&connection))?;
    let key = child.key()?;
    let born = watched.wait_for("the birth", heir_of(key.tgid, true))?;
    ensure!(born.parent.tgid == own.tgid && born.parent.start.ticks() == own.start.ticks(), "{born:?}");
    ensure!(born.child.start.ticks() == key.start.ticks() && !born.more, "{born:?}, and not {key:?}");
    let told = born.sockets.iter().find(|socket| socket.inode == inode).context("it is not told")?;
    ensure!(told.descriptor == connection.descriptor(), "{told:?} is not {}", connection.descriptor());
    ensure!(told.bytes.is_some(), "TCP counts its bytes");
    // The other end is this process's too, and a socket of a pair has a peer without a name.
    let pair = pair.inode()?;
    ensure!(born.sockets.iter().all(|socket| socket.inode != pair), "a pair is told: {born:?}");
    child.perform(Task::Send(5))?;
    child.end()?;
    let moved = watched.wait_for("what has moved", heir_of(key.tgid, false))?;
    let bytes: Vec<_> = moved.sockets.iter().map(|socket| (socket.inode, socket.bytes)).collect();
    ensure!(bytes.contains(&(inode, Some((5, 0)))), "{bytes:?}");
    let ends = watched.reported().iter().position(|reported| exit_of(key.tgid)(reported).is_some());
    let told_at = watched.reported().iter().position(|reported| heir_of(key.tgid, false)(reported).is_some());
    ensure!(ends.is_none() || told_at < ends, "what has moved is told after the end");
    Ok(())
}

fn every_child_of_a_covered_forker_is_told() -> Result<()> {
    let mut watched = Watched::start_with_heirs()?;
    if let Some(reason) = no_heirs(&watched) {
        return skip(reason);
    }
    let connection = Connection::tcp()?;
    let own = own_key()?;
    let children = [Child::fork(Some(&connection))?, Child::fork(Some(&connection))?];
    // Of an unknown forker one is told in a second.
    watched.wait_for("the first birth", heir_of(children[0].tgid(), true))?;
    watched.probe(ProbeRequest::Cover(own));
    watched.probe(ProbeRequest::Share(own));
    let inode = connection.inode()?;
    let mut covered = Child::fork(Some(&connection))?;
    // Nobody has requested anything about the socket or the child.
    covered.perform(Task::Send(7))?;
    watched.wait_for("the birth of the covered one", heir_of(covered.tgid(), true))?;
    if watched.kernel.probes().way(Probe::Sockets).is_ok() {
        watched.wait_for_uses(inode, &[(covered.tgid(), Act::Sent, 7)])?;
    }
    let until = BootTime(u64::MAX);
    watched.probe(ProbeRequest::Disregard { forker: own, until });
    let unheard = Child::fork(Some(&connection))?;
    let tgid = unheard.tgid();
    unheard.end()?;
    covered.end()?;
    children.into_iter().try_for_each(Child::end)?;
    let is_told = |reported: &Reported| heir_of(tgid, true)(reported).is_some();
    ensure!(!watched.reported().iter().any(is_told), "a birth is told that nobody wants to hear of");
    Ok(())
}

fn an_ended_forker_is_told() -> Result<()> {
    let mut watched = Watched::start()?;
    let connection = Connection::tcp()?;
    let child = Child::fork(Some(&connection))?;
    let key = child.key()?;
    watched.share(&connection, &[own_key()?, key])?;
    child.end()?;
    let execed = watched.wait_for("the end", |reported| match reported {
        Reported::Observation(Observation::SharerEnd(end)) if end.process.tgid == key.tgid => {
            Some(end.execed)
        }
        _ => None,
    })?;
    ensure!(!execed, "it has not exec'd");
    Ok(())
}

fn nothing_is_told_without_requests() -> Result<()> {
    let mut watched = Watched::start()?;
    let connection = Connection::tcp()?;
    let own = own_key()?;
    for _ in 0..2 {
        let inode = watched.share(&connection, &[own])?;
        connection.send(1)?;
        watched.wait_for("the use", |reported| socket_use(reported).map(|_| ()))?;
        watched.probe(ProbeRequest::UnwatchSocket(inode));
        watched.probe(ProbeRequest::Unshare(own));
        watched.reported();
        watched.reported.clear();
        connection.send(1)?;
        let mut child = Child::fork(Some(&connection))?;
        child.perform(Task::Send(1))?;
        child.end()?;
        ensure!(!watched.reported().iter().any(|reported| socket_use(reported).is_some()), "a use is told");
    }
    ensure!(watched.kernel.probes().way(Probe::Sockets).is_ok(), "{:?}", watched.kernel.probes());
    Ok(())
}
