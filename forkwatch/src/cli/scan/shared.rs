//! Connections that a child and its parent both hold now. No fault in itself: only their use would show one.

use serde::Serialize;

use super::some_of;
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

    /// One sentence, about these children of the parent.
    fn words(&self, children: &[u32]) -> String {
        let Self { parent, program, uid, peer, service, .. } = self;
        let uid = uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        let service = service.map_or_else(String::new, |service| format!(" ({service})"));
        let (whom, users) = match children {
            [child] => (format!("its child {child} both"), "both"),
            _ => (format!("{} of its children ({}) all", children.len(), some_of(children)), "two"),
        };
        format!(
            "{program} (pid {parent}{uid}) and {whom} hold the connection to {peer}{service}: a fault only if {users} use it, \
             which `forkwatch --pid {parent}` would show."
        )
    }
}

/// A sentence for each connection of a process that it shares with children.
pub(super) fn sentences(all: &[Shared]) -> Vec<String> {
    let mut connections: Vec<(&Shared, Vec<u32>)> = Vec::new();
    for shared in all {
        let is_same = |other: &&Shared| (other.parent, &other.peer) == (shared.parent, &shared.peer);
        match connections.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, children)) if children.contains(&shared.child) => {}
            Some((_, children)) => children.push(shared.child),
            None => connections.push((shared, vec![shared.child])),
        }
    }
    connections.iter().map(|(shared, children)| shared.words(children)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_that_share_one_connection_are_told_in_one_sentence() {
        let shared = |child, peer: &str| Shared {
            child,
            parent: 100,
            program: "gunicorn".to_owned(),
            uid: Some(33),
            peer: peer.to_owned(),
            service: Some("PostgreSQL"),
        };
        let told =
            sentences(&[shared(7, "10.0.0.7:5432"), shared(8, "10.0.0.7:5432"), shared(7, "10.0.0.8:5432")]);
        assert_eq!(
            told,
            [
                "gunicorn (pid 100, uid 33) and 2 of its children (7, 8) all hold the connection to 10.0.0.7:5432 \
                 (PostgreSQL): a fault only if two use it, which `forkwatch --pid 100` would show.",
                "gunicorn (pid 100, uid 33) and its child 7 both hold the connection to 10.0.0.8:5432 (PostgreSQL): a fault \
                 only if both use it, which `forkwatch --pid 100` would show.",
            ]
        );
    }
}
