//! What the running kernel has, by lists of its own that forkwatch does not read: what forkwatch says of a kernel is
//! held against these.

use std::{collections::HashSet, fs, sync::OnceLock};

use anyhow::{Context as _, Result};

/// By which BPF programs can be attached to functions (fentry and fexit): ftrace's direct call, which x86-64 has had
/// since Linux 5.5 and arm64 since 6.4.
const DIRECT_CALL: &str = "register_ftrace_direct";
/// Begins the name of the function of each tracepoint, since Linux 5.10 (linux/tracepoint.h). tracefs has a list of
/// them too, which `lockdown=confidentiality` keeps empty.
const TRACEPOINT: &str = "__traceiter_";

/// Those of the kernel's symbols that are asked for here.
fn symbols() -> Result<&'static HashSet<String>> {
    static SYMBOLS: OnceLock<HashSet<String>> = OnceLock::new();
    if let Some(symbols) = SYMBOLS.get() {
        return Ok(symbols);
    }
    let all = fs::read_to_string("/proc/kallsyms").context("cannot read /proc/kallsyms")?;
    let names = all.lines().filter_map(|line| line.split_ascii_whitespace().nth(2));
    let wanted = names.filter(|name| *name == DIRECT_CALL || name.starts_with(TRACEPOINT));
    Ok(SYMBOLS.get_or_init(|| wanted.map(str::to_owned).collect()))
}

/// Whether the kernel lets BPF programs be attached to its functions.
pub fn lets_functions_be_watched() -> Result<bool> {
    Ok(symbols()?.contains(DIRECT_CALL))
}

/// Whether there is a tracepoint of this name.
pub fn has_tracepoint(name: &str) -> Result<bool> {
    Ok(symbols()?.contains(&[TRACEPOINT, name].concat()))
}

/// Whether the system calls' tracepoints can be attached to: by ids that stand in tracefs, which
/// `lockdown=confidentiality` keeps to itself.
pub fn tells_tracepoint_ids() -> bool {
    fs::read("/sys/kernel/tracing/events/syscalls/sys_enter_clone/id").is_ok()
}
