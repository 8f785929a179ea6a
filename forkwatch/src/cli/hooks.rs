//! `forkwatch hooks`: the process that runs hooks.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use super::exit::Exit;
use crate::{
    client::Watch,
    config::{LogFormat, LogLevel, OwnPlace},
    engine::session,
    hooks::{Service, Setup},
    log::Log,
    resources,
};

/// Where the package puts them.
pub(super) const DEFAULT: &str = "/etc/forkwatch/hooks.toml";

/// Where everything is.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The file with the hooks
    #[arg(long, value_name = "FILE", default_value = DEFAULT)]
    config: PathBuf,
    /// The local socket of the daemon to hear; `FORKWATCH_SOCKET` names another default
    /// [default: /run/forkwatch/api.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where to be asked by forkwatch hook [default: hooks.sock in the unit's runtime directory; nowhere without one]
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// How the log looks
    #[arg(long = "log.format", value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
    /// The least severe level that is logged
    #[arg(long = "log.level", value_enum, value_name = "LEVEL", default_value_t)]
    log_level: LogLevel,
}

/// Runs hooks until a signal ends it.
pub(super) fn run(options: &Options) -> Result<Exit> {
    Log::start(options.log_format, options.log_level, false).context("cannot start the log")?;
    resources::raise_open_files();
    let given = options.control.clone().map_or(OwnPlace::Auto, OwnPlace::Path);
    let setup = Setup {
        file: options.config.clone(),
        watch: Watch::at(options.socket.as_deref()),
        socket: given.path("RUNTIME_DIRECTORY", "hooks.sock"),
    };
    let service = Service::new(setup)?;
    session::runtime()?.block_on(service.run())?;
    Ok(Exit::Fine)
}
