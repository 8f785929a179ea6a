//! What the threads of a process wait for at this moment: events, or a mutex.

use std::{io, rc::Rc, thread::sleep, time::Duration};

use crate::{
    host::{
        absence::is_gone,
        bytes::Bytes,
        call::{Activity, SystemCall},
        futex::EndlessWait,
        maps::Maps,
        memory,
        stat::Stat,
        status::Status,
    },
    model::{
        glibc::MUTEX_OWNER,
        inventory::{Contended, MAX_ENTRIES, Waiting},
        thread::SeenThread,
    },
};

/// How often, and how far apart, a thread that may be handling an event is looked at.
pub(super) const LOOKS: u32 = 5;
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// The threads that wait in an epoll or `io_uring` instance.
///
/// A loop that handles an event at this moment does not wait: where nobody waits, it is looked again for a tenth of a
/// second.
pub(super) fn waiting_for_events(tgid: u32, threads: &[Stat]) -> io::Result<Vec<Waiting>> {
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE);
        }
        let mut waiting = Vec::new();
        for thread in threads {
            match Activity::of_thread(tgid, thread.id) {
                Ok(activity) => waiting.extend(activity.call().and_then(|call| wait(thread, call))),
                Err(error) if !is_gone(&error) => return Err(error),
                // Ended meanwhile.
                Err(_) => {}
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
        match Activity::of_thread(tgid, thread.id) {
            Ok(activity) => {
                let wait = activity.call().and_then(EndlessWait::of).filter(EndlessWait::is_for_mutex);
                waits.extend(wait.map(|wait| (thread, wait.address)));
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    if waits.is_empty() {
        return Ok(Vec::new());
    }
    let memory = memory::of_process(tgid, Rc::new(Maps::of_process(tgid)?))?;
    // A mutex names a thread as its own pid namespace does.
    let named: Vec<(u32, &Stat)> = threads
        .iter()
        .filter_map(|thread| Some((Status::of_thread(tgid, thread.id).ok()?.own_id, thread)))
        .collect();
    let contended = waits.into_iter().filter_map(|(waiter, address)| {
        let owner = owner(&memory, address)?;
        let (_, owner) = named.iter().find(|(name, _)| *name == owner)?;
        (owner.id != waiter.id).then_some(Contended { waiter: seen(waiter), owner: seen(owner), address })
    });
    Ok(contended.take(MAX_ENTRIES).collect())
}

pub(super) fn seen(thread: &Stat) -> SeenThread {
    SeenThread { tid: thread.id, comm: thread.comm }
}

/// What a call waits for, where that is an epoll or `io_uring` instance.
fn wait(thread: &Stat, call: &SystemCall) -> Option<Waiting> {
    // Newer architectures have no epoll_wait.
    #[cfg(target_arch = "x86_64")]
    let is_legacy = call.number == libc::SYS_epoll_wait;
    #[cfg(not(target_arch = "x86_64"))]
    let is_legacy = false;
    if is_legacy || [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2].contains(&call.number) {
        Some(Waiting { thread: seen(thread), epoll: call.word(0) })
    } else {
        (call.number == libc::SYS_io_uring_enter).then(|| Waiting { thread: seen(thread), epoll: None })
    }
}

/// The owner that a mutex of glibc names (`__owner` of `struct __pthread_mutex_s`), while it is still locked.
fn owner(memory: &Bytes, address: u64) -> Option<u32> {
    let (lock, owner) = (memory.half(address)?, memory.half(address.wrapping_add(MUTEX_OWNER))?);
    (lock != 0).then_some(owner)
}
