//! All that reads `/proc` and the cgroup tree. It answers questions of fact and judges nothing.
//!
//! What a process shows of itself is bounded in bytes and count before it is kept, and every answer about a process
//! rests on its start time, compared before and after reading: a pid alone names nobody for long.

pub mod cgroup;
pub mod cgroup_tree;
pub mod clock;
mod evidence;
mod fdinfo;
mod file;
mod futex;
mod kernel_flags;
mod limits;
mod locks;
pub mod mounts;
mod place;
mod program;
mod scan;
mod sockets;
#[cfg_attr(not(test), expect(dead_code, reason = "nothing asks for a stack yet"))]
mod stack;
mod stat;
mod status;
mod sweep;
mod task;

pub use evidence::answer;
pub use futex::{FutexWait, futex_wait};
pub use limits::Limits;
pub use program::program;
pub use scan::{Process, ScanError, descendants, find, processes};
