//! Reading forkwatch's metrics, and the kernel's own count beside them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context, Result};

use crate::{http, wait::until};

/// A scrape in the text format.
pub struct Scrape(pub String);

impl Scrape {
    /// Asks a daemon.
    pub fn of(address: SocketAddr) -> Result<Self> {
        Ok(Self(http::get(TcpStream::connect(address).context("nobody listens")?, "/metrics")?))
    }

    /// The sum of all series of a metric whose labels contain this.
    pub fn sum(&self, metric: &str, labels: &str) -> f64 {
        let value = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, with) = series.split_once('{').unwrap_or((series, ""));
            (name == metric && with.contains(labels)).then(|| value.parse::<f64>().ok()).flatten()
        };
        self.0.lines().filter_map(value).sum()
    }

    /// All tasks created, by forkwatch's count.
    pub fn tasks(&self) -> f64 {
        self.sum("forkwatch_forks_total", "")
    }
}

/// All tasks created since boot, by the kernel's count (`processes` of `/proc/stat`).
pub fn tasks_of_kernel() -> Result<f64> {
    let text = fs::read_to_string("/proc/stat")?;
    let count = text.lines().find_map(|line| line.strip_prefix("processes "));
    Ok(count.context("/proc/stat has no processes")?.parse()?)
}

/// A scrape, and the kernel's count at the same moment: no task was created during the scrape.
pub fn both(address: SocketAddr) -> Result<(Scrape, f64)> {
    until("a moment in which nothing forks", || {
        let before = tasks_of_kernel()?;
        let scrape = Scrape::of(address)?;
        Ok((tasks_of_kernel()? - before < 0.5).then_some((scrape, before)))
    })
}

/// An address on which nobody listens. Another may take it; the system hands out others first.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_name_and_label() {
        let scrape = Scrape("# TYPE a counter\na{x=\"1\"} 2\na{x=\"2\"} 3\nab 7\nb 1e3\n".to_owned());
        assert!((scrape.sum("a", "") - 5.0).abs() < 1e-9);
        assert!((scrape.sum("a", "x=\"2\"") - 3.0).abs() < 1e-9);
        assert!((scrape.sum("b", "") - 1000.0).abs() < 1e-9);
    }
}
