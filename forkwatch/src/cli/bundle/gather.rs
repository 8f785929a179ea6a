//! Gets what belongs to a finding: events, what `/proc` shows of a process, and what other commands say. Whatever does not
//! answer is done without.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    client::VARIABLE,
    host,
    model::{process::ProcessKey, time::BootTime},
};

/// How long a file of `/proc` is waited for, and another command.
const PATIENCE: Duration = Duration::from_secs(5);
const LONG_PATIENCE: Duration = Duration::from_secs(30);
/// How much of the end of an event file is read, and how many events are taken.
const MOST_READ: u64 = 64 << 20;
const MOST_EVENTS: usize = 5000;
/// Most of one file of `/proc`.
const LONGEST: u64 = 4 << 20;
/// Threads, and descriptors, of which something is told.
const MOST_THREADS: usize = 256;
const MOST_DESCRIPTORS: usize = 4096;

/// A process that a finding is about.
pub(super) struct Process {
    /// `child` or `forker`.
    pub(super) who: &'static str,
    pub(super) pid: u32,
    /// The name that it has on all hosts, where that is known.
    pub(super) name: Option<String>,
}

impl Process {
    /// Why nothing can be said of it now; none where it lives.
    pub(super) fn is_gone(&self) -> Option<&'static str> {
        let Ok(found) = host::find(self.pid) else { return Some("it has ended") };
        let Some(ticks) = self.name.as_ref().and_then(|name| name.rsplit('-').next()?.parse().ok()) else {
            return Some("when it was started is not known, and its pid may be another's now");
        };
        let key = ProcessKey { tgid: self.pid, start: BootTime::from_ticks(ticks) };
        (found.key != key).then_some("it has ended, and its pid is another's now")
    }
}

/// What was gathered of a process.
#[derive(Default)]
pub(super) struct Gathered {
    /// Names and texts.
    pub(super) files: Vec<(&'static str, String)>,
    /// What could not be read, and why.
    pub(super) missing: Vec<(&'static str, String)>,
}

impl Gathered {
    fn add(&mut self, name: &'static str, read: Result<String, String>) {
        match read {
            Ok(text) => self.files.push((name, text)),
            Err(why) => self.missing.push((name, why)),
        }
    }
}

/// What `/proc` shows of a process; its environment only where that is asked for.
pub(super) fn process(pid: u32, with_environment: bool) -> Gathered {
    let mut gathered = Gathered::default();
    let names = ["status", "limits", "maps", "cgroup", "wchan", "stat", "smaps_rollup", "mountinfo"];
    let personal = ["environ"].into_iter().filter(|_| with_environment);
    for name in names.into_iter().chain(personal) {
        gathered.add(name, soon(move || file(&format!("/proc/{pid}/{name}"))));
    }
    gathered.add("descriptors", soon(move || descriptors(pid)));
    gathered.add("threads", soon(move || threads(pid)));
    gathered
}

/// The result of something that may never come back, if it comes soon.
fn soon<T: Send + 'static>(act: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, String> {
    let (send, receive) = channel();
    // It ends with this program, at the latest.
    thread::spawn(move || drop(send.send(act())));
    match receive.recv_timeout(PATIENCE) {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the kernel does not answer".to_owned()),
    }
}

fn file(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut bytes)?;
    // The environment has a NUL behind each variable.
    Ok(String::from_utf8_lossy(&bytes).replace('\0', "\n"))
}

fn descriptors(pid: u32) -> io::Result<String> {
    let mut numbers: Vec<u32> = fs::read_dir(format!("/proc/{pid}/fd"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let mut text = String::new();
    for number in numbers.iter().take(MOST_DESCRIPTORS) {
        let open = fs::read_link(format!("/proc/{pid}/fd/{number}"));
        let open = open.map_or_else(|error| error.to_string(), |open| open.display().to_string());
        let _ = writeln!(text, "{number} -> {open}");
    }
    Ok(text)
}

/// Each thread: what it is called, its state, the call that it is in, where in the kernel it sleeps.
fn threads(pid: u32) -> io::Result<String> {
    let mut tids: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    tids.sort_unstable();
    let mut text = String::new();
    for tid in tids.into_iter().take(MOST_THREADS) {
        let _ = writeln!(text, "thread {tid}");
        for name in ["comm", "syscall", "wchan", "stack", "schedstat"] {
            let read =
                file(&format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_else(|error| error.to_string());
            for line in read.trim_end().lines() {
                let _ = writeln!(text, "  {name}: {line}");
            }
        }
    }
    Ok(text)
}

/// Events between these times, from the end of the file.
pub(super) fn events(path: &Path, from: Timestamp, to: Timestamp) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let start = length.saturating_sub(MOST_READ);
    file.seek(SeekFrom::Start(start))?;
    let mut lines = Vec::new();
    for (place, line) in BufReader::new(file.take(MOST_READ)).lines().enumerate() {
        let line = line?;
        // The first one may be half a line.
        if place == 0 && start > 0 {
            continue;
        }
        let is_then = time_of(&line).is_some_and(|at| from <= at && at <= to);
        if is_then {
            lines.push(line);
            if lines.len() >= MOST_EVENTS {
                break;
            }
        }
    }
    Ok(lines)
}

fn time_of(line: &str) -> Option<Timestamp> {
    let document: serde_json::Value = serde_json::from_str(line).ok()?;
    document.get("@timestamp")?.as_str()?.parse().ok()
}

/// What another command of this program says.
pub(super) fn ask_oneself(arguments: &[&str], socket: Option<&Path>) -> Result<String, String> {
    let mut command = Command::new("/proc/self/exe");
    command.envs(socket.map(|socket| (VARIABLE, socket)));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let (Some(mut out), Some(mut err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err("its output cannot be read".to_owned());
    };
    let read = |pipe: &mut dyn io::Read| {
        let mut text = String::new();
        pipe.take(LONGEST).read_to_string(&mut text).map(|_| text).unwrap_or_default()
    };
    let (said, answer) = (channel(), channel());
    thread::spawn(move || drop(answer.0.send(read(&mut out))));
    thread::spawn(move || drop(said.0.send(read(&mut err))));
    let begin = Instant::now();
    let Ok(text) = answer.1.recv_timeout(LONG_PATIENCE) else {
        // It is ours, and of no use any more.
        let _ = child.kill();
        return Err(format!("no answer within {} s", LONG_PATIENCE.as_secs()));
    };
    let _ = child.wait();
    if text.is_empty() {
        let left = LONG_PATIENCE.saturating_sub(begin.elapsed());
        let why = said.1.recv_timeout(left).unwrap_or_default();
        let why = why.trim().trim_start_matches("forkwatch: ");
        return Err(if why.is_empty() { "it says nothing".to_owned() } else { why.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_living_process_all_is_had_and_of_another_it_is_said_why_not() {
        let own = std::process::id();
        let gathered = process(own, false);
        let names: Vec<&str> = gathered.files.iter().map(|(name, _)| *name).collect();
        for name in ["status", "maps", "descriptors", "threads"] {
            assert!(names.contains(&name), "no {name} in {names:?}, missing: {:?}", gathered.missing);
        }
        assert!(!names.contains(&"environ"));
        assert!(process(own, true).files.iter().any(|(name, _)| *name == "environ"));
        let of =
            |pid, name: Option<&str>| Process { who: "child", pid, name: name.map(str::to_owned) }.is_gone();
        assert_eq!(of(4_194_303, Some("0-4194303-1")), Some("it has ended"));
        assert_eq!(of(own, Some(&format!("0-{own}-1"))), Some("it has ended, and its pid is another's now"));
        let ticks = host::find(own).unwrap().key.start.ticks();
        assert_eq!(of(own, Some(&format!("0-{own}-{ticks}"))), None);
    }

    #[test]
    fn events_of_that_time_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.json");
        let line = |minute: u32| format!("{{\"@timestamp\":\"2026-11-29T22:{minute:02}:00.5Z\"}}\n");
        fs::write(&path, (0..60).map(line).chain(["no event\n".to_owned()]).collect::<String>()).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let taken = events(&path, at("2026-11-29T22:10:00Z"), at("2026-11-29T22:20:00Z")).unwrap();
        assert_eq!(taken.len(), 10);
        assert!(events(&folder.path().join("none"), at("2026-11-29T22:10:00Z"), Timestamp::now()).is_err());
    }
}
