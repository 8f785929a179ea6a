//! What can watch forks: forkwatch, and what one would use instead.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::daemon::{Daemon, end};
use crate::process;
use crate::workload::{self, Load};

/// The ways to watch that are compared, with their names in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watcher {
    Nothing,
    Daemon,
    Tail,
    Forkstat,
    Bpftrace,
    PerfTrace,
    PerfRecord,
}

impl Watcher {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Nothing,
        Self::Daemon,
        Self::Tail,
        Self::Forkstat,
        Self::Bpftrace,
        Self::PerfTrace,
        Self::PerfRecord,
    ];

    /// As one would type it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Daemon => "forkwatch daemon",
            Self::Tail => "forkwatch -o json",
            Self::Forkstat => "forkstat",
            Self::Bpftrace => "bpftrace printf",
            Self::PerfTrace => "perf trace",
            Self::PerfRecord => "perf record",
        }
    }

    /// Why it cannot run here, if it cannot.
    pub(crate) fn missing(self) -> Option<String> {
        let program = match self {
            Self::Nothing | Self::Daemon | Self::Tail => return None,
            Self::Forkstat => "forkstat",
            Self::Bpftrace => "bpftrace",
            Self::PerfTrace | Self::PerfRecord => "perf",
        };
        let version =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if version.is_err() {
            return Some(format!("{program} is not installed"));
        }
        let debugfs = Path::new("/sys/kernel/debug/tracing").exists();
        (self == Self::Bpftrace && !debugfs)
            .then(|| "bpftrace wants `mount -t debugfs debugfs /sys/kernel/debug`".to_owned())
    }

    /// Its command line, to watch for `load` and write to `output`; the tool's defaults otherwise.
    fn command(self, load: Load, program: &Path, output: &Path) -> Result<Command> {
        let (name, arguments): (_, &[&str]) = match (self, load) {
            (Self::Tail, Load::Fork) => (program.to_owned(), &["-o", "json"]),
            (Self::Tail, Load::Thread) => (program.to_owned(), &["--threads", "-o", "json"]),
            (Self::Forkstat, Load::Fork) => ("forkstat".into(), &["-e", "fork"]),
            (Self::Forkstat, Load::Thread) => ("forkstat".into(), &["-e", "clone"]),
            (Self::Bpftrace, _) => (
                "bpftrace".into(),
                &[
                    "-e",
                    r#"tracepoint:sched:sched_process_fork { printf("%d %d\n", args->parent_pid, args->child_pid); }"#,
                ],
            ),
            (Self::PerfTrace, _) => ("perf".into(), &["trace", "-a", "-e", "sched:sched_process_fork", "-o"]),
            (Self::PerfRecord, _) => {
                ("perf".into(), &["record", "-q", "-a", "-e", "sched:sched_process_fork", "-o"])
            }
            (Self::Nothing | Self::Daemon, _) => bail!("{} writes no events", self.name()),
        };
        let mut command = Command::new(name);
        command.args(arguments);
        if matches!(self, Self::PerfTrace | Self::PerfRecord) {
            command.arg(output).stdout(Stdio::null());
        } else {
            command.stdout(File::create(output)?);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// The forking process in a line of its output.
    fn parent(self, line: &str) -> Option<u32> {
        match self {
            Self::Nothing | Self::Daemon => None,
            Self::Tail => parent_in_json(line),
            Self::Forkstat => {
                let words: Vec<_> = line.split_whitespace().take(4).collect();
                matches!(words.as_slice(), [_, "fork" | "clone", _, "parent"])
                    .then(|| words.get(2)?.parse().ok())?
            }
            Self::Bpftrace => line.split(' ').next()?.parse().ok(),
            Self::PerfTrace => number_after(line, "parent_pid: "),
            Self::PerfRecord => number_after(line, " pid="),
        }
    }
}

/// A watcher at work.
pub(crate) enum Running {
    Nothing,
    Daemon { daemon: Daemon },
    Tool(Tool),
}

/// A watcher that writes what it sees.
pub(crate) struct Tool {
    watcher: Watcher,
    child: Child,
    output: PathBuf,
    /// In memory, so that no disk slows anybody down.
    _directory: TempDir,
}

impl Running {
    /// Starts a watcher, and returns when it watches.
    pub(crate) fn start(watcher: Watcher, load: Load, program: &Path) -> Result<Self> {
        match watcher {
            Watcher::Nothing => Ok(Self::Nothing),
            Watcher::Daemon => Ok(Self::Daemon { daemon: Daemon::start(program)? }),
            _ => Tool::start(watcher, load, program).map(Self::Tool),
        }
    }

    /// Seconds that it has had on a CPU so far, if it is a program.
    pub(crate) fn cpu_seconds(&self) -> Result<Option<f64>> {
        let pid = match self {
            Self::Nothing => return Ok(None),
            Self::Daemon { daemon } => daemon.pid(),
            Self::Tool(tool) => tool.child.id(),
        };
        process::cpu_seconds(pid).map(Some)
    }

    /// Lets it do what is left to do.
    pub(crate) fn settle(&self) {
        if let Self::Tool(tool) = self {
            tool.settle();
        }
    }

    /// Ends it; says how many events of these processes it has seen, if it writes events.
    pub(crate) fn finish(self, workers: &[u32]) -> Result<Option<u64>> {
        match self {
            Self::Nothing | Self::Daemon { .. } => Ok(None),
            Self::Tool(tool) => tool.finish(workers).map(Some),
        }
    }
}

impl Tool {
    fn start(watcher: Watcher, load: Load, program: &Path) -> Result<Self> {
        let directory = tempfile::tempdir_in("/dev/shm").context("cannot create a directory in memory")?;
        let output = directory.path().join("output");
        let child = watcher
            .command(load, program, &output)?
            .spawn()
            .with_context(|| format!("cannot start {}", watcher.name()))?;
        let mut tool = Self { watcher, child, output, _directory: directory };
        // It watches when events make its output grow beyond what it writes by itself: one may take many, as
        // output is buffered.
        let start = Instant::now();
        let mut first = 0;
        while first == 0 || tool.size() <= first {
            if let Some(status) = tool.child.try_wait()? {
                bail!("{} ended at once: {status}", watcher.name());
            }
            if start.elapsed() > Duration::from_secs(30) {
                bail!("{} shows nothing", watcher.name());
            }
            if first == 0 {
                first = tool.size();
            }
            workload::run(load, 200)?;
        }
        tool.settle();
        Ok(tool)
    }

    fn size(&self) -> u64 {
        fs::metadata(&self.output).map_or(0, |file| file.len())
    }

    /// Lets it write what it still has.
    fn settle(&self) {
        let mut before = None;
        while before != Some(self.size()) {
            before = Some(self.size());
            thread::sleep(Duration::from_millis(500));
        }
    }

    fn finish(mut self, workers: &[u32]) -> Result<u64> {
        self.settle();
        end(&mut self.child);
        let workers: BTreeSet<_> = workers.iter().copied().collect();
        let seen = |line: &str| self.watcher.parent(line).is_some_and(|parent| workers.contains(&parent));
        if self.watcher == Watcher::PerfRecord {
            let mut script = Command::new("perf");
            script
                .args(["script", "-i"])
                .arg(&self.output)
                .stderr(Stdio::null())
                .stdin(Stdio::null())
                .stdout(Stdio::piped());
            let mut child = script.spawn().context("cannot run perf script")?;
            let lines = child.stdout.take().context("perf script has no output")?;
            let count = count(BufReader::new(lines), seen)?;
            child.wait()?;
            return Ok(count);
        }
        count(BufReader::new(File::open(&self.output)?), seen)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn count(mut lines: impl BufRead, seen: impl Fn(&str) -> bool) -> Result<u64> {
    let (mut count, mut line) = (0, Vec::new());
    while lines.read_until(b'\n', &mut line)? > 0 {
        count += u64::from(seen(&String::from_utf8_lossy(&line)));
        line.clear();
    }
    Ok(count)
}

/// The forker in an event of forkwatch's; of a thread, the process.
fn parent_in_json(line: &str) -> Option<u32> {
    let event: serde_json::Value = serde_json::from_str(line).ok()?;
    let action = event.pointer("/event/action")?;
    let forker = event.pointer("/process/parent/pid").or_else(|| event.pointer("/process/pid"));
    (action == "fork" || action == "thread").then(|| u32::try_from(forker?.as_u64()?).ok())?
}

fn number_after(line: &str, mark: &str) -> Option<u32> {
    let (_, rest) = line.split_once(mark)?;
    rest.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forker_is_found_in_what_each_tool_writes() {
        let perf_trace = r#" 0.811 sh/17449 sched:sched_process_fork(parent_comm: "sh", parent_pid: 17449 (sh), child_comm: "sh")"#;
        let perf_script = "sh 17484 [000] 2231.6: sched:sched_process_fork: comm=sh pid=17484 child_comm=sh child_pid=17489";
        let json = r#"{"event":{"action":"fork"},"process":{"pid":9,"parent":{"pid":17}}}"#;
        let thread = r#"{"event":{"action":"thread"},"process":{"pid":17,"thread":{"id":9}}}"#;
        let exec = r#"{"event":{"action":"exec"},"process":{"pid":9,"parent":{"pid":17}}}"#;
        for (watcher, line, parent) in [
            (Watcher::Tail, thread, Some(17)),
            (Watcher::Forkstat, "08:52:40 fork  15523 parent          cargo build\n", Some(15523)),
            (Watcher::Forkstat, "08:52:40 fork  17313 child           cargo build\n", None),
            (Watcher::Bpftrace, "17641 18192\n", Some(17641)),
            (Watcher::Bpftrace, "Attaching 2 probes...\n", None),
            (Watcher::PerfTrace, perf_trace, Some(17449)),
            (Watcher::PerfRecord, perf_script, Some(17484)),
            (Watcher::Tail, json, Some(17)),
            (Watcher::Tail, exec, None),
        ] {
            assert_eq!(watcher.parent(line), parent, "{line}");
        }
    }
}
