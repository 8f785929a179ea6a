//! What of this host decides whether a test can run.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Why a test cannot run here. As the error of a test it makes the test skipped, not failed.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Skips the test.
pub fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Skip(reason.into()).into())
}

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).to_owned()
}

/// Skips the test unless programs can be loaded into this kernel. Only what is outside forkwatch's own power is
/// asked: if it does not start although this passes, that is a failure.
pub fn needs_bpf() -> Result<()> {
    /// `CAP_BPF` and `CAP_PERFMON` of linux/capability.h.
    const NEEDED: u64 = 1 << 39 | 1 << 38;
    let status = fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = u64::from_str_radix(effective.context("/proc/self/status has no CapEff")?.trim(), 16)?;
    if effective & NEEDED != NEEDED {
        return skip("needs root, or CAP_BPF and CAP_PERFMON");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("this kernel has no BTF (/sys/kernel/btf/vmlinux)");
    }
    Ok(())
}

/// Whether `lockdown=confidentiality` keeps programs from copying the kernel's memory (`kernel_lockdown(7)`).
pub fn is_confidential() -> bool {
    lockdown() == "confidentiality"
}

/// How far the kernel is locked down: `none`, which is also said where it cannot be, `integrity` or `confidentiality`.
pub fn lockdown() -> String {
    let modes = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    modes.split(['[', ']']).nth(1).unwrap_or("none").to_owned()
}

/// Skips the test unless it runs as root.
pub fn needs_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { skip("needs root") }
}

/// Skips a test where files of the host are not those that the tests see: in a mount namespace of their own.
pub fn needs_the_hosts_mounts() -> Result<()> {
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt"));
    match (mounts("self"), mounts("1")) {
        (Ok(own), Ok(first)) if own == first => Ok(()),
        _ => skip("the tests run in a mount namespace of their own"),
    }
}
