//! What a daemon exposes.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, ensure};

/// Where a daemon listens if nothing else is said.
const ADDRESS: &str = "127.0.0.1:10047";

/// A page of metrics.
pub(crate) struct Metrics(String);

impl Metrics {
    /// Asks for it.
    pub(crate) fn scrape() -> Result<Self> {
        let mut stream = TcpStream::connect(ADDRESS).context("cannot reach the daemon")?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: guest\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let head = answer.lines().next().unwrap_or_default();
        ensure!(head.contains(" 200 "), "the daemon answered {head:?}");
        Ok(Self(answer))
    }

    /// The sum of the samples of a name whose labels hold this.
    pub(crate) fn sum(&self, name: &str, label: &str) -> f64 {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let is_it = (labels.is_empty() || labels.starts_with('{')) && labels.contains(label);
            value.parse::<f64>().ok().filter(|_| is_it)
        };
        self.0.lines().filter_map(sample).sum()
    }
}
