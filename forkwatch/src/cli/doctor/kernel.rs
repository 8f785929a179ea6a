//! What the kernel offers and allows this user: by looking, and then by trying.

use caps::Capability;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::{check::Check, clone_calls};
use crate::{
    cli::exit::{Exit, of_kernel_error},
    engine::session::own_cgroup,
    kernel::{KernelError, LogTally, Options, Probe, Probes, Release, Speakers, Way, offers},
    privilege,
};

/// The eBPF ring buffer, and the capabilities of their own for eBPF and tracing, came with this kernel.
const NEEDED: Release = Release(5, 8);
/// Before this one, the kernel's tables count as locked memory (commit 97306be45fbe).
const MEMORY_IS_ACCOUNTED: Release = Release(5, 11);
/// The oldest and the newest kernel that forkwatch was tested on.
const TESTED: (Release, Release) = (Release(5, 10), Release(7, 3));

/// What was found.
pub(super) struct Findings {
    pub(super) checks: Vec<Check>,
    /// What stands in the way of watching, and the exit code that it comes to.
    pub(super) obstacle: Option<(Exit, String)>,
    /// How that could be watched which is on request only, or why not.
    pub(super) requested: Result<&'static Way, String>,
    /// How each probe is had; absent where nothing could be started.
    pub(super) probes: Option<Probes>,
}

/// Looks, and tries where that has a chance.
pub(super) fn examine(speakers: Speakers) -> Findings {
    let release = Release::running();
    let (types_check, types_obstacle) = types();
    let (capabilities_check, capabilities_obstacle) = capabilities();
    let (namespace_check, namespace_obstacle) = pid_namespace();
    let mut checks = vec![
        kernel_release(release),
        types_check,
        capabilities_check,
        ptrace(),
        read_search(),
        namespace_check,
    ];
    checks.extend((release < MEMORY_IS_ACCOUNTED).then(locked_memory));
    let mut obstacle = types_obstacle.or(capabilities_obstacle).or(namespace_obstacle);
    let mut probes = None;
    if let Some((_, why)) = &obstacle {
        checks.push(Check::unknown("programs", "eBPF programs", format!("not tried: {why}")));
    } else {
        let trial_checks;
        (trial_checks, obstacle, probes) = trial(speakers);
        checks.extend(trial_checks);
    }
    let (requested_check, requested) = clone_calls::examine(obstacle.as_ref().map(|(_, why)| why.as_str()));
    checks.push(requested_check);
    Findings { checks, obstacle, requested, probes }
}

type Obstacle = Option<(Exit, String)>;

fn kernel_release(release: Release) -> Check {
    let (id, title) = ("kernel-release", "Kernel");
    let Release(major, minor) = release;
    let (Release(old_major, old_minor), Release(new_major, new_minor)) = TESTED;
    let range = format!("forkwatch is tested on {old_major}.{old_minor} to {new_major}.{new_minor}");
    let found = format!("{major}.{minor}; {range}");
    if release < NEEDED {
        let advice = "forkwatch needs the ring buffer of 5.8, which some distributions brought to older kernels: \
                      whether the programs load, below, decides";
        Check::limited(id, title, found, advice)
    } else if release < TESTED.0 {
        Check::limited(id, title, found, "nothing, where the self-test below passes: it proves what is read")
    } else {
        // A newer one is no limit: the self-test proves what is read.
        Check::ok(id, title, found)
    }
}

fn types() -> (Check, Obstacle) {
    let (id, title) = ("type-information", "Type information (BTF)");
    match offers::types() {
        Ok(types) => {
            let size = types.bytes / 1024;
            let found = format!("{size} KiB; all {} fields found that forkwatch reads", types.fields);
            if types.absent.is_empty() {
                return (Check::ok(id, title, found), None);
            }
            let found = format!(
                "{size} KiB; {} fields found, but not {}: forks are not told apart by cgroup",
                types.fields,
                types.absent.join(", ")
            );
            (Check::limited(id, title, found, "a kernel with CONFIG_CGROUPS has them"), None)
        }
        Err(error) => {
            let advice = match &error {
                KernelError::NoBtf(_) => {
                    "mount /sys, or boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship them"
                }
                _ => "report it to the project, with this output",
            };
            let check = Check::missing(id, title, error.to_string(), advice);
            (
                check,
                Some((of_kernel_error(&error), "the kernel's type information cannot be used".to_owned())),
            )
        }
    }
}

fn capabilities() -> (Check, Obstacle) {
    let (id, title) = ("capabilities", "Capabilities for eBPF");
    match privilege::require_for_load() {
        Ok(()) => {
            let found = "CAP_BPF makes tables and loads programs, CAP_PERFMON lets them trace";
            (Check::ok(id, title, found), None)
        }
        Err(error) => {
            let advice = "run it as root (sudo forkwatch doctor), or with CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE and \
                 CAP_DAC_READ_SEARCH";
            let found = match &error {
                privilege::PrivilegeError::Missing(missing) => {
                    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
                    format!("forkwatch lacks {} here", names.join(" and "))
                }
                error => error.to_string(),
            };
            (Check::missing(id, title, found.clone(), advice), Some((Exit::Privilege, found)))
        }
    }
}

fn ptrace() -> Check {
    let (id, title) = ("ptrace", "CAP_SYS_PTRACE");
    match privilege::have_ptrace() {
        Ok(true) => Check::ok(id, title, "other users' executables can be seen"),
        Ok(false) => Check::limited(
            id,
            title,
            "lacking here, so that other users' executables and file descriptors cannot be seen",
            "grant it, so that programs are named rightly and signalfds are recognised",
        ),
        Err(error) => Check::unknown(id, title, error.to_string()),
    }
}

fn read_search() -> Check {
    let (id, title) = ("read-search", "CAP_DAC_READ_SEARCH");
    match privilege::missing_for_others() {
        Ok(missing) if !missing.contains(&Capability::CAP_DAC_READ_SEARCH) => {
            Check::ok(id, title, "files below /proc that are their owner's alone can be read")
        }
        Ok(_) => Check::limited(
            id,
            title,
            "lacking here, so that other users' memory, system calls and file descriptors cannot be seen",
            "grant it, so that orphaned locks and shared connections are found",
        ),
        Err(error) => Check::unknown(id, title, error.to_string()),
    }
}

fn pid_namespace() -> (Check, Obstacle) {
    let (id, title) = ("pid-namespace", "Pid namespace");
    match offers::check_pid_namespace() {
        Ok(()) => (Check::ok(id, title, "the host's, so that pids are those that the kernel reports"), None),
        Err(error) => {
            let found = "another than the host's, in which pids are others than the kernel reports";
            let advice = "run it on the host, or in a container with the host's pids (docker run --pid=host, \
                          hostPID: true)";
            let why = "this is not the host's pid namespace".to_owned();
            (Check::missing(id, title, found, advice), Some((of_kernel_error(&error), why)))
        }
    }
}

fn locked_memory() -> Check {
    let (id, title) = ("locked-memory", "Locked memory");
    if privilege::may_raise_limits().unwrap_or(false) {
        return Check::ok(id, title, "forkwatch raises the limit by itself, with CAP_SYS_RESOURCE");
    }
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((RLIM_INFINITY, _) | (_, RLIM_INFINITY)) => Check::ok(id, title, "not limited"),
        Ok((_, hard)) => Check::limited(
            id,
            title,
            format!("at most {hard} bytes, from which this kernel takes the ring and the tables"),
            "with CAP_SYS_RESOURCE forkwatch raises it by itself; else LimitMEMLOCK=infinity, or ulimit -l unlimited",
        ),
        Err(error) => Check::unknown(id, title, error.to_string()),
    }
}

fn trial(kernel_log: Speakers) -> (Vec<Check>, Obstacle, Option<Probes>) {
    let (id, title) = ("programs", "eBPF programs");
    let options = Options { kernel_log, ..Options::default() };
    let trial = match offers::trial(&options, own_cgroup()) {
        Ok(trial) => trial,
        Err(error) => {
            let advice = "the message says what to do; without a remedy there, report it with this output";
            let check = Check::missing(id, title, error.to_string(), advice);
            return (
                vec![check],
                Some((of_kernel_error(&error), "its programs cannot be started".to_owned())),
                None,
            );
        }
    };
    let (ring, time) = (options.ring_bytes / 1024, trial.started.as_millis());
    let loaded =
        format!("loaded, verified and attached in {time} ms, with a ring of {ring} KiB; detached again");
    let programs = Check::ok(id, title, loaded);
    let (id, title) = ("self-test", "Self-test");
    match trial.self_test {
        Ok(time) => {
            let found =
                format!("passed in {} ms: what the programs report is what /proc says", time.as_millis());
            let mut checks = vec![programs, on_demand(&trial.probes), Check::ok(id, title, found)];
            checks.extend(trial.logged.map(logged));
            (checks, None, Some(trial.probes))
        }
        Err(error) => {
            let advice = "report it to the project, with this output";
            let check = Check::missing(id, title, error.to_string(), advice);
            let obstacle = (of_kernel_error(&error), "the self-test failed".to_owned());
            (vec![programs, check], Some(obstacle), None)
        }
    }
}

/// What the programs have said of their decisions, where that was asked for.
fn logged(tally: LogTally) -> Check {
    let LogTally { lines, malformed, lost } = tally;
    let (id, title) = ("kernel-log", "Kernel log (on request)");
    let found = format!("{lines} lines during the self-test, {lost} lost, {malformed} malformed");
    if lost + malformed == 0 {
        Check::ok(id, title, found)
    } else {
        Check::limited(id, title, found, "report it to the project, with this output")
    }
}

/// What can be watched while a question is open: the detectors say what follows from that.
fn on_demand(probes: &Probes) -> Check {
    let [sockets, signals, sleepers] =
        [Probe::Sockets, Probe::Signals, Probe::Sleepers].map(|probe| probes.way(probe));
    let all = sockets.is_ok() && signals.is_ok() && sleepers.is_ok();
    let sockets = match sockets {
        Ok(way) => format!("connections by {}", way.words),
        Err(why) => format!("not connections: {why}"),
    };
    let signals = match signals {
        Ok(_) => "signals".to_owned(),
        Err(why) => format!("not signals: {why}"),
    };
    let sleepers = match sleepers {
        Ok(_) => "children that fall asleep".to_owned(),
        Err(why) => format!("not children that fall asleep: {why}"),
    };
    let (id, title, found) = ("on-demand", "On demand", format!("{sockets}; {signals}; {sleepers}"));
    if all {
        return Check::ok(id, title, found);
    }
    Check::limited(id, title, found, "nothing on this kernel: the detectors below say what follows from that")
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, *};
    use crate::kernel::NoProbe;

    #[test]
    fn only_kernels_that_were_not_tested_from_below_are_a_limit() {
        for (release, status) in [
            (Release(4, 18), Status::Limited),
            (Release(5, 9), Status::Limited),
            (Release(5, 10), Status::Ok),
            (Release(6, 12), Status::Ok),
            (Release(8, 0), Status::Ok),
        ] {
            assert_eq!(kernel_release(release).status, status, "{release:?}");
        }
    }

    #[test]
    fn a_log_that_does_not_come_whole_is_a_limit() {
        let tally = LogTally { lines: 7, malformed: 0, lost: 0 };
        assert_eq!(logged(tally).status, Status::Ok);
        for tally in [LogTally { malformed: 1, ..tally }, LogTally { lost: 1, ..tally }] {
            assert_eq!(logged(tally).status, Status::Limited, "{tally:?}");
        }
    }

    #[test]
    fn what_cannot_be_watched_on_demand_is_a_limit() {
        assert_eq!(on_demand(&Probes::all()).status, Status::Ok);
        for probe in [Probe::Sockets, Probe::Signals, Probe::Sleepers] {
            let absent = NoProbe::Absent("function tcp_sendmsg".to_owned());
            let less = Probes::all().without(probe, absent);
            let check = on_demand(&less);
            assert_eq!(check.status, Status::Limited);
            assert!(check.found.contains("this kernel has no function tcp_sendmsg"), "{}", check.found);
        }
    }
}
