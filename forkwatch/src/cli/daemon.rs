//! `forkwatch daemon`: the watch as a service.

mod answers;
pub(super) mod open;
pub(super) mod servers;

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use self::answers::Answers;
use super::{
    exit::{Exit, message},
    kernel_log::KernelLog,
};
use crate::{
    config::{self, Config, ConfigError, EventOutput, LogFormat, LogLevel},
    core::{Dropped, Settings},
    detect,
    engine::{
        detectors::{Conditions, Detector, detectors},
        memory_bound::{self, Bound},
        metric_sources::KernelSources,
        pipeline::Pipeline,
        recorder::Recorder,
        session::{self, Session},
        vouch::vouch,
    },
    host::Scope,
    kernel::{self, Probe, Speakers, Stream},
    live::{self, Bus, Tally},
    log::Log,
    model::detector::DetectorState,
    output::{
        destination::Lines,
        event_file::{EventFile, Rotation},
        json::JsonLines,
        log::LogLines,
        metrics::{self, Counting, Metrics},
        published::Published,
        standard_output::StandardOutput,
        workers::Workers,
    },
    reader::Question,
    resources,
    serve::{self, Api, Door, Offer, Ready, ServeError},
    service::{self, Watchdog},
    store::Store,
};

/// Read where no other file is named, if it is there.
const DEFAULT_CONFIG: &str = "/etc/forkwatch/forkwatch.toml";

/// Processes on which it is tried what this host lets be seen. What hides them hides most of them alike,
/// and each adds to the time of the start.
const MOST_TRIED: usize = 6;

/// What to override in the configuration.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The configuration file [default: /etc/forkwatch/forkwatch.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to serve metrics (repeatable) [default: 127.0.0.1:10047]
    #[arg(long = "web.listen-address", value_name = "ADDRESS", value_parser = config::listen_address)]
    listen_address: Vec<SocketAddr>,
    /// Path of the metrics [default: /metrics]
    #[arg(long = "web.telemetry-path", value_name = "PATH", value_parser = config::telemetry_path)]
    telemetry_path: Option<String>,
    /// Where to write events, as JSON lines: none, stdout, or a file, which is rotated by size [default: none]
    #[arg(long, value_name = "none|stdout|FILE")]
    events: Option<EventOutput>,
    /// How the log looks [default: auto]
    #[arg(long = "log.format", value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// The least severe level that is logged [default: info]
    #[arg(long = "log.level", value_enum, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// How long a child may live without exec before its fork is judged [default: 1s]
    #[arg(long, value_name = "DURATION", value_parser = config::grace)]
    grace: Option<Duration>,
    /// Watch the clone-family system calls themselves: how long they take, which fail and why. Where the kernel
    /// refuses fentry this makes every system call on the host slower (forkwatch doctor tells)
    #[arg(long)]
    clone_calls: bool,
    /// Also write what is judged to a file, for forkwatch replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    kernel_log: KernelLog,
}

impl Options {
    /// The file, with the command line laid over it.
    fn config(&self) -> Result<Config, ConfigError> {
        let default = PathBuf::from(DEFAULT_CONFIG);
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None if default.exists() => Config::load(&default)?,
            None => Config::default(),
        };
        if !self.listen_address.is_empty() {
            config.web.listen_addresses.clone_from(&self.listen_address);
        }
        if let Some(path) = &self.telemetry_path {
            config.web.telemetry_path.clone_from(path);
        }
        if let Some(events) = &self.events {
            config.events.output = events.clone();
        }
        config.log.format = self.log_format.unwrap_or(config.log.format);
        config.log.level = self.log_level.unwrap_or(config.log.level);
        config.judge.grace = self.grace.unwrap_or(config.judge.grace);
        config.kernel.clone_calls |= self.clone_calls;
        let conflict = |problem| ConfigError::Conflict { name: "the command line".to_owned(), problem };
        config.check().map_err(conflict)?;
        Ok(config)
    }
}

/// Runs until a signal ends it.
pub(super) fn run(options: &Options) -> Result<Exit> {
    let config = options.config()?;
    let speakers = options.kernel_log.speakers();
    let log = Log::start(config.log.format, config.log.level, !speakers.are_none())
        .context("cannot start the log")?;
    warn_of_old_names(&config);
    service::status("loading the kernel side");
    memory_bound::warn(sizes(&config));
    resources::raise_open_files();
    let _statistics = keep_statistics(&config);
    let mut session =
        Session::start(&kernel_options(&config, speakers), &[], Some(Question::Sight(MOST_TRIED)))?;
    let recorder = Recorder::create(options.record.as_deref(), &settings(&config), &session.context)?;
    if let Some(how) = session::describe_clone_calls(&session.kernel) {
        tracing::info!("{how}");
    }
    session::warn_of_what_is_unseen(&session.missing);
    let _kernel_log = session.listen()?;
    let access = open::access(&config)?;
    let listeners = serve::bind(&config.web.listen_addresses)?;
    let mut doors: Vec<Door> = listeners.into_iter().map(Door::Network).collect();
    doors.extend(open::local_socket(&config));
    let events = Rc::new(RefCell::new(open_events(&config)?));
    resources::check_open_files()?;
    let store = open::store(&config, &session.context)?;
    session::runtime()?.block_on(async {
        let sight = session.sight(MOST_TRIED)?;
        let (context, missing) = (session.context.clone(), session.missing.clone());
        let collector = session.collector(Scope::default())?;
        let probes = session.kernel.probes().clone();
        let clone_calls = probes.way(Probe::CloneCalls).map_err(ToString::to_string);
        let (mut pipeline, kernel) = Pipeline::new(session, settings(&config), collector, recorder)?;
        let sources = KernelSources { kernel, pulse: pipeline.pulse() };
        let metrics = Metrics::new(Box::new(sources), metrics_options(&config, clone_calls.is_ok()))?;
        let conditions = Conditions::here(None, clone_calls, Some(probes), &missing, sight);
        let detectors = detectors(&conditions);
        tell_of(&detectors, &metrics);
        metrics.config_reloaded(true, SystemTime::now());
        let ready = Ready::default();
        let (shutdown, ended) = oneshot::channel::<()>();
        let pulse = pipeline.pulse();
        let (bus, tally) = (Bus::default(), Arc::new(Tally::default()));
        let (questions, asked) = live::questions();
        pipeline.hear(asked);
        pipeline.tell_each(bus.awaited());
        let workers = Workers::default();
        let answers = Answers {
            context: context.clone(),
            detectors: detectors.iter().map(answers::detector).collect(),
            tally: Arc::clone(&tally),
            store: store.clone(),
            began: SystemTime::now(),
            workers: workers.clone(),
        };
        let offer = Offer {
            telemetry_path: config.web.telemetry_path.clone(),
            hosts: serve::Hosts::here(&config.web.allowed_hosts),
            access,
            ready: ready.clone(),
            pulse: pulse.clone(),
            api: Some(Api { store: store.clone(), bus: bus.clone(), questions, describe: Box::new(answers) }),
        };
        let render = render(metrics.clone(), store.clone());
        // A dropped sender asks for the end as well.
        let mut server = tokio::spawn(serve::serve(doors, offer, render, async { drop(ended.await) }));
        // Before anybody is told that it is ready: until then a signal kills.
        let signals = Signals::new()?;
        let mut vouching = JoinSet::new();
        if let Some(watchdog) = Watchdog::from_environment() {
            vouching.spawn(vouch(pulse, watchdog));
        }
        ready.set(true);
        for address in &config.web.listen_addresses {
            tracing::info!("metrics at http://{address}{}", config.web.telemetry_path);
        }
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready, watching every fork on this host");
        service::ready("watching every fork on this host");

        let lost = metrics.clone();
        let lines = JsonLines::new(&context, Rc::clone(&events)).when_lost(move || lost.event_file_lost(1));
        let published = Published::new(&context, store.clone(), bus, tally);
        pipeline.add(vec![
            Box::new(Counting::new(&context, &metrics)),
            Box::new(LogLines::with_journal(open::journal(&config, &context))),
            Box::new(lines),
            Box::new(published),
            Box::new(workers),
        ]);
        let mut daemon = Daemon { options, config, log, metrics, events, pipeline };
        let result = daemon.watch(signals, &mut server, &mut vouching).await;
        service::stopping();
        ready.set(false);
        drop(shutdown);
        if !server.is_finished() {
            server.await.context(SERVER_FAILED)??;
        }
        store.close();
        result
    })?;
    Ok(Exit::Fine)
}

/// What is exported.
fn metrics_options(config: &Config, clone_calls: bool) -> metrics::Options {
    metrics::Options {
        max_series: config.metrics.max_series,
        by_unit: config.metrics.by_unit,
        clone_calls,
        hazards: detect::ends().collect(),
        hangs: detect::hangs().collect(),
        given_up: &Dropped::NAMES,
    }
}

/// Says how far each detector works, in the log where it concludes nothing.
fn tell_of(detectors: &[Detector], metrics: &Metrics) {
    for detector in detectors {
        if detector.state == DetectorState::Undecided {
            tracing::warn!("{} cannot conclude anything on this host: {}", detector.name, detector.reason);
        }
        metrics.detector(detector.name, detector.state, detector.rests_on);
    }
}

/// Makes the page of metrics, with how findings are kept now.
fn render(metrics: Metrics, store: Store) -> serve::Render {
    Box::new(move || {
        let health = store.health();
        metrics.store(health.lost, health.trouble.is_none());
        metrics.render().map_err(Into::into)
    })
}

/// What runs once everything is set up.
struct Daemon<'a> {
    options: &'a Options,
    config: Config,
    log: Log,
    metrics: Metrics,
    /// Where events go.
    events: Rc<RefCell<Lines>>,
    pipeline: Pipeline,
}

/// What is said where the server ends by a defect.
const SERVER_FAILED: &str = "the HTTP server failed";

/// The server, while it runs.
type Server = JoinHandle<Result<(), ServeError>>;

/// Why the pipeline was interrupted.
enum Interruption {
    End,
    Reload,
    /// Something without which the watch is not whole has ended.
    Failed(anyhow::Error),
}

impl Daemon<'_> {
    async fn watch(
        &mut self,
        mut signals: Signals,
        server: &mut Server,
        vouching: &mut JoinSet<io::Result<Infallible>>,
    ) -> Result<()> {
        loop {
            let interrupted = async {
                tokio::select! {
                    interruption = signals.next() => interruption,
                    error = ended(server) => Interruption::Failed(error),
                    Some(ended) = vouching.join_next() => {
                        Interruption::Failed(no_longer_vouching(ended.map_err(Into::into)))
                    }
                }
            };
            match self.pipeline.run(interrupted).await? {
                Some(Interruption::Reload) => self.reload(),
                Some(Interruption::End) | None => {
                    self.pipeline.close()?;
                    self.pipeline.end()?;
                    if let Some(recorded) = self.pipeline.recorded() {
                        tracing::info!("{recorded}");
                    }
                    return Ok(());
                }
                Some(Interruption::Failed(error)) => {
                    self.pipeline.close()?;
                    self.pipeline.end()?;
                    return Err(error);
                }
            }
        }
    }

    /// Takes on the configuration as it now stands in the file; if that cannot be used, the old one stays.
    fn reload(&mut self) {
        service::reloading();
        let reloaded =
            self.options.config().map_err(anyhow::Error::from).and_then(|config| self.take_on(config));
        match &reloaded {
            Ok(()) => tracing::info!("the configuration was reloaded"),
            Err(error) => {
                // The parser draws where the mistake is, on lines of its own, and a log has one line for each entry.
                let why: Vec<_> = message(error).split_whitespace().map(str::to_owned).collect();
                tracing::error!("the configuration stays as it was: {}", why.join(" "));
            }
        }
        self.metrics.config_reloaded(reloaded.is_ok(), SystemTime::now());
        service::ready("watching every fork on this host");
    }

    fn take_on(&mut self, config: Config) -> Result<()> {
        warn_of_old_names(&config);
        let writes = |config: &Config| config.events.output != EventOutput::None;
        let mut restart = self.config.restart_needed(&config);
        if writes(&self.config) != writes(&config) {
            // Which plain events the kernel sends was decided when the programs were loaded.
            restart.push("events.output");
        }
        if !restart.is_empty() {
            tracing::warn!(keys = restart.join(", "), "these changes take effect after a restart only");
        }
        reopen_events(&mut self.events.borrow_mut(), &config)?;
        self.log.set_level(config.log.level);
        self.pipeline.configure(settings(&config))?;
        self.config = config;
        Ok(())
    }
}

/// Says what the configuration calls by a name of the first edition.
fn warn_of_old_names(config: &Config) {
    for renamed in &config.old_names {
        tracing::warn!("the configuration: {}", renamed.warning());
    }
}

/// Where the configuration wants events.
fn open_events(config: &Config) -> Result<Lines> {
    Ok(match &config.events.output {
        EventOutput::None => Lines::Nowhere,
        EventOutput::Stdout => {
            let output = StandardOutput::start();
            Lines::Stdout(output.context("cannot start the thread that writes to standard output")?)
        }
        EventOutput::File(path) => Lines::File(EventFile::open(path, rotation(config))?),
    })
}

/// Opens the event file anew, with the rotation of this configuration.
fn reopen_events(events: &mut Lines, config: &Config) -> Result<()> {
    match (&mut *events, &config.events.output) {
        (Lines::File(file), EventOutput::File(path)) if file.path() == path => {
            file.reopen(rotation(config))?;
        }
        (Lines::Stdout(_), EventOutput::Stdout) => {}
        _ => *events = open_events(config)?,
    }
    Ok(())
}

const fn rotation(config: &Config) -> Rotation {
    Rotation { max_bytes: config.events.max_bytes, keep: config.events.keep }
}

/// The signals that concern a daemon.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Interruption {
        tokio::select! {
            _ = self.interrupt.recv() => Interruption::End,
            _ = self.terminate.recv() => Interruption::End,
            _ = self.hangup.recv() => Interruption::Reload,
        }
    }
}

/// Waits for the end of the server, which is always a failure.
async fn ended(server: &mut Server) -> anyhow::Error {
    match server.await {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => ServeError::Ended.into(),
        Err(error) => anyhow::Error::from(error).context(SERVER_FAILED),
    }
}

/// Why the watchdog is not fed any more.
fn no_longer_vouching(ended: Result<io::Result<Infallible>>) -> anyhow::Error {
    let error = match ended {
        Ok(Err(error)) => error.into(),
        Err(error) => error,
    };
    error.context("cannot feed the watchdog")
}

/// The settings that this configuration means, with as many children as the memory allows.
fn settings(config: &Config) -> Settings {
    let config::Judge { grace, recheck, summary_interval, stuck_after, sweep_interval, workers, stacks } =
        config.judge;
    Settings {
        grace,
        recheck,
        summary_interval,
        stuck_after,
        sweep_interval: Some(sweep_interval),
        workers,
        stacks,
        suppress: config.suppress.clone(),
        max_children: usize::try_from(memory_bound::fit(sizes(config)).children).unwrap_or(usize::MAX),
        ..Settings::default()
    }
}

/// What the configuration asks for of what takes memory.
const fn sizes(config: &Config) -> Bound {
    Bound { children: config.kernel.max_children, ring: config.kernel.ring_bytes }
}

fn kernel_options(config: &Config, kernel_log: Speakers) -> kernel::Options {
    let Bound { children, ring } = memory_bound::fit(sizes(config));
    // Plain forks are counted in the kernel; only an event stream has a use for them one by one.
    let all = config.events.output != EventOutput::None;
    kernel::Options {
        stream: Stream { plain: all, sharing: all, threads: false },
        grace: config.judge.grace,
        ring_bytes: ring,
        max_children: children,
        asked: if config.kernel.clone_calls { &[Probe::CloneCalls] } else { &[] },
        kernel_log,
        ..kernel::Options::default()
    }
}

/// Has the kernel time BPF programs for as long as the result lives, where that is asked for.
fn keep_statistics(config: &Config) -> Option<std::os::fd::OwnedFd> {
    if !config.kernel.program_statistics {
        return None;
    }
    kernel::keep_statistics()
        .inspect_err(|error| {
            tracing::warn!(%error, "the kernel does not time BPF programs: that needs CAP_SYS_ADMIN at start");
        })
        .ok()
}
