//! All that touches BPF. Knows the plain data types, and nothing of what is made of them.

mod attach;
pub mod btf;
pub mod clone_calls;
mod decode;
mod error;
pub mod hooks;
mod kernel_log;
pub mod layout;
mod load;
mod maps;
mod memory_lock;
mod on_demand;
mod options;
mod orders;
pub mod probe;
mod programs;
mod ring;
pub mod self_test;
mod sleepers;
mod statistics;
mod trial;
mod wire;

pub use crate::release::Release;
pub use error::KernelError;
pub use hooks::{Hooks, NoHook, SignalHook, SocketHook};
pub use kernel_log::{KernelLog, Line as LogLine, Speakers, Tally as LogTally};
pub use load::{Kernel, Seed};
pub use options::{Cgroup, Filter, Options, Stream};
pub use orders::Living;
pub use ring::{DRAIN_AFTER, Ring};
pub use statistics::keep as keep_statistics;
