//! Where in its program a thread is that has just used a connection.

use std::rc::Rc;

use super::{
    call::{Activity, SystemCall},
    clock,
    descriptors::Table,
    maps::Maps,
    memory, stack,
    stat::Stat,
    task,
};
use crate::model::{
    client_library::{started_by, thread_of},
    connection::{Caller, Engaged, LibraryThread},
    process::ProcessKey,
    stack::{MAX_FRAMES, Stack, Stacks},
    thread::SeenThread,
};

/// Descriptors of one call of poll(2) that are looked at.
const MAX_POLLED: u32 = 64;
/// Threads of one process that are looked at.
const MAX_THREADS: usize = 32;
/// The size of a `struct pollfd`, which begins with the descriptor.
const POLLED: usize = 8;

/// See [`crate::model::evidence::Request::Caller`].
pub(super) fn caller(
    process: ProcessKey,
    tid: u32,
    inode: u64,
    forker: Option<ProcessKey>,
    stacks: Stacks,
) -> Option<Caller> {
    if !Stat::lives(process) {
        return None;
    }
    let at = clock::now();
    // What may be over in a moment comes first.
    let before = engaged(process.tgid, tid, inode);
    let script = script(process, tid);
    // It works, and is not stopped for this.
    let stacks = if stacks == Stacks::None { Stacks::None } else { Stacks::Light };
    let stack = stack::of_thread(process, tid, stacks);
    let after = engaged(process.tgid, tid, inode);
    // What it turned to meanwhile may be what the calls show.
    let engaged = if before == after { before } else { Engaged::Otherwise };
    let behind = forker.map(|forker| behind(forker, process)).unwrap_or_default();
    Stat::lives(process).then_some(Caller { at, tid, engaged, script, stack, behind })
}

/// The calls of a script that the thread is in, the outer ones where it runs meanwhile.
fn script(process: ProcessKey, tid: u32) -> Option<Stack> {
    let asleep = stack::of_script(process, tid)?;
    if !asleep.frames.is_empty() {
        return Some(asleep);
    }
    match stack::of_running_script(process, tid) {
        Some(Ok(mut frames)) if !frames.is_empty() => {
            frames.truncate(MAX_FRAMES);
            Some(Stack { frames, missing: Some("it ran on: its inner calls changed".to_owned()) })
        }
        _ => Some(asleep),
    }
}

/// Whether a thread sleeps in a call on a socket, or on another descriptor.
fn engaged(process: u32, thread: u32, inode: u64) -> Engaged {
    let Ok(activity) = Activity::of_thread(process, thread) else { return Engaged::Otherwise };
    let Some(call) = activity.call() else { return Engaged::Otherwise };
    let descriptors = match call.name().as_str() {
        "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" | "write" | "writev" | "sendto"
        | "sendmsg" => call.word(0).into_iter().collect(),
        "poll" | "ppoll" => polled(process, call),
        _ => Vec::new(),
    };
    let table = Table::of_process(process);
    let is_it = |fd: &u32| {
        let descriptor = table.get(*fd).ok().flatten();
        descriptor.is_some_and(|descriptor| descriptor.socket() == Some(inode))
    };
    match descriptors.as_slice() {
        [] => Engaged::Otherwise,
        some if some.iter().any(is_it) => Engaged::WithIt,
        _ => Engaged::WithAnother,
    }
}

/// The descriptors that a call of poll(2) waits for.
fn polled(tgid: u32, call: &SystemCall) -> Vec<u32> {
    let count = call.word(1).unwrap_or_default().min(MAX_POLLED);
    let read = || {
        let memory = memory::of_process(tgid, Rc::new(Maps::of_process(tgid).ok()?)).ok()?;
        memory.take(call.arguments[0], usize::try_from(count).ok()? * POLLED)
    };
    let bytes = read().unwrap_or_default();
    let descriptor = |entry: &[u8]| {
        let number = i32::from_ne_bytes(entry.get(..4)?.try_into().ok()?);
        // One that is negative is left out, as poll(2) says.
        u32::try_from(number).ok()
    };
    bytes.chunks_exact(POLLED).filter_map(descriptor).collect()
}

/// The threads of client libraries that the forker had at the fork, of libraries that have none in the child.
fn behind(forker: ProcessKey, child: ProcessKey) -> Vec<LibraryThread> {
    let mut behind = of_libraries(forker, |thread| task::is_older(thread, child.start, child.tgid));
    if !behind.is_empty() {
        let own = of_libraries(child, |_| true);
        behind.retain(|thread| own.iter().all(|own| own.library != thread.library));
    }
    // What was seen may be another's.
    if Stat::lives(forker) { behind } else { Vec::new() }
}

fn of_libraries(process: ProcessKey, is_meant: impl Fn(&Stat) -> bool) -> Vec<LibraryThread> {
    let mut threads = task::user_threads(process.tgid).unwrap_or_default();
    threads.retain(is_meant);
    let of_library = |thread: &Stat| {
        let by_calls = || started_by(&stack::of_script(process, thread.id)?);
        let library = thread_of(thread.comm).or_else(by_calls)?;
        Some(LibraryThread {
            library: library.to_owned(),
            thread: SeenThread { tid: thread.id, comm: thread.comm },
        })
    };
    threads.iter().take(MAX_THREADS).filter_map(of_library).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
        os::fd::AsRawFd as _,
    };

    use super::*;
    use crate::host::{descriptors::Descriptor, forked::Forked};

    fn inode(fd: i32) -> u64 {
        let fd = u32::try_from(fd).unwrap();
        let descriptor = Table::of_process(std::process::id()).get(fd).unwrap();
        descriptor.as_ref().and_then(Descriptor::socket).unwrap()
    }

    /// Looks until it is seen to wait on that socket.
    fn seen_to_wait(child: &Forked, inode: u64) -> Caller {
        loop {
            let seen = caller(child.key(), child.tgid(), inode, None, Stacks::Light).unwrap();
            if seen.engaged == Engaged::WithIt {
                return seen;
            }
            std::thread::yield_now();
        }
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn a_thread_that_waits_for_an_answer_is_seen_in_that_call() {
        let (mut connection, _server) = connected();
        let socket = inode(connection.as_raw_fd());
        let reads = Forked::into(|| {
            let _ = connection.write_all(b"question");
            let _ = connection.read(&mut [0; 8]);
        });
        let (other, _its_server) = connected();
        let seen = seen_to_wait(&reads, socket);
        assert!(seen.behind.is_empty(), "{seen:?}");
        // Not on another one.
        let elsewhere = caller(reads.key(), reads.tgid(), inode(other.as_raw_fd()), None, Stacks::Light);
        assert_eq!(elsewhere.unwrap().engaged, Engaged::WithAnother);
    }

    #[test]
    fn one_that_polls_it_waits_on_it() {
        let (connection, _server) = connected();
        let (other, _its_server) = connected();
        let entry =
            |stream: &TcpStream| libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut polled = [entry(&other), libc::pollfd { fd: -1, events: 0, revents: 0 }, entry(&connection)];
        let number = connection.as_raw_fd();
        let polls = Forked::into(move || {
            // SAFETY: the entries outlive the call.
            unsafe { libc::poll(polled.as_mut_ptr(), 3, -1) };
        });
        seen_to_wait(&polls, inode(number));
        assert_eq!(caller(ProcessKey { tgid: u32::MAX, ..polls.key() }, 1, 1, None, Stacks::Light), None);
    }
}
