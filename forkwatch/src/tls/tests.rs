//! The certificates are good until 2126, and for nothing else.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use rustls::{ServerConfig, pki_types::UnixTime};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use super::{server::doubt, *};

/// Signs certificates.
const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBZzCCAQ6gAwIBAgIUUZAv02AXolnVgt/WMje3fDVO3zYwCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTMwMTU1NTEzWhgPMjEy\n\
NjExMDYxNTU1MTNaMBkxFzAVBgNVBAMMDnRlc3QgYXV0aG9yaXR5MFkwEwYHKoZI\n\
zj0CAQYIKoZIzj0DAQcDQgAE8egB8c/djrrMDb9uIznw+kWmpr+KiA1rciQ+XGmL\n\
R4ux48Csq6jgzPFBCEUQj+gf0LsNIEAh2PolPNc+0ZlemqMyMDAwDwYDVR0TAQH/\n\
BAUwAwEB/zAdBgNVHQ4EFgQUTeNsALCB0+yFvgPpNNK1pmBc9EcwCgYIKoZIzj0E\n\
AwIDRwAwRAIgCzDs8h6oQzb4KMAIjtDltikne8jp/WnndWHiqW2CylACIGrQIkRN\n\
O+NdLcfcbkoz6iaXsM1Tov48LZlBMeIQi39a\n\
-----END CERTIFICATE-----\n";

/// Of localhost and 127.0.0.1, signed by it.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBnTCCAUOgAwIBAgIUXqV1INMJ44z2VHhE670dkq/sj5IwCgYIKoZIzj0EAwIw\n\
GTEXMBUGA1UEAwwOdGVzdCBhdXRob3JpdHkwIBcNMjYxMTMwMTU1NTE0WhgPMjEy\n\
NjExMDYxNTU1MTRaMBQxEjAQBgNVBAMMCWxvY2FsaG9zdDBZMBMGByqGSM49AgEG\n\
CCqGSM49AwEHA0IABOP0aoMHnwa5znIlSyycFroqnsdPtINLOw+OD8G5qcB7nHz0\n\
Q2QbDo9zzgcy12OaWAI9bGnCxX3jub/kUfLoGJ2jbDBqMBoGA1UdEQQTMBGCCWxv\n\
Y2FsaG9zdIcEfwAAATAMBgNVHRMBAf8EAjAAMB0GA1UdDgQWBBTvzxIJzRvBHSJ1\n\
Tred3KYgdqLO6DAfBgNVHSMEGDAWgBRN42wAsIHT7IW+A+k00rWmYFz0RzAKBggq\n\
hkjOPQQDAgNIADBFAiAXzBEZVNnF3q8cE4Ix99IvnSWSS+kTDitxdLP+LgeiqwIh\n\
AL0V5IPTF5lITyZSkXCavXGNGSxHb43jeAOmIBI9UHPa\n\
-----END CERTIFICATE-----\n";

/// Its key.
const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1QJE8ssBCaYV7d+g\n\
NpWy7lI3vkyWWS352psRzPJtYI6hRANCAATj9GqDB58Guc5yJUssnBa6Kp7HT7SD\n\
SzsPjg/BuanAe5x89ENkGw6Pc84HMtdjmlgCPWxpwsV947m/5FHy6Bid\n\
-----END PRIVATE KEY-----\n";

/// Of another pair: that of the authority.
const OTHER_KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgVVu0RpAr46WQDRjN\n\
1mH4Eepjst2TZxVclyJLtEiyyrmhRANCAATx6AHxz92OuswNv24jOfD6Raamv4qI\n\
DWtyJD5caYtHi7HjwKyrqODM8UEIRRCP6B/Quw0gQCHY+iU81z7RmV6a\n\
-----END PRIVATE KEY-----\n";

/// A folder with all of it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        for (name, text) in
            [("ca", AUTHORITY), ("cert", CERTIFICATE), ("key", KEY), ("other", OTHER_KEY), ("empty", "")]
        {
            files.write(name, text);
        }
        files
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o640)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn server(&self, cert: &str, key: &str, ca: Option<(&str, bool)>) -> Result<Arc<ServerConfig>, TlsError> {
        let (cert, key) = (self.path(cert), self.path(key));
        let ca = ca.map(|(name, required)| (self.path(name), required));
        let clients = ca.as_ref().map(|(ca, required)| Clients { ca, required: *required });
        server(ServerFiles { cert: &cert, key: &key, clients })
    }
}

#[test]
fn what_cannot_be_used_is_said_with_its_setting() {
    let files = Files::new();
    assert!(files.server("cert", "key", None).is_ok());
    assert!(files.server("cert", "key", Some(("ca", true))).is_ok());
    files.write("broken", &CERTIFICATE.replace("END CERTIFICATE", "END"));
    files.write("torn", &CERTIFICATE.replacen("MII", "AAA", 1));
    files.write("locked", &KEY.replace("PRIVATE", "ENCRYPTED PRIVATE"));
    for (cert, key, ca, says) in [
        ("none", "key", None, "cannot read web.tls_server_config.cert_file: cannot open"),
        ("cert", "none", None, "cannot read web.tls_server_config.key_file: cannot open"),
        ("empty", "key", None, "holds no certificate"),
        ("key", "key", None, "holds no certificate"),
        ("broken", "key", None, "is no PEM"),
        ("torn", "key", None, "cert_file"),
        ("cert", "cert", None, "holds no private key"),
        ("cert", "locked", None, "a passphrase cannot be used"),
        ("cert", "other", None, "the certificate is for another key"),
        ("cert", "key", Some(("none", true)), "cannot read web.tls_server_config.client_ca_file"),
        ("cert", "key", Some(("torn", true)), "web.tls_server_config.client_ca_file"),
    ] {
        let message = files.server(cert, key, ca).unwrap_err().to_string();
        assert!(message.contains(says), "{cert} {key}: {message}");
    }
}

#[test]
fn a_key_that_everybody_may_read_is_refused() {
    let files = Files::new();
    for (mode, is_exposed) in [(0o600, false), (0o440, false), (0o644, true), (0o602, true)] {
        fs::set_permissions(files.path("key"), fs::Permissions::from_mode(mode)).unwrap();
        let read = files.server("cert", "key", None);
        assert_eq!(matches!(read, Err(TlsError::Exposed { .. })), is_exposed, "{mode:o}");
    }
    let message = {
        fs::set_permissions(files.path("key"), fs::Permissions::from_mode(0o644)).unwrap();
        files.server("cert", "key", None).unwrap_err().to_string()
    };
    assert!(message.contains(&format!("chmod o-rwx {}", files.path("key").display())), "{message}");
}

#[test]
fn a_certificate_whose_time_is_over_or_has_not_come_is_said() {
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap();
    let at = |year: u64| {
        let seconds = (year - 1970) * 31_556_952;
        doubt(&certificate, UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    };
    assert_eq!(at(2050), None);
    let expired = at(2200).unwrap();
    assert!(
        expired.starts_with("the certificate has expired ") && expired.contains(" days ago"),
        "{expired}"
    );
    assert!(at(2000).unwrap().contains("is the clock right?"));
}

/// What a client and a server come to, over no network.
async fn talk(server: Arc<ServerConfig>, trust: Trust<'_>, name: &str) -> std::io::Result<String> {
    let (near, far) = tokio::io::duplex(4096);
    let serving = tokio::spawn(async move {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"hello").await?;
        stream.shutdown().await
    });
    let client = Client::new(trust).unwrap();
    let mut stream = client.connect(Client::name(name).unwrap(), near).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    serving.await??;
    Ok(said)
}

#[tokio::test]
async fn a_server_is_trusted_if_its_authority_is_and_its_name_is_right() {
    let files = Files::new();
    let server = files.server("cert", "key", None).unwrap();
    let (ca, cert) = (files.path("ca"), files.path("cert"));
    for name in ["localhost", "127.0.0.1"] {
        assert_eq!(talk(Arc::clone(&server), Trust::File(&ca), name).await.unwrap(), "hello");
    }
    let refused = |error: std::io::Error| why(&error).unwrap_or_else(|| panic!("{error}"));
    let elsewhere = talk(Arc::clone(&server), Trust::File(&ca), "example.org").await.unwrap_err();
    assert_eq!(refused(elsewhere), "it is for another name");
    // It is signed by the authority, and not by itself.
    let stranger = talk(Arc::clone(&server), Trust::File(&cert), "example.org").await.unwrap_err();
    assert_eq!(refused(stranger), "it is signed by nobody whom this host, or ca_file, trusts");
    files.write("key", OTHER_KEY);
    let authority = files.server("ca", "key", None).unwrap();
    let authority = talk(authority, Trust::File(&ca), "localhost").await.unwrap_err();
    assert!(refused(authority).contains("CA:TRUE"));
}

#[tokio::test]
async fn who_must_have_a_certificate_is_not_served_without_one() {
    let files = Files::new();
    let ca = files.path("ca");
    let required = files.server("cert", "key", Some(("ca", true))).unwrap();
    let error = talk(required, Trust::File(&ca), "localhost").await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    let asked = files.server("cert", "key", Some(("ca", false))).unwrap();
    assert_eq!(talk(asked, Trust::File(&ca), "localhost").await.unwrap(), "hello");
}

#[test]
fn whom_to_trust_must_be_known() {
    let files = Files::new();
    for (name, says) in
        [("none", "cannot read ca_file"), ("empty", "ca_file"), ("key", "holds no certificate")]
    {
        let message = Client::new(Trust::File(&files.path(name))).unwrap_err().to_string();
        assert!(message.contains(says), "{name}: {message}");
    }
}
