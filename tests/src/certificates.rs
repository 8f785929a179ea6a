//! Certificates of an authority that nobody knows, made by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::host::skip;

/// What openssl reads instead of the host's configuration, which may add what is not wanted.
const CONFIGURATION: &str = "[req]\ndistinguished_name = dn\n[dn]\n";

/// A certificate authority, and what it has signed.
pub struct Authority(TempDir);

/// A certificate and its key.
pub struct Pair {
    /// The file with the certificate.
    pub cert: PathBuf,
    /// The file with the key.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one; skips the test where there is no openssl.
    pub fn new() -> Result<Self> {
        let authority = Self(tempfile::tempdir()?);
        fs::write(authority.path("openssl.cnf"), CONFIGURATION)?;
        // Recent versions of Python want the second.
        let may_sign = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"];
        authority.make("ca", "authority", &["-addext", may_sign[0], "-addext", may_sign[1]])?;
        Ok(authority)
    }

    /// The file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Signs a certificate for this host's loopback address, with this name in it, in files of that name. Those that there
    /// are are replaced.
    pub fn sign(&self, name: &str) -> Result<Pair> {
        self.sign_for(name, "IP:127.0.0.1")
    }

    /// The same, for a server of this name.
    pub fn sign_for_server(&self, name: &str) -> Result<Pair> {
        self.sign_for(name, &format!("DNS:{name}"))
    }

    fn sign_for(&self, name: &str, whom: &str) -> Result<Pair> {
        let (ca, key) = (self.text("ca.pem"), self.text("ca.key"));
        let leaf = ["-CA", &ca, "-CAkey", &key, "-addext", "basicConstraints=critical,CA:FALSE"];
        self.make(name, name, &[&leaf[..], &["-addext", &format!("subjectAltName={whom}")]].concat())?;
        Ok(Pair { cert: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) })
    }

    fn make(&self, file: &str, name: &str, more: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", "2", "-subj", &format!("/CN={name}"), "-config", &self.text("openssl.cnf")]);
        command.args(["-out", &self.text(&format!("{file}.pem"))]);
        command.args(["-keyout", &self.text(&format!("{file}.key"))]).args(more);
        let output = match command.stdin(Stdio::null()).output() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return skip("needs openssl"),
            output => output.context("cannot run openssl")?,
        };
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("nrecognized") || said.contains("nknown option") {
            return skip("needs openssl 3.0 or later");
        }
        ensure!(output.status.success(), "openssl: {said}");
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

/// Puts one pair in the place of another.
pub fn replace(old: &Pair, new: &Pair) -> Result<()> {
    let put = |from: &Path, to: &Path| fs::rename(from, to).context("cannot replace a certificate");
    put(&new.cert, &old.cert)?;
    put(&new.key, &old.key)
}
