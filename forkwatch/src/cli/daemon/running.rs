//! The daemon once everything is set up: it runs until a signal ends it, and takes on a changed configuration.

use std::{cell::RefCell, convert::Infallible, io, rc::Rc, time::SystemTime};

use anyhow::{Context as _, Result};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinHandle, JoinSet},
};

use super::{configured::settings, open, options::Options};
use crate::{
    cli::exit::message,
    config::{Config, EventOutput},
    engine::pipeline::Pipeline,
    log::Log,
    output::{destination::Lines, metrics::Metrics},
    serve::{Secure, ServeError},
    service,
};

/// What runs once everything is set up.
pub(super) struct Daemon<'a> {
    pub(super) options: &'a Options,
    pub(super) config: Config,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    /// Where events go.
    pub(super) events: Rc<RefCell<Lines>>,
    pub(super) pipeline: Pipeline,
    /// What those see who come by the network.
    pub(super) secure: Secure,
}

/// What is said where the server ends by a defect.
pub(super) const SERVER_FAILED: &str = "the HTTP server failed";

/// The server, while it runs.
pub(super) type Server = JoinHandle<Result<(), ServeError>>;

/// Why the pipeline was interrupted.
enum Interruption {
    End,
    Reload,
    /// Something without which the watch is not whole has ended.
    Failed(anyhow::Error),
}

impl Daemon<'_> {
    /// Watches until a signal ends it, or a part fails.
    pub(super) async fn watch(
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
        // Whether or not a key has changed: the files may have.
        let certificate = open::certificate(&config)?;
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
        open::reopen_events(&mut self.events.borrow_mut(), &config)?;
        self.log.set_level(config.log.level);
        self.pipeline.configure(settings(&config))?;
        self.secure.set(certificate);
        self.config = config;
        Ok(())
    }
}

/// Says what the configuration calls by a name of the first edition.
pub(super) fn warn_of_old_names(config: &Config) {
    for renamed in &config.old_names {
        tracing::warn!("the configuration: {}", renamed.warning());
    }
}

/// The signals that concern a daemon.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they do not kill.
    pub(super) fn new() -> Result<Self> {
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
