//! What a fork has left to a worker of a server that the worker would have to renew.

use serde::{Deserialize, Serialize};

use super::{
    connection::{Peer, SharedSocket},
    inventory::Whereabouts,
    process::{Comm, Program},
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// A worker beside its master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inheritance {
    /// When they were looked at.
    pub at: BootTime,
    /// What runs in the master.
    pub program: Program,
    /// The worker's comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Connections that both hold: see [`Sockets::shared`](super::connection::Sockets::shared).
    pub connections: Vec<SharedSocket>,
    /// Client libraries for databases and brokers that the master has loaded.
    pub libraries: Vec<String>,
    /// Threads of the master that are older than the worker, without its main one: at most
    /// [`MAX_THREADS`](super::seen::MAX_THREADS).
    pub threads: Vec<SeenThread>,
    /// What these are called in the program, and do.
    pub occupations: Vec<Occupation>,
    /// Where these are, and what started them. Nothing where stacks are not looked at.
    pub whereabouts: Vec<Whereabouts>,
    /// What the worker's own threads are called, without its main one: by their program, else by the kernel.
    pub own_threads: Vec<String>,
    /// How many of these Python has started, whether they have run since or not. None where stacks are not looked at.
    #[serde(default)]
    pub own_threads_of_python: u32,
    /// The other ends of connections that the worker holds and the master does not.
    pub own_peers: Vec<Peer>,
}
