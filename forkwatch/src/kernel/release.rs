//! Which kernel runs, where that alone decides.

use nix::sys::{
    resource::{RLIM_INFINITY, Resource, setrlimit},
    utsname::uname,
};

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(pub u32, pub u32);

impl Release {
    /// The running kernel's; 0.0 where it does not say.
    pub fn running() -> Self {
        uname().ok().and_then(|name| Self::parse(name.release().to_str()?)).unwrap_or(Self(0, 0))
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|character: char| !character.is_ascii_digit());
        Some(Self(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }

    /// The flags of `task_struct.flags` that mark kernel workers inside user processes: `PF_IO_WORKER`, and
    /// since 6.4 `PF_USER_WORKER`, whose bit meant something else before (include/linux/sched.h).
    pub const fn worker_flags(self) -> u32 {
        const PF_IO_WORKER: u32 = 0x10;
        const PF_USER_WORKER: u32 = 0x4000;
        if self.0 > 6 || (self.0 == 6 && self.1 >= 4) { PF_IO_WORKER | PF_USER_WORKER } else { PF_IO_WORKER }
    }

    /// Before 5.11 maps count as locked memory (commit 97306be45fbe). Raising the limit needs
    /// `CAP_SYS_RESOURCE`; where that is missing the maps may still fit, so a failure is no error yet.
    pub(super) fn raise_memory_lock(self) {
        if self < Self(5, 11)
            && let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY)
        {
            tracing::debug!(%error, "the limit of locked memory stays as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(Release::parse("6.18.44-fc-v669"), Some(Release(6, 18)));
        assert_eq!(Release::parse("5.10.0-32-cloud-amd64"), Some(Release(5, 10)));
        assert_eq!(Release::parse("7.2-rc1"), Some(Release(7, 2)));
        assert_eq!(Release::parse("none"), None);
        assert!(Release(5, 10) < Release(5, 9).max(Release(5, 11)));
    }

    #[test]
    fn the_bit_of_user_workers_is_read_only_where_it_means_that() {
        assert_eq!(Release(6, 1).worker_flags(), 0x10);
        assert_eq!(Release(6, 4).worker_flags(), 0x4010);
        assert_eq!(Release(7, 0).worker_flags(), 0x4010);
    }
}
