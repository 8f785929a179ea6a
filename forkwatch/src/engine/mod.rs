//! The running watch: what starts it, the loop that drives it, who it asks, what it records, and how it stands; and what
//! drives the same core once.

mod alarm;
mod budget;
mod collector;
pub(crate) mod detectors;
mod feed;
mod inquiries;
mod kernel_log;
mod losses;
pub(crate) mod memory_bound;
pub(crate) mod metric_sources;
mod next_fork;
mod outlet;
pub(crate) mod overhear;
pub(crate) mod pipeline;
pub(crate) mod recorder;
pub(crate) mod replay;
pub(crate) mod session;
mod sleepers;
pub(crate) mod snapshot;
pub(crate) mod standing;
pub(crate) mod targets;
pub(crate) mod vouch;

pub(crate) use collector::Asker;
