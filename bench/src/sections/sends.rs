//! What a send costs on a connection that is watched because a fork left it to two processes, and on one beside it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::unistd::{ForkResult, fork};

use crate::Options;
use crate::daemon::Daemon;
use crate::empty::{self, Empty};
use crate::helper::Helper;
use crate::programs::{self, Costs};
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// Sends in a run, and how many are made at once each 10 ms: 10,000 a second.
const SENDS: u32 = 20_000;
const BATCH: u32 = 100;
const TICK: Duration = Duration::from_millis(10);
/// What passes at each send, since Linux 6.3.
const TRACE_POINT: &str = "sock_send_length";
/// How long it may take until the connection is watched: the grace, and then some.
const PATIENCE: Duration = Duration::from_secs(10);

/// The two connections of a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    /// From before its fork: the child has it too.
    Shared,
    /// From after it.
    Own,
}

/// The process that sends.
#[derive(clap::Args)]
pub(crate) struct Sender {
    port: u16,
    /// Forks nobody, so that it shares nothing
    #[arg(long)]
    alone: bool,
}

/// Results of one kind of send, a value a round.
#[derive(Default)]
struct Sample {
    nanoseconds: Vec<f64>,
    ratio: Vec<f64>,
    in_program: Vec<f64>,
    times_empty: Vec<f64>,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let sink = Sink::open()?;
    let mut samples: [(&str, Sample); 5] = [
        ("nobody watches", Sample::default()),
        ("nobody watches, once more", Sample::default()),
        ("of a stranger, while others share one", Sample::default()),
        ("beside a watched one", Sample::default()),
        ("watched", Sample::default()),
    ];
    for _ in 0..options.rounds {
        let Some(round) = round(options, &sink)? else {
            eprintln!("left out: no program of forkwatch ran at a send");
            return Ok(());
        };
        let unwatched = round[0].0;
        for ((_, sample), (nanoseconds, in_programs)) in samples.iter_mut().zip(round) {
            sample.nanoseconds.push(nanoseconds);
            sample.ratio.push(nanoseconds / unwatched);
            sample.in_program.extend(in_programs.map(|both| both.ours));
            sample.times_empty.extend(in_programs.map(|both| both.ours / both.empty));
        }
    }
    let mut table = Table::new(
        "10,000 sends a second",
        &[
            "connection",
            "ns a send",
            "times unwatched",
            "ns in the program, with its accounting",
            "times an empty program",
        ],
    );
    for (name, sample) in &samples {
        table.row([
            (*name).to_owned(),
            show(median(&sample.nanoseconds), 0),
            show(median(&sample.ratio), 3),
            show(median(&sample.in_program), 0),
            show(median(&sample.times_empty), 2),
        ]);
    }
    report.table("sends", &table)?;
    let stranger = samples.get(2).and_then(|(_, sample)| median(&sample.times_empty));
    report.aim(
        "a stranger's send costs at most 1.3 times an empty program while others share a connection, and nothing while nobody \
         does",
        &format!("{} times; no program is attached then", show(stranger, 2)),
    )?;
    let in_program = samples.last().and_then(|(_, sample)| median(&sample.in_program));
    let alone = samples.first().and_then(|(_, sample)| median(&sample.nanoseconds));
    report.aim(
        "a send on a watched connection is hardly dearer than another",
        &format!("{} ns in the program, of {} ns that a send takes", show(in_program, 0), show(alone, 0)),
    )
}

/// Nanoseconds of a send, and of that in programs.
type Cost = (f64, Option<InPrograms>);

/// Nanoseconds in forkwatch's program, and in an empty one beside it on the same trace point.
#[derive(Clone, Copy)]
struct InPrograms {
    ours: f64,
    empty: f64,
}

/// What sends cost: twice without forkwatch, then those of a stranger, then beside a watched connection, then on it. Nothing where the
/// connection does not come to be watched.
fn round(options: &Options, sink: &Sink) -> Result<Option<[Cost; 5]>> {
    let mut sender = Running::start(sink, &[])?;
    // The first run warms the caches and widens the windows of the connection.
    [Connection::Own, Connection::Shared].into_iter().try_for_each(|one| sender.send(one).map(drop))?;
    let none = (sender.send(Connection::Own)?, None);
    let again = (sender.send(Connection::Shared)?, None);
    drop(sender);
    let others = programs::costs()?;
    let daemon = Daemon::start(&options.program)?;
    let mut sender = Running::start(sink, &[])?;
    if !is_watched(&mut sender, &others)? {
        return Ok(None);
    }
    // The accounting slows the programs down, so it has a run of its own, which warms up too.
    let both = |sender: &mut Running, connection| -> Result<_> {
        let empty = Empty::attach(TRACE_POINT)?;
        let in_programs = cost(sender, connection, &others)?;
        drop(empty);
        Ok((sender.send(connection)?, in_programs))
    };
    let stranger = both(&mut Running::start(sink, &["--alone"])?, Connection::Own)?;
    let (own, shared) = (both(&mut sender, Connection::Own)?, both(&mut sender, Connection::Shared)?);
    drop(daemon);
    Ok(Some([none, again, stranger, own, shared]))
}

/// Waits until a program runs at each send, which is the case as long as any connection is watched.
fn is_watched(sender: &mut Running, others: &Costs) -> Result<bool> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if cost(sender, Connection::Own, others)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Nanoseconds in programs for each send; nothing where none of forkwatch's runs.
fn cost(sender: &mut Running, connection: Connection, others: &Costs) -> Result<Option<InPrograms>> {
    let _account = programs::keep_account()?;
    let before = programs::costs()?;
    sender.send(connection)?;
    let costs = programs::since(&before)?;
    let each = |wanted: &dyn Fn(u32, &str) -> bool| {
        let wanted = || costs.iter().filter(|(id, cost)| wanted(**id, &cost.name));
        let time: Duration = wanted().map(|(_, cost)| cost.time).sum();
        let runs: u64 = wanted().map(|(_, cost)| cost.runs).sum();
        (runs >= u64::from(SENDS)).then(|| time.as_nanos() as f64 / runs as f64)
    };
    let ours = each(&|id, name| !others.contains_key(&id) && name.contains("send"));
    let empty = each(&|_, name| name == empty::NAME).unwrap_or(f64::NAN);
    Ok(ours.map(|ours| InPrograms { ours, empty }))
}

/// Takes in all that is sent.
struct Sink {
    port: u16,
}

impl Sink {
    fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || drain(stream));
            }
        });
        Ok(Self { port })
    }
}

fn drain(mut stream: TcpStream) {
    let mut buffer = [0; 8192];
    while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
}

/// A sender that has forked.
struct Running(Helper);

impl Running {
    fn start(sink: &Sink, options: &[&str]) -> Result<Self> {
        let port = sink.port.to_string();
        Ok(Self(Helper::start(&[&["send", &port], options].concat())?))
    }

    /// Has it send, and gives the nanoseconds of each.
    fn send(&mut self, connection: Connection) -> Result<f64> {
        let answer = self.0.order(&format!("{connection:?}"))?;
        answer.trim().parse().with_context(|| format!("the sender answered {answer:?}"))
    }
}

/// Connects, forks beside a thread, connects once more, and sends as it is told.
pub(crate) fn work(sender: &Sender) -> Result<()> {
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, sender.port)).context("cannot connect")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let mut shared = connect()?;
    if !sender.alone {
        leave_to_a_child()?;
    }
    let mut own = connect()?;
    for order in std::io::stdin().lines() {
        let stream = if order? == format!("{:?}", Connection::Shared) { &mut shared } else { &mut own };
        println!("{}", send(stream)?);
    }
    Ok(())
}

/// Forks a child beside a thread: it has all connections, and uses none.
fn leave_to_a_child() -> Result<()> {
    thread::spawn(|| {
        loop {
            thread::park();
        }
    });
    // SAFETY: the child makes nothing but system calls, whatever the other thread holds.
    if let ForkResult::Child = unsafe { fork() }.context("cannot fork")? {
        // SAFETY: asks the kernel for a signal, and touches no memory.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        loop {
            // SAFETY: touches no memory.
            unsafe { libc::pause() };
        }
    }
    Ok(())
}

/// Nanoseconds that each of [`SENDS`] took.
fn send(stream: &mut TcpStream) -> Result<f64> {
    let mut time = Duration::ZERO;
    let begun = Instant::now();
    for batch in 0..SENDS / BATCH {
        thread::sleep((TICK * batch).saturating_sub(begun.elapsed()));
        let begun = Instant::now();
        for _ in 0..BATCH {
            stream.write_all(&[0; 64]).context("cannot send")?;
        }
        time += begun.elapsed();
    }
    Ok(time.as_nanos() as f64 / f64::from(SENDS))
}
