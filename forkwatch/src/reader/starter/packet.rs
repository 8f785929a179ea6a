//! The packets between the starter and whoever asks for readers: `S` and what it may do asks for a reader, `K` and a pid
//! for the end of one. The starter answers `S` and a pid, with the reader's socket, or `F` and an error number; and tells
//! `E`, a pid and a signal when a reader has ended.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

use super::{Ended, StartError, system};

/// The letters with which packets begin.
pub(super) const START: u8 = b'S';
pub(super) const KILL: u8 = b'K';
pub(super) const FAILED: u8 = b'F';
pub(super) const ENDED: u8 = b'E';
/// Every packet has as many bytes: a letter, and two numbers.
pub(super) const PACKET: usize = 9;

/// What the starter says.
pub(super) struct Packet {
    pub(super) letter: u8,
    pub(super) first: u32,
    second: u32,
    pub(super) socket: Option<OwnedFd>,
}

impl Packet {
    pub(super) fn receive(from: &OwnedFd) -> Result<Self, StartError> {
        let what = system("hear from the process that starts readers");
        let mut bytes = [0; PACKET];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut room = cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Ok(message) => message,
            Err(Errno::ECONNRESET) => return Err(StartError::Ended),
            Err(errno) => return Err(what(errno)),
        };
        let (length, mut socket) = (message.bytes, None);
        for control in message.cmsgs().map_err(&what)? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for descriptor in descriptors {
                    // SAFETY: the kernel has just made it for this process, and nobody else owns it.
                    socket = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
                }
            }
        }
        if length == 0 {
            return Err(StartError::Ended);
        }
        let (letter, first, second) = decode(&bytes);
        Ok(Self { letter, first, second, socket })
    }

    pub(super) fn end(&self) -> Option<Ended> {
        let signal = Some(self.second.cast_signed()).filter(|signal| *signal != 0);
        (self.letter == ENDED).then_some(Ended { pid: self.first, signal })
    }
}

pub(super) fn encode(letter: u8, first: u32, second: u32) -> [u8; PACKET] {
    let mut packet = [letter; PACKET];
    for (place, byte) in packet.iter_mut().skip(1).zip([first, second].map(u32::to_ne_bytes).as_flattened()) {
        *place = *byte;
    }
    packet
}

pub(super) fn decode(packet: &[u8; PACKET]) -> (u8, u32, u32) {
    let [letter, numbers @ ..] = packet;
    let mut numbers = numbers.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes));
    (*letter, numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}
