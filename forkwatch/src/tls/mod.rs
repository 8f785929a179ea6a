//! TLS by rustls: for those who come to forkwatch, and to those whom it sends something. Files are PEM, as everywhere.

mod client;
mod server;

use std::{os::unix::fs::MetadataExt as _, path::Path, sync::Arc};

use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
};

use tokio::io::{AsyncRead, AsyncWrite};

pub use self::{
    client::{Client, Trust, why},
    server::{Clients, ServerFiles, server},
};
use crate::input_file::{self, InputFileError};

/// A connection, whatever it goes through.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Longest file that is read. All that a host trusts has some 220,000 bytes.
const MOST_BYTES: u64 = 4 << 20;
/// What others than the owner and the group of a key may do with it.
const BY_OTHERS: u32 = 0o006;

/// Why certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read.
    #[error("cannot read {setting}: {source}")]
    Read {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Why not.
        source: InputFileError,
    },
    /// What is in it is broken.
    #[error("{setting} {file} is no PEM: {why}")]
    Pem {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Its path, as the setting names it.
        file: String,
        /// Where it is broken.
        why: pem::Error,
    },
    /// There is no certificate in it.
    #[error("{setting} {file} holds no certificate: it must have a line -----BEGIN CERTIFICATE-----")]
    NoCertificate {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Its path, as the setting names it.
        file: String,
    },
    /// There is no key in it that can be used without asking somebody.
    #[error(
        "{setting} {file} holds no private key: it must have a line -----BEGIN PRIVATE KEY-----, and a key with a \
         passphrase cannot be used"
    )]
    NoKey {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Its path, as the setting names it.
        file: String,
    },
    /// Everybody may have read it.
    #[error("{setting} {file} may be read or written by everybody on this host: chmod o-rwx {file}")]
    Exposed {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Its path, as the setting names it.
        file: String,
    },
    /// Certificate and key are of different pairs.
    #[error("{key} does not fit {certificate}: the certificate is for another key")]
    Mismatch {
        /// The file with the key.
        key: String,
        /// The file with the certificate.
        certificate: String,
    },
    /// rustls cannot use it.
    #[error("{setting} {file} cannot be used: {why}")]
    Unusable {
        /// The key of the configuration that names it.
        setting: &'static str,
        /// Its path, as the setting names it.
        file: String,
        /// What rustls says.
        why: String,
    },
    /// Nobody is trusted.
    #[error(
        "this host trusts no certificate authority: install ca-certificates, or name a file with ca_file{}",
        .0.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NoTrust(Option<String>),
    /// There is no cryptography to be had.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// The cryptography that is used.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates of a file, of which there must be one.
fn certificates(setting: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = || path.display().to_string();
    let bytes = input_file::read(path, MOST_BYTES).map_err(|source| TlsError::Read { setting, source })?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let certificates = read.map_err(|why| TlsError::Pem { setting, file: file(), why })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate { setting, file: file() });
    }
    Ok(certificates)
}

/// The key of a file that not everybody may read.
fn private_key(setting: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let file = || path.display().to_string();
    let unread = |source| TlsError::Read { setting, source };
    let open = input_file::open(path).map_err(unread)?;
    let failed = |source| unread(InputFileError::Open { path: file(), source });
    if open.metadata().map_err(failed)?.mode() & BY_OTHERS != 0 {
        return Err(TlsError::Exposed { setting, file: file() });
    }
    let bytes = input_file::read(path, MOST_BYTES).map_err(unread)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|why| match why {
        pem::Error::NoItemsFound => TlsError::NoKey { setting, file: file() },
        why => TlsError::Pem { setting, file: file(), why },
    })
}

#[cfg(test)]
mod tests;
