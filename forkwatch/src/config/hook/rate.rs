//! How often a hook may run.

use std::time::Duration;

use crate::config::value;

/// So many times in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many times.
    pub count: u32,
    /// In how long.
    pub per: Duration,
}

impl Rate {
    /// Where nothing is said.
    pub const USUAL: Self = Self { count: 10, per: Duration::from_secs(60) };
    const MOST: u32 = 1000;

    /// Reads `10/1m`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no rate: write how often in how long, like \"10/1m\", 1 to {} times",
                Self::MOST
            )
        };
        let (count, per) = text.split_once('/').ok_or_else(wrong)?;
        let count = count.trim().parse().ok().filter(|count| (1..=Self::MOST).contains(count));
        Ok(Self { count: count.ok_or_else(wrong)?, per: value::hook_interval(per.trim())? })
    }

    /// As it is written.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.count, value::written(self.per))
    }
}
