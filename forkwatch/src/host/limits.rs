//! Which limit made a call of the clone family fail.
//!
//! The kernel gives an error number and nothing more, so the limits are looked at right after the failure. What can be
//! told rests on the order of `copy_process` (kernel/fork.c): `RLIMIT_NPROC`, `threads-max`,
//! `pid_max`, `pids.max`.

mod gather;

pub use gather::{Limits, own_memory};

use crate::model::limit::{Cause, Limit};

/// What was seen after a failure. What could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// `pids.max` of the caller's cgroup and of those above it that have one, the caller's first.
    pids: Vec<Level>,
    /// Their memory limits.
    memory: Vec<Level>,
    /// All tasks of the host, and threads-max.
    threads: Option<Usage>,
    /// All tasks of the host, and the pids that may be given out.
    pid_numbers: Option<Usage>,
    /// Tasks of the caller's user, and its `RLIMIT_NPROC`.
    user: User,
    /// Whether the host commits to no more memory than it has (`vm.overcommit_memory` 2).
    strict_overcommit: bool,
    /// Whether the caller forks into another pid namespace than its own.
    foreign_namespace: bool,
}

/// Something that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Usage {
    used: u64,
    max: u64,
}

impl Usage {
    const fn is_full(self) -> bool {
        self.used >= self.max
    }

    /// Whether it is full but for what may have become free since the failure.
    const fn is_nearly_full(self) -> bool {
        self.used >= self.max.saturating_sub(self.max / 64)
    }
}

/// A cgroup with a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Level {
    cgroup: String,
    usage: Usage,
    /// Whether the kernel has counted a refusal here since the last look.
    refused: bool,
}

/// How a user stands to `RLIMIT_NPROC`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum User {
    /// No limit applies: none is set, or the caller is root or has the capability to go beyond.
    #[default]
    Exempt,
    /// There are as many tasks as may be.
    Full,
    /// There are fewer.
    Below,
    /// There is a limit, and the tasks could not be counted.
    Uncounted,
}

/// The limit that fits the error and what was seen; absent where nothing fits although something must.
fn decide(errno: u32, facts: &Facts) -> Option<Limit> {
    match i32::try_from(errno).ok()? {
        libc::EAGAIN => of_tasks(facts),
        libc::ENOMEM => Some(of_memory(facts)),
        _ => Some(Cause::Other.into()),
    }
}

/// EAGAIN: one task too many.
fn of_tasks(facts: &Facts) -> Option<Limit> {
    let is = |usage: Option<Usage>, full: fn(Usage) -> bool| usage.is_some_and(full);
    let checks: [(bool, Cause); 3] = [
        (facts.user == User::Full, Cause::RlimitNproc),
        (is(facts.threads, Usage::is_full), Cause::ThreadsMax),
        (is(facts.pid_numbers, Usage::is_full), Cause::PidMax),
    ];
    let certain = checks.into_iter().find(|(holds, _)| *holds).map(|(_, cause)| cause.into());
    let full = |level: &&Level| level.usage.is_full();
    // Up to 6.10 the kernel counts a refusal at the caller's cgroup, whichever one above it refused.
    let of_cgroup = || facts.pids.iter().find(full).or_else(|| facts.pids.iter().find(|level| level.refused));
    let likely = || {
        let near = |usage| is(usage, Usage::is_nearly_full);
        let checks = [(near(facts.threads), Cause::ThreadsMax), (near(facts.pid_numbers), Cause::PidMax)];
        let found = checks.into_iter().find(|(holds, _)| *holds).map(|(_, cause)| cause);
        // Nothing else is left that gives this error.
        found.or_else(|| (facts.user == User::Uncounted).then_some(Cause::RlimitNproc)).map(Limit::from)
    };
    certain.or_else(|| of_cgroup().map(|level| at(level, Cause::PidsMax))).or_else(likely)
}

/// ENOMEM: no memory, or a pid namespace without an init (`alloc_pid`, kernel/pid.c).
fn of_memory(facts: &Facts) -> Limit {
    let full = |level: &&Level| level.refused || level.usage.is_nearly_full();
    if let Some(level) = facts.memory.iter().find(full) {
        return at(level, Cause::Memory);
    }
    if facts.foreign_namespace && !facts.strict_overcommit { Cause::Namespace } else { Cause::Memory }.into()
}

fn at(level: &Level, cause: Cause) -> Limit {
    Limit { cause, cgroup: Some(level.cgroup.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EAGAIN: u32 = libc::EAGAIN.cast_unsigned();
    const ENOMEM: u32 = libc::ENOMEM.cast_unsigned();

    fn level(cgroup: &str, used: u64, max: u64) -> Level {
        Level { cgroup: cgroup.to_owned(), usage: Usage { used, max }, refused: false }
    }

    fn cause(errno: u32, facts: &Facts) -> Option<Cause> {
        decide(errno, facts).map(|limit| limit.cause)
    }

    #[test]
    fn the_cgroup_that_is_full_is_named_be_it_above_the_callers() {
        let facts = Facts {
            pids: vec![level("/a/b", 3, 10), level("/a", 20, 20), level("/", 20, 20)],
            user: User::Below,
            ..Facts::default()
        };
        let expected = Limit { cause: Cause::PidsMax, cgroup: Some("/a".to_owned()) };
        assert_eq!(decide(EAGAIN, &facts), Some(expected));
    }

    #[test]
    fn a_refusal_that_was_counted_tells_where_room_has_come_back() {
        let mut facts = Facts { pids: vec![level("/a", 1, 10)], ..Facts::default() };
        assert_eq!(decide(EAGAIN, &facts), None);
        facts.pids[0].refused = true;
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::PidsMax));
    }

    #[test]
    fn what_the_kernel_checks_first_comes_first() {
        let full = Some(Usage { used: 10, max: 10 });
        let mut facts = Facts {
            pids: vec![level("/a", 10, 10)],
            threads: full,
            pid_numbers: full,
            user: User::Full,
            ..Facts::default()
        };
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::RlimitNproc));
        facts.user = User::Below;
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::ThreadsMax));
        facts.threads = None;
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::PidMax));
        facts.pid_numbers = None;
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::PidsMax));
    }

    #[test]
    fn a_host_that_is_nearly_full_counts_only_where_no_cgroup_is_full() {
        let near = Some(Usage { used: 995, max: 1000 });
        let mut facts = Facts { threads: near, pids: vec![level("/a", 5, 5)], ..Facts::default() };
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::PidsMax));
        facts.pids.clear();
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::ThreadsMax));
    }

    #[test]
    fn a_user_who_could_not_be_counted_is_what_is_left() {
        let facts = Facts { user: User::Uncounted, ..Facts::default() };
        assert_eq!(cause(EAGAIN, &facts), Some(Cause::RlimitNproc));
        assert_eq!(cause(EAGAIN, &Facts { user: User::Below, ..Facts::default() }), None);
        assert_eq!(cause(EAGAIN, &Facts::default()), None);
    }

    #[test]
    fn out_of_memory_names_the_cgroup_where_one_is_full() {
        let mut facts =
            Facts { memory: vec![level("/a", 1, 1 << 30), level("/", 999, 1000)], ..Facts::default() };
        assert_eq!(decide(ENOMEM, &facts), Some(Limit { cause: Cause::Memory, cgroup: Some("/".into()) }));
        facts.memory.pop();
        assert_eq!(decide(ENOMEM, &facts), Some(Cause::Memory.into()));
    }

    #[test]
    fn a_pid_namespace_that_has_ended_is_no_lack_of_memory() {
        let mut facts = Facts { foreign_namespace: true, ..Facts::default() };
        assert_eq!(cause(ENOMEM, &facts), Some(Cause::Namespace));
        facts.strict_overcommit = true;
        assert_eq!(cause(ENOMEM, &facts), Some(Cause::Memory));
    }

    #[test]
    fn other_errors_come_from_no_limit() {
        assert_eq!(cause(libc::EINVAL.cast_unsigned(), &Facts::default()), Some(Cause::Other));
    }
}
