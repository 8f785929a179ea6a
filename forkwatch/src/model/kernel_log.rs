//! The log of what the kernel side decides.

/// The target of its lines, so that they can be told from forkwatch's own.
pub const TARGET: &str = "forkwatch::kernel_log";
