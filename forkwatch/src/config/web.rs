//! `[web]`: what is served over HTTP, where, and to whom.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::value;

/// `[web]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// Where to listen; nowhere if empty.
    #[serde(deserialize_with = "value::listen_addresses")]
    pub listen_addresses: Vec<SocketAddr>,
    /// Path of the metrics.
    #[serde(deserialize_with = "value::telemetry_path_value")]
    pub telemetry_path: String,
    /// By which names the server may be asked, besides those that it has.
    #[serde(deserialize_with = "value::allowed_hosts")]
    pub allowed_hosts: Vec<String>,
    /// The file with the token that is asked for on addresses that others can reach; none if empty.
    pub token_file: PathBuf,
    /// Whether everything is told there without a token.
    pub open: bool,
    /// TLS on all of these addresses.
    pub tls_server_config: TlsServer,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            listen_addresses: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 10047))],
            telemetry_path: "/metrics".to_owned(),
            allowed_hosts: Vec::new(),
            token_file: PathBuf::new(),
            open: false,
            tls_server_config: TlsServer::default(),
        }
    }
}

/// `[web.tls_server_config]`, with the keys that Prometheus' exporters have. The files are read by whoever uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsServer {
    /// The file with the certificate; HTTP is plain if empty.
    pub cert_file: PathBuf,
    /// The file with its key.
    pub key_file: PathBuf,
    /// Whether clients must have a certificate.
    pub client_auth_type: ClientAuth,
    /// The file with the authorities that have signed those of clients; none if empty.
    pub client_ca_file: PathBuf,
}

/// What is asked of clients: those of the types of Prometheus, and of Go, that look at what they are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuth {
    /// Nothing.
    #[default]
    NoClientCert,
    /// A certificate that is looked at, from those who have one.
    VerifyClientCertIfGiven,
    /// A certificate: nobody else is served.
    RequireAndVerifyClientCert,
}

impl TlsServer {
    /// Whether HTTP is served within TLS.
    pub fn is_on(&self) -> bool {
        !is_empty(&self.cert_file)
    }

    /// Whether what is set fits together. The error says what would.
    pub(super) fn check(&self) -> Result<(), String> {
        let Self { cert_file, key_file, client_auth_type, client_ca_file } = self;
        let asks = *client_auth_type != ClientAuth::NoClientCert;
        let wrong = match (is_empty(cert_file), is_empty(key_file), is_empty(client_ca_file)) {
            (true, false, _) => "key_file is set, and cert_file is not",
            (false, true, _) => {
                "cert_file is set, and key_file is not: a certificate is of no use without its key"
            }
            (true, true, no_ca) if asks || !no_ca => {
                "certificates of clients are asked for within TLS only: set cert_file and key_file, too"
            }
            (_, _, true) if asks => {
                "client_auth_type wants certificates of clients, and client_ca_file does not say whose"
            }
            (_, _, false) if !asks => {
                "client_ca_file is set, and client_auth_type lets everybody in: set that to \
                 \"RequireAndVerifyClientCert\" or \"VerifyClientCertIfGiven\""
            }
            _ => return Ok(()),
        };
        Err(format!("[web.tls_server_config] {wrong}"))
    }
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}
