//! All that reads `/proc` and the cgroup tree. It answers questions of fact and judges nothing.
//!
//! What a look into a process waits for, that process may decide: its memory may lie in a file system that never answers.
//! So [`answer`], [`inventory()`], [`held_now`], [`sight`], [`program()`] and [`Limits`] belong into a reader (`reader/`), where
//! [`attend_at`] has it said whom it looks into. The rest reads what never waits, and is for everybody.
//!
//! What a process shows of itself is bounded in bytes and count before it is kept, and every answer about a process
//! rests on its start time, compared before and after reading: a pid alone names nobody for long.

mod absence;
mod answering;
pub mod asleep;
mod attention;
mod awaited;
mod budget;
mod bytes;
mod call;
mod caller;
pub mod cgroup;
pub mod cgroup_tree;
mod client_libraries;
pub mod clock;
mod descriptors;
mod escaped;
mod evidence;
mod family;
mod fdinfo;
mod file;
mod file_systems;
#[cfg(test)]
mod forked;
mod futex;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod generators;
mod held_locks;
mod host_mounts;
#[cfg(any(test, fuzzing))]
mod image;
mod inheritance;
mod inventory;
mod kcmp;
mod kernel_flags;
mod leaks;
mod left_locks;
mod limits;
mod lock_line;
mod locks;
mod maps;
mod memory;
mod memory_users;
mod mountinfo;
pub mod mounts;
mod net;
mod occupation;
mod owner;
mod pidfd;
mod pids;
mod place;
mod program;
mod provenance;
mod rollup;
mod runs;
mod scan;
mod scope;
mod shared_files;
pub mod sight;
mod slept;
mod socket;
mod sockets;
mod stack;
mod stat;
mod status;
mod sweep;
mod target_file;
mod task;
mod threads_seen;
pub mod traced;
mod tree;
mod unflushed;
mod workers;
mod written;

pub use absence::exists;
pub use attention::attend_at;
pub use evidence::{answer, left_behind, sweep};
pub use held_locks::held_now;
pub use inventory::{begin_anew, inventory};
pub use limits::{Limits, own_memory};
pub use memory_users::memory_users;
pub use owner::{Owner, owner};
pub use pidfd::pidfd_open;
pub use pids::created_since;
pub use program::program;
pub use runs::{Runs, runs};
pub use scan::{Process, ScanError, descendants, find, forked_children, look_again, processes};
pub use scope::Scope;
pub use stat::may_run;
pub use tree::tree;
pub use written::{look as look_at_written, streams};
