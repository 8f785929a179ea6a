//! A daemon on a port of its own.

use std::{fs, net::SocketAddr, process::Command};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    binary,
    forkwatch::Forkwatch,
    metrics::{Scrape, free_address},
};

/// A running daemon and where it serves its metrics.
pub struct Daemon {
    /// The daemon itself.
    pub forkwatch: Forkwatch,
    /// Where it listens.
    pub address: SocketAddr,
    /// Holds its configuration.
    folder: TempDir,
}

impl Daemon {
    /// Starts one with this configuration and these arguments; returns when it watches.
    pub fn start(configuration: &str, arguments: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("forkwatch.toml");
        fs::write(&file, configuration)?;
        let address = free_address()?;
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("daemon").arg("--config").arg(&file).arg(format!("--web.listen-address={address}"));
        let forkwatch = Forkwatch::start(command.args(arguments))?;
        Ok(Self { forkwatch, address, folder })
    }

    /// Replaces its configuration, which it takes on at the next SIGHUP.
    pub fn configure(&self, configuration: &str) -> Result<()> {
        Ok(fs::write(self.folder.path().join("forkwatch.toml"), configuration)?)
    }

    /// The sum of all series of a metric whose labels contain this.
    pub fn metric(&self, name: &str, labels: &str) -> Result<f64> {
        Ok(Scrape::of(self.address)?.sum(name, labels))
    }

    /// Interrupts it and checks that it ends well.
    pub fn stop(self) -> Result<()> {
        self.forkwatch.stop().map(drop)
    }
}
