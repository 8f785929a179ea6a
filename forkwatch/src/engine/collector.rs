//! The thread that has the reader answer questions, so that judging never keeps whoever takes records out of the ring
//! waiting.

mod accounts;
mod behind;
mod work;

use std::{
    io,
    sync::mpsc::{SyncSender, sync_channel},
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use tokio::sync::mpsc;

use self::work::Work;
use crate::{
    health::{Part, Pulse},
    host::Scope,
    model::{
        event::Event,
        evidence::{Evidence, Request},
        observation::Observation,
        particulars::Particulars,
        reported::Reported,
        time::BootTime,
    },
    reader::{Answer, Client, Ender, Question},
};

/// Questions that may be on the way to the thread.
const MOST_WAITING: usize = 4096;

/// Asks the thread.
pub(crate) struct Collector {
    asker: Asker,
    answers: mpsc::UnboundedReceiver<Told>,
    starter: u32,
    /// The thread may be in a question that takes its time: who ends does not wait for it.
    _ender: Option<Ender>,
}

/// Asks the thread, and waits for the answer. Clones ask the same.
#[derive(Clone)]
pub(crate) struct Asker {
    questions: SyncSender<Asked>,
    pulse: Pulse,
}

/// What the thread is asked, and the number that the pulse knows it by.
struct Asked {
    number: u64,
    what: What,
}

enum What {
    /// A question of the core's.
    Core(Request),
    /// By outputs, under a number of theirs.
    Particulars(u64, Box<Event>),
    /// By somebody who waits for it.
    Now(Question, SyncSender<Answer>),
    /// Whether it works: a question about forkwatch itself, which can always be answered.
    Heartbeat,
}

/// An answer, and the number of its question.
struct Told {
    number: u64,
    what: Answered,
}

enum Answered {
    Core(BootTime, Box<Evidence>),
    /// Particulars of an event, for the outputs.
    Particulars {
        question: u64,
        /// Processor time.
        took: Duration,
        particulars: Particulars,
    },
    /// Whether it saw what there is to be seen, or why not.
    Heartbeat(Result<(), &'static str>),
    /// To somebody else, who has it already; or to nobody, since others came first.
    Nothing,
}

/// An answer that is passed on.
#[derive(Debug)]
pub(super) enum Reply {
    /// To the core, when it was given.
    Core(BootTime, Box<Evidence>),
    /// Particulars of an event, for the outputs.
    Particulars {
        /// The number under which it was asked.
        question: u64,
        /// How much processor time it took.
        took: Duration,
        /// What was found out about the event.
        particulars: Particulars,
    },
}

impl Collector {
    /// Starts the thread, which finds no processes outside the scope.
    pub(crate) fn start(client: Client, scope: Scope, pulse: Pulse) -> io::Result<Self> {
        let (told, starter, ender) = (pulse.clone(), client.starter(), client.ender()?);
        let work = move |open: &_, send| Work::new(client, scope, told, send).run(open);
        Ok(Self { starter, _ender: Some(ender), ..Self::start_with(pulse, work)? })
    }

    fn start_with(
        pulse: Pulse,
        work: impl FnOnce(&std::sync::mpsc::Receiver<Asked>, mpsc::UnboundedSender<Told>) + Send + 'static,
    ) -> io::Result<Self> {
        let (questions, open) = sync_channel(MOST_WAITING);
        // Unbounded, and yet no longer than the questions were: one answer each.
        let (send, answers) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("evidence".to_owned())
            .stack_size(256 << 10)
            .spawn(move || work(&open, send))?;
        Ok(Self { asker: Asker { questions, pulse }, answers, starter: 0, _ender: None })
    }

    /// Whether a fork is that of a reader: it belongs to the watch, and says nothing of the host.
    pub(crate) fn is_of_reader(&self, reported: &Reported) -> bool {
        match reported {
            Reported::Event(Event::Fork(fork)) => fork.parent.tgid == self.starter,
            Reported::Observation(Observation::Heir(heir) | Observation::Moved(heir)) => {
                heir.parent.tgid == self.starter
            }
            _ => false,
        }
    }

    /// Asks by itself.
    pub(crate) fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// The heartbeats of the watch whose questions it answers.
    pub(crate) fn pulse(&self) -> Pulse {
        self.asker.pulse.clone()
    }

    /// Asks; the answer comes through [`Self::answer`], or never: where there is no room, the core asks again later,
    /// and counts what stays unanswered.
    pub(crate) fn ask(&self, request: Request) {
        self.asker.put(What::Core(request));
    }

    /// Asks for the particulars of an event, before all that the core asks. Says whether there was room; then the answer
    /// comes under this number.
    pub(super) fn ask_for_particulars(&self, question: u64, event: &Event) -> bool {
        self.asker.put(What::Particulars(question, Box::new(event.clone())))
    }

    /// Asks whether the thread works, by the same way as the core does. To be called whenever the pulse asks for it.
    pub(crate) fn ask_for_heartbeat(&self) {
        // Where there is no room, the answers to all the others will show it.
        self.asker.put(What::Heartbeat);
    }

    /// The next answer, if it is there already.
    pub(super) fn answered(&mut self) -> Option<Reply> {
        loop {
            let told = self.answers.try_recv().ok()?;
            if let Some(reply) = self.take(told) {
                return Some(reply);
            }
        }
    }

    /// The next answer. Fails where none can come any more.
    pub(super) async fn answer(&mut self) -> Result<Reply> {
        loop {
            let Some(told) = self.answers.recv().await else {
                bail!("whoever looks at processes has ended: nothing can be judged any more");
            };
            if let Some(reply) = self.take(told) {
                return Ok(reply);
            }
        }
    }

    /// Notes that an answer has come, and gives it where it is to be passed on.
    fn take(&self, told: Told) -> Option<Reply> {
        let pulse = &self.asker.pulse;
        pulse.answer(told.number);
        match told.what {
            Answered::Core(at, evidence) => return Some(Reply::Core(at, evidence)),
            Answered::Particulars { question, took, particulars } => {
                return Some(Reply::Particulars { question, took, particulars });
            }
            Answered::Heartbeat(Ok(())) => pulse.works(Part::Evidence),
            Answered::Heartbeat(Err(why)) => pulse.is_unable(Part::Evidence, why),
            Answered::Nothing => {}
        }
        None
    }
}

impl Asker {
    /// Asks before all that waits, and waits for the answer at most so long. Absent where none came.
    pub(crate) fn ask_now(&self, question: Question, patience: Duration) -> Option<Answer> {
        let (send, receive) = sync_channel(1);
        self.put(What::Now(question, send));
        receive.recv_timeout(patience).ok()
    }

    /// Says whether there was room.
    fn put(&self, what: What) -> bool {
        let number = self.pulse.question();
        let has_room = self.questions.try_send(Asked { number, what }).is_ok();
        if !has_room {
            self.pulse.let_go(number);
            tracing::debug!("a question finds no room: too many suspects at once");
        }
        has_room
    }
}

#[cfg(test)]
mod tests;
