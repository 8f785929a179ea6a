//! What the running kernel has, by lists of its own that forkwatch does not read: what forkwatch says of a kernel is
//! held against these.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Whether the kernel lets BPF programs be attached to its functions (fentry and fexit). What carries them is ftrace's
/// direct call, which x86-64 has had since Linux 5.5 and arm64 since 6.4.
pub fn lets_functions_be_watched() -> Result<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    let mut names = symbols.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    Ok(names.any(|name| name == "register_ftrace_direct"))
}

/// Whether there is a tracepoint, by its group and name in tracefs.
pub fn has_tracepoint(name: &str) -> bool {
    Path::new("/sys/kernel/tracing/events").join(name).exists()
}

/// Whether the system calls' tracepoints can be attached to: by ids that stand in tracefs, which
/// `lockdown=confidentiality` keeps to itself.
pub fn tells_tracepoint_ids() -> bool {
    fs::read("/sys/kernel/tracing/events/syscalls/sys_enter_clone/id").is_ok()
}
