//! The daemon as a service manager meets it: `sd_notify(3)`.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary,
    forkwatch::Forkwatch,
    host::needs_bpf,
    http,
    metrics::{Scrape, free_address},
    runner::Tests,
    tests, thread,
    wait::{DEADLINE, until},
};
use nix::sys::signal::Signal;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        it_is_ready_only_once_it_can_be_reached,
        it_tells_of_a_reload_and_of_its_end,
        it_is_never_ready_without_its_listener,
    ])
    .and(
        // These have a watchdog of 200 ms, or want a daemon that has no question open.
        Tests::alone(tests![
            it_feeds_the_watchdog_while_it_makes_progress,
            evidence_that_hangs_is_seen_by_everybody_who_asks,
            evidence_that_has_ended_is_seen,
            a_reader_and_server_that_hang_feed_nobody,
        ]),
    )
}

/// The time after which the manager of these tests loses patience.
const WATCHDOG: Duration = Duration::from_millis(200);

/// A service manager: the socket it listens at.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Manager {
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { socket, path, _folder: folder })
    }

    /// What to run: a daemon that reports here.
    fn daemon(&self, address: SocketAddr) -> Result<Command> {
        needs_bpf()?;
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("daemon").arg(format!("--web.listen-address={address}")).env("NOTIFY_SOCKET", &self.path);
        Ok(command)
    }

    /// Waits for the next message: its assignments.
    fn told(&self) -> Result<Vec<String>> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).context("no message came")?;
        let text = String::from_utf8(buffer.get(..length).unwrap_or_default().to_vec())?;
        Ok(text.lines().map(ToOwned::to_owned).collect())
    }

    /// Reads what was on its way, and checks that then nothing comes for several times the watchdog's time.
    fn hears_nothing(&self) -> Result<()> {
        let rest = self.rest()?;
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(5 * WATCHDOG))?;
        let told = self.told();
        self.socket.set_read_timeout(Some(DEADLINE))?;
        ensure!(told.is_err(), "though a part hangs, it says {told:?}; before that {rest:?}");
        Ok(())
    }

    /// What has been told and not been read.
    fn rest(&self) -> Result<Vec<Vec<String>>> {
        self.socket.set_nonblocking(true)?;
        let mut rest = Vec::new();
        while let Ok(message) = self.told() {
            rest.push(message);
        }
        Ok(rest)
    }

    /// Waits for the message with this assignment; gives back those before it.
    fn until(&self, assignment: &str) -> Result<Vec<Vec<String>>> {
        let mut before = Vec::new();
        loop {
            let message = self.told().with_context(|| format!("waited for {assignment} after {before:?}"))?;
            if message.iter().any(|line| line == assignment) {
                return Ok(before);
            }
            before.push(message);
        }
    }
}

fn it_is_ready_only_once_it_can_be_reached() -> Result<()> {
    let manager = Manager::new()?;
    let address = free_address()?;
    let mut child = manager.daemon(address)?.stderr(Stdio::null()).spawn()?;
    let reached = manager.until("READY=1").and_then(|before| {
        for path in ["/-/ready", "/-/healthy", "/metrics"] {
            http::get(TcpStream::connect(address).context("ready, but nobody listens")?, path)?;
        }
        let status = |message: &Vec<String>| message.iter().all(|line| line.starts_with("STATUS="));
        ensure!(!before.is_empty() && before.iter().all(status), "before it was ready: {before:?}");
        Ok(())
    });
    // Fails only if it has ended, and then it was not reached.
    let _ = child.kill();
    child.wait()?;
    reached
}

fn it_tells_of_a_reload_and_of_its_end() -> Result<()> {
    let manager = Manager::new()?;
    let mut daemon = Forkwatch::start(&mut manager.daemon(free_address()?)?)?;
    manager.until("READY=1")?;
    daemon.signal(Signal::SIGHUP)?;
    let reloading = manager.told()?;
    ensure!(
        reloading.iter().any(|line| line == "RELOADING=1")
            && reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC=")),
        "{reloading:?} is no reload"
    );
    let after = manager.told()?;
    ensure!(after.iter().any(|line| line == "READY=1"), "{after:?} does not end the reload");
    daemon.signal(Signal::SIGTERM)?;
    let before = manager.until("STOPPING=1")?;
    ensure!(before.is_empty(), "before it stopped: {before:?}");
    ensure!(daemon.ended()?.code() == Some(0), "{}", daemon.stderr());
    let rest = manager.rest()?;
    ensure!(rest.is_empty(), "after it stopped: {rest:?}");
    Ok(())
}

fn it_is_never_ready_without_its_listener() -> Result<()> {
    let manager = Manager::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let output = manager.daemon(taken.local_addr()?)?.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "ended with {}: {said}", output.status);
    ensure!(said.contains(&taken.local_addr()?.to_string()), "does not name the address: {said}");
    let told = manager.rest()?;
    ensure!(!told.iter().flatten().any(|line| line == "READY=1"), "ready without a listener: {told:?}");
    Ok(())
}

fn it_feeds_the_watchdog_while_it_makes_progress() -> Result<()> {
    let manager = Manager::new()?;
    let mut daemon = Forkwatch::start(
        manager.daemon(free_address()?)?.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()),
    )?;
    manager.until("READY=1")?;
    for _ in 0..3 {
        let before = manager.until("WATCHDOG=1")?;
        ensure!(before.is_empty(), "between two pings: {before:?}");
    }
    // One that is stuck feeds nobody: what was on its way is read, and then nothing comes.
    daemon.freeze()?;
    manager.rest()?;
    let rest = manager.rest()?;
    ensure!(rest.is_empty(), "a stopped daemon says {rest:?}");
    manager.socket.set_nonblocking(false)?;
    daemon.thaw()?;
    manager.until("WATCHDOG=1")?;
    daemon.signal(Signal::SIGTERM)?;
    ensure!(daemon.ended()?.code() == Some(0), "{}", daemon.stderr());
    Ok(())
}

/// A watched daemon that has fed its watchdog, and where it listens.
fn fed(manager: &Manager) -> Result<(Forkwatch, SocketAddr)> {
    let address = free_address()?;
    let daemon =
        Forkwatch::start(manager.daemon(address)?.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string()))?;
    manager.until("READY=1")?;
    manager.until("WATCHDOG=1")?;
    Ok((daemon, address))
}

/// Waits until both pages say that this part does not answer.
fn until_named(address: SocketAddr, part: &str) -> Result<()> {
    for page in ["/-/ready", "/-/healthy"] {
        until(&format!("{page} to name {part}"), || {
            let (status, body) = http::ask(TcpStream::connect(address)?, page)?;
            Ok((status.contains(" 503 ") && body.contains(&format!("{part} has not answered"))).then_some(()))
        })?;
    }
    Ok(())
}

/// Whether the metrics say that all is well with the evidence, and with what rests on it.
fn check_metrics(address: SocketAddr, well: bool) -> Result<()> {
    let scrape = Scrape::of(address)?;
    let is = |metric: &str, labels: &str, expected: bool| {
        let value = scrape.sum(metric, labels);
        ensure!((value > 0.5) == expected, "{metric} with {labels} is {value}");
        Ok(())
    };
    is("forkwatch_part_answers", "part=\"evidence\"", well)?;
    is("forkwatch_part_answers", "part=\"ring\"", true)?;
    is("forkwatch_detector_enabled", "detector=\"orphaned-lock\"", well)?;
    is("forkwatch_detector_state", "detector=\"orphaned-lock\",state=\"stalled\"", !well)?;
    // On a busy host there is now and then a question that waits for a moment.
    until("all questions to be answered, or some not", || {
        let waiting = Scrape::of(address)?.sum("forkwatch_evidence_unanswered_questions", "");
        Ok(((waiting > 0.5) != well).then_some(()))
    })
}

fn evidence_that_hangs_is_seen_by_everybody_who_asks() -> Result<()> {
    let manager = Manager::new()?;
    let (mut daemon, address) = fed(&manager)?;
    check_metrics(address, true)?;
    let held = thread::Held::new(thread::named(daemon.pid(), "evidence")?)?;
    until("the log to name it", || Ok(daemon.stderr().contains("evidence has not answered").then_some(())))?;
    manager.hears_nothing()?;
    until_named(address, "evidence")?;
    check_metrics(address, false)?;
    until("the lag to grow", || {
        Ok((Scrape::of(address)?.sum("forkwatch_evidence_lag_seconds", "") >= 3.0).then_some(()))
    })?;
    drop(held);
    manager.until("WATCHDOG=1")?;
    for page in ["/-/ready", "/-/healthy"] {
        http::get(TcpStream::connect(address)?, page)?;
    }
    check_metrics(address, true)?;
    daemon.signal(Signal::SIGTERM)?;
    ensure!(daemon.ended()?.code() == Some(0), "{}", daemon.stderr());
    Ok(())
}

fn evidence_that_has_ended_is_seen() -> Result<()> {
    let manager = Manager::new()?;
    let (mut daemon, address) = fed(&manager)?;
    thread::end(daemon.pid(), thread::named(daemon.pid(), "evidence")?)?;
    manager.hears_nothing()?;
    until_named(address, "evidence")?;
    check_metrics(address, false)?;
    daemon.signal(Signal::SIGTERM)?;
    ensure!(daemon.ended()?.code() == Some(0), "{}", daemon.stderr());
    Ok(())
}

fn a_reader_and_server_that_hang_feed_nobody() -> Result<()> {
    let manager = Manager::new()?;
    let (mut daemon, address) = fed(&manager)?;
    // The main thread has both.
    let held = thread::Held::new(daemon.pid())?;
    manager.hears_nothing()?;
    drop(held);
    manager.until("WATCHDOG=1")?;
    http::get(TcpStream::connect(address)?, "/-/ready")?;
    daemon.signal(Signal::SIGTERM)?;
    ensure!(daemon.ended()?.code() == Some(0), "{}", daemon.stderr());
    Ok(())
}
