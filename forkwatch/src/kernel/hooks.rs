//! Which of the programs that are attached on demand this kernel has a place for.
//!
//! They are loaded at the start, while there is the privilege for that; to attach what is loaded needs none.

use aya::{Btf as AyaBtf, Ebpf, programs::links::FdLink};

use super::{
    attach::{self, Programs},
    btf::{Btf, Kind},
    error::KernelError,
    on_demand::{
        BY_COPY, BY_EXITS, BY_LOAD, BY_OLD_EXITS, BY_TRACEPOINTS, FAMILIES, OnDemand, Place, SLEEPERS,
        TCP_RECEIVE, TCP_SHUTDOWN, UNIX_SHUTDOWN,
    },
};
use crate::release::Release;

/// Globals with the place of what leads from a socket to its inode number.
const SOCKET_FIELDS: &[&str] =
    &["OFFSET_SOCK_SOCKET", "OFFSET_SOCKET_FILE", "OFFSET_FILE_INODE", "OFFSET_INODE_NUMBER"];

/// Globals with the place of what tells that a thread sleeps; one of the first two is there.
const SLEEPER_FIELDS: &[&str] =
    &["OFFSET_TASK_SWITCHES", "OFFSET_TASK_FORCED_SWITCHES", "OFFSET_ITERATION_OUTPUT"];

/// How the sender of a signal is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalHook {
    /// From a copy of what the kernel says of the signal.
    Copy,
    /// In place: before Linux 6.13 alone (commit 838a10bd2ebf, in 6.12's stable releases too), but also where
    /// `lockdown=confidentiality` forbids the copy.
    Load,
}

impl SignalHook {
    const fn programs(self) -> &'static [OnDemand] {
        match self {
            Self::Copy => BY_COPY,
            Self::Load => BY_LOAD,
        }
    }
}

/// How uses of a socket are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketHook {
    /// The tracepoints `sock_send_length` and `sock_recv_length`.
    Tracepoints,
    /// fexit on the functions that send and receive on streams.
    Fexit,
    /// The same, as the functions were before Linux 5.19.
    OldFexit,
}

impl SocketHook {
    /// What the user is told.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Tracepoints => "the tracepoints sock_send_length and sock_recv_length",
            Self::Fexit | Self::OldFexit => {
                "fexit on tcp_sendmsg, tcp_recvmsg, unix_stream_sendmsg and unix_stream_recvmsg"
            }
        }
    }

    const fn programs(self) -> &'static [OnDemand] {
        match self {
            Self::Tracepoints => BY_TRACEPOINTS,
            Self::Fexit => BY_EXITS,
            Self::OldFexit => BY_OLD_EXITS,
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
    /// It would cost the start too much.
    #[error("to find its function among this kernel's types would delay every start")]
    Dear,
    /// It was tried at the start, and what came was not so.
    #[error("tried at the start, {0}: this kernel tells it in a way that forkwatch does not know")]
    Untrue(String),
    /// The kernel does not take the program.
    #[error("this kernel refuses the program {program}: {reason}")]
    Refused {
        /// Which.
        program: &'static str,
        /// Why.
        reason: String,
    },
}

impl NoHook {
    /// Of a program of many, what the kernel said is enough: what all of them need was there.
    pub(super) fn refused(program: &'static str, error: &KernelError) -> Self {
        let reason = match error {
            KernelError::Privilege { error, .. } | KernelError::LockedMemory { error, .. } => {
                error.to_string()
            }
            KernelError::Verifier { error, reason, .. } => format!("{error}: {}", complaint(reason)),
            error => error.to_string(),
        };
        Self::Refused { program, reason }
    }
}

/// What can be watched on this kernel while a question is open. What was loaded may be refused when it is first
/// attached; then that is told here from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// How every child of a process ends.
    pub families: Result<(), NoHook>,
    /// Which children fell asleep.
    pub sleepers: Result<(), NoHook>,
    /// Signals to a process.
    pub signals: Result<SignalHook, NoHook>,
    /// Sends and receives on a stream socket.
    pub sockets: Result<SocketHook, NoHook>,
    /// shutdown(2) of a TCP connection.
    pub tcp_shutdown: Result<(), NoHook>,
    /// shutdown(2) of a Unix stream.
    pub unix_shutdown: Result<(), NoHook>,
}

impl Hooks {
    /// What the kernel's types promise. `has` tells whether the places of all these globals are known.
    ///
    /// Functions stand at the end of the types. To look that far, and to have aya know the ids up to there, takes
    /// some 5 ms and 15 MB: done where the functions that send and receive are needed, or `functions` are needed anyway,
    /// and not for the rare shutdown(2) of a Unix stream alone.
    pub(super) fn find(types: &Btf<'_>, has: impl Fn(&[&str]) -> bool, functions: bool) -> Self {
        // All at once: each look takes a pass over the types.
        let mut absent =
            missing(types, &[FAMILIES, BY_COPY, BY_TRACEPOINTS, TCP_SHUTDOWN, &[SLEEPERS]].concat());
        let functions = functions || BY_TRACEPOINTS.iter().any(|on_demand| absent.contains(&on_demand.place));
        if functions {
            absent.extend(missing(types, &[BY_EXITS, UNIX_SHUTDOWN].concat()));
        }
        let need = |programs: &[OnDemand], fields: &[&str]| match programs
            .iter()
            .find(|on_demand| absent.contains(&on_demand.place))
        {
            Some(on_demand) => Err(NoHook::Absent(on_demand.place.to_string())),
            None if has(fields) => Ok(()),
            None => Err(NoHook::Fields),
        };
        let sockets =
            need(BY_TRACEPOINTS, SOCKET_FIELDS).map(|()| SocketHook::Tracepoints).or_else(|error| {
                if !functions {
                    return Err(error);
                }
                need(BY_EXITS, SOCKET_FIELDS).and_then(|()| of_functions(types))
            });
        let counted = has(&["OFFSET_FILE_COUNT"]) || has(&["OFFSET_FILE_REF"]);
        Self {
            families: need(FAMILIES, &[]),
            sleepers: need(&[SLEEPERS], SLEEPER_FIELDS).and_then(|()| {
                let states = ["OFFSET_TASK_STATE", "OFFSET_TASK_LONG_STATE"];
                if states.iter().any(|state| has(&[state])) { Ok(()) } else { Err(NoHook::Fields) }
            }),
            signals: need(BY_COPY, &["OFFSET_SIGINFO_CODE"]).map(|()| SignalHook::Copy),
            tcp_shutdown: sockets
                .clone()
                .and_then(|_| if counted { need(TCP_SHUTDOWN, &[]) } else { Err(NoHook::Fields) }),
            unix_shutdown: sockets
                .clone()
                .and_then(|_| if functions { need(UNIX_SHUTDOWN, &[]) } else { Err(NoHook::Dear) }),
            sockets,
        }
    }

    /// Loads the programs; forgets what the kernel does not take.
    pub(super) fn load(&mut self, loadable: &mut Programs<'_>, ids: &AyaBtf) {
        let asked = self.signals.clone();
        self.each(|programs| load_all(loadable, programs, ids));
        if asked.is_ok() && self.signals.is_err() && load_all(loadable, BY_LOAD, ids).is_ok() {
            self.signals = Ok(SignalHook::Load);
        }
    }

    /// The names of all tracepoints, and those of all functions, that loading asks for.
    pub(super) fn names(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut tracepoints, mut functions) = (Vec::new(), Vec::new());
        self.clone().each(|programs| {
            for on_demand in programs {
                match on_demand.place {
                    Place::Tracepoint(name) => tracepoints.push(name),
                    Place::Entry(name) | Place::Exit(name) | Place::Pass(name) => functions.push(name),
                }
            }
            Ok(())
        });
        (tracepoints, functions)
    }

    /// Whether what reports the uses of sockets can be attached again once it was detached: before Linux 5.13
    /// (commit f3a95075549e) a program at a function cannot.
    pub(super) fn sockets_reattach(&self) -> bool {
        const REATTACH: Release = Release(5, 13);
        Release::running() >= REATTACH
            || (self.sockets == Ok(SocketHook::Tracepoints) && self.unix_shutdown.is_err())
    }

    /// Attaches what reports the ends of all children; forgets it where the kernel refuses.
    pub(super) fn attach_families(&mut self, ebpf: &mut Ebpf) -> Vec<FdLink> {
        attach_part(&mut self.families, ebpf, |()| FAMILIES)
    }

    /// Attaches what reports signals; forgets it where the kernel refuses.
    pub(super) fn attach_signals(&mut self, ebpf: &mut Ebpf) -> Vec<FdLink> {
        attach_part(&mut self.signals, ebpf, SignalHook::programs)
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
        keep(&mut self.families, |()| with(FAMILIES));
        keep(&mut self.sleepers, |()| with(&[SLEEPERS]));
        keep(&mut self.signals, |hook| with(hook.programs()));
        keep(&mut self.sockets, |hook| with(hook.programs()));
        keep(&mut self.tcp_shutdown, |()| with(TCP_SHUTDOWN));
        keep(&mut self.unix_shutdown, |()| with(UNIX_SHUTDOWN));
    }
}

/// The verifier's last word before its statistics.
fn complaint(log: &str) -> &str {
    const STATISTICS: [&str; 5] =
        ["processed ", "insns processed ", "verification time ", "stack depth ", "mark_precise"];
    let is_statistics = |line: &&str| STATISTICS.iter().any(|start| line.starts_with(start));
    log.lines().rev().find(|line| !is_statistics(line)).unwrap_or_default()
}

/// Which of the functions' forms this kernel has.
fn of_functions(types: &Btf<'_>) -> Result<SocketHook, NoHook> {
    let receive = types.find(Kind::Function, TCP_RECEIVE);
    match receive.and_then(|function| types.arguments(function).ok()) {
        Some(5) => Ok(SocketHook::Fexit),
        Some(6) => Ok(SocketHook::OldFexit),
        _ => Err(NoHook::Absent(format!("function {TCP_RECEIVE} of a known form"))),
    }
}

/// The places that the kernel does not describe.
fn missing(types: &Btf<'_>, programs: &[OnDemand]) -> Vec<Place> {
    let names: Vec<_> = programs
        .iter()
        .map(|on_demand| match on_demand.place {
            Place::Tracepoint(name) => (Kind::Typedef, format!("btf_trace_{name}")),
            Place::Entry(name) | Place::Exit(name) | Place::Pass(name) => (Kind::Function, name.to_owned()),
        })
        .collect();
    let wanted: Vec<_> = names.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let found = types.find_all(&wanted).into_iter().zip(programs);
    found.filter(|(id, _)| id.is_none()).map(|(_, on_demand)| on_demand.place).collect()
}

fn load_all(loadable: &mut Programs<'_>, programs: &[OnDemand], ids: &AyaBtf) -> Result<(), NoHook> {
    programs.iter().try_for_each(|on_demand| {
        attach::load_on_demand(loadable, *on_demand, ids).map_err(|error| {
            tracing::debug!(%error, "a program that is attached on demand is not loaded");
            NoHook::refused(on_demand.program, &error)
        })
    })
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
                    return Err(NoHook::refused(on_demand.program, &error));
                }
            }
        }
        Ok(())
    });
    links
}

#[cfg(test)]
mod tests {
    use super::{
        super::btf::synthetic::{Builder, VOID},
        *,
    };

    const TRACEPOINTS: [&str; 5] = [
        "sched_process_fork",
        "sched_process_exec",
        "sched_process_exit",
        "signal_generate",
        "inet_sock_set_state",
    ];
    const SOCK_TRACEPOINTS: [&str; 2] = ["sock_send_length", "sock_recv_length"];
    const FUNCTIONS: [&str; 4] =
        ["tcp_sendmsg", "unix_stream_sendmsg", "unix_stream_recvmsg", "unix_shutdown"];

    /// A kernel whose `tcp_recvmsg` has so many arguments.
    fn kernel(tracepoints: &[&str], arguments: usize) -> Vec<u8> {
        let mut builder = Builder::new();
        for name in tracepoints {
            builder.typedef(&format!("btf_trace_{name}"), VOID);
        }
        for name in FUNCTIONS {
            builder.wrap(Kind::Function, name, VOID);
        }
        let count = u32::try_from(arguments).unwrap();
        let prototype = builder.add(Kind::Prototype, "", count, 0, &vec![0; arguments * 2]);
        builder.wrap(Kind::Function, "tcp_recvmsg", prototype);
        builder.blob()
    }

    #[test]
    fn a_new_kernel_is_watched_by_its_tracepoints() {
        let blob = kernel(&[&TRACEPOINTS[..], &SOCK_TRACEPOINTS[..]].concat(), 5);
        let types = Btf::parse(&blob).unwrap();
        let hooks = Hooks::find(&types, |_| true, false);
        assert_eq!((&hooks.unix_shutdown, hooks.names().1.len()), (&Err(NoHook::Dear), 0));
        let hooks = Hooks::find(&types, |_| true, true);
        assert_eq!(hooks.sockets, Ok(SocketHook::Tracepoints));
        assert_eq!((&hooks.signals, &hooks.tcp_shutdown), (&Ok(SignalHook::Copy), &Ok(())));
        assert_eq!(hooks.unix_shutdown, Ok(()));
        let (tracepoints, functions) = hooks.names();
        assert!(tracepoints.contains(&"sock_recv_length") && functions == ["unix_shutdown"], "{functions:?}");
    }

    #[test]
    fn an_old_kernel_is_watched_by_its_functions() {
        for (arguments, hook) in [(5, Ok(SocketHook::Fexit)), (6, Ok(SocketHook::OldFexit))] {
            let blob = kernel(&TRACEPOINTS, arguments);
            let hooks = Hooks::find(&Btf::parse(&blob).unwrap(), |_| true, false);
            assert_eq!(hooks.sockets, hook);
            let (_, functions) = hooks.names();
            assert!(functions.contains(&"tcp_recvmsg") && functions.len() == 5, "{functions:?}");
        }
        let blob = kernel(&TRACEPOINTS, 7);
        let hooks = Hooks::find(&Btf::parse(&blob).unwrap(), |_| true, false);
        assert!(matches!(hooks.sockets, Err(NoHook::Absent(_))), "{:?}", hooks.sockets);
    }

    #[test]
    fn of_a_verifier_s_log_the_complaint_is_told() {
        let log = "12: (61) r1 = *(u32 *)(r6 +8)\nR6 invalid mem access 'scalar'\nverification time 9 usec\nprocessed 5 insns";
        assert_eq!(complaint(log), "R6 invalid mem access 'scalar'");
        assert_eq!(complaint(""), "");
    }

    #[test]
    fn what_a_kernel_lacks_is_named() {
        let blob = kernel(&[], 5);
        let hooks = Hooks::find(&Btf::parse(&blob).unwrap(), |_| true, false);
        assert_eq!(hooks.signals.unwrap_err().to_string(), "this kernel has no tracepoint signal_generate");
        assert!(matches!(hooks.sockets, Err(NoHook::Absent(_))), "{:?}", hooks.sockets);
        assert!(
            hooks.tcp_shutdown.is_err() && hooks.unix_shutdown.is_err(),
            "they are nothing without the others"
        );
    }

    #[test]
    fn nothing_is_read_whose_place_is_unknown() {
        let blob = kernel(&[&TRACEPOINTS[..], &SOCK_TRACEPOINTS[..]].concat(), 5);
        let types = Btf::parse(&blob).unwrap();
        let without = |missing: &'static str| move |globals: &[&str]| !globals.contains(&missing);
        assert_eq!(Hooks::find(&types, without("OFFSET_SOCKET_FILE"), false).sockets, Err(NoHook::Fields));
        assert_eq!(Hooks::find(&types, without("OFFSET_SIGINFO_CODE"), false).signals, Err(NoHook::Fields));
        let uncounted = |globals: &[&str]| {
            !globals.iter().any(|global| global.starts_with("OFFSET_FILE_") && *global != "OFFSET_FILE_INODE")
        };
        let hooks = Hooks::find(&types, uncounted, false);
        assert_eq!((hooks.sockets, hooks.tcp_shutdown), (Ok(SocketHook::Tracepoints), Err(NoHook::Fields)));
    }
}
