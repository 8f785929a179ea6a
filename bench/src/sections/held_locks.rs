//! What it costs to search forked children for locks that threads hold which they do not have, and that nothing is copied
//! for it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork};
use serde_json::Value;

use crate::Options;
use crate::daemon::end;
use crate::helper::Helper;
use crate::process::mebibytes;
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// What is searched: so many children of a process with so many MiB of its own.
const FAMILIES: [(u64, usize); 4] = [(50, 1), (500, 1), (5 * 1024, 1), (50, 100)];
/// How long after the forks all children have been searched or looked at twice: their grace ends after one second.
const SEARCHED: Duration = Duration::from_secs(6);
/// How much is read at a time.
const PIECE: usize = 256 << 10;
/// The present pages of a process that are its own: bit 63 of an entry in pagemap, without 61 and 62.
const OWN: u64 = 0b100 << 61;
const OF_FILE_OR_SWAPPED: u64 = 0b011 << 61;
/// A search may take so many times the CPU time of reading alone.
const BOUND: f64 = 1.5;

/// The process that is searched.
#[derive(clap::Args)]
pub(crate) struct Carrier {
    mebibytes: u64,
    children: usize,
}

/// What searching one family came to.
#[derive(Default)]
struct Sample {
    /// Searches of all memory, and looks at places only.
    searches: f64,
    looks: f64,
    /// Milliseconds of a CPU in all, the longest search, and MiB in it.
    all: f64,
    longest: f64,
    searched: f64,
    skipped: f64,
    /// How many times as long reading the same would have taken.
    ratio: f64,
    /// MiB by which the memory that the child shares and the free memory of the host are less than before.
    copied: f64,
    taken: f64,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let mut table = Table::new(
        "Searching children for held locks",
        &[
            "children",
            "MiB each",
            "searches",
            "looks at places",
            "CPU ms, all",
            "CPU ms, longest",
            "MiB searched",
            "MiB left out",
            "times reading alone",
            "MiB copied",
            "MiB less free",
        ],
    );
    let mut ratios = Vec::new();
    for (mebibytes, children) in FAMILIES {
        let carrier = Carrier { mebibytes, children };
        let samples = (0..options.rounds).map(|_| round(options, &carrier)).collect::<Result<Vec<_>>>()?;
        let of = |value: fn(&Sample) -> f64, digits| {
            show(median(&samples.iter().map(value).collect::<Vec<_>>()), digits)
        };
        ratios.push(of(|sample| sample.ratio, 2));
        table.row([
            children.to_string(),
            mebibytes.to_string(),
            of(|sample| sample.searches, 0),
            of(|sample| sample.looks, 0),
            of(|sample| sample.all, 1),
            of(|sample| sample.longest, 1),
            of(|sample| sample.searched, 0),
            of(|sample| sample.skipped, 0),
            of(|sample| sample.ratio, 2),
            of(|sample| sample.copied, 1),
            of(|sample| sample.taken, 1),
        ]);
    }
    report.table("held-locks", &table)?;
    report.aim(
        &format!(
            "searching a child for held locks takes at most {BOUND} times the CPU time of reading its memory"
        ),
        &format!("{} times, by the rows of the table", ratios.join(", ")),
    )
}

fn round(options: &Options, carrier: &Carrier) -> Result<Sample> {
    let (mebibytes, count) = (carrier.mebibytes.to_string(), carrier.children.to_string());
    let mut running = Helper::start(&["carry", &mebibytes, &count])?;
    running.line()?;
    let folder = tempfile::tempdir_in("/dev/shm").context("cannot make a directory in memory")?;
    let recording = folder.path().join("recording");
    let mut tail = Command::new(&options.program)
        .args(["tail", "--pid", &running.pid().to_string(), "-o", "json", "--record"])
        .arg(&recording)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start forkwatch")?;
    let stderr = tail.stderr.take().context("forkwatch has no messages")?;
    let is_ready = BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.contains("ready"));
    ensure!(is_ready, "forkwatch ended before it was ready");
    let free = memory_free()?;
    let children = running.order("fork")?;
    let first: u32 = children.split_whitespace().next().context("no child was forked")?.parse()?;
    let shared = mebibytes_shared(first)?;
    thread::sleep(SEARCHED);
    let (shared, free) = (shared - mebibytes_shared(first)?, free - memory_free()?);
    end(&mut tail);
    let mut sample = Sample { copied: shared, taken: free, ..Sample::default() };
    let text = fs::read_to_string(&recording).context("forkwatch has recorded nothing")?;
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a recording that is not JSON")?;
        let Some(seen) = line.pointer("/evidence/held-locks/seen/alive") else { continue };
        let number = |name: &str| seen.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let took = number("took") / 1e6;
        sample.all += took;
        if seen.get("whole") != Some(&Value::Bool(true)) {
            sample.looks += 1.0;
            continue;
        }
        sample.searches += 1.0;
        if took > sample.longest {
            let mebibyte = f64::from(1 << 20);
            sample.longest = took;
            (sample.searched, sample.skipped) = (number("searched") / mebibyte, number("skipped") / mebibyte);
        }
    }
    ensure!(sample.searches > 0.0, "forkwatch has searched no child");
    let (bytes, milliseconds) = read_alone(first)?;
    sample.ratio = (sample.longest / sample.searched) / (milliseconds / bytes);
    Ok(sample)
}

/// Reads what a search goes through, and does nothing with it: MiB, and milliseconds of a CPU.
fn read_alone(pid: u32) -> Result<(f64, f64)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let (memory, pagemap) =
        (File::open(format!("/proc/{pid}/mem"))?, File::open(format!("/proc/{pid}/pagemap"))?);
    let (mut piece, mut bytes) = (vec![0; PIECE], 0);
    let begun = cpu_time()?;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(access)) = (words.next(), words.next()) else { continue };
        let Some((start, end)) = range.split_once('-') else { continue };
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        if access.starts_with("rw-p") {
            bytes += read_mapping(&memory, &pagemap, start..end, &mut piece)?;
        }
    }
    let took = cpu_time()?.saturating_sub(begun);
    ensure!(bytes > 0, "nothing of a child could be read");
    Ok((bytes as f64 / f64::from(1 << 20), took.as_secs_f64() * 1e3))
}

/// Reads the pages of a mapping that are the process's own; tells how many bytes that are.
fn read_mapping(memory: &File, pagemap: &File, range: std::ops::Range<u64>, piece: &mut [u8]) -> Result<u64> {
    const PAGE: u64 = 4096;
    let (mut bytes, mut at) = (0, range.start);
    let mut entries = vec![0; PIECE / 4096 * 8];
    while at < range.end {
        let count = usize::try_from((range.end - at) / PAGE)?.min(PIECE / 4096);
        let asked = entries.get_mut(..count * 8).context("too many pages at a time")?;
        pagemap.read_exact_at(asked, at / PAGE * 8)?;
        let is_own = |entry: &&[u8; 8]| {
            let entry = u64::from_ne_bytes(**entry);
            entry & OWN != 0 && entry & OF_FILE_OR_SWAPPED == 0
        };
        let own = asked.as_chunks::<8>().0.iter().take_while(is_own).count();
        if own == 0 {
            let others = asked.as_chunks::<8>().0.iter().take_while(|entry| !is_own(entry)).count();
            at += others.max(1) as u64 * PAGE;
            continue;
        }
        let place = piece.get_mut(..own * 4096).context("too much at a time")?;
        let read = memory.read_at(place, at)?;
        bytes += read as u64;
        at += own as u64 * PAGE;
    }
    Ok(bytes)
}

fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("no clock of this thread's time")?.into())
}

/// What a process shares with others, of its own memory.
fn mebibytes_shared(pid: u32) -> Result<f64> {
    mebibytes(&format!("/proc/{pid}/smaps_rollup"), "Shared_Dirty:")
}

fn memory_free() -> Result<f64> {
    mebibytes("/proc/meminfo", "MemFree:")
}

/// Fills its memory, lets a thread hold a lock, and forks when it is told to.
pub(crate) fn work(carrier: &Carrier) -> Result<()> {
    let filling = filled(usize::try_from(carrier.mebibytes << 20)?);
    hold_a_lock()?;
    println!("{}", filling.len());
    let mut input = BufReader::new(std::io::stdin());
    input.read_line(&mut String::new())?;
    let mut children = Vec::new();
    for _ in 0..carrier.children {
        // SAFETY: the child makes nothing but system calls, whatever the other thread holds.
        match unsafe { fork() }.context("cannot fork")? {
            ForkResult::Parent { child } => children.push(child.to_string()),
            ForkResult::Child => {
                // SAFETY: asks the kernel for a signal, and touches no memory.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                loop {
                    // SAFETY: touches no memory.
                    unsafe { libc::pause() };
                }
            }
        }
    }
    println!("{}", children.join(" "));
    input.read_to_end(&mut Vec::new()).context("cannot wait for the end of the input")?;
    Ok(())
}

/// Memory full of numbers of which none repeats soon (xorshift64), so that nothing in it can be passed over.
fn filled(bytes: usize) -> Vec<u64> {
    let mut number = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number
    };
    std::iter::repeat_with(next).take(bytes / 8).collect()
}

/// Starts a thread that takes a mutex of glibc's and keeps it.
fn hold_a_lock() -> Result<()> {
    let (told, held) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mutex = Box::leak(Box::new(libc::PTHREAD_MUTEX_INITIALIZER));
        // SAFETY: it is initialised, nobody else has it, and it is never freed.
        let status = unsafe { libc::pthread_mutex_lock(mutex) };
        // Whoever waits for it has given up otherwise.
        let _ = told.send(status);
        loop {
            thread::park();
        }
    });
    let status = held.recv().context("the thread that was to hold a lock has ended")?;
    ensure!(status == 0, "a lock could not be taken: {status}");
    Ok(())
}
