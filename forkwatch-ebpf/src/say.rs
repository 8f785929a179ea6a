//! What the programs decide, said through aya-log: in the object that is built with the feature `kernel-log`. In the
//! other one `say!` is nothing, and its arguments are not evaluated.

#[cfg(feature = "kernel-log")]
mod spoken {
    use aya_ebpf::{macros::map, maps::PerCpuArray};
    use forkwatch_ebpf::log::Speaker;

    use crate::{counters::add, settings::KERNEL_LOG};

    /// Lines that were to be logged, those included that the ring had no room for: aya-log does not count these.
    #[map]
    static LOGGED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

    /// Whether somebody listens. The setting is constant to the verifier, which takes out what nobody listens to.
    #[inline(always)]
    pub(crate) fn is_heard(speaker: Speaker) -> bool {
        KERNEL_LOG.load() & speaker.bit != 0
    }

    /// Counts a line.
    #[inline(always)]
    pub(crate) fn attempt() {
        if let Some(lines) = LOGGED.get(0) {
            add(lines, 1);
        }
    }
}

#[cfg(feature = "kernel-log")]
pub(crate) use spoken::{attempt, is_heard};

/// `say!(FORK, debug, "process {} …", tgid = 7)`: a line of a [`Speaker`](forkwatch_ebpf::log::Speaker), at a level of
/// aya-log, with up to five numbers. Each line is a function of its own, so that it has a stack of its own: a program
/// with what it inlines has 512 bytes, and needs most of them.
#[cfg(feature = "kernel-log")]
macro_rules! say {
    ($speaker:ident, $level:ident, $format:tt $(, $name:ident = $value:expr)* $(,)?) => {
        if $crate::say::is_heard(forkwatch_ebpf::log::$speaker) {
            #[inline(never)]
            fn say($($name: u64),*) {
                $crate::say::attempt();
                aya_log_ebpf::$level!((), target: forkwatch_ebpf::log::$speaker.name, $format $(, $name)*);
            }
            say($(u64::from($value)),*);
        }
    };
}

#[cfg(not(feature = "kernel-log"))]
macro_rules! say {
    ($($nothing:tt)*) => {};
}

/// Says by which filter the current task, of this process and user, is not wanted.
macro_rules! say_unwanted {
    ($speaker:ident, $tgid:expr, $uid:expr) => {
        #[cfg(feature = "kernel-log")]
        match $crate::wanted::refusal($tgid, $uid) {
            forkwatch_ebpf::filter::TASKS => {
                say!(
                    $speaker,
                    debug,
                    "process {}: not told, it is not of the processes asked for",
                    tgid = $tgid
                );
            }
            forkwatch_ebpf::filter::UID => {
                say!(
                    $speaker,
                    debug,
                    "process {}: not told, its user {} is not asked for",
                    tgid = $tgid,
                    uid = $uid
                );
            }
            _ => say!($speaker, debug, "process {}: not told, its cgroup is not asked for", tgid = $tgid),
        }
    };
}
