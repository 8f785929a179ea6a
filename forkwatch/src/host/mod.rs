//! All that reads `/proc` and the cgroup tree. It answers questions of fact and judges nothing.
//!
//! What a process shows of itself is bounded in bytes and count before it is kept, and every answer about a process
//! rests on its start time, compared before and after reading: a pid alone names nobody for long.

mod absence;
mod bytes;
mod call;
pub mod cgroup;
pub mod cgroup_tree;
mod client_libraries;
pub mod clock;
mod descriptors;
mod evidence;
mod fdinfo;
mod file;
#[cfg(test)]
mod forked;
mod futex;
mod inventory;
mod kernel_flags;
mod leaks;
mod limits;
mod locks;
mod maps;
mod memory;
mod memory_users;
mod mountinfo;
pub mod mounts;
mod net;
mod place;
mod program;
mod provenance;
mod scan;
pub mod sight;
mod socket;
mod sockets;
mod stack;
mod stat;
mod status;
mod sweep;
mod task;
mod threads_seen;

pub use evidence::answer;
pub use inventory::inventory;
pub use limits::{Limits, own_memory};
pub use program::{program, uid};
pub use scan::{Process, ScanError, descendants, find, processes};
pub use sweep::created_since;
