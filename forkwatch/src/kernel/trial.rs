//! What is attached on demand is tried in the self-test, before anything rests on it: a tracepoint's arguments may mean
//! something else on the next kernel, and neither its types nor the verifier show that.
//!
//! A child of forkwatch is born with a connection and sent a signal, and a byte goes through a socket. All of it is
//! reported before that child ends, and the ring keeps the order, so that nothing has to be waited for.

use std::{
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
};

use forkwatch_ebpf::{class, fate};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::fstat,
    },
    unistd::{Pid, getppid},
};

use super::{Kernel, Living, Probe};
use crate::model::{
    connection::Act,
    observation::{Heir, Observation, Signal as Sent, SocketUse},
    probe_request::ProbeRequest,
    process::{Comm, ProcessKey},
    reported::Reported,
};

/// What the child is sent; it must block it.
pub(super) const SIGNAL: Signal = Signal::SIGUSR1;
const MESSAGE: &[u8] = b"?";

/// A connection that children inherit: a Unix stream to a peer with a name.
pub(super) struct Connection {
    _listener: UnixListener,
    stream: UnixStream,
}

impl Connection {
    pub(super) fn new() -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("forkwatch-trial-{}", std::process::id()))?;
        let listener = UnixListener::bind_addr(&address)?;
        Ok(Self { _listener: listener, stream: UnixStream::connect_addr(&address)? })
    }

    fn inode(&self) -> io::Result<u64> {
        Ok(fstat(self.stream.as_fd())?.st_ino)
    }

    fn descriptor(&self) -> u32 {
        self.stream.as_raw_fd().unsigned_abs()
    }
}

/// What was done, and what was reported of it.
pub(super) struct Trial {
    child: ProcessKey,
    /// The inode number and the descriptor of what the children inherited, and what was told of that.
    inherited: (u64, u32),
    heir: Option<Heir>,
    signal: Option<Sent>,
    /// Inode number of the socket; absent where none is tried.
    socket: Option<u64>,
    used: Option<SocketUse>,
    /// Records that found no room before.
    dropped: DroppedRecords,
}

/// Records that found no room so far.
#[derive(Clone, Copy)]
pub(super) struct DroppedRecords {
    signals: u64,
    sockets: u64,
}

impl Trial {
    /// Does what can be seen, and takes all requests back. What the kernel refuses to attach is not tried any further.
    ///
    /// The first of the children was born with the connection, after the records that found no room were counted.
    pub(super) fn run(
        kernel: &mut Kernel,
        own: ProcessKey,
        child: ProcessKey,
        connection: &Connection,
        dropped: DroppedRecords,
    ) -> io::Result<Self> {
        let inherited = (connection.inode()?, connection.descriptor());
        // The kernel side has entered them by itself.
        request(kernel, ProbeRequest::UnwatchSocket(inherited.0));
        request(kernel, ProbeRequest::Unshare(own));
        request(kernel, ProbeRequest::WatchSignals(child));
        kill(Pid::from_raw(child.tgid.cast_signed()), SIGNAL)?;
        request(kernel, ProbeRequest::UnwatchSignals(child));
        // At functions it would cost some milliseconds, and before Linux 5.13 it would have to stay.
        let socket = match kernel.probes().way(Probe::Sockets) {
            Ok(way) if !way.uses_functions() => Some(send(kernel, own)?),
            _ => None,
        };
        Ok(Self { child, inherited, heir: None, signal: None, socket, used: None, dropped })
    }

    /// Takes in what is reported of it, and hands back everything else.
    pub(super) fn take(&mut self, reported: Reported) -> Option<Reported> {
        match reported {
            Reported::Observation(Observation::Signal(signal)) if signal.target.tgid == self.child.tgid => {
                self.signal = Some(signal);
            }
            Reported::Observation(Observation::Heir(heir)) if heir.parent.tgid == std::process::id() => {
                self.heir.get_or_insert(heir);
            }
            Reported::Observation(Observation::SocketUse(used)) if Some(used.inode) == self.socket => {
                self.used = Some(used);
            }
            reported => return Some(reported),
        }
        None
    }

    /// Compares. What found no room in the ring proves nothing.
    pub(super) fn judge(self, kernel: &mut Kernel, own: ProcessKey, comm: Comm) {
        let (before, now) = (self.dropped, dropped(kernel));
        let signals = match &self.signal {
            None if now.signals != before.signals || kernel.probes().way(Probe::Signals).is_err() => Ok(()),
            signal => judge_signal(signal.as_ref(), own, comm),
        };
        let sockets = match &self.used {
            None if now.sockets != before.sockets
                || self.socket.is_none()
                || kernel.probes().way(Probe::Sockets).is_err() =>
            {
                Ok(())
            }
            used => judge_use(used.as_ref(), own),
        };
        let heirs = match &self.heir {
            None if now.sockets != before.sockets || kernel.probes().way(Probe::Heirs).is_err() => Ok(()),
            heir => judge_heir(heir.as_ref(), self.inherited, own),
        };
        if let Some(heir) = &self.heir {
            request(kernel, ProbeRequest::Unshare(heir.child));
        }
        for (probe, judged) in [(Probe::Signals, signals), (Probe::Sockets, sockets), (Probe::Heirs, heirs)] {
            if let Err(why) = judged {
                kernel.distrust(probe, why);
            }
        }
    }
}

/// Sends a byte through a watched socket; gives its inode number.
fn send(kernel: &mut Kernel, own: ProcessKey) -> io::Result<u64> {
    let (mut here, _there) = UnixStream::pair()?;
    let inode = fstat(here.as_fd())?.st_ino;
    request(kernel, ProbeRequest::Share(own));
    request(kernel, ProbeRequest::WatchSocket(inode));
    here.write_all(MESSAGE)?;
    request(kernel, ProbeRequest::UnwatchSocket(inode));
    request(kernel, ProbeRequest::Unshare(own));
    Ok(inode)
}

fn request(kernel: &mut Kernel, request: ProbeRequest) {
    let own = Living { parent_tgid: getppid().as_raw().unsigned_abs(), unexeced: false };
    kernel.probe(&request, |_| Some(own));
}

/// How many have found no room so far.
pub(super) fn dropped(kernel: &Kernel) -> DroppedRecords {
    let counters = kernel.counters().ok();
    let of = |class: usize| {
        let fates = counters.as_ref().and_then(|counters| counters.events.get(class));
        fates.map_or(0, |fates| {
            [fate::DROPPED_FULL, fate::DROPPED_PLAIN].iter().filter_map(|fate| fates.get(*fate)).sum()
        })
    };
    DroppedRecords { signals: of(class::SIGNAL), sockets: of(class::SOCKET) }
}

fn judge_signal(signal: Option<&Sent>, own: ProcessKey, comm: Comm) -> Result<(), String> {
    let Some(signal) = signal else {
        return Err("a signal that forkwatch sent was not reported".to_owned());
    };
    let number = (SIGNAL as i32).unsigned_abs();
    check("the number of a signal", &signal.number, &number)?;
    check("the sender of a signal", &signal.sender_tgid, &own.tgid)?;
    check("the name of a signal's sender", &signal.comm.to_text(), &comm.to_text())
}

fn judge_use(used: Option<&SocketUse>, own: ProcessKey) -> Result<(), String> {
    let Some(used) = used else {
        return Err("what forkwatch sent on a socket was not reported".to_owned());
    };
    check("who used a socket", &used.user.process.tgid, &own.tgid)?;
    check("how a socket was used", &format!("{:?}", used.act), &format!("{:?}", Act::Sent))?;
    check("how much was sent on a socket", &used.bytes, &(MESSAGE.len() as u64))
}

fn judge_heir(heir: Option<&Heir>, (inode, descriptor): (u64, u32), own: ProcessKey) -> Result<(), String> {
    let Some(heir) = heir else {
        return Err("a child that was born with a connection was not reported".to_owned());
    };
    let found = heir.sockets.iter().find(|socket| socket.inode == inode);
    check("how a child's connection was found", &found.is_some(), &true)?;
    check("a connection's descriptor", &found.map_or(0, |socket| socket.descriptor), &descriptor)?;
    check("the start of a forker", &heir.parent.start.ticks(), &own.start.ticks())
}

fn check<T: PartialEq + std::fmt::Display>(what: &str, reported: &T, actual: &T) -> Result<(), String> {
    if reported == actual {
        return Ok(());
    }
    Err(format!("{what} was reported as {reported}, and is {actual}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        connection::{Inherited, User},
        event::Origin,
        time::BootTime,
    };

    const OWN: ProcessKey = ProcessKey { tgid: 7, start: BootTime(1) };
    const CHILD: ProcessKey = ProcessKey { tgid: 8, start: BootTime(2) };

    fn signal(sender_tgid: u32) -> Sent {
        let origin = Origin::default();
        let comm = if sender_tgid == 0 { Comm::default() } else { "forkwatch".into() };
        Sent { origin, at: BootTime(3), number: 10, target: CHILD, sender_tgid, comm }
    }

    #[test]
    fn a_sender_that_is_told_as_the_kernel_is_noticed() {
        let judge = |signal: Option<&Sent>| judge_signal(signal, OWN, "forkwatch".into());
        assert_eq!(judge(Some(&signal(7))), Ok(()));
        let wrong = judge(Some(&signal(0))).unwrap_err();
        assert_eq!(wrong, "the sender of a signal was reported as 0, and is 7");
        assert!(judge(None).unwrap_err().contains("was not reported"));
        let other = Sent { number: 12, ..signal(7) };
        assert_eq!(judge(Some(&other)).unwrap_err(), "the number of a signal was reported as 12, and is 10");
    }

    #[test]
    fn a_connection_of_a_child_that_is_told_wrong_is_noticed() {
        let heir = |inode, descriptor| Heir {
            origin: Origin::default(),
            at: BootTime(3),
            parent: OWN,
            child: CHILD,
            comm: "forkwatch".into(),
            sockets: vec![Inherited { inode, descriptor, bytes: None }],
            more: false,
        };
        let judge = |heir: Option<&Heir>| judge_heir(heir, (77, 9), OWN);
        assert_eq!(judge(Some(&heir(77, 9))), Ok(()));
        let later = ProcessKey { start: BootTime(1 << 40), ..OWN };
        for wrong in [heir(78, 9), heir(77, 8), Heir { parent: later, ..heir(77, 9) }] {
            assert!(judge(Some(&wrong)).is_err(), "{wrong:?}");
        }
        assert!(judge(None).unwrap_err().contains("was not reported"));
    }

    #[test]
    fn a_use_of_a_socket_that_is_told_wrong_is_noticed() {
        let who = User { process: OWN, parent_tgid: 1, unexeced: false };
        let used = SocketUse {
            origin: Origin::default(),
            at: BootTime(3),
            inode: 5,
            user: who,
            tid: 7,
            comm: "forkwatch".into(),
            act: Act::Sent,
            bytes: 1,
        };
        assert_eq!(judge_use(Some(&used), OWN), Ok(()));
        for wrong in [
            SocketUse { bytes: u64::MAX, ..used.clone() },
            SocketUse { act: Act::Received, ..used.clone() },
            SocketUse { user: User { process: CHILD, ..who }, ..used },
        ] {
            assert!(judge_use(Some(&wrong), OWN).is_err(), "{wrong:?}");
        }
        assert!(judge_use(None, OWN).is_err());
    }
}
