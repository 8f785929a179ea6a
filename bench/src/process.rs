//! What `/proc` tells of a process and of the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// A sentence on the machine that was measured on.
pub(crate) fn machine() -> Result<String> {
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let processors = read("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = thread::available_parallelism().context("cannot count the CPUs")?;
    Ok(format!("on Linux {}, {cpus} CPUs ({}).", kernel.trim(), model.unwrap_or("of unknown model")))
}

/// The day, as UTC has it.
pub(crate) fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Tasks created since boot, processes and threads, by the kernel's own count.
pub(crate) fn tasks_created() -> Result<u64> {
    let stat = read("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("processes "));
    line.and_then(|count| count.parse().ok()).context("/proc/stat has no line `processes`")
}

/// Seconds on a CPU of all threads of a process. Threads that ended are left out: nothing measured here ends any.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut sum = 0;
    for task in tasks(pid)? {
        let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        sum += schedstat.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum).as_secs_f64())
}

/// Times that the threads of a process went to sleep of their own will: each is a wake-up.
pub(crate) fn wakeups(pid: u32) -> Result<u64> {
    tasks(pid)?.into_iter().map(|task| field(&task.join("status"), "voluntary_ctxt_switches:")).sum()
}

/// Resident memory now, in MiB.
pub(crate) fn memory(pid: u32) -> Result<f64> {
    mebibytes(&format!("/proc/{pid}/status"), "VmRSS:")
}

/// Greatest resident memory so far, in MiB.
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    mebibytes(&format!("/proc/{pid}/status"), "VmHWM:")
}

/// Asks until there is an answer, and says how long that took.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok((answer, start.elapsed()));
        }
        if start.elapsed() > limit {
            bail!("{what} did not happen within {limit:?}");
        }
        thread::sleep(Duration::from_micros(200));
    }
}

/// A process and its descendants, as they are now.
pub(crate) fn family(pid: u32) -> Result<Vec<u32>> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .context("cannot list the processes")?
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            // Whoever ends meanwhile has no part in it.
            Some((
                pid,
                u32::try_from(field(&PathBuf::from(format!("/proc/{pid}/status")), "PPid:").ok()?).ok()?,
            ))
        })
        .collect();
    let mut family = vec![pid];
    let mut known = 0;
    while let Some(parent) = family.get(known).copied() {
        family.extend(parents.iter().filter(|(_, other)| *other == parent).map(|(pid, _)| pid));
        known += 1;
    }
    Ok(family)
}

/// MiB in the field of this name in a file that gives kB, as many below `/proc` do.
pub(crate) fn mebibytes(file: &str, name: &str) -> Result<f64> {
    Ok(field(Path::new(file), name)? as f64 / 1024.0)
}

fn field(status: &Path, name: &str) -> Result<u64> {
    let text = fs::read_to_string(status).with_context(|| format!("cannot read {}", status.display()))?;
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next());
    value.and_then(|value| value.parse().ok()).with_context(|| format!("{} has no {name}", status.display()))
}

fn tasks(pid: u32) -> Result<Vec<PathBuf>> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {directory}"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
