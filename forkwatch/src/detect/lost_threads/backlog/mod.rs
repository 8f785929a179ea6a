//! Queues that a thread of the forker takes from, and that pile up in a child which has no such thread: a `QueueListener`'s
//! log records, mails, metrics. Nothing waits there, and nothing fails.
//!
//! Which thread takes from which queue is known from the fork. The child's copy of the queue lies at the same address.

mod rule;

use std::time::Duration;

use self::rule::{Case, Pile, judge};
pub(super) use self::rule::{executor, listener};
use super::{
    children::{Child, Children},
    felt::name,
    told::{self, Told},
};
use crate::{
    core::{Context, Detector, ForkCase, Unanswered},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        process::ProcessKey,
        stack::Stacks,
        thread::{Occupation, SeenThread},
    },
};

/// How long after one look the next one comes while something lies there that was put since the fork.
const PAUSE: Duration = Duration::from_secs(5);
/// Where nothing does, each look takes twice as long to come as the one before, down to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Most queues of a child that are looked at.
const MOST_QUEUES: usize = 8;

/// Children whose forkers had threads that take from queues.
#[derive(Default)]
pub(in crate::detect) struct Backlog {
    children: Children<Lacking>,
    /// What was reported: of which thread.
    told: Told<String>,
}

/// A child that lives on.
struct Lacking {
    child: Child,
    queues: Vec<Queue>,
    pause: Duration,
    unanswered: Unanswered,
}

/// A queue, the thread that takes from it in the forker, and what lay in the child's copy.
struct Queue {
    at: u64,
    thread: SeenThread,
    taker: Occupation,
    pile: Pile,
}

impl Backlog {
    fn watch(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        let Some(parent) = case.parent.filter(|_| context.settings.stacks != Stacks::None) else { return };
        let queue = |taker: &Occupation| {
            let at = taker.queue?;
            let thread = *parent.threads.iter().find(|thread| thread.tid == taker.tid)?;
            let name = name(taker, &parent.threads);
            let is_news = self.told.is_news(&told::of(case.program_name, case.program, name), context.now);
            is_news.then(|| Queue { at, thread, taker: taker.clone(), pile: Pile::default() })
        };
        let mut queues: Vec<Queue> = Vec::new();
        for queue in case.occupations.iter().filter_map(queue) {
            // The threads of a pool take from one.
            if queues.len() < MOST_QUEUES && queues.iter().all(|other| other.at != queue.at) {
                queues.push(queue);
            }
        }
        if queues.is_empty() || !self.children.has_room() {
            return;
        }
        let lacking =
            Lacking { child: Child::of(case), queues, pause: PAUSE / 2, unanswered: Unanswered::default() };
        self.children.insert(case.fork.child, lacking);
        self.look(case.fork.child, context);
    }

    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(lacking) = self.children.get_mut(child) else { return };
        if lacking.unanswered.is_hopeless() {
            self.children.remove(child);
            return;
        }
        lacking.unanswered.put();
        let queues = lacking.queues.iter().map(|queue| queue.at).collect();
        context.ask(Request::Backlog { child, queues });
        context.wake_to_look(context.now + lacking.pause, child);
    }

    fn seen(&mut self, child: ProcessKey, lengths: &[Option<u64>], context: &mut Context) {
        let now = context.now;
        let Some(lacking) = self.children.get_mut(child) else { return };
        lacking.unanswered.answered();
        for (queue, length) in lacking.queues.iter_mut().zip(lengths) {
            queue.pile.seen(*length, now);
        }
        lacking.queues.retain(|queue| queue.pile.is_known());
        if lacking.queues.is_empty() {
            return self.children.leave(child, context);
        }
        let grows = lacking.queues.iter().any(|queue| queue.pile.has_grown());
        lacking.pause = if grows { PAUSE } else { (lacking.pause * 2).min(LONGEST_PAUSE) };
        context.wake_to_look(now + lacking.pause, child);
        let Some(place) = lacking.queues.iter().position(|queue| queue.pile.is_nobodys()) else { return };
        let queue = lacking.queues.remove(place);
        let child = &lacking.child;
        let name = name(&queue.taker, std::slice::from_ref(&queue.thread));
        // Another child of the program may have been reported meanwhile.
        if self.told.tell(child.telling(name.clone()), now) {
            let Queue { taker, pile, thread, .. } = &queue;
            let (Child { key, parent, program, .. }, age) = (child, child.age(now));
            let case =
                Case { parent: *parent, program, child: *key, taker, thread: *thread, name, pile, now, age };
            child.report(judge(&case), true, context);
        }
    }
}

impl Detector for Backlog {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        self.children.on_event(event, context);
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        self.watch(case, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Backlog { child, seen: Some(lengths) } => self.seen(*child, lengths, context),
            Evidence::Backlog { child, seen: None } => self.children.leave(*child, context),
            _ => {}
        }
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(child, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let (count, is_bounded) = self.children.remembers();
        (count, is_bounded && self.told.is_bounded())
    }
}
