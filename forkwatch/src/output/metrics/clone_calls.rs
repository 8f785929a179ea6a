//! The families of the clone family's system calls, which are there only while these are watched (`kernel.clone_calls`).

use std::collections::BTreeMap;

use forkwatch_ebpf::{CLONE_ERRORS, CloneCalls, call};
use prometheus::proto::MetricFamily;

use super::family::{Buckets, Family};

/// Names of what a call of the clone family makes, by [`call`].
const CALLS: [&str; call::COUNT] = ["fork", "sharing", "thread"];
/// Names of the errors, by [`CLONE_ERRORS`].
const ERRORS: [&str; CLONE_ERRORS.len() + 1] = ["EAGAIN", "ENOMEM", "EINVAL", "ENOSPC", "other"];

const SECONDS: Family<1> = Family::new(
    "forkwatch_clone_call_duration_seconds",
    "Duration of successful system calls of the clone family, by what they created (kernel.clone_calls).",
    ["kind"],
);
const FAILURES: Family<1> = Family::new(
    "forkwatch_clone_call_failures_total",
    "Failed system calls of the clone family, by error (kernel.clone_calls).",
    ["errno"],
);
const CAUSES: Family<2> = Family::new(
    "forkwatch_clone_call_failure_causes_total",
    "Failed clone-family system calls whose record arrived, by error and the limit that was reached.",
    ["errno", "cause"],
);

/// The families that a reading of the kernel's counters gives.
pub(super) fn families(calls: &CloneCalls) -> [MetricFamily; 2] {
    let CloneCalls { durations, failures } = calls;
    let failures = ERRORS.iter().zip(failures).map(|(errno, count)| ([*errno], *count));
    [
        SECONDS.histograms(
            CALLS.iter().zip(durations).map(|(call, durations)| ([*call], Buckets::of_durations(durations))),
        ),
        FAILURES.counters(failures),
    ]
}

/// How often a call failed, by error and by the limit that was reached.
#[derive(Default)]
pub(super) struct Causes(BTreeMap<(&'static str, &'static str), u64>);

impl Causes {
    pub(super) fn count(&mut self, errno: u32, cause: &'static str) {
        *self.0.entry((errno_name(errno), cause)).or_default() += 1;
    }

    pub(super) fn family(&self) -> MetricFamily {
        CAUSES.counters(self.0.iter().map(|((errno, cause), count)| ([*errno, *cause], *count)))
    }
}

fn errno_name(errno: u32) -> &'static str {
    let known = CLONE_ERRORS.iter().zip(ERRORS).find(|(number, _)| **number == errno);
    known.map_or("other", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_follow_the_wire_format() {
        assert_eq!(
            (CALLS[call::COPYING], CALLS[call::SHARING], CALLS[call::THREAD]),
            ("fork", "sharing", "thread")
        );
    }

    #[test]
    fn errors_have_their_names_and_the_rest_is_other() {
        let names = [libc::EAGAIN, libc::ENOMEM, libc::EINVAL, libc::ENOSPC, libc::EPERM]
            .map(|errno| errno_name(errno.unsigned_abs()));
        assert_eq!(names, ERRORS);
    }
}
