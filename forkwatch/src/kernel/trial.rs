//! What is attached on demand is tried in the self-test, before anything rests on it: a tracepoint's arguments may mean
//! something else on the next kernel, and neither its types nor the verifier show that.
//!
//! A child of forkwatch is sent a signal, and a byte goes through a socket. Both are reported before that child ends, and
//! the ring keeps the order, so that nothing has to be waited for.

use std::{
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
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
    event::{Event, Signal as Sent, SocketUse},
    order::Order,
    process::{Comm, ProcessKey},
};

/// What the child is sent; it must block it.
pub(super) const SIGNAL: Signal = Signal::SIGUSR1;
const MESSAGE: &[u8] = b"?";

/// What was done, and what was reported of it.
pub(super) struct Trial {
    child: ProcessKey,
    signal: Option<Sent>,
    /// Inode number of the socket; absent where none is tried.
    socket: Option<u64>,
    used: Option<SocketUse>,
    /// Records that found no room before.
    dropped: DroppedRecords,
}

/// Records that found no room so far.
#[derive(Clone, Copy)]
struct DroppedRecords {
    signals: u64,
    sockets: u64,
}

impl Trial {
    /// Does what can be seen, and takes all orders back. What the kernel refuses to attach is not tried any further.
    pub(super) fn run(kernel: &mut Kernel, own: ProcessKey, child: ProcessKey) -> io::Result<Self> {
        let dropped = dropped(kernel);
        order(kernel, Order::WatchSignals(child));
        kill(Pid::from_raw(child.tgid.cast_signed()), SIGNAL)?;
        order(kernel, Order::UnwatchSignals(child));
        // At functions it would cost some milliseconds, and before Linux 5.13 it would have to stay.
        let socket = match kernel.probes().way(Probe::Sockets) {
            Ok(way) if !way.uses_functions() => Some(send(kernel, own)?),
            _ => None,
        };
        Ok(Self { child, signal: None, socket, used: None, dropped })
    }

    /// Takes in what is reported of it, and hands back everything else.
    pub(super) fn take(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Signal(signal) if signal.target.tgid == self.child.tgid => self.signal = Some(signal),
            Event::SocketUse(used) if Some(used.inode) == self.socket => self.used = Some(used),
            event => return Some(event),
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
        for (probe, judged) in [(Probe::Signals, signals), (Probe::Sockets, sockets)] {
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
    order(kernel, Order::Share(own));
    order(kernel, Order::WatchSocket(inode));
    here.write_all(MESSAGE)?;
    order(kernel, Order::UnwatchSocket(inode));
    order(kernel, Order::Unshare(own));
    Ok(inode)
}

fn order(kernel: &mut Kernel, order: Order) {
    let own = Living { parent_tgid: getppid().as_raw().unsigned_abs(), unexeced: false };
    kernel.obey(&order, |_| Some(own));
}

fn dropped(kernel: &Kernel) -> DroppedRecords {
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

fn check<T: PartialEq + std::fmt::Display>(what: &str, reported: &T, actual: &T) -> Result<(), String> {
    if reported == actual {
        return Ok(());
    }
    Err(format!("{what} was reported as {reported}, and is {actual}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{connection::User, event::Origin, time::BootTime};

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
