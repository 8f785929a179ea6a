//! What a forked child has taken from the epoll instance that its forker waits in.

use super::hazard::{Ecosystem, HAZARD, general};
use crate::{
    core::Verdict,
    detect::fork_check::RunningLoop,
    model::{
        event_loop::{RestingLoop, Watched},
        finding::{Certainty, Facts},
        process::ProcessKey,
        program_name::called,
        time::nanoseconds,
    },
};

/// Loops that watch a wake-up of their own as long as they run: asyncio's and Tornado's self-pipe
/// (`asyncio/selector_events.py`, `_make_self_pipe`), Twisted's waker (`twisted/internet/base.py`, `installWaker`),
/// libuv's eventfd (`uv_loop_init`, `src/unix/loop.c`), Tokio's (`mio::Waker`).
const ALWAYS_WOKEN: [&str; 6] = ["asyncio", "Tornado", "Twisted", "uvloop", "libuv", "Tokio"];
/// Descriptors that are told.
const MOST_TOLD: usize = 16;

/// What the forker's instance watched before and watches no more, while the forker slept all the time between the two
/// looks: its children alone can have edited it.
pub(super) fn taken(before: &RestingLoop, now: &RestingLoop) -> Vec<Watched> {
    let slept = before.waits == now.waits
        && (before.switches, before.threads) == (now.switches, now.threads)
        && before.is_held;
    if !slept {
        return Vec::new();
    }
    before.watched.iter().filter(|watched| !now.watched.contains(watched)).copied().collect()
}

/// The verdict about a forker that slept while its instance lost these.
pub(super) fn judge_taken(
    child: ProcessKey,
    forker: ProcessKey,
    now: &RestingLoop,
    taken: &[Watched],
) -> Verdict {
    let (name, child_pid, forker) = (called(&now.program), child.tgid, forker.tgid);
    let instance = now.waits.epoll.map_or_else(String::new, |fd| format!(" {fd}"));
    let count = match taken.len() {
        1 => "a descriptor".to_owned(),
        count => format!("{count} descriptors"),
    };
    let mut numbers: Vec<String> =
        taken.iter().take(MOST_TOLD).map(|watched| watched.number.to_string()).collect();
    if taken.len() > MOST_TOLD {
        numbers.push("...".to_owned());
    }
    let numbers = numbers.join(", ");
    let notes = vec![
        format!("thread {} slept in epoll descriptor{instance} all the while", now.waits.thread.tid),
        format!("open in pid {forker} still, and no longer watched: {numbers}"),
    ];
    let summary = format!(
        "{name} (pid {forker}) slept while {count} that it waits for went from its epoll instance: its forked child \
         {child_pid}, which has the same instance, removed what both watch, and {name} hears of it no more"
    );
    verdict(child, now, summary, notes, None)
}

/// The verdict about a known loop that nothing of its own can wake any more, if it is one.
pub(super) fn judge_unwoken(child: ProcessKey, forker: ProcessKey, now: &RestingLoop) -> Option<Verdict> {
    let running = RunningLoop::that_waits(now.whereabouts.as_ref()?)?;
    let of = ALWAYS_WOKEN.iter().find(|of| **of == running.of)?;
    let (name, child_pid, forker) = (called(&now.program), child.tgid, forker.tgid);
    let instance = now.waits.epoll.map_or_else(String::new, |fd| format!(" {fd}"));
    let notes = vec![format!(
        "thread {} waits in epoll descriptor{instance}, in which the wake-up is missing that every {of} loop has",
        now.waits.thread.tid
    )];
    let summary = format!(
        "The {of} loop of {name} (pid {forker}) no longer watches its own wake-up: what a forked child, such as \
         {child_pid}, removes from the loop that it inherits, as it does when it closes it, is removed for both. Neither \
         other threads nor signal handlers wake the loop any more"
    );
    Some(verdict(child, now, summary, notes, Some(of)))
}

fn verdict(
    child: ProcessKey,
    now: &RestingLoop,
    summary: String,
    notes: Vec<String>,
    of: Option<&str>,
) -> Verdict {
    let age = nanoseconds(now.at.since(child.start));
    Verdict {
        state: HAZARD.state,
        certainty: Certainty::Strong,
        severity: HAZARD.severity,
        summary,
        facts: Facts { age: Some(age), notes, ..Facts::default() },
        remedy: of.map_or_else(general, Ecosystem::of),
    }
}
