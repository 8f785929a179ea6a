//! Connections that a child and its parent both hold now. No fault in itself: only their use would show one.

use serde::Serialize;

use crate::{core, model::program_name::called, remedy::service};

/// A connection that two processes hold.
#[derive(Debug, Serialize)]
pub(super) struct Shared {
    /// The pid of the forked child.
    child: u32,
    /// The process that forked it.
    parent: u32,
    /// What runs there.
    program: String,
    /// The uid of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// The other end.
    peer: String,
    /// What that looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
}

impl Shared {
    pub(super) fn new(seen: &core::Shared) -> Self {
        Self {
            child: seen.child.tgid,
            parent: seen.parent.tgid,
            program: called(&seen.program),
            uid: seen.program.uid,
            peer: seen.peer.to_string(),
            service: service(&seen.peer),
        }
    }

    /// One sentence.
    pub(super) fn words(&self) -> String {
        let Self { child, parent, program, uid, peer, service } = self;
        let uid = uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        let service = service.map_or_else(String::new, |service| format!(" ({service})"));
        format!(
            "{program} (pid {parent}{uid}) and its child {child} both hold the connection to {peer}{service}: a fault only \
             if both use it, which `forkwatch --pid {parent}` would show."
        )
    }
}
