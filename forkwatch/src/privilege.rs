//! Capabilities: what loading needs, and giving up the rest.
//!
//! Capabilities belong to threads, not to processes (capabilities(7)), so [`reduce`] must run before the program
//! starts its first thread, and the tokio runtime after it.
//!
//! `CAP_DAC_OVERRIDE` goes too: files are then written by ownership alone, also as root. Whatever must be written
//! later, such as the event file and its successors, should be opened after [`reduce`], so that what will not work
//! shows at the start.

use std::fmt;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

use crate::release::Release;

/// What loading and attaching need (kernel 5.8 and later). `CAP_SYS_ADMIN` contains both.
const LOADING: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];
/// What a look into other users' processes needs. Their files below `/proc` that tell of memory, descriptors and system
/// calls are their owner's alone by their permission bits (`tgid_base_stuff`, fs/proc/base.c), and those are asked
/// before `CAP_SYS_PTRACE` is.
const LOOKING: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
/// From this kernel on, map lookups through an open file descriptor want no capability.
const LOOKUPS_FREE: Release = Release(5, 19);

/// Why privileges could not be read or given up, or do not suffice.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// They do not suffice.
    #[error(
        "cannot load eBPF programs without {}. Run forkwatch as root, as the systemd service that comes with it, or \
         grant it what it needs: setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search+ep /path/to/forkwatch",
        List(.0)
    )]
    Missing(Vec<Capability>),
    /// They do not suffice to change another process.
    #[error(
        "cannot stop process {pid} and write to its memory without {}. Run forkwatch as root; as the user of the process it \
         may do where the sysctl kernel.yama.ptrace_scope is 0",
        List(.missing)
    )]
    MayNotChange {
        /// The process.
        pid: u32,
        /// The capabilities that are missing.
        missing: Vec<Capability>,
    },
    /// The kernel refused.
    #[error("cannot {action}: {source}")]
    Capabilities {
        /// What was tried, in words.
        action: &'static str,
        /// Why it failed.
        source: CapsError,
    },
    /// The kernel refused.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(#[source] nix::Error),
}

/// Names with commas.
struct List<'a>(&'a [Capability]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        formatter.write_str(&names.join(" and "))
    }
}

/// The capabilities that this thread lacks for loading and attaching; empty if it has what it takes.
pub fn missing_for_load() -> Result<Vec<Capability>, PrivilegeError> {
    Ok(missing_from(&read(CapSet::Effective)?))
}

/// Refuses to go on without the capabilities that loading and attaching need.
pub fn require_for_load() -> Result<(), PrivilegeError> {
    let missing = missing_for_load()?;
    if missing.is_empty() { Ok(()) } else { Err(PrivilegeError::Missing(missing)) }
}

/// The capabilities that this thread lacks for a look into other users' processes: without either, their stuck threads'
/// system calls, their memory and their file descriptors stay unknown.
pub fn missing_for_others() -> Result<Vec<Capability>, PrivilegeError> {
    let effective = read(CapSet::Effective)?;
    Ok(LOOKING.into_iter().filter(|capability| !effective.contains(capability)).collect())
}

/// What it takes to look into every process, for a message about one that could not be looked into.
pub fn to_look() -> &'static str {
    // In a container, say, or where a service's bounding set is smaller.
    if nix::unistd::geteuid().is_root() {
        "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, of which this root lacks one or both"
    } else {
        "root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"
    }
}

/// Refuses to go on without the capabilities that it takes to stop a process of this user and to write to its memory. For
/// one's own none is needed, unless Yama forbids it (`Documentation/admin-guide/LSM/Yama.rst`).
pub fn require_to_change(pid: u32, uid: Option<u32>) -> Result<(), PrivilegeError> {
    let missing = missing_for_others()?;
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    // Without Yama there is no such file.
    let is_free =
        scope.map_or_else(|error| error.kind() == std::io::ErrorKind::NotFound, |scope| scope.trim() == "0");
    let is_own = uid == Some(nix::unistd::geteuid().as_raw());
    if missing.is_empty() || is_own && is_free {
        return Ok(());
    }
    Err(PrivilegeError::MayNotChange { pid, missing })
}

/// What of it shows the executables of other users' programs, and what `hidepid` hides.
pub const PTRACE: Capability = Capability::CAP_SYS_PTRACE;

/// Whether this thread may learn the executables of other users' programs, and what `hidepid` hides.
pub fn have_ptrace() -> Result<bool, PrivilegeError> {
    Ok(read(CapSet::Effective)?.contains(&PTRACE))
}

/// Whether this thread may raise the limits of its resources.
pub fn may_raise_limits() -> Result<bool, PrivilegeError> {
    Ok(read(CapSet::Effective)?.contains(&Capability::CAP_SYS_RESOURCE))
}

/// Gives up, for this thread and all that it starts from now on, every capability (but `CAP_BPF` on kernels before
/// 5.19), and the gaining of new ones by exec. Says what is left.
pub fn reduce() -> Result<Vec<Capability>, PrivilegeError> {
    reduce_to(&kept_on(Release::running()))
}

/// The same for a process that looks into others, which keeps `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` and no other.
pub fn reduce_to_looking() -> Result<Vec<Capability>, PrivilegeError> {
    reduce_to(&CapsHashSet::from(LOOKING))
}

fn reduce_to(wanted: &CapsHashSet) -> Result<Vec<Capability>, PrivilegeError> {
    let permitted = read(CapSet::Permitted)?;
    let kept: CapsHashSet = permitted.intersection(wanted).copied().collect();

    nix::sys::prctl::set_no_new_privs().map_err(PrivilegeError::NoNewPrivileges)?;
    // Taking from the bounding set wants CAP_SETPCAP; without it nothing could come back through exec anyway, which
    // no_new_privs forbids.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for capability in read(CapSet::Bounding)?.difference(wanted) {
            caps::drop(None, CapSet::Bounding, *capability)
                .map_err(failed("take capabilities from the bounding set"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(failed("clear the ambient capabilities"))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed("clear the inheritable capabilities"))?;
    // Effective first: it may not exceed permitted.
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(failed("give up capabilities"))?;
    }
    let mut kept: Vec<_> = kept.into_iter().collect();
    kept.sort_unstable_by_key(Capability::index);
    Ok(kept)
}

fn read(set: CapSet) -> Result<CapsHashSet, PrivilegeError> {
    caps::read(None, set).map_err(failed("read the capabilities"))
}

fn failed(action: &'static str) -> impl Fn(CapsError) -> PrivilegeError {
    move |source| PrivilegeError::Capabilities { action, source }
}

fn missing_from(effective: &CapsHashSet) -> Vec<Capability> {
    if effective.contains(&Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    LOADING.into_iter().filter(|capability| !effective.contains(capability)).collect()
}

/// What the watch goes on to need on a kernel of this release.
fn kept_on(release: Release) -> CapsHashSet {
    let mut kept = CapsHashSet::new();
    if release < LOOKUPS_FREE {
        kept.insert(Capability::CAP_BPF);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_remedy() {
        let bpf = CapsHashSet::from([Capability::CAP_BPF]);
        assert_eq!(missing_from(&bpf), [Capability::CAP_PERFMON]);
        assert_eq!(missing_from(&CapsHashSet::from(LOADING)), []);
        assert_eq!(missing_from(&CapsHashSet::from([Capability::CAP_SYS_ADMIN])), []);
        let message = PrivilegeError::Missing(missing_from(&CapsHashSet::new())).to_string();
        assert!(
            message.contains("without CAP_BPF and CAP_PERFMON.") && message.contains("setcap"),
            "{message}"
        );
    }

    #[test]
    fn cap_bpf_is_kept_where_lookups_want_it() {
        let bpf = |major, minor| kept_on(Release(major, minor)).contains(&Capability::CAP_BPF);
        assert!(bpf(5, 10) && bpf(5, 18), "an older kernel");
        assert!(bpf(0, 0), "one that does not say");
        assert!(!bpf(5, 19) && !bpf(6, 1) && !bpf(10, 0), "a newer kernel");
    }

    #[test]
    fn a_watch_and_its_children_have_nothing_else_left() {
        is_all_that_is_left(reduce, kept_on(Release::running()));
    }

    #[test]
    fn who_looks_into_others_has_nothing_else_left() {
        is_all_that_is_left(reduce_to_looking, CapsHashSet::from(LOOKING));
    }

    /// In a thread of its own, which is all that it changes.
    fn is_all_that_is_left(
        reduce: impl Fn() -> Result<Vec<Capability>, PrivilegeError> + Send + 'static,
        wanted: CapsHashSet,
    ) {
        thread::spawn(move || {
            let permitted = read(CapSet::Permitted).unwrap();
            let kept = reduce().unwrap();
            let expected: CapsHashSet = permitted.intersection(&wanted).copied().collect();
            let bits = |set: &CapsHashSet| set.iter().fold(0, |mask, capability| mask | capability.bitmask());
            assert_eq!(kept.iter().copied().collect::<CapsHashSet>(), expected);
            assert_eq!(have_ptrace().unwrap(), expected.contains(&Capability::CAP_SYS_PTRACE));
            let blind: Vec<_> = LOOKING.into_iter().filter(|needed| !expected.contains(needed)).collect();
            assert_eq!(missing_for_others().unwrap(), blind);

            let mask = bits(&expected);
            let status = thread::spawn(|| fs::read_to_string("/proc/thread-self/status").unwrap());
            for status in [fs::read_to_string("/proc/thread-self/status").unwrap(), status.join().unwrap()] {
                let field = |name: &str| {
                    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                    u64::from_str_radix(line.trim(), 16).unwrap()
                };
                assert_eq!([field("CapEff:"), field("CapPrm:")], [mask, mask]);
                assert_eq!([field("CapInh:"), field("CapAmb:"), field("NoNewPrivs:")], [0, 0, 1]);
                if permitted.contains(&Capability::CAP_SETPCAP) {
                    assert_eq!(field("CapBnd:") & !bits(&wanted), 0);
                }
            }
            let missing = missing_for_load().unwrap();
            assert!(missing.contains(&Capability::CAP_PERFMON), "{missing:?}");
            reduce().unwrap();
        })
        .join()
        .unwrap();
    }
}
