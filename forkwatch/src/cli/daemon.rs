//! `forkwatch daemon`: the watch as a service.

mod answers;
mod configured;
pub(super) mod open;
mod options;
mod running;
pub(super) mod servers;

use std::{cell::RefCell, rc::Rc, sync::Arc, time::SystemTime};

use anyhow::{Context as _, Result};
use tokio::{sync::oneshot, task::JoinSet};

pub(super) use self::options::Options;
use self::{
    answers::Answers,
    configured::{keep_statistics, kernel_options, metrics_options, settings, sizes},
    running::{Daemon, SERVER_FAILED, Signals, warn_of_old_names},
};
use super::exit::Exit;
use crate::{
    engine::{
        detectors::{self, Conditions, Detector},
        memory_bound,
        metric_sources::KernelSources,
        pipeline::Pipeline,
        recorder::Recorder,
        session::{self, Session},
        vouch::vouch,
    },
    host::Scope,
    live::{self, Bus, Tally},
    log::Log,
    model::detector::DetectorState,
    output::{
        json::JsonLines,
        log::LogLines,
        metrics::{Counting, Metrics},
        published::Published,
        workers::Workers,
    },
    reader::Question,
    resources,
    serve::{self, Api, Door, Offer, Ready, Secure},
    service::{self, Watchdog},
    store::Store,
};

/// Processes on which it is tried what this host lets be seen. What hides them hides most of them alike,
/// and each adds to the time of the start.
const MOST_TRIED: usize = 6;

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
    if let Some(how) = detectors::describe_requested(session.kernel.probes()) {
        tracing::info!("{how}");
    }
    session::warn_of_what_is_unseen(&session.missing);
    let _kernel_log = session.listen()?;
    let access = open::access(&config)?;
    let secure = Secure::new(open::certificate(&config)?);
    let listeners = serve::bind(&config.web.listen_addresses)?;
    let mut doors: Vec<Door> = listeners.into_iter().map(Door::Network).collect();
    doors.extend(open::local_socket(&config));
    let events = Rc::new(RefCell::new(open::events(&config)?));
    resources::check_open_files()?;
    let store = open::store(&config, &session.context)?;
    session::runtime()?.block_on(async {
        let sight = session.sight(MOST_TRIED)?;
        let (context, missing) = (session.context.clone(), session.missing.clone());
        let collector = session.collector(Scope::default())?;
        let probes = session.kernel.probes().clone();
        let requested = detectors::requested(&probes);
        let (mut pipeline, kernel) = Pipeline::new(session, settings(&config), collector, recorder)?;
        let sources = KernelSources { kernel, pulse: pipeline.pulse() };
        let metrics = Metrics::new(Box::new(sources), metrics_options(&config, requested.is_ok()))?;
        let conditions = Conditions::here(None, requested, Some(probes), &missing, sight);
        let detectors = detectors::detectors(&conditions);
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
            secure: secure.clone(),
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
            let scheme = if config.web.tls_server_config.is_on() { "https" } else { "http" };
            tracing::info!("metrics at {scheme}://{address}{}", config.web.telemetry_path);
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
        let mut daemon = Daemon { options, config, log, metrics, events, pipeline, secure };
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
