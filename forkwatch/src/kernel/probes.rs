//! The probes, a row each: which programs, where each is attached, what they read, their tables, their records with who
//! decodes these, and when they are on. [`switch`](super::switch) loads, attaches and detaches what stands here.

use std::fmt;

use forkwatch_ebpf::{map, record};

use super::{clone_calls, decode};
use crate::model::reported::Reported;

/// A probe: programs that tell one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// How processes and threads are created.
    Forks,
    /// How processes replace their program.
    Execs,
    /// How processes end.
    Ends,
    /// What the others cannot know of a new task.
    NewTasks,
    /// How every child of a process ends.
    Families,
    /// Who sends a process signals.
    Signals,
    /// Sends and receives on a stream socket.
    Sockets,
    /// Which connections children are born with.
    Heirs,
    /// Which children fell asleep.
    Sleepers,
    /// shutdown(2) of a TCP connection.
    TcpShutdown,
    /// shutdown(2) of a Unix stream.
    UnixShutdown,
    /// The system calls of the clone family.
    CloneCalls,
}

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The BTF tracepoint of that name.
    Tracepoint(&'static str),
    /// The entry of that function.
    Entry(&'static str),
    /// The exit of that function.
    Exit(&'static str),
    /// The pass of that name, which runs it for each thing that it comes to when it is read.
    Pass(&'static str),
    /// The tracepoints of the clone family's system calls, of this kind.
    SystemCalls(&'static str),
}

impl Place {
    /// The kernel's function, where it is one.
    pub(super) const fn function(self) -> Option<&'static str> {
        match self {
            Self::Entry(name) | Self::Exit(name) => Some(name),
            Self::Tracepoint(_) | Self::Pass(_) | Self::SystemCalls(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tracepoint(name) => write!(formatter, "tracepoint {name}"),
            Self::Entry(name) | Self::Exit(name) => write!(formatter, "function {name}"),
            Self::Pass(name) => write!(formatter, "pass {name}"),
            Self::SystemCalls(kind) => write!(formatter, "system call tracepoints {kind}"),
        }
    }
}

/// A program, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) place: Place,
}

/// One of the ways to have what a probe tells: they are tried in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Way {
    /// What the user is told.
    pub words: &'static str,
    /// Attached in this order: what is seen beginning must be seen ending.
    pub(super) programs: &'static [Program],
    /// Globals with the place of what they read in the kernel's structures, all those of any one of these lists.
    pub(super) fields: &'static [&'static [&'static str]],
    /// The function that must have so many arguments, because programs read by their number.
    pub(super) form: Option<(&'static str, usize)>,
    /// Whether it is only for a kernel that refuses the programs of the one before.
    pub(super) spare: bool,
}

impl Way {
    /// The ways of a probe.
    pub fn all_of(probe: Probe) -> &'static [Self] {
        TABLE.iter().find(|row| row.probe == probe).map_or(&[], |row| row.ways)
    }

    /// Whether programs are attached to functions of the kernel.
    pub fn uses_functions(&self) -> bool {
        self.programs.iter().any(|program| program.place.function().is_some())
    }
}

/// When a probe is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// From the start on, where it is asked for and the kernel has a way. The last program is attached after all others, the rest before them.
    Optional,
    /// While a question is open that it answers; some only beside another one.
    OnDemand {
        beside: Option<Probe>,
    },
    /// When it is read: it is loaded, and not attached.
    OnRead,
    /// From the start on, where it is asked for. The programs are told by this global.
    OnRequest {
        setting: &'static str,
    },
}

/// Makes an event of a record's bytes, if they are one.
pub(super) type Decoder = fn(&[u8]) -> Option<Reported>;

/// All about one.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) probe: Probe,
    /// In words.
    pub(super) tells: &'static str,
    pub(super) when: When,
    pub(super) ways: &'static [Way],
    /// The tables that are for it alone.
    pub(super) maps: &'static [&'static str],
    /// Its records, by their number.
    pub(super) records: &'static [(u8, Decoder)],
}

const fn tracepoint(name: &'static str, tracepoint: &'static str) -> Program {
    Program { name, place: Place::Tracepoint(tracepoint) }
}

const fn entry(name: &'static str, function: &'static str) -> Program {
    Program { name, place: Place::Entry(function) }
}

const fn exit(name: &'static str, function: &'static str) -> Program {
    Program { name, place: Place::Exit(function) }
}

const fn system_calls(name: &'static str, kind: &'static str) -> Program {
    Program { name, place: Place::SystemCalls(kind) }
}

const fn way(words: &'static str, programs: &'static [Program]) -> Way {
    Way { words, programs, fields: &[&[]], form: None, spare: false }
}

/// Who holds a socket: what is seen forked must be seen ending.
const SHARERS: [Program; 3] = [
    tracepoint("sharer_ends", "sched_process_exit"),
    tracepoint("sharer_execs", "sched_process_exec"),
    tracepoint("sharer_forks", "sched_process_fork"),
];

/// Which threads of children sleep.
pub(super) const SLEEPER: Program = Program { name: "sleeper", place: Place::Pass("bpf_iter_task") };

/// What tells that a thread sleeps, beside its state, which stands in one of two places.
const SLEEPER_FIELDS: [&str; 3] =
    ["OFFSET_TASK_SWITCHES", "OFFSET_TASK_FORCED_SWITCHES", "OFFSET_ITERATION_OUTPUT"];

/// What leads from a socket to its inode number.
const SOCKET_FIELDS: &[&[&str]] =
    &[&["OFFSET_SOCK_SOCKET", "OFFSET_SOCKET_FILE", "OFFSET_FILE_INODE", "OFFSET_INODE_NUMBER"]];

/// What leads from a process to its sockets, and tells what these are.
const HEIR_FIELDS: &[&[&str]] = &[&[
    "OFFSET_TASK_FILES",
    "OFFSET_FILES_TABLE",
    "OFFSET_TABLE_SIZE",
    "OFFSET_TABLE_FILES",
    "OFFSET_FILE_OPERATIONS",
    "OFFSET_FILE_PRIVATE",
    "OFFSET_FILE_INODE",
    "OFFSET_INODE_NUMBER",
    "OFFSET_INODE_MODE",
    "OFFSET_SOCKET_TYPE",
    "OFFSET_SOCKET_SOCK",
    "OFFSET_SOCKET_FILE",
    "OFFSET_SOCK_SOCKET",
    "OFFSET_SOCK_FAMILY",
    "OFFSET_SOCK_STATE",
    "OFFSET_SOCK_PROTOCOL",
    "OFFSET_TCP_WRITTEN",
    "OFFSET_TCP_TAKEN",
    "OFFSET_UNIX_PEER",
    "OFFSET_UNIX_ADDRESS",
    "OFFSET_ADDRESS_NAME",
]];

const TCP_RECEIVE: &str = "tcp_recvmsg";

/// Who uses a socket, by the functions that send and receive on streams. The one that receives on TCP has one argument
/// more before Linux 5.19, and a program for either form.
const fn socket_functions(programs: &'static [Program], arguments: usize) -> Way {
    Way {
        words: "fexit on tcp_sendmsg, tcp_recvmsg, unix_stream_sendmsg and unix_stream_recvmsg",
        programs,
        fields: SOCKET_FIELDS,
        form: Some((TCP_RECEIVE, arguments)),
        spare: false,
    }
}

const fn by_exits(tcp_receives: &'static str) -> [Program; 7] {
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

/// The probes. Those that are always on stand in the order in which they are attached: what is seen forked must be seen
/// ending.
pub(super) static TABLE: &[Row] = &[
    Row {
        probe: Probe::Ends,
        tells: "the ends of processes",
        when: When::Always,
        ways: &[way("the tracepoint", &[tracepoint("sched_process_exit", "sched_process_exit")])],
        maps: &[],
        records: &[(record::EXIT, decode::exit)],
    },
    Row {
        probe: Probe::Execs,
        tells: "execs",
        when: When::Always,
        ways: &[way("the tracepoint", &[tracepoint("sched_process_exec", "sched_process_exec")])],
        maps: &[],
        records: &[(record::EXEC, decode::exec)],
    },
    Row {
        probe: Probe::NewTasks,
        tells: "new tasks",
        when: When::Always,
        ways: &[way("the tracepoint", &[tracepoint("task_newtask", "task_newtask")])],
        maps: &[map::WORKERS],
        records: &[],
    },
    Row {
        probe: Probe::Forks,
        tells: "forks",
        when: When::Always,
        ways: &[way("the tracepoint", &[tracepoint("sched_process_fork", "sched_process_fork")])],
        maps: &[map::CGROUPS],
        records: &[(record::FORK, decode::fork), (record::THREAD, decode::thread)],
    },
    Row {
        probe: Probe::Families,
        tells: "the ends of all children",
        when: When::OnDemand { beside: None },
        ways: &[way("the tracepoint", &[tracepoint("parent_forks", "sched_process_fork")])],
        maps: &[map::PARENTS],
        records: &[],
    },
    Row {
        probe: Probe::Signals,
        tells: "the senders of signals",
        when: When::OnDemand { beside: None },
        ways: &[
            Way {
                fields: &[&["OFFSET_SIGINFO_CODE"]],
                ..way(
                    "a copy of what the kernel says of the signal",
                    &[tracepoint("signal_generate", "signal_generate")],
                )
            },
            // Before Linux 6.13 alone (commit 838a10bd2ebf, in 6.12's stable releases too), but also where
            // `lockdown=confidentiality` forbids the copy.
            Way {
                fields: &[&["OFFSET_SIGINFO_CODE"]],
                spare: true,
                ..way(
                    "what the kernel says of the signal, in its place",
                    &[tracepoint("signal_generate_typed", "signal_generate")],
                )
            },
        ],
        maps: &[map::SIGNALLED],
        records: &[(record::SIGNAL, decode::signal)],
    },
    Row {
        probe: Probe::Sockets,
        tells: "the uses of sockets",
        when: When::OnDemand { beside: None },
        ways: &[
            // Since Linux 6.3.
            Way {
                fields: SOCKET_FIELDS,
                ..way(
                    "the tracepoints sock_send_length and sock_recv_length",
                    &[
                        SHARERS[0],
                        SHARERS[1],
                        SHARERS[2],
                        tracepoint("sock_send_length", "sock_send_length"),
                        tracepoint("sock_recv_length", "sock_recv_length"),
                    ],
                )
            },
            socket_functions(&by_exits("tcp_receives"), 5),
            socket_functions(&by_exits("tcp_receives_5_18"), 6),
        ],
        maps: &[map::SHARERS, map::SHARER_MARKED, map::SOCKETS, map::SOCKET_USERS],
        records: &[(record::SOCKET, decode::socket_use), (record::SHARER_END, decode::sharer_end)],
    },
    Row {
        probe: Probe::Heirs,
        tells: "the connections that children are born with",
        when: When::Optional,
        ways: &[Way {
            fields: HEIR_FIELDS,
            ..way(
                "a walk of the child's descriptors at the fork",
                // What has moved must be told before the end of the child, and a birth after the fork.
                &[
                    tracepoint("heir_ends", "sched_process_exit"),
                    tracepoint("heir_is_born", "sched_process_fork"),
                ],
            )
        }],
        maps: &[map::HEIRS, map::FORKERS],
        records: &[(record::HEIR, decode::heir), (record::MOVED, decode::moved)],
    },
    Row {
        probe: Probe::Sleepers,
        tells: "children that fall asleep",
        when: When::OnRead,
        ways: &[Way {
            fields: &[
                &[SLEEPER_FIELDS[0], SLEEPER_FIELDS[1], SLEEPER_FIELDS[2], "OFFSET_TASK_STATE"],
                &[SLEEPER_FIELDS[0], SLEEPER_FIELDS[1], SLEEPER_FIELDS[2], "OFFSET_TASK_LONG_STATE"],
            ],
            ..way("a pass over all tasks", &[SLEEPER])
        }],
        maps: &[],
        records: &[],
    },
    Row {
        probe: Probe::TcpShutdown,
        tells: "shutdown(2) of TCP connections",
        when: When::OnDemand { beside: Some(Probe::Sockets) },
        ways: &[Way {
            fields: &[&["OFFSET_FILE_COUNT"], &["OFFSET_FILE_REF"]],
            ..way("the tracepoint", &[tracepoint("inet_sock_set_state", "inet_sock_set_state")])
        }],
        maps: &[],
        records: &[],
    },
    Row {
        probe: Probe::UnixShutdown,
        tells: "shutdown(2) of Unix streams",
        when: When::OnDemand { beside: Some(Probe::Sockets) },
        ways: &[way("fentry", &[entry("unix_shutdown", "unix_shutdown")])],
        maps: &[],
        records: &[],
    },
    Row {
        probe: Probe::CloneCalls,
        tells: "the system calls of the clone family",
        when: When::OnRequest { setting: "CLONE_CALLS" },
        ways: &[
            way(
                "fentry and fexit on kernel_clone, at no cost to other system calls",
                &[exit("clone_exit", clone_calls::FUNCTION), entry("clone_entry", clone_calls::FUNCTION)],
            ),
            // As long as one is attached, *every* system call on the host takes the kernel's slow path: some 30 ns more
            // each. Calls of 32-bit programs do not pass there (`ARCH_TRACE_IGNORE_COMPAT_SYSCALLS`,
            // kernel/trace/trace_syscalls.c).
            Way {
                spare: true,
                ..way(
                    "the system call tracepoints of clone, clone3, fork and vfork, which make every system call on \
                     this host some 30 ns slower while they are attached",
                    &[
                        system_calls("clone_sys_exit", "sys_exit"),
                        system_calls("clone_sys_enter", "sys_enter"),
                    ],
                )
            },
        ],
        maps: &["CALLS"],
        records: &[(record::CLONE_CALL, decode::clone_failure)],
    },
];

/// The programs that are always attached, in the order of their attaching.
pub(super) fn always() -> impl Iterator<Item = Program> {
    let rows = TABLE.iter().filter(|row| row.when == When::Always);
    rows.flat_map(|row| row.ways).flat_map(|way| way.programs).copied()
}

/// The record's event; `None` where the bytes are not a record that this build knows.
pub(super) fn decode(bytes: &[u8]) -> Option<Reported> {
    let number = decode::number(bytes)?;
    let mut records = TABLE.iter().flat_map(|row| row.records);
    let (_, decode) = records.find(|(record, _)| *record == number)?;
    decode(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_probe_program_and_record_stands_once() {
        let once = |what: &str, names: Vec<String>| {
            let different: BTreeSet<_> = names.iter().collect();
            assert_eq!(different.len(), names.len(), "{what}: {names:?}");
        };
        once("probes", TABLE.iter().map(|row| format!("{:?}", row.probe)).collect());
        once("maps", TABLE.iter().flat_map(|row| row.maps).map(ToString::to_string).collect());
        let records = TABLE.iter().flat_map(|row| row.records);
        once("records", records.clone().map(|(number, _)| number.to_string()).collect());
        let numbers: BTreeSet<u8> = records.map(|(number, _)| *number).collect();
        assert_eq!(numbers, (record::FORK..=record::SHARER_END).collect());
        // Of one row alone: two ways share those who hold a socket.
        let programs = TABLE.iter().flat_map(|row| {
            let names = row.ways.iter().flat_map(|way| way.programs).map(|program| program.name.to_owned());
            names.collect::<BTreeSet<_>>()
        });
        once("programs", programs.collect());
    }

    #[test]
    fn a_probe_beside_another_one_stands_behind_it() {
        for (at, row) in TABLE.iter().enumerate() {
            if let When::OnDemand { beside: Some(other) } = row.when {
                assert!(TABLE.iter().take(at).any(|before| before.probe == other), "{:?}", row.probe);
            }
        }
    }
}
