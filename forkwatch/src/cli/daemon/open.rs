//! What the daemon opens: where events go, the journal, and for those who ask the local socket, the store of findings, the
//! token and the certificate.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use nix::unistd::Group;

use crate::{
    config::{ClientAuth, Config, EventOutput, LogFormat, OwnPlace},
    log::to_journal,
    output::{
        Context,
        destination::Lines,
        event_file::{EventFile, Rotation},
        journal::{self, Journal},
        standard_output::StandardOutput,
    },
    serve::{Access, Allowed, Door, LocalSocket},
    store::{Bounds, Store},
    tls::{self, Clients, ServerFiles, TlsError},
};

/// Bytes that one finding may take on average, of those that are kept at most.
const BYTES_EACH: u64 = 8192;

/// What is kept at most.
pub(in crate::cli) const fn bounds(max: u64, keep: Duration) -> Bounds {
    Bounds { count: max, bytes: max.saturating_mul(BYTES_EACH), time: keep }
}

/// Where the configuration wants events.
pub(super) fn events(config: &Config) -> Result<Lines> {
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
pub(super) fn reopen_events(lines: &mut Lines, config: &Config) -> Result<()> {
    match (&mut *lines, &config.events.output) {
        (Lines::File(file), EventOutput::File(path)) if file.path() == path => {
            file.reopen(rotation(config))?;
        }
        (Lines::Stdout(_), EventOutput::Stdout) => {}
        _ => *lines = events(config)?,
    }
    Ok(())
}

const fn rotation(config: &Config) -> Rotation {
    Rotation { max_bytes: config.events.max_bytes, keep: config.events.keep }
}

/// The store of findings of the watch that begins.
pub(super) fn store(config: &Config, context: &Context) -> Result<Store> {
    let path = config.findings.store.path("STATE_DIRECTORY", "findings.redb");
    let watch = format!("{}-{}", context.boot_id.as_deref().unwrap_or("?"), context.began.0);
    let bounds = bounds(config.findings.max, config.findings.keep);
    Store::start(path, watch, bounds).context("cannot start the thread that keeps findings")
}

/// The local socket, where one is wanted. That it cannot be had stops nothing.
pub(super) fn local_socket(config: &Config) -> Option<Door> {
    let path = config.socket.path.path("RUNTIME_DIRECTORY", "api.sock")?;
    let allowed = allowed(&config.socket.group);
    match LocalSocket::bind(&path, allowed.clone()) {
        Ok(socket) => {
            tracing::info!(path = %path.display(), "{allowed} may ask over the local socket");
            Some(Door::Local(socket))
        }
        Err(error) => {
            tracing::warn!("there is no local socket, so nobody can ask there: {error}");
            None
        }
    }
}

/// The journal, where findings are to be told there.
pub(super) fn journal(config: &Config, context: &Context) -> Option<Journal> {
    let path = match &config.log.journal {
        OwnPlace::Path(path) => path.clone(),
        OwnPlace::Auto if config.log.format == LogFormat::Auto && to_journal() => journal::SOCKET.into(),
        OwnPlace::Auto | OwnPlace::None => return None,
    };
    let opened = Journal::new(&path, context);
    opened
        .inspect_err(|error| {
            tracing::warn!(path = %path.display(), "findings go to the log without their fields: {error}");
        })
        .ok()
}

fn allowed(name: &str) -> Allowed {
    if name.is_empty() {
        return Allowed::default();
    }
    let group = match Group::from_name(name) {
        Ok(Some(group)) => Some((group.gid.as_raw(), name.to_owned())),
        Ok(None) => {
            tracing::warn!(
                "there is no group {name} (socket.group): root alone may ask over the local socket"
            );
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the group {name} (socket.group) cannot be looked up: root alone may ask");
            None
        }
    };
    Allowed { group }
}

/// The certificate that is shown on addresses, if one is named. It is read by what is left of the privileges, as it will be
/// when it is read anew: what a reload could not read is said at the start. No reader of other processes has the key in its
/// memory, because they are forked from a process that was there before.
pub(super) fn certificate(config: &Config) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
    let files = &config.web.tls_server_config;
    if !files.is_on() {
        return Ok(None);
    }
    let ca = files.client_ca_file.as_path();
    let clients = match files.client_auth_type {
        ClientAuth::NoClientCert => None,
        ClientAuth::VerifyClientCertIfGiven => Some(Clients { ca, required: false }),
        ClientAuth::RequireAndVerifyClientCert => Some(Clients { ca, required: true }),
    };
    tls::server(ServerFiles { cert: &files.cert_file, key: &files.key_file, clients }).map(Some)
}

/// Who may see what, with a word to the operator where others can reach an address.
pub(super) fn access(config: &Config) -> Result<Access> {
    let file = Some(config.web.token_file.as_path()).filter(|path| *path != Path::new(""));
    let access = Access::new(file, config.web.open)?;
    let is_loopback = |address: &std::net::SocketAddr| address.ip().to_canonical().is_loopback();
    if config.web.listen_addresses.iter().all(is_loopback) {
        return Ok(access);
    }
    let tls = &config.web.tls_server_config;
    let asks = tls.client_auth_type;
    if access.is_closed() && asks == ClientAuth::NoClientCert {
        tracing::warn!(
            "an address that others may reach serves metrics and health alone: set web.token_file, or \
             client_ca_file in [web.tls_server_config], for the page and /api/v1"
        );
    } else if access.is_wide_open() && asks != ClientAuth::RequireAndVerifyClientCert {
        tracing::warn!(
            "an address that others may reach serves findings to everyone, as web.open says: set web.token_file"
        );
    } else if access.has_token() && !tls.is_on() {
        tracing::warn!(
            "the token of web.token_file can be read by whoever sees the network: set cert_file and key_file in \
             [web.tls_server_config]"
        );
    }
    Ok(access)
}
