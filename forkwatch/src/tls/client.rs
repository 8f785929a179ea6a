//! The side that looks at a certificate.

use std::{fmt, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore,
    pki_types::{InvalidDnsNameError, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{TlsError, certificates, provider};

const CA_FILE: &str = "ca_file";

/// Whom a client trusts.
#[derive(Clone, Copy, Debug)]
pub enum Trust<'a> {
    /// The authorities that this host trusts.
    Host,
    /// Those of this file, and nobody else.
    File(&'a Path),
}

/// A client that knows whom it trusts.
#[derive(Clone)]
pub struct Client(Arc<ClientConfig>);

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Client")
    }
}

impl Client {
    /// Reads whom to trust.
    pub fn new(trust: Trust<'_>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        match trust {
            Trust::File(path) => {
                for certificate in certificates(CA_FILE, path)? {
                    roots.add(certificate).map_err(|error| TlsError::Unusable {
                        setting: CA_FILE,
                        file: path.display().to_string(),
                        why: error.to_string(),
                    })?;
                }
            }
            Trust::Host => {
                let found = rustls_native_certs::load_native_certs();
                // What cannot be read of many does not matter: then a server is not trusted, which is said.
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    return Err(TlsError::NoTrust(found.errors.first().map(ToString::to_string)));
                }
            }
        }
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols.push(b"http/1.1".to_vec());
        Ok(Self(Arc::new(config)))
    }

    /// Whether this can be the name of a server: a DNS name or an IP address.
    pub fn name(host: &str) -> Result<ServerName<'static>, InvalidDnsNameError> {
        ServerName::try_from(host.to_owned())
    }

    /// Speaks TLS over a connection, with a server of this name.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: ServerName<'static>,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        TlsConnector::from(Arc::clone(&self.0)).connect(name, stream).await
    }
}

/// Why a server is not trusted, if that is what an error says.
pub fn why(error: &std::io::Error) -> Option<String> {
    let tls = error.get_ref()?.downcast_ref::<Error>()?;
    let Error::InvalidCertificate(error) = tls else { return None };
    Some(match error {
        CertificateError::UnknownIssuer => {
            "it is signed by nobody whom this host, or ca_file, trusts".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its time has not come: is the clock right?".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::Other(other)
            if other.0.downcast_ref::<webpki::Error>() == Some(&webpki::Error::CaUsedAsEndEntity) =>
        {
            "it is that of an authority (CA:TRUE), which signs certificates and cannot be one of a server"
                .to_owned()
        }
        other => other.to_string(),
    })
}
