//! The programs that are attached on demand, and the place of each in the kernel.

use std::fmt;

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The BTF tracepoint of that name.
    Tracepoint(&'static str),
    /// The entry of that function.
    Entry(&'static str),
    /// Its exit.
    Exit(&'static str),
    /// The pass of that name, which runs it for each thing that it comes to when it is read.
    Pass(&'static str),
}

/// A program, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OnDemand {
    pub(super) program: &'static str,
    pub(super) place: Place,
}

const fn tracepoint(program: &'static str, name: &'static str) -> OnDemand {
    OnDemand { program, place: Place::Tracepoint(name) }
}

const fn entry(program: &'static str, function: &'static str) -> OnDemand {
    OnDemand { program, place: Place::Entry(function) }
}

const fn exit(program: &'static str, function: &'static str) -> OnDemand {
    OnDemand { program, place: Place::Exit(function) }
}

/// Who sends a process signals.
pub(super) const BY_COPY: &[OnDemand] = &[tracepoint("signal_generate", "signal_generate")];
/// Likewise, without what `lockdown=confidentiality` forbids.
pub(super) const BY_LOAD: &[OnDemand] = &[tracepoint("signal_generate_typed", "signal_generate")];
/// Which children a process forks.
pub(super) const FAMILIES: &[OnDemand] = &[tracepoint("parent_forks", "sched_process_fork")];
/// Who holds a socket: what is seen forked must be seen ending.
const SHARERS: [OnDemand; 3] = [
    tracepoint("sharer_ends", "sched_process_exit"),
    tracepoint("sharer_execs", "sched_process_exec"),
    tracepoint("sharer_forks", "sched_process_fork"),
];
/// Who uses a socket, since Linux 6.3.
pub(super) const BY_TRACEPOINTS: &[OnDemand] = &[
    SHARERS[0],
    SHARERS[1],
    SHARERS[2],
    tracepoint("sock_send_length", "sock_send_length"),
    tracepoint("sock_recv_length", "sock_recv_length"),
];
/// Likewise, before that.
pub(super) const BY_EXITS: &[OnDemand] = &by_exits("tcp_receives");
/// Likewise, where the function that receives has one argument more: before Linux 5.19.
pub(super) const BY_OLD_EXITS: &[OnDemand] = &by_exits("tcp_receives_5_18");
pub(super) const TCP_RECEIVE: &str = "tcp_recvmsg";

const fn by_exits(tcp_receives: &'static str) -> [OnDemand; 7] {
    let [ends, execs, forks] = SHARERS;
    [
        ends,
        execs,
        forks,
        exit("tcp_sends", "tcp_sendmsg"),
        exit(tcp_receives, TCP_RECEIVE),
        exit("unix_sends", "unix_stream_sendmsg"),
        exit("unix_receives", "unix_stream_recvmsg"),
    ]
}
/// Which threads of children sleep.
pub(super) const SLEEPERS: OnDemand = OnDemand { program: "sleeper", place: Place::Pass("bpf_iter_task") };
pub(super) const TCP_SHUTDOWN: &[OnDemand] = &[tracepoint("inet_sock_set_state", "inet_sock_set_state")];
pub(super) const UNIX_SHUTDOWN: &[OnDemand] = &[entry("unix_shutdown", "unix_shutdown")];

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(formatter, "tracepoint {name}"),
            Self::Entry(name) | Self::Exit(name) => write!(formatter, "function {name}"),
            Self::Pass(name) => write!(formatter, "pass {name}"),
        }
    }
}
