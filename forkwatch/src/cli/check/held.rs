//! Which locks the threads of the process hold, now or again and again.

use std::{
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::SignalFd,
    },
};

use crate::{
    model::{
        held_lock::Places,
        held_now::{HeldNow, HeldNowSeen},
        inventory::{Inventory, Subject, Unknown},
        process::ProcessKey,
        sampling::Sampling,
    },
    reader::{Answer, Answered, Client, Question},
};

/// Between two looks at locks that are known.
const PAUSE: Duration = Duration::from_millis(20);
/// A look is followed by a pause of so many times what it took, and so are searches of all memory.
const PARTS: u32 = 10;

/// Looks at the locks of a process that has other threads: a thread's own locks harm none of its children.
pub(in crate::cli) fn look(
    reader: &mut Client,
    process: ProcessKey,
    span: Option<Duration>,
    inventory: &mut Inventory,
) -> Result<()> {
    if inventory.thread_count == 0 {
        return Ok(());
    }
    match ask(reader, process, None) {
        Ok(held) => inventory.held = Some(held),
        Err(why) => {
            inventory.unknown.push(Unknown { what: Subject::HeldLocks, why, denied: false });
            return Ok(());
        }
    }
    if let (Some(span), Some(first)) = (span, inventory.held.as_deref()) {
        inventory.sampling = Some(Box::new(sample(reader, process, span, first)?));
    }
    Ok(())
}

/// Looks again and again, until the time is over or Ctrl-C is pressed.
fn sample(reader: &mut Client, process: ProcessKey, span: Duration, first: &HeldNow) -> Result<Sampling> {
    let interrupted = Interrupt::new()?;
    let mut sampling = Sampling::default();
    sampling.take_in(first);
    // Of the last look at known locks: a search takes longer, and must not keep these waiting.
    let mut took = Duration::ZERO;
    let deadline = Instant::now() + span;
    let mut next_search = Instant::now() + Duration::from_nanos(first.took) * PARTS;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(sampling);
        }
        if interrupted.within(left.min(PAUSE.max(took * PARTS)))? {
            sampling.ended = Some("Ctrl-C was pressed".to_owned());
            return Ok(sampling);
        }
        let searches = Instant::now() >= next_search;
        let seen = match ask(reader, process, (!searches).then(|| sampling.places())) {
            Ok(seen) => seen,
            Err(why) => {
                sampling.ended = Some(why);
                return Ok(sampling);
            }
        };
        if searches {
            next_search = Instant::now() + Duration::from_nanos(seen.took) * PARTS;
        } else {
            took = Duration::from_nanos(seen.took);
        }
        sampling.take_in(&seen);
    }
}

/// One look; or why there was none.
fn ask(reader: &mut Client, process: ProcessKey, places: Option<Places>) -> Result<Box<HeldNow>, String> {
    match reader.ask(&Question::HeldNow(process, places)) {
        Ok(Answered { answer: Answer::HeldNow(HeldNowSeen::Alive(seen)), .. }) => Ok(seen),
        Ok(Answered { answer: Answer::HeldNow(HeldNowSeen::Gone), .. }) => {
            Err(format!("process {} has ended", process.tgid))
        }
        Ok(Answered { answer: Answer::HeldNow(HeldNowSeen::Unreadable(why)), .. }) => Err(why),
        Ok(_) => Err("the look at its locks failed, which is a defect of forkwatch".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Ctrl-C and SIGTERM, which end the looking and not the command.
struct Interrupt(SignalFd);

impl Interrupt {
    fn new() -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block().context("cannot wait for signals")?;
        Ok(Self(SignalFd::new(&signals).context("cannot wait for signals")?))
    }

    /// Waits so long, or until one comes.
    fn within(&self, time: Duration) -> Result<bool> {
        let mut wanted = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        match poll(&mut wanted, patience) {
            Ok(count) => Ok(count > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error).context("cannot wait for signals"),
        }
    }
}
