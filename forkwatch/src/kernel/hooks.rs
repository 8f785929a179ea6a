//! The programs that are attached on demand, and which of them this kernel has a place for.
//!
//! They are loaded at the start, while there is the privilege for that; to attach what is loaded needs none.

use std::fmt;

use aya::{Btf as AyaBtf, Ebpf, programs::links::FdLink};

use super::{
    attach,
    btf::{Btf, BtfError, Kind},
    layout::Layout,
};

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The BTF tracepoint of that name.
    Tracepoint(&'static str),
    /// The entry of that function.
    Entry(&'static str),
    /// Its exit.
    Exit(&'static str),
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
const SIGNALS: &[OnDemand] = &[tracepoint("signal_generate", "signal_generate")];
/// Who holds a socket: what is seen forked must be seen ending.
const SHARERS: [OnDemand; 3] = [
    tracepoint("sharer_ends", "sched_process_exit"),
    tracepoint("sharer_execs", "sched_process_exec"),
    tracepoint("sharer_forks", "sched_process_fork"),
];
/// Who uses a socket, since Linux 6.3.
const BY_TRACEPOINTS: &[OnDemand] = &[
    SHARERS[0],
    SHARERS[1],
    SHARERS[2],
    tracepoint("sock_send_length", "sock_send_length"),
    tracepoint("sock_recv_length", "sock_recv_length"),
];
/// Likewise, before that.
const BY_EXITS: &[OnDemand] = &[
    SHARERS[0],
    SHARERS[1],
    SHARERS[2],
    exit("tcp_sends", TCP_RECEIVE.0),
    exit("tcp_receives", TCP_RECEIVE.1),
    exit("unix_sends", "unix_stream_sendmsg"),
    exit("unix_receives", "unix_stream_recvmsg"),
];
const TCP_RECEIVE: (&str, &str) = ("tcp_sendmsg", "tcp_recvmsg");
const TCP_SHUTDOWN: &[OnDemand] = &[tracepoint("inet_sock_set_state", "inet_sock_set_state")];
const UNIX_SHUTDOWN: &[OnDemand] = &[entry("unix_shutdown", "unix_shutdown")];

/// Globals with the place of what leads from a socket to its inode number.
const SOCKET_FIELDS: &[&str] =
    &["OFFSET_SOCK_SOCKET", "OFFSET_SOCKET_FILE", "OFFSET_FILE_INODE", "OFFSET_INODE_NUMBER"];

/// How uses of a socket are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketHook {
    /// The tracepoints `sock_send_length` and `sock_recv_length`.
    Tracepoints,
    /// fexit on the functions that send and receive on streams.
    Fexit,
}

impl SocketHook {
    /// What the user is told.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Tracepoints => "the tracepoints sock_send_length and sock_recv_length",
            Self::Fexit => "fexit on tcp_sendmsg, tcp_recvmsg, unix_stream_sendmsg and unix_stream_recvmsg",
        }
    }

    const fn programs(self) -> &'static [OnDemand] {
        match self {
            Self::Tracepoints => BY_TRACEPOINTS,
            Self::Fexit => BY_EXITS,
        }
    }
}

/// Why something cannot be watched on demand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHook {
    /// There is no such place.
    #[error("this kernel has no {0}")]
    Absent(String),
    /// What the program reads is not where it could be found.
    #[error("this kernel's structures are not as forkwatch knows them")]
    Fields,
    /// The kernel does not take the program.
    #[error("{0}")]
    Refused(String),
}

/// What can be watched on this kernel while a question is open. What was loaded may be refused when it is first
/// attached; then that is told here from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Signals to a process.
    pub signals: Result<(), NoHook>,
    /// Sends and receives on a stream socket.
    pub sockets: Result<SocketHook, NoHook>,
    /// shutdown(2) of a TCP connection.
    pub tcp_shutdown: Result<(), NoHook>,
    /// shutdown(2) of a Unix stream.
    pub unix_shutdown: Result<(), NoHook>,
}

impl Hooks {
    /// What the kernel's types promise.
    pub(super) fn find(types: &Btf<'_>, layout: &Layout) -> Self {
        let need = |programs: &[OnDemand], fields: &[&str]| match missing(types, programs) {
            Some(place) => Err(NoHook::Absent(place)),
            None if layout.has(fields) => Ok(()),
            None => Err(NoHook::Fields),
        };
        let sockets = need(BY_TRACEPOINTS, SOCKET_FIELDS)
            .map(|()| SocketHook::Tracepoints)
            .or_else(|_| need(BY_EXITS, SOCKET_FIELDS).map(|()| SocketHook::Fexit));
        let counted = layout.has(&["OFFSET_FILE_COUNT"]) || layout.has(&["OFFSET_FILE_REF"]);
        Self {
            signals: need(SIGNALS, &["OFFSET_SIGINFO_CODE"]),
            tcp_shutdown: sockets
                .clone()
                .and_then(|_| if counted { need(TCP_SHUTDOWN, &[]) } else { Err(NoHook::Fields) }),
            unix_shutdown: sockets.clone().and_then(|_| need(UNIX_SHUTDOWN, &[])),
            sockets,
        }
    }

    /// Loads the programs; forgets what the kernel does not take.
    pub(super) fn load(&mut self, ebpf: &mut Ebpf, ids: &AyaBtf) {
        self.each(|programs| {
            programs
                .iter()
                .try_for_each(|on_demand| attach::load_on_demand(ebpf, *on_demand, ids))
                .map_err(|error| NoHook::Refused(error.to_string()))
        });
    }

    /// The names of all tracepoints, and those of all functions, that loading asks for.
    pub(super) fn names(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut tracepoints, mut functions) = (Vec::new(), Vec::new());
        self.clone().each(|programs| {
            for on_demand in programs {
                match on_demand.place {
                    Place::Tracepoint(name) => tracepoints.push(name),
                    Place::Entry(name) | Place::Exit(name) => functions.push(name),
                }
            }
            Ok(())
        });
        (tracepoints, functions)
    }

    /// Attaches what reports signals; forgets it where the kernel refuses.
    pub(super) fn attach_signals(&mut self, ebpf: &mut Ebpf) -> Vec<FdLink> {
        attach_part(&mut self.signals, ebpf, |()| SIGNALS)
    }

    /// Attaches what reports the uses of sockets; forgets what the kernel refuses.
    pub(super) fn attach_sockets(&mut self, ebpf: &mut Ebpf) -> Vec<FdLink> {
        let mut links = attach_part(&mut self.sockets, ebpf, SocketHook::programs);
        if !links.is_empty() {
            links.extend(attach_part(&mut self.tcp_shutdown, ebpf, |()| TCP_SHUTDOWN));
            links.extend(attach_part(&mut self.unix_shutdown, ebpf, |()| UNIX_SHUTDOWN));
        }
        links
    }

    /// Does something with the programs of each part that there is, which is no more where that fails.
    fn each(&mut self, mut with: impl FnMut(&'static [OnDemand]) -> Result<(), NoHook>) {
        keep(&mut self.signals, |()| with(SIGNALS));
        keep(&mut self.sockets, |hook| with(hook.programs()));
        keep(&mut self.tcp_shutdown, |()| with(TCP_SHUTDOWN));
        keep(&mut self.unix_shutdown, |()| with(UNIX_SHUTDOWN));
    }
}

/// How many arguments `tcp_recvmsg` has here; as many as it has today where that is not told.
pub(super) fn tcp_recvmsg_arguments(types: &Btf<'_>) -> Result<u32, BtfError> {
    const TODAY: usize = 5;
    let arguments = types.find(Kind::Function, TCP_RECEIVE.1).map(|function| types.arguments(function));
    Ok(u32::try_from(arguments.transpose()?.unwrap_or(TODAY)).unwrap_or(u32::MAX))
}

/// The first place that the kernel does not describe.
fn missing(types: &Btf<'_>, programs: &[OnDemand]) -> Option<String> {
    let names: Vec<_> = programs
        .iter()
        .map(|on_demand| match on_demand.place {
            Place::Tracepoint(name) => (Kind::Typedef, format!("btf_trace_{name}")),
            Place::Entry(name) | Place::Exit(name) => (Kind::Function, name.to_owned()),
        })
        .collect();
    let wanted: Vec<_> = names.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let absent = types.find_all(&wanted).into_iter().position(|id| id.is_none())?;
    programs.get(absent).map(|on_demand| on_demand.place.to_string())
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(formatter, "tracepoint {name}"),
            Self::Entry(name) | Self::Exit(name) => write!(formatter, "function {name}"),
        }
    }
}

/// Turns a part that is there into the reason why it is not, where the attempt fails.
fn keep<T: Copy>(part: &mut Result<T, NoHook>, attempt: impl FnOnce(T) -> Result<(), NoHook>) {
    let tried = part.clone().and_then(|found| attempt(found).map(|()| found));
    *part = tried;
}

/// Attaches all programs of a part, or none.
fn attach_part<T: Copy>(
    part: &mut Result<T, NoHook>,
    ebpf: &mut Ebpf,
    programs: impl FnOnce(T) -> &'static [OnDemand],
) -> Vec<FdLink> {
    let mut links = Vec::new();
    keep(part, |found| {
        for on_demand in programs(found) {
            match attach::attach_on_demand(ebpf, *on_demand) {
                Ok(link) => links.push(link),
                Err(error) => {
                    links.clear();
                    tracing::warn!(%error, "what this program reports is not watched on this kernel");
                    return Err(NoHook::Refused(error.to_string()));
                }
            }
        }
        Ok(())
    });
    links
}
