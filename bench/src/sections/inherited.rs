//! What it costs to tell with which connections a child is born, and how soon the use of these is watched.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_links;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::Options;
use crate::daemon::end;
use crate::empty::{self, Empty};
use crate::helper::Helper;
use crate::process;
use crate::programs;
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// What a forker has open: descriptors, and how many of them are connections.
const FORKERS: [(usize, usize); 4] = [(16, 0), (16, 2), (64, 2), (64, 16)];
/// Forks of each. The children end at once, so that nothing comes to be watched.
const FORKS: u32 = 2_000;
/// The program that walks a child's descriptors, and what looks at it again at its end, as the kernel lists them.
const BIRTH: &str = "heir_is_born";
const END: &str = "heir_ends";
/// Starts of forkwatch in each round of other sections, to see how soon it watches.
const STARTS: usize = 4;
/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much dearer a fork may become.
const BOUND: f64 = 1500.0;

/// A process that has descriptors, and forks.
#[derive(clap::Args)]
pub(crate) struct Forker {
    descriptors: usize,
    connections: usize,
    port: u16,
}

/// Measures, and reports two tables.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || listener.incoming().map_while(Result::ok).collect::<Vec<_>>());
    births(options, report, port)?;
    attaching(options, report, port)
}

/// Nanoseconds at a fork and at the end of the child, a value a round.
#[derive(Default)]
struct Sample {
    birth: Vec<f64>,
    end: Vec<f64>,
    times_empty: Vec<f64>,
}

fn births(options: &Options, report: &Report, port: u16) -> Result<()> {
    let mut samples: [Sample; FORKERS.len()] = Default::default();
    for _ in 0..options.rounds {
        for ((descriptors, connections), sample) in FORKERS.into_iter().zip(&mut samples) {
            let watch = Watch::start(options)?;
            let mut forker = start(&Forker { descriptors, connections, port })?;
            let _empty = Empty::attach("sched_process_fork")?;
            let _account = programs::keep_account()?;
            let before = programs::costs()?;
            forker.order(&format!("{FORKS}"))?;
            let costs = programs::since(&before)?;
            let each = |name: &str| {
                let cost = costs.values().find(|cost| cost.name == name)?;
                Some(cost.time.as_nanos() as f64 / f64::from(FORKS))
            };
            let Some(birth) = each(BIRTH) else {
                eprintln!("left out: no program of forkwatch walks descriptors at a fork here");
                return Ok(());
            };
            sample.birth.push(birth);
            sample.end.extend(each(END));
            sample.times_empty.extend(each(empty::NAME).map(|empty| birth / empty));
            drop(watch);
        }
    }
    let mut table = Table::new(
        "A fork with descriptors",
        &[
            "descriptors",
            "of them connections",
            "ns at the fork",
            "times an empty program",
            "ns at the child's end",
        ],
    );
    for ((descriptors, connections), sample) in FORKERS.iter().zip(&samples) {
        table.row([
            descriptors.to_string(),
            connections.to_string(),
            show(median(&sample.birth), 0),
            show(median(&sample.times_empty), 2),
            show(median(&sample.end), 0),
        ]);
    }
    report.table("inherited", &table)?;
    let at = |row: usize| show(samples.get(row).and_then(|sample| median(&sample.birth)), 0);
    report.aim(
        &format!(
            "a fork with 16 or 64 descriptors, of which 2 are connections, is at most {BOUND} ns dearer"
        ),
        &format!("{} and {} ns, with the accounting", at(1), at(2)),
    )
}

fn attaching(options: &Options, report: &Report, port: u16) -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..options.rounds * STARTS {
        let watch = Watch::start(options)?;
        let mut forker = start(&Forker { descriptors: 8, connections: 2, port })?;
        let before = links();
        let begun = Instant::now();
        forker.order("child")?;
        process::wait_for("the watch on an inherited connection", PATIENCE, || {
            Ok((links() > before).then_some(()))
        })?;
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        drop(watch);
    }
    let mut table = Table::new(
        "From the fork of a first child until uses are watched",
        &["", "median ms", "least ms", "greatest ms"],
    );
    table.row([
        "programs are attached".to_owned(),
        show(median(&samples), 2),
        show(samples.iter().copied().reduce(f64::min), 2),
        show(samples.iter().copied().reduce(f64::max), 2),
    ]);
    report.table("attaching", &table)?;
    report.aim(
        "uses of a connection are watched 2 ms after the fork of the first child that inherits it",
        &format!("{} ms", show(median(&samples), 2)),
    )
}

/// Links of eBPF programs on this machine.
fn links() -> usize {
    loaded_links().flatten().count()
}

/// forkwatch, watching the whole host, and what children inherit.
struct Watch(Child);

impl Watch {
    fn start(options: &Options) -> Result<Self> {
        let mut child = Command::new(&options.program)
            .args(["tail", "--inherited-connections", "-o", "json"])
            .stdin(Stdio::null())
            .stdout(File::create("/dev/null").context("no /dev/null")?)
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start forkwatch")?;
        let stderr = child.stderr.take().context("forkwatch has no messages")?;
        let watch = Self(child);
        let is_ready =
            BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.contains("ready"));
        ensure!(is_ready, "forkwatch ended before it was ready");
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Starts a forker, and waits until all is open.
fn start(forker: &Forker) -> Result<Helper> {
    let numbers =
        [forker.descriptors, forker.connections, usize::from(forker.port)].map(|number| number.to_string());
    let [descriptors, connections, port] = &numbers;
    let mut helper = Helper::start(&["inherit", descriptors, connections, port])?;
    helper.line()?;
    Ok(helper)
}

/// Opens descriptors, and forks as it is told: `child` for one that lives on, a number for so many that end at once.
pub(crate) fn work(forker: &Forker) -> Result<()> {
    let connect = |_| TcpStream::connect((Ipv4Addr::LOCALHOST, forker.port)).context("cannot connect");
    let _connections = (0..forker.connections).map(connect).collect::<Result<Vec<_>>>()?;
    // Standard input, output and error are there.
    let files = forker.descriptors.saturating_sub(forker.connections + 3);
    let _files =
        (0..files).map(|_| File::open("/dev/null").context("no /dev/null")).collect::<Result<Vec<_>>>()?;
    println!("ready");
    let mut input = BufReader::new(std::io::stdin());
    loop {
        let mut order = String::new();
        if input.read_line(&mut order)? == 0 {
            return Ok(());
        }
        match order.trim().parse::<u32>() {
            Ok(count) => (0..count).try_for_each(|_| fork_once(false))?,
            Err(_) => fork_once(true)?,
        }
        println!("done");
    }
}

fn fork_once(lives_on: bool) -> Result<()> {
    // SAFETY: this process has one thread, and the child makes nothing but system calls.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { .. } if lives_on => {}
        ForkResult::Parent { child } => drop(waitpid(child, None).context("cannot wait for a child")?),
        ForkResult::Child => {
            // SAFETY: asks the kernel for a signal, and touches no memory.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            if !lives_on {
                // SAFETY: ends this process, and runs nothing of the parent's.
                unsafe { libc::_exit(0) };
            }
            loop {
                // SAFETY: touches no memory.
                unsafe { libc::pause() };
            }
        }
    }
    Ok(())
}
