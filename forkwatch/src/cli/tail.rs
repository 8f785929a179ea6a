//! `forkwatch tail`, and `forkwatch` alone: forks and findings as they happen.

use std::{future::Future, path::PathBuf, thread, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::sleep,
};

use super::{
    exit::Exit,
    fail_on::FailOn,
    kernel_log::KernelLog,
    quiet::Heard,
    shown::{Form, TimeStyle, shown},
    terminal::ColorChoice,
};
use crate::{
    config::{self, LogFormat, LogLevel},
    core::Settings,
    engine::{
        Asker, detectors,
        overhear::{self, Overhearer},
        pipeline::{Pipeline, SharedKernel, lock},
        recorder::Recorder,
        session::{self, Session},
        standing,
        targets::{self, Target},
    },
    host::{self, Scope, cgroup_tree},
    kernel::{self, Cgroup, Filter, Probe, Release, Stream},
    live,
    log::Log,
    model::{defaults, stack::Stacks, standing::Standing},
    output::{Output, overheard::Overheard, report::Collecting, selection::Selection, workers::Workers},
    reader::Ear,
    resources,
};

/// Whose forks, and how they are shown.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(super) struct Options {
    /// Only forks of this process and its descendants (repeatable)
    #[arg(short, long, value_name = "PID", allow_negative_numbers = true, value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Only where the comm of forker, child or new program matches, with * and ?
    #[arg(short, long, value_name = "GLOB")]
    comm: Option<String>,
    /// Only forks by this real uid
    #[arg(short, long, value_name = "UID", allow_negative_numbers = true)]
    uid: Option<u32>,
    /// Only forks in this cgroup (version 2) and those below it, such as /system.slice/nginx.service
    #[arg(long, value_name = "PATH")]
    cgroup: Option<String>,
    /// Only findings
    #[arg(long = "unsafe")]
    unsafe_only: bool,
    /// The lives of servers' workers too: when each is forked, is ready, is asked to end and ends, and which it replaces.
    /// With --pid they are shown without asking, unless only findings are
    #[arg(long)]
    workers: bool,
    /// What workers write to their standard output and error too, as it may hold secrets only where you ask for it: files
    /// and pipes, as far as that can be seen from outside. With --pid that is what all children write that these processes
    /// fork, from the first line on; else workers are known for such first. An unexpected end of a worker is shown with its
    /// last lines. No recording has it
    #[arg(long, conflicts_with = "unsafe_only")]
    worker_output: bool,
    /// Threads too
    #[arg(long, conflicts_with = "unsafe_only")]
    threads: bool,
    /// How events are shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// How times are shown in columns
    #[arg(long, value_enum, default_value_t, value_name = "STYLE")]
    time: TimeStyle,
    /// End after this long, such as 30s or 5min
    #[arg(short, long, value_name = "DURATION", value_parser = config::run_time)]
    duration: Option<Duration>,
    /// End after this many events and findings
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Which findings make this end with 10
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "never")]
    fail_on: FailOn,
    /// When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
    /// How long a child may live without exec before its fork is judged
    #[arg(long, value_name = "DURATION", default_value = config::written(defaults::GRACE), value_parser = config::grace)]
    grace: Duration,
    /// How long a child must have waited for a lock before it is reported as stuck, where the lock names its owner;
    /// other proofs take 2.5, 10 or 30 times as long
    #[arg(long, value_name = "DURATION", default_value = config::written(defaults::STUCK_AFTER), value_parser = config::stuck_after)]
    stuck_after: Duration,
    /// How the stacks of stuck threads are had: not at all; from outside, without stopping them; or with all their
    /// registers, for which each is stopped for some microseconds
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    stacks: Stacks,
    /// Also write what is judged to a file, for forkwatch replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Watch the clone-family system calls themselves, and show those that fail; where the kernel refuses
    /// fentry this makes every system call on the host slower (forkwatch doctor tells)
    #[arg(long)]
    clone_calls: bool,
    /// See what children do with inherited connections from their first instruction, and not from the first second on;
    /// the start takes some tenths of a second longer, and each fork some microseconds. With --pid it is always so
    #[arg(long)]
    inherited_connections: bool,
    /// Size of the ring of records: a power of two from 64 KiB to 64 MiB
    #[arg(long, value_name = "BYTES", default_value_t = defaults::RING_BYTES, value_parser = config::ring_bytes)]
    ring_bytes: u32,
    #[command(flatten)]
    kernel_log: KernelLog,
}

impl Options {
    fn kernel_options(&self) -> Result<kernel::Options> {
        let cgroup = self.cgroup.as_deref().map(cgroup_tree::find).transpose()?;
        if self.clone_calls && cgroup.is_some() && !Release::running().tells_ancestors() {
            bail!(
                "before Linux 5.15 the kernel does not tell of a clone call from which cgroup it came: leave out \
                 --clone-calls or --cgroup"
            );
        }
        Ok(kernel::Options {
            stream: Stream { plain: !self.unsafe_only, sharing: !self.unsafe_only, threads: self.threads },
            filter: Filter {
                tasks: !self.pid.is_empty(),
                uid: self.uid,
                cgroup: cgroup.map(|cgroup| Cgroup { id: cgroup.id, level: cgroup.level }),
            },
            grace: self.grace,
            ring_bytes: self.ring_bytes,
            asked: self.asked(),
            kernel_log: self.kernel_log.speakers(),
            ..kernel::Options::default()
        })
    }

    /// The probes that are on only where they are asked for.
    const fn asked(&self) -> &'static [Probe] {
        // Who watches one program waits for no other, and its first fork may be the one that counts.
        match (self.clone_calls, self.inherited_connections || !self.pid.is_empty()) {
            (false, false) => &[],
            (true, false) => &[Probe::CloneCalls],
            (false, true) => &[Probe::Heirs],
            (true, true) => &[Probe::CloneCalls, Probe::Heirs],
        }
    }

    fn selection(&self) -> Selection {
        Selection {
            comm: self.comm.clone(),
            findings_only: self.unsafe_only,
            workers: self.workers(),
            most: self.count,
        }
    }

    /// Whoever watches one server wants to know what becomes of its workers; whoever watches a host sees enough lines.
    const fn workers(&self) -> bool {
        self.workers || self.worker_output || !self.pid.is_empty() && !self.unsafe_only
    }

    /// What is watched, for the line that says so.
    fn scope(&self) -> String {
        let mut scope = Vec::new();
        if !self.pid.is_empty() {
            let pids: Vec<String> = self.pid.iter().map(ToString::to_string).collect();
            scope.push(format!("process {} and its descendants", pids.join(", ")));
        }
        scope.extend(self.uid.map(|uid| format!("uid {uid}")));
        scope.extend(self.cgroup.as_ref().map(|path| format!("cgroup {}", path.escape_debug())));
        scope.extend(self.comm.as_ref().map(|glob| format!("comm {}", glob.escape_debug())));
        if scope.is_empty() { "every fork on this host".to_owned() } else { scope.join(", ") }
    }
}

/// Runs until it is stopped, or has shown what it was asked for.
pub(super) fn run(options: &Options) -> Result<Exit> {
    let speakers = options.kernel_log.speakers();
    Log::start(LogFormat::Auto, LogLevel::Warn, !speakers.are_none()).context("cannot start the log")?;
    let (processes, targets) = targets::find(&options.pid)?;
    let settings = Settings {
        grace: options.grace,
        stuck_after: options.stuck_after,
        // Who watches a server wants to know of each of its workers.
        tell_each: !options.pid.is_empty(),
        sweep_interval: Some(defaults::SWEEP_INTERVAL),
        stacks: options.stacks,
        workers: options.workers(),
        ..Settings::default()
    };
    resources::raise_open_files();
    let mut session = Session::start(&options.kernel_options()?, &processes, None)?;
    let recorder = Recorder::create(options.record.as_deref(), &settings, &session.context)?;
    if let Some(how) = detectors::describe_requested(session.kernel.probes()) {
        eprintln!("forkwatch: {how}");
    }
    session::warn_of_what_is_unseen(&session.missing);
    let _kernel_log = session.listen()?;
    resources::check_open_files()?;
    let scope = Scope {
        roots: processes.iter().map(|process| process.key).collect(),
        uid: options.uid,
        cgroup: options.cgroup.clone(),
    };
    let ear = options.worker_output.then(|| session.ear()).transpose()?;
    let runtime = session::runtime()?;
    let (collecting, seen) = Collecting::new();
    runtime.block_on(async {
        let collector = session.collector(scope)?;
        let questions = collector.asker();
        let shown = shown(options.output, options.time, options.color, options.selection(), &session.context);
        let (mut pipeline, kernel) = Pipeline::new(session, settings, collector, recorder)?;
        let heard = Heard::default();
        let shown = match ear {
            Some(ear) => overheard(ear, shown, processes.clone(), &mut pipeline)?,
            None => shown,
        };
        pipeline.add(vec![shown, Box::new(heard.clone())]);
        if options.fail_on != FailOn::Never {
            pipeline.add(vec![Box::new(collecting)]);
        }
        let asked = asked_to_end()?;
        eprintln!("forkwatch: ready, watching {}", options.scope());
        if !processes.is_empty() {
            pipeline.tell_standing(look_beside(processes, questions));
        }
        let stopped = pipeline
            .run(async {
                tokio::select! {
                    stopped = stop(asked, options.duration, targets, kernel) => stopped,
                    () = heard.say_if_quiet(options.scope()) => Ok(()),
                }
            })
            .await;
        let stopped = stopped.and_then(|stopped| {
            pipeline.close()?;
            stopped.unwrap_or(Ok(()))
        });
        pipeline.end()?;
        if let Some(recorded) = pipeline.recorded() {
            eprintln!("forkwatch: {recorded}");
        }
        stopped
    })?;
    Ok(options.fail_on.exit(&seen.borrow()))
}

/// Has what workers write read, and shown with all else.
fn overheard(
    ear: Ear,
    shown: Box<dyn Output>,
    forkers: Vec<host::Process>,
    pipeline: &mut Pipeline,
) -> Result<Box<dyn Output>> {
    let workers = Workers::default();
    let (nudges, questions) = live::questions();
    let Overhearer { heard, asks } = overhear::start(ear, workers.clone(), forkers, nudges)
        .context("cannot start the thread that listens to workers")?;
    pipeline.hear(questions);
    pipeline.add(vec![Box::new(workers)]);
    Ok(Box::new(Overheard::new(vec![shown], heard, asks)))
}

/// Finds out how the processes stand, on a thread of its own: the watch has begun, and does not wait for it.
fn look_beside(processes: Vec<host::Process>, asker: Asker) -> oneshot::Receiver<Vec<Standing>> {
    let (send, receive) = oneshot::channel();
    let look = move || drop(send.send(standing::look(&processes, &asker)));
    // Where no thread can be had, the watch goes on without.
    let _ = thread::Builder::new().name("standing".to_owned()).spawn(look);
    receive
}

/// Ready when the tail shall end: a signal, the time is up, or all processes it was to watch are gone.
async fn stop(
    asked: impl Future<Output = ()>,
    duration: Option<Duration>,
    targets: Vec<Target>,
    kernel: SharedKernel,
) -> Result<()> {
    let watches_all = targets.is_empty();
    tokio::select! {
        () = asked => Ok(()),
        () = sleep(duration.unwrap_or_default()), if duration.is_some() => Ok(()),
        ended = family_ended(targets, kernel), if !watches_all => ended,
    }
}

/// Ready at Ctrl-C and SIGTERM, from this call on: to be made before anybody is told that the watch has begun, for
/// until then these signals kill.
pub(super) fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for signals")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Ready when the processes and all their descendants have ended.
async fn family_ended(targets: Vec<Target>, kernel: SharedKernel) -> Result<()> {
    /// Nothing tells of the last descendant's end, so the kernel's table is looked at now and then.
    const LOOK: Duration = Duration::from_millis(250);
    targets::ended(targets).await?;
    let mut left = lock(&kernel).filtered();
    if left > 0 {
        eprintln!("forkwatch: {left} of the descendants live on; watching until the last has ended");
    }
    while left > 0 {
        sleep(LOOK).await;
        left = lock(&kernel).filtered();
    }
    Ok(())
}
