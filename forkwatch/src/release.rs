//! Which kernel runs, where that alone decides.

use nix::sys::utsname::uname;

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// The running kernel's; 0.0, older than any, where it does not say.
    pub fn running() -> Self {
        uname().ok().and_then(|name| Self::parse(name.release().to_str()?)).unwrap_or(Self(0, 0))
    }

    /// From what `uname -r` says.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// Whether any tracing program may ask which cgroups are above the current task's
    /// (`bpf_get_current_ancestor_cgroup_id`, commit 95b861a7935b).
    pub fn tells_ancestors(self) -> bool {
        self >= Self(5, 15)
    }

    /// Whether a tracing program may ask for the current task in a form that it can load from
    /// (`bpf_get_current_task_btf`, commit 3ca1032ab7ab).
    pub fn tells_current_task(self) -> bool {
        self >= Self(5, 11)
    }

    /// The bits of `task_struct.flags` that mark kernel workers among the threads of a process
    /// (include/linux/sched.h).
    ///
    /// `PF_IO_WORKER` is a worker of `io_uring`: since 5.10 in this place, since 5.12 a thread of the process that it
    /// works for. `PF_USER_WORKER` is a kernel thread cloned from a process, such as vhost's, new in 6.4. Up to 5.16
    /// its bit meant `PF_USED_ASYNC`, which ordinary tasks carry too; from 5.17 to 6.3 it meant nothing, so that
    /// distributions could bring `PF_USER_WORKER` back to those kernels.
    pub fn worker_flags(self) -> u32 {
        const PF_IO_WORKER: u32 = 0x10;
        const PF_USER_WORKER: u32 = 0x4000;
        if self >= Self(5, 17) { PF_IO_WORKER | PF_USER_WORKER } else { PF_IO_WORKER }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_distribution_kernels_are_read() {
        assert_eq!(Release::parse("6.12.107+deb13-amd64"), Some(Release(6, 12)));
        assert_eq!(Release::parse("5.10.0-32-cloud-amd64"), Some(Release(5, 10)));
        assert_eq!(Release::parse("5.14.0-503.el9.x86_64"), Some(Release(5, 14)));
        assert_eq!(Release::parse("7.2-rc1"), Some(Release(7, 2)));
        assert_eq!(Release::parse("5.19-rc1\n"), Some(Release(5, 19)));
        assert_eq!(Release::parse("nonsense"), None);
        assert_eq!(Release::parse("6"), None);
    }

    #[test]
    fn releases_are_compared_by_number() {
        assert!(Release(5, 9) < Release(5, 10) && Release(5, 19) < Release(6, 1));
        assert!(Release::running() > Release(0, 0));
    }

    #[test]
    fn a_cgroups_ancestors_are_told_by_newer_kernels() {
        assert!(!Release(0, 0).tells_ancestors() && !Release(5, 14).tells_ancestors());
        assert!(Release(5, 15).tells_ancestors() && Release(6, 1).tells_ancestors());
    }

    #[test]
    fn the_current_task_is_told_by_newer_kernels() {
        assert!(!Release(0, 0).tells_current_task() && !Release(5, 10).tells_current_task());
        assert!(Release(5, 11).tells_current_task() && Release(7, 3).tells_current_task());
    }

    #[test]
    fn the_bit_of_user_workers_is_read_only_where_it_means_that() {
        assert_eq!(Release(0, 0).worker_flags(), 0x10);
        assert_eq!(Release(5, 16).worker_flags(), 0x10);
        assert_eq!(Release(5, 17).worker_flags(), 0x4010);
        assert_eq!(Release(6, 12).worker_flags(), 0x4010);
    }
}
