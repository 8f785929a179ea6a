//! All that touches BPF. Knows the plain data types, and nothing of what is made of them.

mod attach;
pub mod btf;
mod clone_calls;
mod decode;
mod error;
mod kernel_log;
pub mod layout;
mod load;
mod maps;
mod memory_lock;
pub mod offers;
mod on_demand;
mod options;
mod probes;
mod programs;
mod ring;
pub mod self_test;
mod sleepers;
mod statistics;
mod switch;
mod trial;
mod ways;
mod wire;

pub use crate::release::Release;
pub use clone_calls::tracefs;
pub use error::KernelError;
pub use kernel_log::{KernelLog, Line as LogLine, Speakers, Tally as LogTally};
pub use load::{Kernel, Seed};
pub use on_demand::Living;
pub use options::{Cgroup, Filter, Options, Stream};
pub use probes::{Probe, Way};
pub use ring::{DRAIN_AFTER, Ring};
pub use statistics::keep as keep_statistics;
pub use ways::{NoProbe, Probes};
