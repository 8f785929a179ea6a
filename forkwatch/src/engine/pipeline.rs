//! From the ring through the core to an output: the one loop that tail and daemon share.

use std::{
    fs::File,
    future::{Future, pending},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::oneshot,
    time::Instant,
};

use super::{
    alarm::Alarm,
    collector::{Asker, Collector},
    losses::Losses,
    next_fork::NextFork,
    recorder::Recorder,
    session::{self, Session},
    standing::Standing,
};
use crate::{
    core::{Core, Output, Settings},
    detect,
    health::{Part, Pulse},
    host::clock,
    kernel::{DRAIN_AFTER, Kernel, Ring},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        time::BootTime,
    },
    output::recording::Writer,
};

/// Records taken out of the ring before anything else gets a turn.
const BATCH: usize = 4096;
/// Least time between two looks at the core's timers: in a storm they are due all the time.
const LEAST_WAIT: Duration = Duration::from_millis(10);
/// What is said of a sink that fails.
const CANNOT_WRITE: &str = "cannot write the output";

/// The kernel side, shared with whoever reads its counters.
pub(crate) type SharedKernel = Arc<Mutex<Kernel>>;

/// Where events and the core's words go.
pub(crate) trait Sink {
    /// An event, before the core has seen it.
    fn event(&mut self, event: &Event) -> io::Result<()>;
    /// Something the core said; never a question.
    fn output(&mut self, output: &Output) -> io::Result<()>;
    /// The end of a batch. `received` and `malformed` count the records since the last one.
    fn batch(&mut self, received: u64, malformed: u64) -> io::Result<()>;
    /// How a process that is to be watched stands.
    fn standing(&mut self, _standing: &Standing) -> io::Result<()> {
        Ok(())
    }
    /// Whether it wants nothing more.
    fn is_done(&self) -> bool {
        false
    }
}

/// The loop and all it holds.
pub(crate) struct Pipeline<S> {
    ring: AsyncFd<Ring>,
    /// What came during the self-test, until the loop begins.
    early: Vec<Event>,
    drain_at: Option<Instant>,
    alarm: Alarm,
    pulse: Pulse,
    /// How the watched processes stand, once that is known.
    standing: Option<oneshot::Receiver<Vec<Standing>>>,
    stage: Stage<S>,
}

/// Everything behind the ring.
struct Stage<S> {
    kernel: SharedKernel,
    core: Core,
    collector: Collector,
    asker: Asker,
    recorder: Option<Recorder>,
    losses: Losses,
    next_fork: NextFork,
    outputs: Vec<Output>,
    /// What has been passed on to the sink so far.
    received: u64,
    malformed: u64,
    sink: S,
}

impl<S: Sink> Pipeline<S> {
    /// Makes the loop, which begins with what came during the self-test. Must be called on a tokio runtime.
    pub(crate) fn new(
        session: Session,
        settings: Settings,
        collector: Collector,
        recorder: Option<Recorder>,
        sink: S,
    ) -> Result<(Self, SharedKernel)> {
        let Session { kernel, ring, early, .. } = session;
        let losses = Losses::begin(&kernel)?;
        let kernel = Arc::new(Mutex::new(kernel));
        let pulse = collector.pulse();
        let stage = Stage {
            kernel: Arc::clone(&kernel),
            asker: collector.asker(),
            core: Core::new(settings, detect::all()),
            collector,
            recorder,
            losses,
            next_fork: NextFork::default(),
            outputs: Vec::new(),
            received: ring.received(),
            malformed: ring.malformed(),
            sink,
        };
        // SAFETY: the ring owns its descriptor, and gives the same one for as long as it lives.
        let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
        let ring = ring.map_err(io::Error::from).context("cannot wait for the ring")?;
        // The ring is slept on only after a look that found nothing.
        let alarm = Alarm::new().context("cannot set a timer")?;
        let drain_at = Some(Instant::now());
        let pipeline = Self { ring, early, drain_at, alarm, pulse, standing: None, stage };
        Ok((pipeline, kernel))
    }

    /// The sink.
    pub(crate) fn sink(&mut self) -> &mut S {
        &mut self.stage.sink
    }

    /// The heartbeats of this loop and of what answers its questions.
    pub(crate) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// Has the sink told how processes stand, as soon as that has been found out beside the watch.
    pub(crate) fn tell_standing(&mut self, standing: oneshot::Receiver<Vec<Standing>>) {
        self.standing = Some(standing);
    }

    /// Judges by other settings from now on.
    pub(crate) fn configure(&mut self, settings: Settings) -> Result<()> {
        let recorded = serde_json::to_value(&settings)?;
        self.stage.record(|writer| writer.settings(recorded));
        self.stage.core.configure(settings);
        Ok(())
    }

    /// Goes on until `stop` is ready, and gives what that says; or none when the sink wants nothing more.
    pub(crate) async fn run<T>(&mut self, stop: impl Future<Output = T>) -> Result<Option<T>> {
        tokio::pin!(stop);
        for event in std::mem::take(&mut self.early) {
            self.stage.event(&event)?;
        }
        loop {
            let Self { ring, early: _, drain_at, alarm, pulse, standing, stage } = self;
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
                answer = stage.collector.answer() => {
                    let (at, evidence) = answer?;
                    stage.evidence(at, &evidence)?;
                }
                () = pulse.asked(Part::Ring) => {
                    stage.drain(ring.get_mut())?;
                    pulse.works(Part::Ring);
                }
                () = pulse.asked(Part::Evidence) => stage.collector.ask_for_heartbeat(),
                found = found(standing) => {
                    *standing = None;
                    for one in found {
                        stage.sink.standing(&one).context(CANNOT_WRITE)?;
                    }
                }
                woken = alarm.at(wake) => {
                    woken.context("cannot wait for a timer")?;
                    if drain_at.is_some_and(|due| due <= Instant::now()) {
                        *drain_at = stage.look_again(ring.get_mut())?;
                    }
                }
            }
            self.stage.advance()?;
            self.stage.look_for_forks(self.ring.get_mut())?;
            self.stage.end_batch(self.ring.get_ref())?;
            if self.stage.sink.is_done() {
                self.stage.record(Writer::flush);
                return Ok(None);
            }
        }
    }

    /// Says what would have waited for a summary. To be called when the watch ends.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.stage.core.close(clock::now(), &mut self.stage.outputs);
        self.stage.pass_on()?;
        self.stage.end_batch(self.ring.get_ref())
    }

    /// Takes what the ring still holds.
    fn finish(&mut self) -> Result<()> {
        while self.stage.drain(self.ring.get_mut())? == BATCH {}
        self.stage.advance()?;
        self.stage.losses.look_now();
        self.stage.end_batch(self.ring.get_ref())?;
        self.stage.record(Writer::flush);
        Ok(())
    }

    /// What came of the recording; absent where none was made, or it ended early.
    pub(crate) fn recorded(&self) -> Option<String> {
        self.stage.recorder.as_ref().map(Recorder::summary)
    }
}

/// Ready when it is known how processes stand; never where nobody finds that out.
async fn found(standing: &mut Option<oneshot::Receiver<Vec<Standing>>>) -> Vec<Standing> {
    match standing {
        Some(standing) => standing.await.unwrap_or_default(),
        None => pending().await,
    }
}

impl<S: Sink> Stage<S> {
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
        let mut result = Ok(());
        let drained = ring.drain(BATCH, |event| {
            if result.is_ok() {
                result = self.event(&event);
            }
        });
        result.map(|()| drained)
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        if self.collector.is_of_reader(event) {
            return Ok(());
        }
        self.record(|writer| writer.event(event));
        self.sink.event(event).context(CANNOT_WRITE)?;
        self.core.event(event, &mut self.outputs);
        self.pass_on()
    }

    fn evidence(&mut self, at: BootTime, evidence: &Evidence) -> Result<()> {
        self.record(|writer| writer.evidence(at, evidence));
        self.core.evidence(at, evidence, &mut self.outputs);
        self.pass_on()
    }

    /// Lets the core do what is due, with all that is known by now: after a slow output it would else ask again what
    /// has long been answered, and give up on it.
    fn advance(&mut self) -> Result<()> {
        while let Some((at, evidence)) = self.collector.answered() {
            self.evidence(at, &evidence)?;
        }
        let now = clock::now();
        if self.core.deadline().is_some_and(|deadline| deadline <= now) {
            self.record(|writer| writer.advance(now));
            self.core.advance(now, &mut self.outputs);
            self.pass_on()?;
        }
        Ok(())
    }

    /// Answers what the kernel side knows.
    fn look_for_forks(&mut self, ring: &mut Ring) -> Result<()> {
        if self.next_fork.has_come(ring) {
            self.evidence(clock::now(), &Evidence::NextFork)?;
        }
        Ok(())
    }

    fn pass_on(&mut self) -> Result<()> {
        for output in self.outputs.drain(..) {
            match output {
                Output::Ask(Request::NextFork { mark }) => self.next_fork.ask(mark),
                Output::Ask(request) => self.collector.ask(request),
                Output::Order(order) => {
                    lock(&self.kernel).obey(&order, |process| session::living(&self.asker, process));
                }
                output => self.sink.output(&output).context(CANNOT_WRITE)?,
            }
        }
        Ok(())
    }

    fn end_batch(&mut self, ring: &Ring) -> Result<()> {
        if ring.received() != self.received || self.losses.looks_next {
            let lost = self.losses.since_last_look(&lock(&self.kernel), ring)?;
            for lost in lost {
                self.event(&Event::Lost(lost))?;
            }
        }
        let (received, malformed) = (ring.received() - self.received, ring.malformed() - self.malformed);
        (self.received, self.malformed) = (ring.received(), ring.malformed());
        self.sink.batch(received, malformed).context(CANNOT_WRITE)
    }

    /// When the core has something to do, as tokio counts time.
    fn deadline(&self) -> Option<Instant> {
        let wait = self.core.deadline()?.since(clock::now());
        Some(Instant::now() + wait.max(LEAST_WAIT))
    }

    fn record(&mut self, write: impl FnOnce(&mut Writer<File>) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && !recorder.write(write)
        {
            self.recorder = None;
        }
    }
}

/// Waits for whoever holds the kernel side; a panic of theirs changed nothing in it.
pub(crate) fn lock(kernel: &SharedKernel) -> MutexGuard<'_, Kernel> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}
