//! The limit of locked memory: before 5.11 maps and programs count as such (commit 97306be45fbe), and it may be low.

use std::{fs, io, time::Duration};

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

use super::options::Options;
use crate::release::Release;

/// The first kernel that counts eBPF memory in cgroups instead.
const UNLIMITED: Release = Release(5, 11);
/// What is not asked to become smaller: the ring in bytes, and the children that are followed.
const LEAST: (u32, u32) = (64 << 10, 1024);
/// How long the kernel may take to count out the maps of a load that failed: it frees them in a work queue
/// (`bpf_map_free_deferred`, kernel/bpf/syscall.c), within some milliseconds.
pub(super) const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Raises the limit as far as it goes. All the way needs `CAP_SYS_RESOURCE`; where that is missing the maps may still
/// fit, so a failure is no error yet.
pub(super) fn raise(release: Release) {
    if release >= UNLIMITED {
        return;
    }
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).or_else(|_| {
        let (_, hard) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
        setrlimit(Resource::RLIMIT_MEMLOCK, hard, hard)
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of locked memory stays as it is");
    }
}

/// Whether it was this limit that made the kernel refuse a map or a program: it says EPERM then
/// (`bpf_charge_memlock`, kernel/bpf/syscall.c), as it does for want of privilege.
pub(super) fn refuses(error: &io::Error) -> bool {
    let unlimited = || getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == RLIM_INFINITY);
    let may_load = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        effective(&status).is_some_and(suffices)
    };
    error.raw_os_error() == Some(libc::EPERM) && Release::running() < UNLIMITED && !unlimited() && may_load()
}

/// What may fit where these options did not; none where no less will do.
pub(super) fn smaller(options: &Options) -> Option<Options> {
    let halve = |size: u32, least: u32| (size / 2).max(least).min(size);
    let smaller = Options {
        ring_bytes: halve(options.ring_bytes, LEAST.0),
        max_children: halve(options.max_children, LEAST.1),
        ..*options
    };
    (smaller != *options).then_some(smaller)
}

/// The effective capabilities, from `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether these capabilities suffice to load (include/uapi/linux/capability.h).
const fn suffices(effective: u64) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON_AND_BPF: u64 = 1 << 38 | 1 << 39;
    effective & SYS_ADMIN != 0 || effective & PERFMON_AND_BPF == PERFMON_AND_BPF
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_halved_until_no_less_will_do() {
        let sizes = |options: &Options| (options.ring_bytes, options.max_children);
        let first = Options { ring_bytes: 256 << 10, max_children: 16_384, ..Options::default() };
        let all: Vec<_> =
            std::iter::successors(Some(first), smaller).map(|options| sizes(&options)).collect();
        assert_eq!(
            all,
            [(256 << 10, 16_384), (128 << 10, 8192), (64 << 10, 4096), (64 << 10, 2048), (64 << 10, 1024)]
        );
    }

    #[test]
    fn what_is_small_by_choice_is_not_made_larger() {
        let chosen = Options { ring_bytes: 4096, max_children: 1500, ..Options::default() };
        let smaller_one = smaller(&chosen).unwrap();
        assert_eq!((smaller_one.ring_bytes, smaller_one.max_children), (4096, 1024));
        assert_eq!(smaller(&smaller_one), None);
    }

    #[test]
    fn the_limit_is_blamed_only_of_those_who_may_load() {
        let may_load = |mask: &str| effective(&format!("Name:\tx\nCapEff:\t{mask}\n")).is_some_and(suffices);
        assert!(may_load("000001ffffffffff") && may_load("000000c000000000") && may_load("0000000000200000"));
        assert!(
            !may_load("0000000000000000") && !may_load("0000008000000000") && !may_load("0000004000000000")
        );
        assert!(!may_load("nonsense") && effective("Name:\tx\n").is_none());
    }

    #[test]
    fn another_refusal_is_not_blamed_on_the_limit() {
        assert!(!refuses(&io::Error::from_raw_os_error(libc::EINVAL)));
    }
}
