//! Which processes the command has started, as its own user can tell: they have a mark in their environment, or descend from
//! one that is known.

use std::collections::HashMap;

use crate::{
    host,
    model::{process::ProcessKey, time::BootTime},
};

/// The variable that is the mark.
pub(super) const MARK: &str = "FORKWATCH_RUN";
/// How far ancestors are followed.
const MOST_ANCESTORS: usize = 64;
/// Most processes of which it is known.
const MOST_KNOWN: usize = 65_536;
/// Longest environment that is read. It is set at the exec, and so the mark, which was put there last, may lie behind it.
const LONGEST: usize = 4 << 20;

/// What is known of processes.
pub(super) struct Ours {
    mark: String,
    known: HashMap<ProcessKey, bool>,
}

impl Ours {
    /// Those with this mark, and this one.
    pub(super) fn new(mark: &str, command: ProcessKey) -> Self {
        Self { mark: format!("{MARK}={mark}"), known: HashMap::from([(command, true)]) }
    }

    /// Whether it is one of them; none where it has ended, and was not known before.
    pub(super) fn is(&mut self, process: ProcessKey) -> Option<bool> {
        let mut way = Vec::new();
        let mut at = process;
        let mut found = None;
        for _ in 0..MOST_ANCESTORS {
            if let Some(known) = self.known.get(&at) {
                found = Some(*known);
                break;
            }
            let Ok(there) = host::find(at.tgid) else { break };
            if there.key != at {
                break;
            }
            way.push(at);
            if self.has_mark(at) {
                found = Some(true);
                break;
            }
            // Whoever has lost its parent belongs to init, or to whoever takes its place.
            let parent = there.parent;
            match host::find(parent) {
                Ok(parent) if parent.key.tgid > 1 => at = parent.key,
                _ => {
                    found = Some(false);
                    break;
                }
            }
        }
        if let Some(is) = found
            && self.known.len() < MOST_KNOWN
        {
            self.known.extend(way.iter().map(|one| (*one, is)));
        }
        found
    }

    /// Whether one of them lives, the command itself not counted.
    pub(super) fn any_lives(&self) -> bool {
        let Ok(processes) = host::processes() else { return false };
        let own = std::process::id();
        processes.into_iter().any(|process| process.key.tgid != own && self.has_mark(process.key))
    }

    fn has_mark(&self, process: ProcessKey) -> bool {
        use std::io::Read as _;
        let Ok(environment) = std::fs::File::open(format!("/proc/{}/environ", process.tgid)) else {
            return false;
        };
        let mut bytes = Vec::new();
        // One that ends meanwhile has none.
        let _ = environment.take(LONGEST as u64).read_to_end(&mut bytes);
        bytes.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
    }
}

/// A process by its pid and the id that documents have of it.
pub(super) fn identity(pid: u64, entity_id: &str) -> Option<ProcessKey> {
    let ticks: u64 = entity_id.rsplit('-').next()?.parse().ok()?;
    Some(ProcessKey { tgid: u32::try_from(pid).ok()?, start: BootTime::from_ticks(ticks) })
}
