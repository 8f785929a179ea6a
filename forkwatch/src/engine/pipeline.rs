//! From the ring through the core to the outputs: the one loop that tail and daemon share.

use std::{
    future::{Future, pending},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    alarm::Alarm,
    collector::{Asker, Collector, Reply},
    feed::Feed,
    inquiries::{Inquiries, Inquiry},
    losses::Losses,
    next_fork::NextFork,
    recorder::Recorder,
    session::{self, Session},
    sleepers::Sleepers,
};
use crate::{
    core::{self, Settings},
    health::{Part, Pulse},
    host::{self, clock},
    kernel::{DRAIN_AFTER, Kernel, Ring},
    live::{Awaited, Question},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        particulars::Particulars,
        reported::Reported,
        rescued::Rescued,
        standing::Standing,
        time::BootTime,
    },
    output::{Batch, Output},
};

/// Records taken out of the ring before anything else gets a turn.
const BATCH: usize = 4096;
/// Least time between two looks at the core's timers: in a storm they are due all the time.
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// The kernel side, shared with whoever reads its counters.
pub(crate) type SharedKernel = Arc<Mutex<Kernel>>;

/// The loop and all it holds.
pub(crate) struct Pipeline {
    ring: AsyncFd<Ring>,
    /// What came during the self-test, until the loop begins.
    early: Vec<Reported>,
    drain_at: Option<Instant>,
    alarm: Alarm,
    pulse: Pulse,
    /// How the watched processes stand, once that is known.
    standing: Option<oneshot::Receiver<Vec<Standing>>>,
    /// What others ask and tell.
    questions: Option<mpsc::Receiver<Question>>,
    stage: Stage,
}

/// Everything behind the ring.
struct Stage {
    kernel: SharedKernel,
    feed: Feed,
    collector: Collector,
    asker: Asker,
    inquiries: Inquiries,
    losses: Losses,
    next_fork: NextFork,
    sleepers: Sleepers,
    /// What outputs have been told of so far.
    received: u64,
    malformed: u64,
    settings: Settings,
    /// Who waits for each finding of their own programs, and the version of that which the core knows.
    awaited: Awaited,
    known: u64,
}

impl Pipeline {
    /// Makes the loop, which begins with what came during the self-test. Must be called on a tokio runtime.
    pub(crate) fn new(
        session: Session,
        settings: Settings,
        collector: Collector,
        recorder: Option<Recorder>,
    ) -> Result<(Self, SharedKernel)> {
        let Session { kernel, ring, early, .. } = session;
        let losses = Losses::begin(&kernel)?;
        let kernel = Arc::new(Mutex::new(kernel));
        let pulse = collector.pulse();
        let stage = Stage {
            kernel: Arc::clone(&kernel),
            asker: collector.asker(),
            feed: Feed::new(settings.clone(), recorder),
            collector,
            inquiries: Inquiries::new(Instant::now().into_std()),
            losses,
            next_fork: NextFork::default(),
            sleepers: Sleepers::new(pulse.clone()),
            received: ring.received(),
            malformed: ring.malformed(),
            settings,
            awaited: Awaited::default(),
            known: 0,
        };
        // SAFETY: the ring owns its descriptor, and gives the same one for as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(io::Error::from).context("cannot wait for the ring")?;
        // The ring is slept on only after a look that found nothing.
        let alarm = Alarm::new().context("cannot set a timer")?;
        let drain_at = Some(Instant::now());
        let pipeline = Self { ring, early, drain_at, alarm, pulse, standing: None, questions: None, stage };
        Ok((pipeline, kernel))
    }

    /// Tells these too. To be called before the loop begins.
    pub(crate) fn add(&mut self, outputs: Vec<Box<dyn Output>>) {
        self.stage.feed.add(outputs);
    }

    /// The heartbeats of this loop and of what answers its questions.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Has the outputs told how processes stand, as soon as that has been found out beside the watch.
    pub(crate) fn tell_standing(&mut self, standing: oneshot::Receiver<Vec<Standing>>) {
        self.standing = Some(standing);
    }

    /// Answers these too, while the loop runs.
    pub(crate) fn hear(&mut self, questions: mpsc::Receiver<Question>) {
        self.questions = Some(questions);
    }

    /// Judges by other settings from now on.
    pub(crate) fn configure(&mut self, settings: Settings) -> Result<()> {
        self.stage.settings = settings;
        self.stage.configure()
    }

    /// Tells those who wait for it each finding of their own programs.
    pub(crate) fn tell_each(&mut self, awaited: Awaited) {
        self.stage.awaited = awaited;
    }

    /// Goes on until `stop` is ready, and gives what that says; or none when an output has all that was wanted of it.
    pub(crate) async fn run<T>(&mut self, stop: impl Future<Output = T>) -> Result<Option<T>> {
        tokio::pin!(stop);
        self.stage.feed.begin()?;
        for reported in std::mem::take(&mut self.early) {
            self.stage.reported(&reported)?;
        }
        loop {
            let Self { ring, early: _, drain_at, alarm, pulse, standing, questions, stage } = self;
            let wake = stage.deadline().into_iter().chain(*drain_at).min();
            tokio::select! {
                stopped = &mut stop => {
                    self.finish()?;
                    return Ok(Some(stopped));
                }
                guard = ring.readable_mut() => {
                    let mut guard = guard.context("cannot wait for the ring")?;
                    // Only an empty ring may be waited for again: the readiness is told once (epoll(7), EPOLLET).
                    if stage.drain(guard.get_inner_mut())? < BATCH {
                        guard.clear_ready();
                    }
                    *drain_at = Some(Instant::now() + DRAIN_AFTER);
                }
                reply = stage.collector.answer() => stage.reply(reply?)?,
                () = pulse.asked(Part::Ring) => {
                    stage.drain(ring.get_mut())?;
                    pulse.works(Part::Ring);
                }
                () = pulse.asked(Part::Evidence) => stage.collector.ask_for_heartbeat(),
                found = found(standing) => {
                    *standing = None;
                    for one in found {
                        stage.feed.standing(one)?;
                    }
                }
                question = asked(questions) => stage.question(question)?,
                woken = alarm.at(wake) => {
                    woken.context("cannot wait for a timer")?;
                    if drain_at.is_some_and(|due| due <= Instant::now()) {
                        *drain_at = stage.look_again(ring.get_mut())?;
                    }
                }
            }
            self.stage.advance()?;
            self.stage.answer_by_kernel(self.ring.get_mut())?;
            self.stage.end_batch(self.ring.get_ref())?;
            if self.stage.feed.is_done() {
                self.stage.feed.flush_recording();
                return Ok(None);
            }
        }
    }

    /// Says what would have waited for a summary or an answer. To be called when the watch ends in order.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.stage.feed.close(clock::now())?;
        self.stage.end_batch(self.ring.get_ref())
    }

    /// Tells the outputs that nothing more comes. To be called last, however the watch has ended.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.stage.feed.end()
    }

    /// Takes what the ring still holds.
    fn finish(&mut self) -> Result<()> {
        while self.stage.drain(self.ring.get_mut())? == BATCH {}
        self.stage.advance()?;
        self.stage.losses.look_now();
        self.stage.end_batch(self.ring.get_ref())?;
        self.stage.feed.flush_recording();
        Ok(())
    }

    /// What came of the recording; absent where none was made, or it ended early.
    pub(crate) fn recorded(&self) -> Option<String> {
        self.stage.feed.recorded()
    }
}

/// Ready when it is known how processes stand; never where nobody finds that out.
async fn found(standing: &mut Option<oneshot::Receiver<Vec<Standing>>>) -> Vec<Standing> {
    match standing {
        Some(standing) => standing.await.unwrap_or_default(),
        None => pending().await,
    }
}

/// Ready when somebody asks something; never where nobody can.
async fn asked(questions: &mut Option<mpsc::Receiver<Question>>) -> Question {
    if let Some(open) = questions {
        if let Some(question) = open.recv().await {
            return question;
        }
        // Nobody is left who could ask.
        *questions = None;
    }
    pending().await
}

impl Stage {
    fn configure(&mut self) -> Result<()> {
        self.known = self.awaited.version();
        let settings = Settings { tell_each_of: self.awaited.users(), ..self.settings.clone() };
        self.feed.configure(settings)
    }

    /// Has the core know who waits. To be called before anything is judged.
    fn hear_who_waits(&mut self) -> Result<()> {
        if self.awaited.version() == self.known { Ok(()) } else { self.configure() }
    }

    fn question(&mut self, question: Question) -> Result<()> {
        match question {
            // Whoever does not wait any more wants no answer.
            Question::Followed(reply) => drop(reply.send(self.feed.followed())),
            // What follows every question ends a batch.
            Question::Nudge => {}
            Question::Rescued(report) => self.feed.rescued(Rescued { at: clock::now(), report: *report })?,
        }
        Ok(())
    }

    /// Looks some time after something was found: a ring that is empty now may be slept on.
    fn look_again(&mut self, ring: &mut Ring) -> Result<Option<Instant>> {
        if self.drain(ring)? == 0 {
            ring.sleep()?;
            if self.drain(ring)? == 0 {
                // What was lost last would else be told with the next event, whenever that comes.
                self.losses.look_now();
                return Ok(None);
            }
        }
        Ok(Some(Instant::now() + DRAIN_AFTER))
    }

    fn drain(&mut self, ring: &mut Ring) -> Result<usize> {
        let mut result = self.hear_who_waits();
        let drained = ring.drain(BATCH, |reported| {
            if result.is_ok() {
                result = self.reported(&reported);
            }
        });
        result.map(|()| drained)
    }

    fn reported(&mut self, reported: &Reported) -> Result<()> {
        if self.collector.is_of_reader(reported) {
            return Ok(());
        }
        let inquiry = match reported {
            Reported::Event(event) if self.feed.wants_particulars(event) => {
                let ask = |number| self.collector.ask_for_particulars(number, event);
                self.inquiries.ask(event, Instant::now().into_std(), || seen_beside(event), ask)
            }
            _ => Inquiry::None,
        };
        self.feed.reported(reported, inquiry.number())?;
        if let Inquiry::Answered(number, particulars) = &inquiry {
            self.feed.particulars(*number, particulars)?;
        }
        self.pass_on();
        Ok(())
    }

    fn reply(&mut self, reply: Reply) -> Result<()> {
        self.hear_who_waits()?;
        match reply {
            Reply::Core(at, evidence) => self.evidence(at, &evidence),
            Reply::Particulars { question, took, particulars } => {
                let numbers = self.inquiries.answered(question, took, &particulars);
                numbers.into_iter().try_for_each(|number| self.feed.particulars(number, &particulars))
            }
        }
    }

    fn evidence(&mut self, at: BootTime, evidence: &Evidence) -> Result<()> {
        self.feed.evidence(at, evidence)?;
        self.pass_on();
        Ok(())
    }

    /// Lets the core do what is due, with all that is known by now: after a slow output it would else ask again what
    /// has long been answered, and give up on it.
    fn advance(&mut self) -> Result<()> {
        while let Some(reply) = self.collector.answered() {
            self.reply(reply)?;
        }
        for number in self.inquiries.overdue(Instant::now().into_std()) {
            self.feed.particulars(number, &Particulars::None)?;
        }
        self.hear_who_waits()?;
        let now = clock::now();
        if self.feed.deadline().is_some_and(|deadline| deadline <= now) {
            self.feed.advance(now)?;
            self.pass_on();
        }
        Ok(())
    }

    /// Answers what the kernel side knows.
    fn answer_by_kernel(&mut self, ring: &mut Ring) -> Result<()> {
        if self.next_fork.has_come(ring) {
            self.evidence(clock::now(), &Evidence::NextFork)?;
        }
        let feed = &self.feed;
        let seen = self.sleepers.look(|| lock(&self.kernel).fell_asleep(|process| feed.lives_on(process)));
        if let Some(seen) = seen {
            self.evidence(clock::now(), &seen)?;
        }
        Ok(())
    }

    /// Has answered and done what the core asks.
    fn pass_on(&mut self) {
        for asked in self.feed.asked.drain(..) {
            match asked {
                core::Output::Ask(Request::NextFork { mark }) => self.next_fork.ask(mark),
                core::Output::Ask(Request::FellAsleep) => self.sleepers.ask(),
                core::Output::Ask(request) => self.collector.ask(request),
                core::Output::Probe(request) => {
                    lock(&self.kernel).probe(&request, |process| session::living(&self.asker, process));
                }
                _ => {}
            }
        }
    }

    fn end_batch(&mut self, ring: &Ring) -> Result<()> {
        if ring.received() != self.received || self.losses.looks_next {
            let lost = self.losses.since_last_look(&lock(&self.kernel), ring)?;
            for lost in lost {
                self.reported(&Event::Lost(lost).into())?;
            }
        }
        let (received, malformed) = (ring.received() - self.received, ring.malformed() - self.malformed);
        (self.received, self.malformed) = (ring.received(), ring.malformed());
        self.feed.batch(Batch { received, malformed })
    }

    /// When the core has something to do, or an answer is waited for no longer, as tokio counts time.
    fn deadline(&self) -> Option<Instant> {
        let core = self.feed.deadline().map(|due| {
            let wait = due.since(clock::now());
            Instant::now() + wait.max(LEAST_WAIT)
        });
        core.into_iter().chain(self.inquiries.deadline().map(Instant::from_std)).min()
    }
}

/// The particulars of an event, where they can be seen without waiting. A short-lived forker is soon gone, and the reader may
/// be busy; but it sees what `/proc` hides from the watch itself.
fn seen_beside(event: &Event) -> Option<Particulars> {
    let Event::Fork(fork) = event else { return None };
    let names = host::left_behind(fork);
    (!names.is_empty()).then_some(Particulars::ThreadNames(names))
}

/// Waits for whoever holds the kernel side; a panic of theirs changed nothing in it.
pub(crate) fn lock(kernel: &SharedKernel) -> MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}
