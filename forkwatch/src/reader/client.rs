//! Asks readers, one question at a time, and does without one that does not answer.

use std::{
    io,
    os::unix::net::UnixStream,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use super::{
    aside::{Aside, Unreadable},
    ear::Ear,
    frame,
    may::May,
    patience,
    question::{Answered, Question},
    starter::{Ended, Ender, StartError, Started, Starter},
};
use crate::{
    host::{self, Owner},
    model::process::{ProcessKey, escape},
};

/// How long a reader may take to begin with its work; and to end after it was killed, at most where it is starved.
const BEGIN: Duration = Duration::from_secs(5);
const END: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(2);

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The process is not looked into now, or was for too long. What is to be told of it.
    #[error("{0}")]
    Aside(String),
    /// No reader can be had.
    #[error(transparent)]
    NoReader(#[from] StartError),
}

/// Asks readers.
#[derive(Debug)]
pub struct Client {
    starter: Starter,
    reader: Option<Reader>,
    aside: Aside,
    /// Ends that were told while something else was waited for.
    ended: Vec<Ended>,
    /// Readers that were started in place of another.
    replaced: u64,
    /// What no question may take longer than, whatever its kind.
    patience: Option<Duration>,
    /// Whether the next reader was asked for.
    is_begun: bool,
    /// What the reader was asked already, and nobody has waited for yet.
    asked: Option<Question>,
}

/// A reader that answers.
#[derive(Debug)]
struct Reader {
    pid: u32,
    socket: UnixStream,
    may_stop: bool,
}

/// What became of a question.
enum Outcome {
    Answered(Answered),
    /// It took too long.
    Late,
    /// The reader has ended.
    Broken(io::Error),
}

impl Client {
    /// Starts the first reader when it is first asked, or by [`Self::begin`].
    pub fn new(starter: Starter) -> Self {
        Self {
            starter,
            reader: None,
            aside: Aside::default(),
            ended: Vec::new(),
            replaced: 0,
            patience: None,
            is_begun: false,
            asked: None,
        }
    }

    /// Has the first reader started, and does not wait for it.
    pub fn begin(&mut self) -> Result<(), StartError> {
        self.starter.ask_for_reader(May::Look)?;
        self.is_begun = true;
        Ok(())
    }

    /// Has the reader work on the answer to what it will be asked next, by [`Self::ask`].
    pub fn ask_ahead(&mut self, question: Question) -> Result<(), StartError> {
        self.ready(question.may_stop())?;
        // Where it cannot be sent, that is seen when the answer is waited for.
        if let Some(reader) = &self.reader
            && frame::send(&reader.socket, &question).is_ok()
        {
            self.asked = Some(question);
        }
        Ok(())
    }

    /// Starts a reader of its own for somebody who listens to what processes write. To be called before anything is asked.
    pub fn ear(&mut self) -> Result<Ear, StartError> {
        self.ready(false)?;
        self.starter.ask_for_reader(May::Listen)?;
        let Reader { pid, socket, .. } = start(&self.starter, false, &mut self.ended)?;
        Ok(Ear::new(pid, socket))
    }

    /// The same, with no question waited for longer than this: for somebody who waits for the answers.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// Asks.
    pub fn ask(&mut self, question: &Question) -> Result<Answered, Unanswered> {
        self.hear_of_ends(Instant::now())?;
        let about = question.about();
        // An answer that always comes says nothing of whether others would.
        let led_to = about.filter(|_| question.may_hang());
        let now = Instant::now();
        if let Some(tgid) = led_to
            && !self.aside.lets_all(now)
            && let Some((process, owner)) = host::owner(tgid)
        {
            self.aside.may_look(process, owner.uid, now).map_err(Unanswered::Aside)?;
        }
        let patience = question.patience();
        let patience = self.patience.map_or(patience, |most| patience.min(most));
        let asked = Instant::now();
        match self.put(question, patience)? {
            Outcome::Answered(answered) => {
                if let Some(tgid) = led_to {
                    self.aside.succeeded(tgid);
                }
                Ok(answered)
            }
            Outcome::Late => Err(self.give_up(
                about,
                &format!("a look at it was not over after {:.1} s", asked.elapsed().as_secs_f64()),
            )),
            Outcome::Broken(error) => {
                Err(self.give_up(about, &format!("a look at it ended the reader: {error}")))
            }
        }
    }

    /// The processes that are not looked into, or were not when they should have been.
    pub fn unreadable(&self) -> Vec<Unreadable> {
        self.aside.unreadable().collect()
    }

    /// The pid of the process that readers are forked by.
    pub const fn starter(&self) -> u32 {
        self.starter.pid
    }

    /// The means to end all readers from elsewhere.
    pub fn ender(&self) -> io::Result<Ender> {
        self.starter.ender()
    }

    /// Readers that cannot be ended now.
    pub fn lost(&self) -> usize {
        self.aside.lost()
    }

    /// Readers that were started in place of another.
    pub const fn replaced(&self) -> u64 {
        self.replaced
    }

    fn put(&mut self, question: &Question, patience: Duration) -> Result<Outcome, Unanswered> {
        let may_stop = question.may_stop();
        let asked = self.asked.take().filter(|_| self.reader.is_some());
        let is_asked = asked.as_ref() == Some(question);
        let is_of_no_use = |reader: &Reader| may_stop && !reader.may_stop || asked.is_some() && !is_asked;
        if self.reader.as_ref().is_some_and(is_of_no_use) {
            self.end_reader()?;
        }
        self.ready(may_stop)?;
        let Some(reader) = &self.reader else {
            return Ok(Outcome::Broken(io::ErrorKind::NotConnected.into()));
        };
        let sent = if is_asked {
            Ok(())
        } else {
            self.starter.attention.store(0, Ordering::Relaxed);
            frame::send(&reader.socket, question)
        };
        let answered = sent.and_then(|()| {
            let attention = question.is_about_all().then_some(self.starter.attention);
            if !patience::wait(&reader.socket, reader.pid, patience, attention)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
            frame::receive(&reader.socket, Some(Instant::now() + patience))
        });
        Ok(match answered {
            Ok(Some(answered)) => Outcome::Answered(answered),
            Ok(None) => Outcome::Broken(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Outcome::Late,
            Err(error) => Outcome::Broken(error),
        })
    }

    /// Sees to it that there is a reader, which may stop threads if that is asked for.
    fn ready(&mut self, may_stop: bool) -> Result<(), StartError> {
        if self.reader.is_some() {
            return Ok(());
        }
        // The one that was asked for already may not: it is given up.
        if may_stop && std::mem::take(&mut self.is_begun) {
            let unused = self.starter.reader(&mut self.ended)?;
            self.starter.kill(unused.pid)?;
        }
        if !std::mem::take(&mut self.is_begun) {
            self.starter.ask_for_reader(May::stop(may_stop))?;
        }
        self.reader = Some(start(&self.starter, may_stop, &mut self.ended)?);
        Ok(())
    }

    /// Ends the reader that does not answer, and sets whom it looked into aside.
    fn give_up(&mut self, about: Option<u32>, what: &str) -> Unanswered {
        let looked_into = Some(self.starter.attention.load(Ordering::Relaxed)).filter(|tgid| *tgid != 0);
        let Some((process, owner)) = looked_into.or(about).and_then(host::owner) else {
            if let Err(error) = self.end_reader() {
                return Unanswered::NoReader(error);
            }
            tracing::warn!("a reader was replaced, though no process is known to have kept it: {what}");
            return Unanswered::Aside(what.to_owned());
        };
        let ended = match self.end_reader() {
            Ok(ended) => ended,
            Err(error) => return Unanswered::NoReader(error),
        };
        let (lost, word) = match ended {
            Some((reader, false)) => {
                self.aside.lose(reader, owner.uid);
                (true, "not even a signal ends it")
            }
            _ => (false, "the reader was replaced"),
        };
        let why = "its memory or its files do not answer".to_owned();
        let pause = self.aside.failed(process, owner.uid, &why, Instant::now());
        // Whoever was asked about leads there: to ask again at once would lose the next reader, too.
        if let Some((led, _)) = about.filter(|about| *about != process.tgid).and_then(host::owner) {
            self.aside.set_aside(
                led,
                &format!("a look at it leads to process {}: {why}", process.tgid),
                Instant::now(),
            );
        }
        tracing::warn!(
            lost,
            "cannot look into {}: {why} ({what}; {word}). It is left alone for {pause:?}",
            describe(process, &owner)
        );
        Unanswered::Aside(why)
    }

    /// Has the reader killed, and waits a moment for its end. Gives which it was, and whether it has ended.
    fn end_reader(&mut self) -> Result<Option<(u32, bool)>, StartError> {
        let Some(Reader { pid, socket, may_stop: _ }) = self.reader.take() else { return Ok(None) };
        drop(socket);
        self.replaced += 1;
        self.starter.kill(pid)?;
        let begin = Instant::now();
        let mut deadline = begin + END;
        loop {
            let now = Instant::now();
            if now >= deadline {
                // One that only waits for a processor comes to its end.
                if now >= begin + LAST || !host::may_run(pid) {
                    return Ok(Some((pid, false)));
                }
                deadline = now + END;
            }
            let Some(ended) = self.starter.ended(deadline)? else { continue };
            self.aside.found(ended.pid);
            if ended.pid == pid {
                return Ok(Some((pid, true)));
            }
        }
    }

    /// Takes in which readers have ended meanwhile.
    fn hear_of_ends(&mut self, deadline: Instant) -> Result<(), StartError> {
        // The first to come is the reader that was asked for.
        if self.is_begun {
            return Ok(());
        }
        while let Some(ended) = self.starter.ended(deadline)? {
            self.ended.push(ended);
        }
        for Ended { pid, signal } in self.ended.drain(..) {
            self.aside.found(pid);
            if self.reader.as_ref().is_some_and(|reader| reader.pid == pid) {
                tracing::warn!(?signal, "the reader has ended, which nobody asked of it: it is replaced");
                self.reader = None;
                self.replaced += 1;
            }
        }
        Ok(())
    }
}

/// Waits for the reader that was asked for, until it is confined.
fn start(starter: &Starter, may_stop: bool, ended: &mut Vec<Ended>) -> Result<Reader, StartError> {
    let Started { pid, socket } = starter.reader(ended)?;
    let hello: io::Result<Option<Option<String>>> = frame::receive(&socket, Some(Instant::now() + BEGIN));
    match hello {
        Ok(Some(None)) => {}
        Ok(Some(Some(unconfined))) => {
            tracing::warn!("the reader of other processes works without its sandbox: {unconfined}");
        }
        Ok(None) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => return Err(failed(error)),
    }
    Ok(Reader { pid, socket, may_stop })
}

fn failed(source: io::Error) -> StartError {
    StartError::System { what: "start a reader", source }
}

/// `PID (comm, uid, unit)`.
fn describe(process: ProcessKey, owner: &Owner) -> String {
    let uid = owner.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
    let unit =
        owner.unit.as_deref().map_or_else(String::new, |unit| format!(", {}", escape(unit.as_bytes())));
    format!("process {} ({}{uid}{unit})", process.tgid, owner.comm)
}
