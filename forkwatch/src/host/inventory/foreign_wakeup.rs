//! Whether the signals of a forked process are told to the event loop of its forker.
//!
//! asyncio has signals told to its loop by `signal.set_wakeup_fd`: the interpreter's own handler writes the number of the
//! signal to one end of a socket pair, and the loop reads the other. A fork copies both the handlers and the descriptor.
//! So a signal to the child is handled by the loop of the parent. Since Python 3.12 asyncio takes the descriptor back in
//! the child (python/cpython#66285, `on_fork` in `asyncio/events.py`).

use super::{instances, shared_loop::real_uid};
use crate::{
    host::{clock, descriptors::Table, program, stack, stat::Stat, status::Status},
    model::{event_loop::ForeignWakeUp, process::ProcessKey, signals::SignalSet},
};

/// Descriptors of each process that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;

/// What asyncio has handle a signal that it is told of otherwise (`asyncio/unix_events.py`).
const HANDLER: (&str, &str) = ("_sighandler_noop", "/asyncio/unix_events.py");

/// The signals; absent where there are none, or where anything cannot be seen.
pub(in crate::host) fn foreign_wake_up(child: ProcessKey, forker: ProcessKey) -> Option<ForeignWakeUp> {
    let own = Stat::of(child).filter(Stat::is_unexeced)?;
    let its = Stat::of(forker)?;
    let caught = Status::of_process(child.tgid).ok()?.caught;
    if own.stack == 0 || own.stack != its.stack || caught.is_empty() {
        return None;
    }
    let descriptors = Table::of_process(forker.tgid).list(MAX_DESCRIPTORS).ok()?;
    let pairs = instances::own_pairs(forker.tgid, &descriptors);
    if pairs.is_empty() {
        return None;
    }
    let inherited = Table::of_process(child.tgid).list(MAX_DESCRIPTORS).ok()?;
    let (epoll, descriptor) = pairs.iter().find_map(|pair| {
        let held = inherited.iter().find(|held| held.socket() == Some(pair.written))?;
        Some((pair.epoll, held.number))
    })?;
    let (name, file) = HANDLER;
    let handlers = stack::signal_handlers(child, descriptor)?.into_iter();
    let told: Vec<u32> = handlers
        .filter(|(_, function, module)| function == name && module.ends_with(file))
        .map(|(signal, ..)| u32::from(signal))
        .collect();
    let signals = SignalSet::of(&told).and(caught);
    if signals.is_empty() {
        return None;
    }
    let seen = ForeignWakeUp {
        at: clock::now(),
        comm: own.comm,
        uid: real_uid(child.tgid),
        program: program::read(forker.tgid, &its),
        signals,
        descriptor,
        epoll,
    };
    // Neither pid has become another's meanwhile.
    (Stat::lives(child) && Stat::lives(forker)).then_some(seen)
}
