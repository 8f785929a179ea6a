//! Connections that a child and its parent both hold now. No fault in itself: only their use would show one.

use serde::Serialize;

use super::reader::Reader;
use crate::{
    model::{
        evidence::{Evidence, Request, Sweep},
        program_name::called,
    },
    remedy::service,
};

/// A connection that two processes hold.
#[derive(Debug, Serialize)]
pub(super) struct Shared {
    /// The child.
    pub(super) child: u32,
    /// The process that forked it.
    pub(super) parent: u32,
    /// What runs there.
    pub(super) program: String,
    /// The uid of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
    /// The other end.
    pub(super) peer: String,
    /// What that looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<&'static str>,
}

/// Looks at every forked and never exec'd process whose forker lives.
pub(super) fn look(sweep: &Sweep, reader: &mut Reader) -> Vec<Shared> {
    let mut found = Vec::new();
    for swept in &sweep.unexeced {
        let Some(parent) = swept.parent else { continue };
        let child = swept.process;
        let Evidence::Sockets { seen: Some(seen), .. } = reader.answer(&Request::Sockets { child, parent })
        else {
            continue;
        };
        found.extend(seen.shared.iter().map(|socket| Shared {
            child: child.tgid,
            parent: parent.tgid,
            program: called(&seen.program),
            uid: seen.program.uid,
            peer: socket.peer.to_string(),
            service: service(&socket.peer),
        }));
    }
    found
}
