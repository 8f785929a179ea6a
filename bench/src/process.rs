//! What `/proc` tells of a process and of the machine.

use std::fs;
use std::path::PathBuf;
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
    Ok(format!("Linux {}, {cpus} CPUs ({}).", kernel.trim(), model.unwrap_or("of unknown model")))
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
    mebibytes(pid, "VmRSS:")
}

/// Greatest resident memory so far, in MiB.
pub(crate) fn peak_memory(pid: u32) -> Result<f64> {
    mebibytes(pid, "VmHWM:")
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

fn mebibytes(pid: u32, name: &str) -> Result<f64> {
    Ok(field(&PathBuf::from(format!("/proc/{pid}/status")), name)? as f64 / 1024.0)
}

fn field(status: &std::path::Path, name: &str) -> Result<u64> {
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
