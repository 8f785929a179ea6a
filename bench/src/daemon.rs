//! `forkwatch daemon`, as the benchmark runs it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::process;

/// How long a process may take to answer, or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon; ended when dropped.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    /// Where its messages to a service manager go, and the directory that this is in.
    _manager: Option<(UnixDatagram, TempDir)>,
    /// From its start until it said that it is ready.
    pub(crate) time_to_ready: Duration,
}

impl Daemon {
    /// Starts a daemon on a free port and waits until it is ready.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        Self::launch(program, None)
    }

    /// The same, with a service manager that wants to hear of it within this time, again and again.
    pub(crate) fn start_watched(program: &Path, watchdog: Duration) -> Result<Self> {
        Self::launch(program, Some(watchdog))
    }

    fn launch(program: &Path, watchdog: Option<Duration>) -> Result<Self> {
        let mut command = Command::new(program);
        let mut manager = None;
        if let Some(watchdog) = watchdog {
            let folder = tempfile::tempdir().context("cannot make a directory")?;
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).context("cannot listen as a service manager does")?;
            command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
            manager = Some((socket, folder));
        }
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = command
            .args(["daemon", "--web.listen-address", &address.to_string(), "--events", "none"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut daemon = Self { child, address, _manager: manager, time_to_ready: Duration::ZERO };
        let ready = || Ok(daemon.get("/-/ready").ok().filter(|answer| answer.starts_with("HTTP/1.1 200")));
        let (_, time_to_ready) = process::wait_for("forkwatch daemon's being ready", PATIENCE, ready)?;
        daemon.time_to_ready = time_to_ready;
        Ok(daemon)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The sum of all series of a metric whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let metrics = self.get("/metrics")?;
        let series = metrics.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        let wanted = series
            .filter(|(labels, _)| (labels.is_empty() || labels.starts_with('{')) && labels.contains(label));
        Ok(wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).sum())
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("forkwatch daemon does not answer")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a process that we started, by the signal that lets it finish what it writes, or else by force.
pub(crate) fn end(child: &mut Child) {
    let running = |child: &mut Child| child.try_wait().is_ok_and(|status| status.is_none());
    if let (true, Ok(pid)) = (running(child), i32::try_from(child.id())) {
        // It may end by itself just now; there is nothing to do about that.
        let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
    }
    let ended = || Ok((!running(child)).then_some(()));
    if process::wait_for("its end", PATIENCE, ended).is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
