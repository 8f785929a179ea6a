//! Listening sockets and the connections accepted there.

use std::{collections::HashMap, io, net::SocketAddr};

use crate::{
    host::net,
    model::{leak::Listener, process::escape},
};

/// A table with more bytes is not read: on hosts with so many connections it would take longer than it is worth.
const MAX_TABLE: u64 = 16 << 20;

/// The sockets of a network namespace that have to do with listening.
#[derive(Default)]
pub(super) struct Tables {
    listening: HashMap<u64, Place>,
    /// All others that have an address.
    connected: HashMap<u64, Place>,
}

/// Where a socket is bound.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Internet { address: SocketAddr, queue: u32 },
    Unix { path: Vec<u8> },
}

impl Place {
    /// Whether a connection at this place may have been accepted from that listener.
    fn may_come_from(&self, listener: &Self) -> bool {
        match (self, listener) {
            (Self::Internet { address, .. }, Self::Internet { address: listens, .. }) => {
                address.port() == listens.port()
            }
            (Self::Unix { path }, Self::Unix { path: listens }) => path == listens,
            _ => false,
        }
    }
}

impl Tables {
    /// Those of the network namespace that a process is in.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        let mut tables = Self::default();
        net::tcp(tgid, MAX_TABLE, |socket| {
            let place = Place::Internet { address: socket.local, queue: socket.queue };
            tables.enter(socket.inode, socket.listens(), place);
        })?;
        net::unix(tgid, MAX_TABLE, |socket| {
            tables.enter(socket.inode, socket.listens, Place::Unix { path: socket.path });
        })?;
        Ok(tables)
    }

    fn enter(&mut self, inode: u64, listens: bool, place: Place) {
        let part = if listens { &mut self.listening } else { &mut self.connected };
        part.insert(inode, place);
    }

    /// The listening sockets, by inode number.
    pub(super) fn listening(&self) -> impl Iterator<Item = u64> {
        self.listening.keys().copied()
    }

    /// A listening socket, by inode number.
    pub(super) fn listener(&self, inode: u64) -> Option<Listener> {
        Some(match self.listening.get(&inode)? {
            Place::Internet { address, queue } => {
                Listener { address: address.to_string(), queue: Some(*queue) }
            }
            Place::Unix { path } => Listener { address: escape(path), queue: None },
        })
    }

    /// Whether a socket is a connection that may have been accepted from that listener.
    pub(super) fn is_accepted(&self, inode: u64, listener: u64) -> bool {
        match (self.connected.get(&inode), self.listening.get(&listener)) {
            (Some(place), Some(listener)) => place.may_come_from(listener),
            _ => false,
        }
    }
}
