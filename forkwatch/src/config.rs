//! The daemon's configuration: a TOML file, `/etc/forkwatch/forkwatch.toml` by default, whose every key has a
//! default. Options of the command line override it.

pub mod hook;
mod place;
pub mod renamed;
mod value;
mod web;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub use self::place::OwnPlace;
use self::renamed::Renamed;
pub use self::value::{
    EventOutput, LogFormat, LogLevel, grace, listen_address, refresh, ring_bytes, run_time, stuck_after,
    telemetry_path, written,
};
pub use self::web::{ClientAuth, TlsServer, Web};
use crate::{
    core::suppress::SuppressRule,
    input_file::{self, InputFileError},
    model::{defaults, stack::Stacks},
};

/// Longest file that is read. The one that comes with the program, with every comment, has some 8000 bytes.
const MOST_BYTES: u64 = 1 << 20;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read, or is none that would be.
    #[error("cannot read the configuration: {0}")]
    Read(#[from] InputFileError),
    /// Its bytes are no UTF-8.
    #[error("cannot read the configuration: {} is not UTF-8", .0.display())]
    NotText(PathBuf),
    /// It is not TOML, or a key or a value in it is none of ours. The message shows the line.
    #[error("{name} cannot be used: {source}")]
    Parse {
        /// The file's name.
        name: String,
        /// What is wrong, and where.
        source: Box<toml::de::Error>,
    },
    /// Two values do not fit each other.
    #[error("{name} cannot be used: {problem}")]
    Conflict {
        /// The file's name.
        name: String,
        /// Which values, and what would fit.
        problem: String,
    },
}

/// The whole configuration. `dist/forkwatch.toml` explains each key to the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is served over HTTP.
    pub web: Web,
    /// Where programs of this host ask.
    pub socket: Socket,
    /// Where findings are kept.
    pub findings: Findings,
    /// The daemon's own log.
    pub log: Log,
    /// Where events go.
    pub events: Events,
    /// How forks are judged.
    pub judge: Judge,
    /// What the kernel side may use.
    pub kernel: Kernel,
    /// How many series the metrics may have.
    pub metrics: Metrics,
    /// What the operator accepts.
    #[serde(alias = "allow", deserialize_with = "value::suppress_rules")]
    pub suppress: Vec<SuppressRule>,
    /// Names of the first edition that it was written with.
    #[serde(skip)]
    pub old_names: Vec<Renamed>,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least severe level that is logged.
    pub level: LogLevel,
    /// The journal's socket, which is told of findings with their fields. By itself the usual one, where the log goes to the
    /// journal.
    pub journal: OwnPlace,
}

/// `[socket]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Socket {
    /// Where the local socket is.
    pub path: OwnPlace,
    /// The group that may ask there, besides root; none if empty.
    pub group: String,
}

impl Default for Socket {
    fn default() -> Self {
        Self { path: OwnPlace::Auto, group: "adm".to_owned() }
    }
}

/// `[findings]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Findings {
    /// The file that they are kept in; in memory if there is none.
    pub store: OwnPlace,
    /// How long one is kept after something was last said of it.
    #[serde(with = "value::keep_value")]
    pub keep: Duration,
    /// How many are kept at most.
    #[serde(deserialize_with = "value::kept_findings")]
    pub max: u64,
}

impl Default for Findings {
    fn default() -> Self {
        Self { store: OwnPlace::Auto, keep: Duration::from_secs(7 * 86_400), max: 10_000 }
    }
}

/// `[events]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Events {
    /// Where events are written.
    pub output: EventOutput,
    /// Size in bytes at which the file is rotated; 0 leaves that to others.
    #[serde(deserialize_with = "value::file_size")]
    pub max_bytes: u64,
    /// How many rotated files are kept.
    #[serde(deserialize_with = "value::kept_files")]
    pub keep: u32,
}

impl Default for Events {
    fn default() -> Self {
        Self { output: EventOutput::None, max_bytes: 100 << 20, keep: 5 }
    }
}

/// `[judge]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Judge {
    /// How long a child may live without exec before its fork is judged.
    #[serde(with = "value::grace_value")]
    pub grace: Duration,
    /// How long after the fork the parent's threads are looked at.
    #[serde(with = "value::recheck_value")]
    pub recheck: Duration,
    /// The shortest time between two summaries of the same finding.
    #[serde(with = "value::summary_value")]
    pub summary_interval: Duration,
    /// How long a child must have waited for a lock before it is reported as stuck.
    #[serde(with = "value::stuck_after_value")]
    pub stuck_after: Duration,
    /// How often all processes are looked at for forked children that the kernel side did not tell of.
    #[serde(with = "value::sweep_value")]
    pub sweep_interval: Duration,
    /// Whether the lives of servers' workers are followed.
    pub workers: bool,
    /// How the stacks of stuck threads are had.
    pub stacks: Stacks,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            grace: defaults::GRACE,
            recheck: defaults::RECHECK,
            summary_interval: defaults::SUMMARY_INTERVAL,
            stuck_after: defaults::STUCK_AFTER,
            sweep_interval: defaults::SWEEP_INTERVAL,
            workers: true,
            stacks: Stacks::default(),
        }
    }
}

/// `[kernel]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kernel {
    /// Size of the ring of records, in bytes.
    #[serde(deserialize_with = "value::ring_size")]
    pub ring_bytes: u32,
    /// How many un-exec'd children are followed at a time.
    #[serde(deserialize_with = "value::children")]
    pub max_children: u32,
    /// Whether the clone-family system calls are watched.
    pub clone_calls: bool,
    /// Whether the kernel is asked to time BPF programs.
    pub program_statistics: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            ring_bytes: defaults::RING_BYTES,
            max_children: defaults::MAX_CHILDREN,
            clone_calls: false,
            program_statistics: false,
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Most pairs of program and unit, and most units, that get series of their own.
    #[serde(deserialize_with = "value::series")]
    pub max_series: usize,
    /// Whether process creations are counted by systemd unit.
    pub by_unit: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { max_series: 200, by_unit: true }
    }
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = input_file::read(path, MOST_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::NotText(path.to_owned()))?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a text; `name` stands for it in messages.
    pub fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text)
            .map_err(|source| ConfigError::Parse { name: name.to_owned(), source: Box::new(source) })?;
        config.check().map_err(|problem| ConfigError::Conflict { name: name.to_owned(), problem })?;
        config.old_names = renamed::used(text);
        Ok(config)
    }

    /// What no single value can tell: whether they fit each other. To be asked again once options of the command
    /// line have been laid over a file. The error says which do not.
    pub fn check(&self) -> Result<(), String> {
        if self.judge.recheck > self.judge.grace {
            return Err(format!(
                "judge.recheck ({:?}) is longer than judge.grace ({:?}): a fork is judged with the threads that \
                 the recheck saw, so it must come first",
                self.judge.recheck, self.judge.grace
            ));
        }
        self.web.tls_server_config.check()
    }

    /// The keys in which `new` differs and that only a restart can change. All others take effect on reload.
    pub fn restart_needed(&self, new: &Self) -> Vec<&'static str> {
        let (old_web, new_web) = (&self.web, &new.web);
        let (old, now) = (&self.kernel, &new.kernel);
        [
            ("web.listen_addresses", old_web.listen_addresses != new_web.listen_addresses),
            ("web.telemetry_path", old_web.telemetry_path != new_web.telemetry_path),
            ("web.allowed_hosts", old_web.allowed_hosts != new_web.allowed_hosts),
            ("web.token_file", old_web.token_file != new_web.token_file),
            ("web.open", old_web.open != new_web.open),
            ("socket", self.socket != new.socket),
            ("findings", self.findings != new.findings),
            ("log.format", self.log.format != new.log.format),
            ("log.journal", self.log.journal != new.log.journal),
            ("kernel.ring_bytes", old.ring_bytes != now.ring_bytes),
            ("kernel.max_children", old.max_children != now.max_children),
            ("kernel.clone_calls", old.clone_calls != now.clone_calls),
            ("kernel.program_statistics", old.program_statistics != now.program_statistics),
            ("metrics.max_series", self.metrics.max_series != new.metrics.max_series),
            ("metrics.by_unit", self.metrics.by_unit != new.metrics.by_unit),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}

/// As TOML, every key with its value: what `check-config` shows.
impl fmt::Display for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&toml::to_string(self).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests;
