//! How the system calls of the clone family are watched, where that is asked for.

use std::{fs, path::Path};

use super::btf::Btf;

/// The kernel function behind the whole family.
pub(super) const FUNCTION: &str = "kernel_clone";

/// The family.
pub(super) const CALLS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// Where the programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Entry and exit of `kernel_clone`: free for everything else on the host.
    Fexit,
    /// Tracepoints of the four system calls. As long as one is attached, *every* system call on the host takes
    /// the kernel's slow path: some 30 ns more each.
    Tracepoints,
}

impl Hook {
    /// What the user is told.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Fexit => "fentry and fexit on kernel_clone, at no cost to other system calls",
            Self::Tracepoints => {
                "the system call tracepoints of clone, clone3, fork and vfork, which make every system call \
                 on this host some 30 ns slower while they are attached"
            }
        }
    }

    /// In which order to try: the second where the kernel refuses the first, which only the attempt tells.
    pub(super) fn candidates(types: &Btf<'_>) -> &'static [Self] {
        if types.has_function(FUNCTION) { &[Self::Fexit, Self::Tracepoints] } else { &[Self::Tracepoints] }
    }
}

/// Where tracefs is mounted, which the tracepoints of system calls need.
pub fn tracefs() -> Option<&'static Path> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .map(Path::new)
        .into_iter()
        .find(|path| fs::metadata(path.join("events/syscalls")).is_ok())
}
