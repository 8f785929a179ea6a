//! Drives a forkwatch: starts it, waits until it watches, collects its events, ends it.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    binary,
    event::Event,
    host::{needs_bpf, skip},
    process, schema,
    wait::{DEADLINE, until},
};

/// What a line on stderr says when everything is attached.
const READY: &str = "ready";

/// What the reading threads have gathered.
#[derive(Default)]
struct Gathered {
    events: Vec<Event>,
    /// How the watched processes stood at the start: told beside the events, at any place among them.
    standing: Vec<Event>,
    stderr: Vec<String>,
    broken: Option<String>,
    /// Of its two outputs. The last line of one may be read after the end of the other.
    ended: usize,
}

impl Gathered {
    /// Whether nothing more can come.
    const fn is_over(&self) -> bool {
        self.ended == 2
    }
}

/// Gathered lines, and a bell for whoever waits for them.
#[derive(Default)]
struct Shared {
    gathered: Mutex<Gathered>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Gathered)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }
}

/// Skips the test where forkwatch was to watch clone calls and this host offers no way to: its kernel refuses fentry,
/// and the tracepoints of system calls are not in tracefs, or tracefs is not there.
pub fn or_skip_without_clone_calls(started: Result<Forkwatch>) -> Result<Forkwatch> {
    let has_tracepoints = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .iter()
        .any(|tracefs| fs::read(format!("{tracefs}/events/syscalls/sys_enter_clone/id")).is_ok());
    match started {
        Err(error) if !has_tracepoints && error.to_string().contains("the clone calls cannot be watched") => {
            skip("fentry is refused here, and tracefs is not mounted or cannot be read")
        }
        other => other,
    }
}

/// A running forkwatch whose stdout are events.
pub struct Forkwatch {
    child: Child,
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
}

impl Forkwatch {
    /// `forkwatch tail -o json` with further arguments; returns when it watches.
    pub fn tail<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::start(Command::new(binary::forkwatch()?).args(["tail", "-o", "json"]).args(arguments))
    }

    /// A tail of these processes and their descendants.
    pub fn tail_pids(pids: &[i32]) -> Result<Self> {
        Self::tail(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]))
    }

    /// `forkwatch daemon --events stdout` with further arguments; returns when it watches.
    pub fn daemon<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::start(Command::new(binary::forkwatch()?).args(["daemon", "--events", "stdout"]).args(arguments))
    }

    /// Holds it where it is, so that it takes nothing out of its ring, until [`Self::thaw`].
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        until("forkwatch to stop", || Ok(process::is_stopped(self.pid()).then_some(())))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// Any forkwatch whose stdout are events or nothing; returns when it watches.
    pub fn start(command: &mut Command) -> Result<Self> {
        needs_bpf()?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let shared = Arc::new(Shared::default());
        let (stdout, stderr) = child.stdout.take().zip(child.stderr.take()).context("no pipes")?;
        let readers = vec![
            read_lines(stdout, &shared, |gathered, line| match schema::event(&line) {
                Ok(event) => {
                    let event = Event(event);
                    let is_assessment = event.action() == "assessment";
                    if is_assessment { &mut gathered.standing } else { &mut gathered.events }.push(event);
                }
                Err(error) => drop(gathered.broken.get_or_insert(format!("{error:#}"))),
            }),
            read_lines(stderr, &shared, |gathered, line| gathered.stderr.push(line)),
        ];
        let mut forkwatch = Self { child, shared, readers };
        forkwatch.gathered(DEADLINE, "it to be ready", |gathered| {
            gathered.stderr.iter().any(|line| line.contains(READY)).then_some(())
        })?;
        Ok(forkwatch)
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// All that it has said on stderr.
    pub fn stderr(&self) -> String {
        self.shared.lock().stderr.join("\n")
    }

    /// Waits for an event, be it one that has come already.
    pub fn wait_for(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) -> Result<Event> {
        self.wait_longer_for(DEADLINE, what, is_it)
    }

    /// The same, for what takes its time.
    pub fn wait_longer_for(
        &mut self,
        patience: Duration,
        what: &str,
        is_it: impl Fn(&Event) -> bool,
    ) -> Result<Event> {
        self.gathered(patience, what, |gathered| gathered.events.iter().find(|event| is_it(event)).cloned())
    }

    /// Waits for how a watched process stood when the watch began.
    pub fn wait_for_standing(&mut self, pid: i32) -> Result<Event> {
        let is_it = |event: &&Event| event.pid() == Some(i64::from(pid));
        self.gathered(DEADLINE, "how a process stands", |gathered| {
            gathered.standing.iter().find(is_it).cloned()
        })
    }

    /// Waits until the events so far are enough.
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&[Event]) -> bool) -> Result<()> {
        self.gathered(DEADLINE, what, |gathered| is_so(&gathered.events).then_some(()))
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.lock().events.clone()
    }

    /// Waits for something in what it has written; fails at once if it wrote nonsense or has ended.
    fn gathered<T>(
        &mut self,
        patience: Duration,
        what: &str,
        look: impl Fn(&Gathered) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + patience;
        let mut gathered = self.shared.lock();
        loop {
            if let Some(error) = &gathered.broken {
                bail!("{error}");
            }
            if let Some(found) = look(&gathered) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if gathered.is_over() || left.is_zero() {
                let how = if gathered.is_over() { "it ended" } else { "the deadline passed" };
                bail!(
                    "waited for {what}, but {how}; it said: {}\nits findings: {:#?}",
                    gathered.stderr.join("\n"),
                    gathered.events.iter().filter(|event| event.finding().is_some()).collect::<Vec<_>>()
                );
            }
            gathered =
                self.shared.changed.wait_timeout(gathered, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("cannot send {signal} to forkwatch"))
    }

    /// Interrupts it as Ctrl-C does, and gives back all its events and all it said on stderr; that it ends with 0
    /// and wrote only well-formed events is checked.
    pub fn stop(mut self) -> Result<(Vec<Event>, String)> {
        self.signal(Signal::SIGINT)?;
        let status = self.ended()?;
        ensure!(status.code() == Some(0), "forkwatch ended with {status}: {}", self.stderr());
        let gathered = self.shared.lock();
        if let Some(error) = &gathered.broken {
            bail!("{error}");
        }
        Ok((gathered.events.clone(), gathered.stderr.join("\n")))
    }

    /// Waits for its end and for the last of its output.
    pub fn ended(&mut self) -> Result<ExitStatus> {
        let status = until("forkwatch to end", || Ok(self.child.try_wait()?))?;
        for reader in self.readers.drain(..) {
            // A reader that panicked has shown its message already.
            let _ = reader.join();
        }
        Ok(status)
    }
}

impl Drop for Forkwatch {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines to the end in a thread of its own.
fn read_lines(
    from: impl Read + Send + 'static,
    shared: &Arc<Shared>,
    take: fn(&mut Gathered, String),
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            shared.change(|gathered| take(gathered, line));
        }
        shared.change(|gathered| gathered.ended += 1);
    })
}
