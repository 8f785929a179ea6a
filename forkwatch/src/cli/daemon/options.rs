//! The options of `forkwatch daemon`, and the configuration beneath them.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    cli::kernel_log::KernelLog,
    config::{self, Config, ConfigError, EventOutput, LogFormat, LogLevel},
};

/// Read where no other file is named, if it is there.
const DEFAULT_CONFIG: &str = "/etc/forkwatch/forkwatch.toml";

/// What to override in the configuration.
#[derive(Debug, Args)]
pub(in crate::cli) struct Options {
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
    pub(super) record: Option<PathBuf>,
    #[command(flatten)]
    pub(super) kernel_log: KernelLog,
}

impl Options {
    /// The file, with the command line laid over it.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
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
