//! What the threads of a process wait for at this moment: events, or a mutex.

use std::{fs::File, io, os::unix::fs::FileExt as _, thread::sleep, time::Duration};

use super::call::Call;
use crate::{
    host::{file, stat::Stat},
    model::{
        evidence::SeenThread,
        inventory::{Contended, MAX_ENTRIES},
    },
};

/// How often, and how far apart, a thread that may be handling an event is looked at.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// The threads that wait in an epoll or `io_uring` instance.
///
/// A loop that handles an event at this moment does not wait: where nobody waits, it is looked again for a tenth of a
/// second.
pub(super) fn waiting_for_events(tgid: u32, threads: &[Stat]) -> io::Result<Vec<SeenThread>> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE);
        }
        let mut waiting = Vec::new();
        for thread in threads {
            match Call::of_thread(tgid, thread.id) {
                Ok(Some(call)) if call.waits_for_events() => waiting.push(seen(thread)),
                Err(error) if !has_ended(&error) => return Err(error),
                // In another call, running, or ended meanwhile.
                _ => {}
            }
        }
        if !waiting.is_empty() {
            waiting.truncate(MAX_ENTRIES);
            return Ok(waiting);
        }
    }
    Ok(Vec::new())
}

/// The threads that wait for a mutex which names another live thread as its owner.
pub(super) fn contended(tgid: u32, threads: &[Stat]) -> io::Result<Vec<Contended>> {
    let mut waits = Vec::new();
    for thread in threads {
        match Call::of_thread(tgid, thread.id) {
            Ok(call) => waits.extend(call.and_then(|call| call.mutex()).map(|address| (thread, address))),
            Err(error) if has_ended(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if waits.is_empty() {
        return Ok(Vec::new());
    }
    let memory = File::open(format!("/proc/{tgid}/mem"))?;
    let named: Vec<(u32, &Stat)> =
        threads.iter().filter_map(|thread| Some((name_inside(tgid, thread.id)?, thread))).collect();
    let contended = waits.into_iter().filter_map(|(waiter, address)| {
        let owner = owner(&memory, address)?;
        let (_, owner) = named.iter().find(|(name, _)| *name == owner)?;
        (owner.id != waiter.id).then_some(Contended { waiter: seen(waiter), owner: seen(owner), address })
    });
    Ok(contended.take(MAX_ENTRIES).collect())
}

fn seen(thread: &Stat) -> SeenThread {
    SeenThread { tid: thread.id, comm: thread.comm }
}

fn has_ended(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// The owner that a mutex of glibc names (`__owner` of `struct __pthread_mutex_s`), while it is still locked.
fn owner(memory: &File, address: u64) -> Option<u32> {
    let mut bytes = [0; 12];
    memory.read_exact_at(&mut bytes, address).ok()?;
    let [a, b, c, d, _, _, _, _, owner @ ..] = bytes;
    (u32::from_ne_bytes([a, b, c, d]) != 0).then_some(u32::from_ne_bytes(owner))
}

/// The tid that a thread has in its own pid namespace, which is what a mutex names.
fn name_inside(process: u32, thread: u32) -> Option<u32> {
    let status = file::read_small(format!("/proc/{process}/task/{thread}/status")).ok()?;
    file::field(&status, "NSpid:")?.split_ascii_whitespace().next_back()?.parse().ok()
}
