//! A reader: answers questions about processes, one after the other, and can do nothing else.

use std::{
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::parent_id},
    },
    panic::{self, AssertUnwindSafe},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{UsageWho, getrusage},
        time::TimeValLike as _,
    },
};

use super::{
    frame,
    may::May,
    question::{Answer, Answered, Question},
    seccomp,
};
use crate::{
    host::{self, Limits, clock},
    model::{event::Event, evidence::Evidence, particulars::Particulars, seen::Swept, time::nanoseconds},
};

/// More free memory than this is given back.
const LARGE: u64 = 256 << 10;
/// While one question follows the other, it is given back so often.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

/// Answers until nobody asks any more, and then ends. `attention` is where it says whom it looks into.
pub(super) fn serve(socket: &UnixStream, attention: &'static AtomicU32, may: May) {
    // Said to whoever asks, who can do something about it: this process has nobody else to tell.
    panic::set_hook(Box::new(|_| {}));
    host::begin_anew();
    let confined = seccomp::confine(may, socket.as_fd()).err().map(|error| error.to_string());
    // The word is that of the one that answers the watch. Whoever listens for another waits for nobody.
    let attention = (may != May::Listen).then_some(attention);
    if let Some(attention) = attention {
        host::attend_at(attention);
    }
    if frame::send(socket, &confined).is_err() {
        return;
    }
    let mut limits = Limits::default();
    let mut before = cpu_time();
    let mut given_back = Instant::now();
    while let Ok(Some(question)) = frame::receive(socket, None) {
        let answer = panic::catch_unwind(AssertUnwindSafe(|| answer(&question, &mut limits)));
        if let Some(attention) = attention {
            attention.store(0, Ordering::Relaxed);
        }
        let answer = answer.unwrap_or_else(|defect| Answer::Failed(words(defect.as_ref())));
        let now = cpu_time();
        let cpu = nanoseconds(now.saturating_sub(before));
        before = now;
        if frame::send(socket, &Answered { at: clock::now(), cpu, answer }).is_err() {
            return;
        }
        let left = GIVE_BACK_EVERY.saturating_sub(given_back.elapsed());
        if !is_asked_within(socket, left) {
            give_back_memory();
            given_back = Instant::now();
        }
    }
}

/// Whether the next question, or the end, comes within this time.
fn is_asked_within(socket: &UnixStream, time: Duration) -> bool {
    let Ok(timeout) = PollTimeout::try_from(time) else { return false };
    let mut comes = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    !time.is_zero() && poll(&mut comes, timeout).is_ok_and(|count| count > 0)
}

fn answer(question: &Question, limits: &mut Limits) -> Answer {
    match question {
        Question::Core(request) => Answer::Core(Box::new(without_us(host::answer(request)))),
        Question::Sweep { mark, scope } => Answer::Core(Box::new(without_us(host::sweep(*mark, scope)))),
        Question::Tree(process) => Answer::Tree(host::tree(process).map(Box::new)),
        Question::Inventory(process) => Answer::Inventory(host::inventory(process).map(Box::new)),
        Question::HeldNow(process, places) => Answer::HeldNow(host::held_now(*process, places.as_ref())),
        Question::Sight(most) => Answer::Sight(host::sight::sight(*most)),
        Question::Particulars(event) => Answer::Particulars(particulars(event, limits)),
        Question::Living(process) => Answer::Living(host::look_again(*process)),
        Question::Streams(asked) => Answer::Streams(host::streams(asked)),
        Question::Written(asked) => Answer::Written(host::look_at_written(asked)),
    }
}

fn particulars(event: &Event, limits: &mut Limits) -> Particulars {
    match event {
        Event::Fork(fork) => Particulars::ThreadNames(host::left_behind(fork)),
        Event::CloneFailure(failure) => limits.find(failure).map_or(Particulars::None, Particulars::Limit),
        _ => Particulars::None,
    }
}

/// A sweep finds the starter and its readers, which were forked and have not exec'd. They are forkwatch itself.
fn without_us(mut evidence: Evidence) -> Evidence {
    if let Evidence::Sweep { seen: Some(sweep) } = &mut evidence {
        let starter = parent_id();
        let is_other = |swept: &Swept| {
            let parent = swept.parent.map(|parent| parent.tgid);
            swept.process.tgid != starter && swept.process.tgid != process::id() && parent != Some(starter)
        };
        sweep.unexeced.retain(is_other);
        sweep.zombies.retain(is_other);
    }
    evidence
}

/// What a panic says.
fn words(defect: &(dyn std::any::Any + Send)) -> String {
    let words = defect.downcast_ref::<&str>().map(|text| (*text).to_owned());
    words.or_else(|| defect.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}

fn cpu_time() -> Duration {
    let microseconds = getrusage(UsageWho::RUSAGE_SELF)
        .map_or(0, |usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds());
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

/// Whoever sees much keeps room for it: the C library gives only what lies at the end back by itself.
fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: both touch nothing but the allocator's own memory.
        let free = unsafe { libc::mallinfo2() }.fordblks;
        if free as u64 > LARGE {
            // SAFETY: as above.
            unsafe { libc::malloc_trim(0) };
        }
    }
}
