//! The side that has a certificate, and may ask for one.

use std::{path::Path, sync::Arc};

use rustls::{
    Error, InconsistentKeys, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, UnixTime},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use webpki::{EndEntityCert, KeyUsage};

use super::{TlsError, certificates, private_key, provider};

const CERT_FILE: &str = "web.tls_server_config.cert_file";
const KEY_FILE: &str = "web.tls_server_config.key_file";
const CLIENT_CA_FILE: &str = "web.tls_server_config.client_ca_file";
/// What is spoken within TLS; hyper serves nothing else here.
const HTTP_1_1: &[u8] = b"http/1.1";

/// What a server shows, and what it wants to see.
#[derive(Clone, Copy, Debug)]
pub struct ServerFiles<'a> {
    /// Its certificate, and those that lead from there to one that clients know.
    pub cert: &'a Path,
    /// The key of the first of them.
    pub key: &'a Path,
    /// Whose certificates clients may show; they are not asked where there is none.
    pub clients: Option<Clients<'a>>,
}

/// Which clients have a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Clients<'a> {
    /// The authorities that have signed their certificates.
    pub ca: &'a Path,
    /// Whether those without a certificate are sent away.
    pub required: bool,
}

/// Reads the files. A certificate whose time is over, or has not come, is said in the log and used: clients refuse it by
/// themselves, and with none there would be no server at all.
pub fn server(files: ServerFiles<'_>) -> Result<Arc<ServerConfig>, TlsError> {
    let chain = certificates(CERT_FILE, files.cert)?;
    let key = private_key(KEY_FILE, files.key)?;
    let cert_name = || files.cert.display().to_string();
    if let Some(doubt) = chain.first().and_then(|certificate| doubt(certificate, UnixTime::now())) {
        tracing::warn!("{CERT_FILE} {}: {doubt}", files.cert.display());
    }
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match files.clients {
        Some(clients) => builder.with_client_cert_verifier(verifier(clients)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            TlsError::Mismatch { key: files.key.display().to_string(), certificate: cert_name() }
        }
        Error::InvalidCertificate(_) => {
            TlsError::Unusable { setting: CERT_FILE, file: cert_name(), why: error.to_string() }
        }
        error => TlsError::Unusable {
            setting: KEY_FILE,
            file: files.key.display().to_string(),
            why: error.to_string(),
        },
    })?;
    config.alpn_protocols.push(HTTP_1_1.to_vec());
    Ok(Arc::new(config))
}

fn verifier(clients: Clients<'_>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |why: String| TlsError::Unusable {
        setting: CLIENT_CA_FILE,
        file: clients.ca.display().to_string(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA_FILE, clients.ca)? {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| unusable(error.to_string()))
}

/// Why clients will refuse a certificate at this time. Its time is looked at before its issuer is, so that nobody need be
/// trusted for the question.
pub(super) fn doubt(certificate: &CertificateDer<'_>, now: UnixTime) -> Option<String> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let algorithms = provider().signature_verification_algorithms.all;
    let verified = parsed.verify_for_usage(algorithms, &[], &[], now, KeyUsage::server_auth(), None, None);
    match verified.err()? {
        webpki::Error::CertExpired { not_after, .. } => Some(format!(
            "the certificate has expired {} ago, and clients refuse it: renew it, and reload",
            span(now, not_after)
        )),
        webpki::Error::CertNotValidYet { not_before, .. } => Some(format!(
            "the certificate is valid in {} only, and clients refuse it until then: is the clock right?",
            span(not_before, now)
        )),
        _ => None,
    }
}

fn span(later: UnixTime, earlier: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    match (seconds / 86_400, seconds / 3600) {
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} days"),
    }
}
