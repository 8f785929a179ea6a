//! What can go wrong between forkwatch and the kernel.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io, iter,
    time::Duration,
};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
};

use super::{btf::BtfError, clone_calls::NoTracepoints, layout::LayoutError};

/// Why the kernel cannot be watched. Every message says what failed, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel describes no types.
    #[error(
        "eBPF cannot be attached safely without the kernel's description of its types (BTF): {0}, as the kernels of \
         Debian 11, Ubuntu 20.10, Fedora 31, RHEL 8.2 and later are"
    )]
    NoBtf(#[source] BtfError),
    /// The kernel's types could not be read.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// A field that is needed is not where it can be found.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The kernel said no to this user.
    #[error(
        "the kernel refused to {what}: {error}. Loading needs CAP_BPF and CAP_PERFMON in the host's user namespace, \
         and a seccomp profile that lets bpf(2) pass: run forkwatch as root on the host (sudo forkwatch ...), or in \
         a privileged container"
    )]
    Privilege {
        /// What was refused.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// The limit of locked memory is too low.
    #[error(
        "the kernel refused to {what}: {error}. Before 5.11 it counts eBPF as locked memory, and the limit of that is \
         too low even for the smallest tables: raise it (ulimit -l unlimited, or LimitMEMLOCK=infinity in the \
         systemd unit), or grant forkwatch CAP_SYS_RESOURCE, with which it raises the limit itself"
    )]
    LockedMemory {
        /// What was refused.
        what: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// No pass over all tasks can begin.
    #[error("cannot begin to read which threads sleep: {0}")]
    NoPass(#[source] LinkError),
    /// A pass over all tasks ended early.
    #[error("cannot read which threads sleep: {0}")]
    Pass(#[source] io::Error),
    /// The process sees its own pid namespace only.
    #[error(
        "this is not the host's pid namespace: forkwatch would see other pids than the kernel reports. Run it on \
         the host, or its container with the host's pids (docker run --pid=host, hostPID: true)"
    )]
    PidNamespace,
    /// The object in this binary is not one the loader can use.
    #[error("the eBPF object could not be loaded: {}. {}", Causes(&**.0), advice(&**.0))]
    Object(Box<EbpfError>),
    /// The kernel's verifier refused a program.
    #[error(
        "the kernel's verifier refused the program {program} ({error}). \
         Please report it, with the output of `forkwatch doctor -o json`. It said:\n{reason}"
    )]
    Verifier {
        /// The name of the eBPF program.
        program: &'static str,
        /// The error number.
        error: io::Error,
        /// The last lines of its log.
        reason: String,
    },
    /// The verifier refused a program of the object that logs.
    #[error(
        "the kernel's verifier refused the program {program}, which logs its decisions ({error}). Leave out \
         --kernel-log, or name fewer programs (--kernel-log=exec): those that are not named are as usual. It \
         said:\n{reason}"
    )]
    LogRefused {
        /// The name of the eBPF program.
        program: &'static str,
        /// The error number.
        error: io::Error,
        /// The last lines of its log.
        reason: String,
    },
    /// The tracepoints of system calls are not to be had.
    #[error(
        "the clone calls cannot be watched: this kernel refuses fentry on kernel_clone, and the system call \
         tracepoints, which would do instead, {0}. Or leave out --clone-calls (kernel.clone_calls)"
    )]
    NoTracepoints(#[from] NoTracepoints),
    /// A program could not be loaded or attached.
    #[error("the program {program} could not be attached: {}. {}", Causes(&**error), advice(&**error))]
    Program {
        /// The name of the eBPF program.
        program: &'static str,
        /// What went wrong below.
        error: Box<ProgramError>,
    },
    /// A map could not be made or used.
    #[error("the kernel's table {map} could not be used: {}. {}", Causes(&**error), advice(&**error))]
    Map {
        /// The name of the eBPF map.
        map: &'static str,
        /// What went wrong below.
        error: Box<MapError>,
    },
    /// The ring could not be allocated.
    #[error("the kernel could not allocate a ring of {bytes} bytes: {error}. {}", ring_advice(error))]
    Ring {
        /// The size asked for.
        bytes: u32,
        /// What the system or the parser said.
        error: io::Error,
    },
    /// What the programs report is not what `/proc` says.
    #[error(
        "the self-test failed, so nothing this kernel reports could be trusted: {0}. \
         Please report it, with `forkwatch doctor -o json`"
    )]
    SelfTest(#[from] Mismatch),
    /// The self-test itself could not be run.
    #[error("the self-test could not be run: {what} failed: {error}. {}", advice(error))]
    SelfTestFailed {
        /// What failed.
        what: &'static str,
        /// What the system or the parser said.
        error: io::Error,
    },
}

impl KernelError {
    /// Whether more privilege would help.
    pub const fn is_privilege(&self) -> bool {
        matches!(
            self,
            Self::Privilege { .. } | Self::PidNamespace | Self::NoTracepoints(NoTracepoints::Unreadable(_))
        )
    }

    /// Whether this kernel lacks what is needed, and no setting helps.
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::NoBtf(_)
                | Self::Btf(_)
                | Self::Layout(_)
                | Self::Verifier { .. }
                | Self::LogRefused { .. }
                | Self::NoTracepoints(NoTracepoints::Absent | NoTracepoints::LockedDown)
                | Self::SelfTest(_)
        )
    }
}

impl KernelError {
    /// The same of a program that logs: there are others.
    pub(super) fn of_logging(self) -> Self {
        match self {
            Self::Verifier { program, error, reason } => Self::LogRefused { program, error, reason },
            error => error,
        }
    }
}

/// An error with all its causes; aya's messages leave out the system's.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        for cause in iter::successors(Some(self.0), |error| (*error).source()).map(ToString::to_string) {
            // Some repeat their cause in their own words.
            if !text.ends_with(&cause) {
                write!(text, "{}{cause}", if text.is_empty() { "" } else { ": " })?;
            }
        }
        formatter.write_str(&text)
    }
}

/// What to do about it.
fn advice(error: &(dyn Error + 'static)) -> &'static str {
    match system_error(error) {
        Some(libc::EMFILE) => {
            "Raise the limit of open files (ulimit -n, or LimitNOFILE= in the systemd unit)"
        }
        Some(libc::ENFILE) => "Raise the host's limit of open files (sysctl fs.file-max)",
        Some(libc::EAGAIN) => {
            "Raise the limit of processes (ulimit -u, or LimitNPROC= and TasksMax= in the systemd unit)"
        }
        Some(libc::ENOMEM) => {
            "Free some memory, or raise the limit of forkwatch's cgroup (MemoryMax= in the systemd unit)"
        }
        Some(ENOTSUPP) => "Programs at functions take Linux 6.4 on arm64; everything else works without",
        _ => "Please report it, with the output of `forkwatch doctor -o json`",
    }
}

/// What to do about a ring that cannot be had: it is memory that lacks, or a descriptor.
fn ring_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => advice(error),
        _ => "Choose a smaller one (kernel.ring_bytes in the configuration, or --ring-bytes)",
    }
}

/// The kernel's own error number (`include/linux/errno.h`) for what an architecture lacks: here ftrace's direct calls.
const ENOTSUPP: i32 = 524;

/// The error number that it goes back to.
fn system_error(error: &(dyn Error + 'static)) -> Option<i32> {
    iter::successors(Some(error), |error| (*error).source()).find_map(|error| {
        // aya's transparent variants hide what they hold from `source`.
        let inner = match (error.downcast_ref(), error.downcast_ref()) {
            (Some(MapError::IoError(error)), _) | (_, Some(ProgramError::IOError(error))) => Some(error),
            _ => error.downcast_ref::<io::Error>(),
        };
        inner?.raw_os_error()
    })
}

/// How long the records of the self-test may take; they take some milliseconds.
pub(super) const SELF_TEST_PATIENCE: Duration = Duration::from_secs(5);

/// A report of the self-test that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Mismatch {
    /// A field says something else than the system.
    #[error("{field} was reported as {reported}, and is {actual}")]
    Field {
        /// The field, as its structure names it.
        field: &'static str,
        /// What came through the ring.
        reported: String,
        /// What the system says.
        actual: String,
    },
    /// A record did not come.
    #[error("no record of {0} arrived within {seconds} s", seconds = SELF_TEST_PATIENCE.as_secs())]
    Missing(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many_files() -> io::Error {
        io::Error::from_raw_os_error(libc::EMFILE)
    }

    #[test]
    fn the_limit_that_was_met_is_named_however_deep_it_lies() {
        let not_made = || MapError::CreateError { name: "FAMILY".to_owned(), io_error: many_files() };
        let errors = [
            KernelError::Object(Box::new(not_made().into())),
            KernelError::Map { map: "FAMILY", error: Box::new(not_made()) },
            KernelError::Map { map: "FAMILY", error: Box::new(MapError::IoError(many_files())) },
            KernelError::Program { program: "clone_exit", error: Box::new(not_made().into()) },
            KernelError::Program {
                program: "clone_exit",
                error: Box::new(ProgramError::IOError(many_files())),
            },
            KernelError::SelfTestFailed { what: "forking", error: many_files() },
            KernelError::Ring { bytes: 1 << 20, error: many_files() },
        ];
        for message in errors.map(|error| error.to_string()) {
            assert!(message.contains("Too many open files (os error 24). Raise the limit"), "{message}");
            assert!(message.contains("ulimit -n"), "{message}");
            assert_eq!(message.matches("Too many").count(), 1, "{message}");
            assert!(message.matches("failed to create map").count() <= 1, "{message}");
        }
    }

    #[test]
    fn what_nobody_can_help_is_to_be_reported() {
        let error = Box::new(ProgramError::UnexpectedProgramType);
        let message = KernelError::Program { program: "clone_exit", error }.to_string();
        assert!(message.ends_with("`forkwatch doctor -o json`"), "{message}");
        let error = io::Error::from_raw_os_error(libc::EAGAIN);
        let message = KernelError::SelfTestFailed { what: "forking", error }.to_string();
        assert!(message.contains("forking failed: ") && message.contains("TasksMax="), "{message}");
    }
}
