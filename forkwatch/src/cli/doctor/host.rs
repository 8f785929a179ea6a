//! How the host is set up, as far as it matters.

use std::{fs, io};

use super::check::Check;
use crate::{
    api::{Health, PREFIX},
    client::{AskError, Watch},
    host::{
        cgroup_tree,
        mounts::{CgroupTrees, mounts},
    },
};

/// Looks at everything that needs no trial.
pub(super) fn examine() -> Vec<Check> {
    let mut checks = vec![
        lockdown(read("/sys/kernel/security/lockdown")),
        unprivileged_bpf(read("/proc/sys/kernel/unprivileged_bpf_disabled")),
        perf_paranoia(read("/proc/sys/kernel/perf_event_paranoid")),
        jit(read("/proc/sys/net/core/bpf_jit_enable")),
        statistics(read("/proc/sys/kernel/bpf_stats_enabled")),
        daemon(Watch::at(None).get(&format!("{PREFIX}/health"))),
    ];
    match mounts() {
        Ok(mounts) => {
            checks.push(cgroups(mounts.cgroups, cgroup_tree::find("/").err().map(|error| error.to_string())));
            checks.push(hidepid(mounts.hidepid.as_deref()));
        }
        Err(error) => checks.push(Check::unknown("cgroups", "Mounts", format!("cannot be read: {error}"))),
    }
    checks
}

fn read(path: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.trim().to_owned())
}

/// Whether a daemon runs here, and how it is. None need.
fn daemon(health: Result<Health, AskError>) -> Check {
    let (id, title) = ("daemon", "Daemon");
    match health {
        Ok(health) if !health.watching => Check::limited(
            id,
            title,
            "it runs, but does not watch now: a part of it hangs, or it is starting".to_owned(),
            "see its log: journalctl -u forkwatch",
        ),
        Ok(Health { store, began, .. }) => match store.trouble {
            Some(why) => Check::limited(
                id,
                title,
                format!("it watches since {began}, but does not keep all findings: {why}"),
                "make room, or set findings.store",
            ),
            None => Check::ok(
                id,
                title,
                format!("it watches since {began}, and keeps {} findings", store.findings),
            ),
        },
        Err(AskError::Nobody { .. }) => {
            Check::ok(id, title, "none answers: forkwatch findings has nothing newer")
        }
        Err(error) => Check::unknown(id, title, error.to_string()),
    }
}

/// The file names all modes, with the one in force in brackets (security/lockdown/lockdown.c).
fn lockdown(modes: io::Result<String>) -> Check {
    let (id, title) = ("lockdown", "Lockdown");
    match modes {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::ok(id, title, "none: this kernel has no lockdown, or securityfs is not mounted")
        }
        Err(error) => Check::unknown(id, title, format!("the mode cannot be read: {error}")),
        Ok(modes) => {
            let mode = modes.split_once('[').and_then(|(_, rest)| rest.split(']').next()).unwrap_or(&modes);
            let consequence = match mode {
                "confidentiality" => {
                    "forkwatch reads the kernel by typed loads alone, which it permits; tracefs it may refuse"
                }
                _ => "nothing that forkwatch does is forbidden by it",
            };
            Check::ok(id, title, format!("{}: {consequence}", mode.escape_debug()))
        }
    }
}

fn unprivileged_bpf(value: io::Result<String>) -> Check {
    let (id, title) = ("unprivileged-bpf", "kernel.unprivileged_bpf_disabled");
    sysctl(id, title, value, |value| match value {
        "0" => Check::limited(
            id,
            title,
            "0: any user may load eBPF programs, of which forkwatch has no need",
            "for the host's safety: sysctl kernel.unprivileged_bpf_disabled=2",
        ),
        _ => Check::ok(id, title, format!("{value}: eBPF is for the privileged, as it should be")),
    })
}

fn perf_paranoia(value: io::Result<String>) -> Check {
    let (id, title) = ("perf-paranoia", "kernel.perf_event_paranoid");
    sysctl(id, title, value, |value| {
        Check::ok(
            id,
            title,
            format!("{value}; of no matter, except that clone calls by tracepoints need CAP_PERFMON"),
        )
    })
}

fn jit(value: io::Result<String>) -> Check {
    let (id, title) = ("bpf-jit", "net.core.bpf_jit_enable");
    sysctl(id, title, value, |value| match value {
        "0" => Check::limited(
            id,
            title,
            "0: eBPF programs are interpreted, which makes each fork several times dearer, and forbids fentry",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        _ => Check::ok(id, title, format!("{value}: eBPF programs run as machine code")),
    })
}

fn statistics(value: io::Result<String>) -> Check {
    let (id, title) = ("bpf-statistics", "kernel.bpf_stats_enabled");
    sysctl(id, title, value, |value| match value {
        "0" => Check::ok(
            id,
            title,
            "0: the metrics forkwatch_bpf_program_run* stand still; 1, or the daemon's kernel.program_statistics, \
             moves them, for two clock reads each time an eBPF program runs",
        ),
        _ => Check::ok(id, title, format!("{value}: the metrics forkwatch_bpf_program_run* are kept")),
    })
}

fn sysctl(
    id: &'static str,
    title: &'static str,
    value: io::Result<String>,
    check: impl FnOnce(&str) -> Check,
) -> Check {
    match value {
        Ok(value) => check(&value.escape_debug().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Check::unknown(id, title, "this kernel has no such setting")
        }
        Err(error) => Check::unknown(id, title, format!("cannot be read: {error}")),
    }
}

/// `hindrance` is why cgroups cannot be looked up by path.
fn cgroups(trees: CgroupTrees, hindrance: Option<String>) -> Check {
    let (id, title) = ("cgroups", "Cgroups");
    let (found, advice) = match (trees, hindrance) {
        (CgroupTrees::Unified, None) => {
            return Check::ok(id, title, "version 2: units and containers are named, --cgroup works");
        }
        (CgroupTrees::Unified | CgroupTrees::Hybrid, Some(why)) => {
            return Check::limited(id, title, why, "until then --cgroup and the counts by unit do not work");
        }
        (CgroupTrees::Hybrid, None) => (
            "versions 1 and 2 side by side: units and containers are named; --cgroup and the counts by unit see \
             the version 2 tree alone",
            "systemd.unified_cgroup_hierarchy=1 on the kernel's command line leaves version 2 alone",
        ),
        (CgroupTrees::Legacy, _) => (
            "version 1 alone: units and containers are named; --cgroup and the counts by unit do not work",
            "mount version 2 beside it, or boot with systemd.unified_cgroup_hierarchy=1",
        ),
        (CgroupTrees::Absent, _) => (
            "none mounted here: --cgroup and the counts by unit do not work",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
    };
    Check::limited(id, title, found, advice)
}

fn hidepid(value: Option<&str>) -> Check {
    let (id, title) = ("hidepid", "/proc");
    match value {
        None => Check::ok(id, title, "shows the processes of all users"),
        Some(value) => Check::limited(
            id,
            title,
            format!(
                "mounted with hidepid={}: other users' processes show with CAP_SYS_PTRACE only",
                value.escape_debug()
            ),
            "nothing as root; else grant CAP_SYS_PTRACE",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};

    #[test]
    fn the_mode_of_lockdown_in_force_is_told() {
        let check = lockdown(Ok("none integrity [confidentiality]".to_owned()));
        assert!(check.found.starts_with("confidentiality: "), "{}", check.found);
        assert_eq!(lockdown(Err(io::ErrorKind::NotFound.into())).status, Status::Ok);
        assert_eq!(lockdown(Err(io::ErrorKind::PermissionDenied.into())).status, Status::Unknown);
    }

    #[test]
    fn settings_that_cost_are_limits_and_unreadable_ones_unknown() {
        assert_eq!(jit(Ok("0".to_owned())).status, Status::Limited);
        assert_eq!(jit(Ok("1".to_owned())).status, Status::Ok);
        assert_eq!(jit(Err(io::ErrorKind::PermissionDenied.into())).status, Status::Unknown);
        assert_eq!(unprivileged_bpf(Ok("0".to_owned())).status, Status::Limited);
        assert_eq!(unprivileged_bpf(Ok("2".to_owned())).status, Status::Ok);
    }

    #[test]
    fn only_the_unified_tree_is_no_limit() {
        assert_eq!(cgroups(CgroupTrees::Unified, None).status, Status::Ok);
        for trees in [CgroupTrees::Hybrid, CgroupTrees::Legacy, CgroupTrees::Absent] {
            assert_eq!(cgroups(trees, None).status, Status::Limited);
        }
        let namespace = cgroups(CgroupTrees::Unified, Some("a cgroup namespace".to_owned()));
        assert_eq!((namespace.status, namespace.found.as_str()), (Status::Limited, "a cgroup namespace"));
    }
}
