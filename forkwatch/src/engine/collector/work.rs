//! What the thread does: takes questions in, has the next one answered, and tells the answer.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use tokio::sync::mpsc::UnboundedSender;

use super::{Answered, Asked, Told, What, accounts::Accounts, behind::Behind};
use crate::{
    health::{Looks, Pulse},
    host::{Scope, clock},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        particulars::Particulars,
    },
    reader::{self, Account, Answer, Client, Next, Question, Shares, Unanswered},
};

/// What is said of a reader that answers, and sees nothing.
const BLIND: &str = "the reader cannot read what /proc shows of forkwatch itself";
/// What is said where none answers.
const SILENT: &str = "no reader of other processes can be had, or none answers";

/// The thread's work.
pub(super) struct Work {
    client: Client,
    scope: Scope,
    pulse: Pulse,
    send: UnboundedSender<Told>,
    accounts: Accounts,
    shares: Shares<Waiting>,
    behind: Behind,
    urgent: VecDeque<Urgent>,
    /// What was last told of looks that failed.
    looks: Looks,
}

/// A question of the core's, its number, and since when it waits.
struct Waiting {
    number: u64,
    request: Request,
    since: Instant,
}

/// What does not wait for others.
enum Urgent {
    Now(u64, Question, SyncSender<Answer>),
    Particulars(u64, u64, Box<Event>),
    Heartbeat(u64),
}

impl Work {
    pub(super) fn new(client: Client, scope: Scope, pulse: Pulse, send: UnboundedSender<Told>) -> Self {
        Self {
            client,
            scope,
            pulse,
            send,
            accounts: Accounts::default(),
            shares: Shares::new(Instant::now()),
            behind: Behind::default(),
            urgent: VecDeque::new(),
            looks: Looks::default(),
        }
    }

    /// Works until nobody asks any more, or no answer can be had any more.
    pub(super) fn run(mut self, open: &Receiver<Asked>) {
        // Nothing waits yet.
        let mut wait = None;
        loop {
            let asked = match wait {
                None => open.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => open.recv_timeout(wait),
            };
            match asked {
                Ok(asked) => self.take_in(asked),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(asked) = open.try_recv() {
                self.take_in(asked);
            }
            wait = match self.step() {
                Ok(wait) => wait,
                Err(Ended) => return,
            };
        }
    }

    fn take_in(&mut self, Asked { number, what }: Asked) {
        match what {
            What::Now(question, answer) => self.urgent.push_back(Urgent::Now(number, question, answer)),
            What::Particulars(question, event) => {
                self.urgent.push_back(Urgent::Particulars(number, question, event));
            }
            What::Heartbeat => self.urgent.push_back(Urgent::Heartbeat(number)),
            What::Core(request) => {
                let account = self.account(&Question::Core(request.clone()));
                let (waits, now) = (waits(&request), Instant::now());
                let waiting = Waiting { number, request, since: now };
                let no_room = match waits {
                    Waits::AsLongAsOthers => self.shares.put(account, waiting),
                    Waits::Longer => self.shares.put_patient(account, waiting),
                    Waits::ForAWhile => self.shares.put_search(account, waiting, now),
                };
                if let Some(Waiting { number, .. }) = no_room {
                    self.behind.gave_way(now);
                    self.tell(number, Answered::Nothing);
                }
            }
        }
    }

    /// Has one question answered. Says how long to wait before the next, where one waits.
    fn step(&mut self) -> Result<Option<Duration>, Ended> {
        if let Some(urgent) = self.urgent.pop_front() {
            match urgent {
                Urgent::Now(number, question, waits) => {
                    if let Ok(answer) = self.ask(&question)? {
                        // Who asked may have lost patience.
                        let _ = waits.try_send(answer.answer);
                    }
                    self.tell(number, Answered::Nothing);
                }
                Urgent::Particulars(number, question, event) => {
                    let (took, particulars) = match self.ask(&Question::Particulars(*event))? {
                        Ok(reader::Answered { cpu, answer: Answer::Particulars(particulars), .. }) => {
                            (Duration::from_nanos(cpu), particulars)
                        }
                        _ => (Duration::ZERO, Particulars::None),
                    };
                    self.tell(number, Answered::Particulars { question, took, particulars });
                }
                Urgent::Heartbeat(number) => {
                    let works = self.heartbeat()?;
                    self.tell(number, Answered::Heartbeat(works));
                }
            }
            return Ok(self.pause());
        }
        while let Some(Waiting { number, .. }) = self.shares.late(Instant::now()) {
            tracing::debug!("a search gives way: there is too much else to look at");
            self.tell(number, Answered::Nothing);
        }
        match self.shares.next(Instant::now()) {
            Next::Nothing => Ok(None),
            Next::Wait(wait) => Ok(Some(wait)),
            Next::Ask(account, Waiting { number, request, since }) => {
                if matches!(waits(&request), Waits::AsLongAsOthers) {
                    self.behind.comes(since, self.shares.waiting(), Instant::now());
                }
                let question = match &request {
                    Request::Sweep { mark } => Question::Sweep { mark: *mark, scope: self.scope.clone() },
                    request => Question::Core(request.clone()),
                };
                let (at, evidence) = match self.ask(&question)? {
                    Ok(reader::Answered { at, cpu, answer }) => {
                        self.shares.charge(account, Duration::from_nanos(cpu), Instant::now());
                        (at, evidence(&request, answer))
                    }
                    Err(why) => (clock::now(), Box::new(reader::unanswered(&request, &why))),
                };
                self.tell(number, Answered::Core(at, evidence));
                Ok(self.pause())
            }
        }
    }

    fn pause(&self) -> Option<Duration> {
        (!self.urgent.is_empty() || self.shares.waiting() > 0).then_some(Duration::ZERO)
    }

    /// Asks a reader; an error within says why it was not answered.
    fn ask(&mut self, question: &Question) -> Result<Result<reader::Answered, String>, Ended> {
        let answered = match self.client.ask(question) {
            Ok(reader::Answered { answer: Answer::Failed(defect), .. }) => {
                tracing::error!(
                    ?question,
                    defect,
                    "a look at a process failed, which is a defect of forkwatch"
                );
                Ok(Err(format!("forkwatch failed: {defect}")))
            }
            Ok(answered) => Ok(Ok(answered)),
            Err(Unanswered::NoReader(reader::StartError::Ended)) => Err(Ended),
            Err(why @ Unanswered::NoReader(_)) => {
                tracing::warn!("{why}");
                Ok(Err(why.to_string()))
            }
            Err(Unanswered::Aside(why)) => Ok(Err(why)),
        };
        let looks = Looks {
            unreadable: self.client.unreadable().into_iter().map(|one| (one.process, one.until)).collect(),
            lost: self.client.lost(),
            replaced: self.client.replaced(),
        };
        if looks != self.looks {
            self.looks = looks.clone();
            self.pulse.looks(looks);
        }
        answered
    }

    fn heartbeat(&mut self) -> Result<Result<(), &'static str>, Ended> {
        let about_itself = Question::Core(Request::Program { tgid: std::process::id() });
        Ok(match self.ask(&about_itself)? {
            Ok(reader::Answered { answer: Answer::Core(evidence), .. }) => match *evidence {
                Evidence::Program { seen: Some(_), .. } => Ok(()),
                _ => Err(BLIND),
            },
            _ => Err(SILENT),
        })
    }

    fn account(&mut self, question: &Question) -> Account {
        match (question.about(), question.family()) {
            (Some(about), Some(family)) => {
                let account = self.accounts.of(about, family, Instant::now());
                if question.is_about_all() { account.of_whole_host() } else { account }
            }
            // About all processes, of which anybody may make many: on nobody's.
            _ => Account { user: u64::MAX - 1, unit: 0, family: 0 },
        }
    }

    fn tell(&self, number: u64, what: Answered) {
        // Where nobody listens any more, nobody asks either.
        let _ = self.send.send(Told { number, what });
    }
}

/// How a question waits for others.
enum Waits {
    /// It proves that a child hangs, or is about what is gone a moment later.
    AsLongAsOthers,
    /// What it asks about is there later as well.
    Longer,
    /// It searches memory, which takes long, and is let go where that cannot be done in time.
    ForAWhile,
}

const fn waits(request: &Request) -> Waits {
    match request {
        Request::HeldLocks { places: None, .. } | Request::Generators { places: None, .. } => {
            Waits::ForAWhile
        }
        Request::SharedLoop { .. }
        | Request::SharedFiles { .. }
        | Request::Unflushed { .. }
        | Request::Escaped { .. }
        | Request::CarriedLocks { .. }
        | Request::Generators { .. }
        | Request::Descriptors { .. }
        | Request::Backlog { .. }
        | Request::Inheritance { .. } => Waits::Longer,
        _ => Waits::AsLongAsOthers,
    }
}

/// Nobody can answer any more.
struct Ended;

/// The answer to a question of the core.
fn evidence(request: &Request, answer: Answer) -> Box<Evidence> {
    match answer {
        Answer::Core(evidence) => evidence,
        _ => Box::new(reader::unanswered(request, "the reader answered another question")),
    }
}
