//! What a child is suspected for, from the first look at it on.

use super::{leaked_pipe, pinned_listener};
use crate::{
    core::Context,
    model::{
        finding::HazardId,
        leak::{Descriptors, Holders, Object},
        time::BootTime,
    },
};

/// What a child has to be suspected for.
pub(super) fn object(seen: &Descriptors) -> Option<Object> {
    if seen.rest.stopped {
        return None;
    }
    let pipe = leaked_pipe::concern(seen.rest.pipe, seen.holds_other_end);
    pipe.or_else(|| seen.listeners.first().copied().map(Object::Socket))
}

/// Something that a child sleeps on or listens to, for as long as it does not run.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as it was seen or told")]
pub(super) struct Suspicion {
    pub(super) object: Object,
    /// What is reported of it.
    pub(super) hazard: HazardId,
    pub(super) switches: u64,
    pub(super) since: BootTime,
    /// The first search, where that has found nobody to use the object.
    pub(super) first: Option<Box<Holders>>,
    /// When to search next, and how many intervals that is to be put off if nothing comes of it.
    pub(super) search_at: BootTime,
    pub(super) put_off: u32,
    /// Whether the forker held the other end when the child was looked at last.
    pub(super) forker_holds: bool,
    pub(super) undecided: bool,
    pub(super) reported: bool,
    /// Whether the child could not be looked at last time.
    pub(super) unseen: bool,
}

impl Object {
    /// The hazard that it is suspected of.
    pub(super) fn hazard(self) -> HazardId {
        match self {
            Self::Pipe(_) => leaked_pipe::HAZARD.id,
            Self::Socket(_) => pinned_listener::HAZARD.id,
        }
    }
}

impl Suspicion {
    /// Of what was seen now. `again` says whether it was suspect before, and has run since.
    pub(super) fn new(object: Object, seen: &Descriptors, again: bool, context: &Context) -> Self {
        let patience = match object {
            // Where it is not told who falls asleep, who runs now and then is not looked at every second.
            Object::Pipe(_) if !again || context.is_told_who_falls_asleep() => context.settings.pipe_patience,
            Object::Pipe(_) | Object::Socket(_) => context.settings.leak_interval,
        };
        Self {
            object,
            hazard: object.hazard(),
            switches: seen.rest.switches,
            since: seen.at,
            first: None,
            search_at: seen.at + context.settings.pause(patience),
            put_off: 1,
            forker_holds: false,
            undecided: false,
            reported: false,
            unseen: false,
        }
    }

    /// Takes in whether the forker holds the other end: as long as it does, and could use it, a search comes to nothing.
    pub(super) fn is_held_by_forker(&mut self, forker_holds: bool, context: &Context) {
        let (held, now) = (std::mem::replace(&mut self.forker_holds, forker_holds), context.now);
        match (held, forker_holds) {
            (false, true) => {
                self.search_at = now + context.settings.pause(context.settings.leak_interval * self.put_off);
            }
            (true, false) => (self.search_at, self.put_off) = (now, 1),
            _ => {}
        }
    }
}
