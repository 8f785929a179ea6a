//! Pipes whose reader waits for an end that does not come, because a child that has no use for them keeps them open.
//!
//! A child at rest that has written nothing at all, or whose forker waits until one of its children ends, shows which pipes it could write to. Who else holds each of them is
//! looked at once. If another child of the family has written, and somebody waits for the end, that child is followed. When
//! it has ended, and those that are left have still written nothing, they keep the reader waiting. And so do those that rest
//! where their forker, who holds no write end any more, sleeps until the reader ends.

mod rule;

use std::{collections::HashMap, time::Duration};

use self::rule::{Seen, judge, look};
use super::leaked_pipe;
use crate::{
    core::{Context, Detector, Recent, Report},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        finding::Finding,
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
};

/// How long after a writer has ended the holders of its pipe are looked at.
const SOON: Duration = Duration::from_secs(1);
/// Two looks, between which nobody is to have run, are so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
/// No two searches of the host are closer than this, nor than so many times what the last has taken, up to a bound.
const BETWEEN_SEARCHES: Duration = Duration::from_millis(250);
const SHARE: u32 = 30;
const FARTHEST: Duration = Duration::from_secs(2);
/// Where nobody waits yet, it is looked at again so much later, so often.
const LATER: Duration = Duration::from_secs(30);
const MOST_LOOKS: u8 = 3;
/// Most pipes of one family that are followed, and of all.
const MOST_OF_FAMILY: usize = 16;
const MOST_PIPES: usize = 1024;

/// Most children that are remembered because they may have written to pipes of their family.
const MOST_WRITERS: usize = 1024;

/// The pipes that children keep.
pub(in crate::detect) struct KeptPipes {
    pipes: HashMap<u64, Pipe>,
    /// Who has written something and could write to which pipes, when it came to rest. Should it have ended when a pipe is
    /// looked at for the first time, nobody would know any more that it had written.
    writers: Recent<Writer>,
    /// When the host may be searched again.
    free: BootTime,
}

struct Writer {
    pipes: Vec<u64>,
    has_ended: bool,
}

impl Default for KeptPipes {
    fn default() -> Self {
        Self { pipes: HashMap::new(), writers: Recent::new(MOST_WRITERS), free: BootTime::default() }
    }
}

struct Pipe {
    keeper: ProcessKey,
    forker: ProcessKey,
    /// Who has written to it and may again.
    writers: Vec<ProcessKey>,
    /// The first look at which nobody of them was left.
    first: Option<Box<Holders>>,
    looks: u8,
    is_asked: bool,
    is_reported: bool,
}

impl Detector for KeptPipes {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        let Event::Exit(exit) = event else { return };
        let writer = self.writers.get_mut(exit.process);
        let fed = writer.map(|writer| {
            writer.has_ended = true;
            writer.pipes.clone()
        });
        for (inode, pipe) in &self.pipes {
            let has_written = || fed.as_ref().is_some_and(|fed| fed.contains(inode));
            if (pipe.writers.contains(&exit.process) || has_written()) && !pipe.is_reported {
                context.wake_about(*inode, exit.at + SOON, pipe.keeper);
            }
        }
    }

    fn on_timer(&mut self, keeper: ProcessKey, inode: u64, context: &mut Context) {
        let Some(pipe) = self.pipes.get_mut(&inode).filter(|pipe| pipe.keeper == keeper) else { return };
        if self.free > context.now {
            return context.wake_about(inode, self.free, keeper);
        }
        self.free = context.now + BETWEEN_SEARCHES;
        pipe.is_asked = true;
        let (process, forker) = (pipe.keeper, Some(pipe.forker));
        context.ask(Request::Holders { process, forker, object: Object::Pipe(inode) });
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Descriptors { process, seen: Some(seen), .. } => self.keeps(*process, seen, context),
            Evidence::Holders { process, object: Object::Pipe(inode), seen } => {
                self.seen(*process, *inode, seen.as_deref(), context);
            }
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, _context: &mut Context) {
        self.pipes.retain(|_, pipe| pipe.keeper != process);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let is_bounded = self.pipes.len() <= MOST_PIPES && self.writers.within_bounds();
        (self.pipes.len(), is_bounded)
    }
}

impl KeptPipes {
    /// Takes in which pipes a child could write to that has written nothing.
    fn keeps(&mut self, process: ProcessKey, seen: &Descriptors, context: &mut Context) {
        if context.settings.snapshot {
            return;
        }
        let Some(process) = context.processes.get(process).filter(|process| process.life().is_some()) else {
            return;
        };
        let (keeper, Some(forker)) = (process.key, process.birth.parent) else { return };
        if !seen.fed.is_empty() {
            self.writers.insert(keeper, Writer { pipes: seen.fed.clone(), has_ended: false });
        }
        // One that has written to something may have a use for them, unless somebody waits in vain for their end.
        let fed = if seen.forker_awaits.is_some() { seen.fed.as_slice() } else { &[] };
        let kept = || seen.kept.iter().chain(fed);
        // One that is looked at stays so, or a forker that waits now and then would have it searched for ever anew.
        let is_kept = |inode: &u64| seen.kept.iter().chain(&seen.fed).any(|held| held == inode);
        self.pipes.retain(|inode, pipe| pipe.keeper != keeper || pipe.is_reported || is_kept(inode));
        for inode in kept() {
            let of_family = self.pipes.values().filter(|pipe| pipe.forker == forker).count();
            let room = of_family < MOST_OF_FAMILY && self.pipes.len() < MOST_PIPES;
            if room && !self.pipes.contains_key(inode) {
                let (writers, first) = (Vec::new(), None);
                let pipe =
                    Pipe { keeper, forker, writers, first, looks: 0, is_asked: false, is_reported: false };
                self.pipes.insert(*inode, pipe);
                context.wake_about(*inode, context.now, keeper);
            }
        }
    }

    fn seen(&mut self, process: ProcessKey, inode: u64, seen: Option<&Holders>, context: &mut Context) {
        let now = context.now;
        let asked = |pipe: &&mut Pipe| pipe.keeper == process && pipe.is_asked;
        let Some(pipe) = self.pipes.get_mut(&inode).filter(asked) else { return };
        pipe.is_asked = false;
        let Some(seen) = seen else { return };
        self.free = self.free.max(now + (now.since(seen.at) * SHARE).min(FARTHEST));
        let have_ended = self.writers.iter().filter(|(_, writer)| writer.has_ended);
        let before =
            have_ended.filter(|(_, writer)| writer.pipes.contains(&inode)).map(|(process, _)| process);
        let before: Vec<ProcessKey> = pipe.writers.iter().copied().chain(before).collect();
        match look(seen, pipe.keeper, &before) {
            Seen::Writers(writers) => {
                pipe.first = None;
                for writer in &writers {
                    context.follow(*writer);
                }
                pipe.writers = writers;
            }
            Seen::Left if pipe.is_reported => {}
            Seen::Left => match pipe.first.take() {
                None => {
                    pipe.first = Some(Box::new(seen.clone()));
                    context.wake_about(inode, now + BETWEEN_LOOKS, pipe.keeper);
                }
                Some(first) => {
                    let Some(mut verdict) = judge(&first, seen, pipe.keeper, pipe.forker, inode) else {
                        return pipe.look_later(inode, context);
                    };
                    pipe.is_reported = true;
                    verdict.facts.age = Some(nanoseconds(now.since(pipe.keeper.start)));
                    let comm = seen.of(pipe.keeper).map_or(seen.program.comm, |holder| holder.comm);
                    let parent = (pipe.forker, &seen.program);
                    let finding = verdict.finding(now, leaked_pipe::HAZARD.id, parent, (pipe.keeper, comm));
                    let uid = seen.of(pipe.keeper).and_then(|holder| holder.uid);
                    context.report(Report::until_the_end(Finding { child_uid: uid, ..finding }));
                }
            },
            Seen::Nothing => {
                pipe.first = None;
                pipe.look_later(inode, context);
            }
        }
    }
}

impl Pipe {
    /// Has it looked at again, a few times.
    fn look_later(&mut self, inode: u64, context: &mut Context) {
        self.looks += 1;
        if self.looks < MOST_LOOKS {
            context.wake_about(inode, context.now + LATER, self.keeper);
        }
    }
}
