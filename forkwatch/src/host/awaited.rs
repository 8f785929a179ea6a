//! Which descriptors a thread waits for in a system call.

use std::rc::Rc;

use super::{call::SystemCall, file, maps::Maps, memory};

/// Most descriptors of one wait that are told.
const MAX_DESCRIPTORS: usize = 1024;
/// A line in what an epoll instance shows of one descriptor takes 80 bytes.
const MAX_TEXT: u64 = 80 * MAX_DESCRIPTORS as u64;
/// `struct pollfd`: the descriptor in the first four bytes, then what is waited for, then what came.
const POLLFD: usize = 8;

/// What a call waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Awaited {
    /// Descriptors from which something is to be had: bytes, connections, events.
    pub(super) input: Vec<u32>,
    /// Those to which something is to be written.
    pub(super) output: Vec<u32>,
}

/// How a call names the descriptors that it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One, which it reads or accepts from.
    Input,
    /// One, which it writes to or connects.
    Output,
    /// An array of `struct pollfd`.
    Poll,
    /// Sets of bits.
    Select,
    /// An epoll instance.
    Epoll,
}

/// Those that a call of a process waits for: none for a call that waits for something else, and what cannot be seen is
/// left out.
pub(super) fn awaited(process: u32, call: &SystemCall) -> Awaited {
    let one = || call.word(0).into_iter().collect();
    match form(call.number) {
        Some(Form::Input) => Awaited { input: one(), output: Vec::new() },
        Some(Form::Output) => Awaited { input: Vec::new(), output: one() },
        Some(Form::Epoll) => Awaited { input: watched(process, call.word(0)), output: Vec::new() },
        Some(Form::Poll) => polled(process, call).unwrap_or_default(),
        Some(Form::Select) => selected(process, call).unwrap_or_default(),
        None => Awaited::default(),
    }
}

/// Whether a call waits for several descriptors by poll or select, and for no certain time.
pub(super) fn polls_for_ever(call: &SystemCall) -> bool {
    let [_, _, third, _, fifth, _] = call.arguments;
    match form(call.number) {
        // It has a pointer to the time where poll has milliseconds.
        Some(Form::Poll) if call.number == libc::SYS_ppoll => third == 0,
        Some(Form::Poll) => call.word(2).is_some_and(|milliseconds| milliseconds.cast_signed() < 0),
        Some(Form::Select) => fifth == 0,
        Some(Form::Input | Form::Output | Form::Epoll) | None => false,
    }
}

fn form(number: libc::c_long) -> Option<Form> {
    #[cfg(target_arch = "x86_64")]
    match number {
        libc::SYS_poll => return Some(Form::Poll),
        libc::SYS_select => return Some(Form::Select),
        libc::SYS_epoll_wait => return Some(Form::Epoll),
        _ => {}
    }
    Some(match number {
        libc::SYS_accept
        | libc::SYS_accept4
        | libc::SYS_read
        | libc::SYS_readv
        | libc::SYS_pread64
        | libc::SYS_recvfrom
        | libc::SYS_recvmsg
        | libc::SYS_recvmmsg => Form::Input,
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_sendto
        | libc::SYS_sendmsg
        | libc::SYS_connect
        | libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_flock
        | libc::SYS_fcntl => Form::Output,
        libc::SYS_ppoll => Form::Poll,
        libc::SYS_pselect6 => Form::Select,
        libc::SYS_epoll_pwait | libc::SYS_epoll_pwait2 => Form::Epoll,
        _ => return None,
    })
}

/// What an epoll instance watches (`ep_show_fdinfo`, fs/eventpoll.c). Servers enter what brings work for reading.
fn watched(process: u32, epoll: Option<u32>) -> Vec<u32> {
    let text = epoll.and_then(|fd| file::read(format!("/proc/{process}/fdinfo/{fd}"), MAX_TEXT).ok());
    let number = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?.strip_prefix("tfd:")?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    text.iter().flat_map(|text| text.split(|byte| *byte == b'\n')).filter_map(number).collect()
}

/// The array that poll was given. The kernel writes into it only when it returns.
fn polled(process: u32, call: &SystemCall) -> Option<Awaited> {
    let count = usize::try_from(*call.arguments.get(1)?).ok()?.min(MAX_DESCRIPTORS);
    Some(parse_poll(&taken(process, *call.arguments.first()?, count * POLLFD)?))
}

fn parse_poll(array: &[u8]) -> Awaited {
    let mut found = Awaited::default();
    let (entries, _) = array.as_chunks::<POLLFD>();
    for [a, b, c, d, events @ ..] in entries {
        // A negative one is passed over by the kernel.
        let Ok(fd) = u32::try_from(i32::from_ne_bytes([*a, *b, *c, *d])) else { continue };
        let [low, high, ..] = events;
        let events = i16::from_ne_bytes([*low, *high]);
        if events & libc::POLLIN != 0 {
            found.input.push(fd);
        } else if events & libc::POLLOUT != 0 {
            found.output.push(fd);
        }
    }
    found
}

/// The sets that select was given: for reading and for writing.
fn selected(process: u32, call: &SystemCall) -> Option<Awaited> {
    let [count, input, output, ..] = call.arguments;
    let count = usize::try_from(count).ok()?.min(MAX_DESCRIPTORS);
    let set = |address| {
        let bits = taken(process, address, count.div_ceil(64) * 8).unwrap_or_default();
        parse_set(&bits, count)
    };
    Some(Awaited { input: set(input), output: set(output) })
}

fn parse_set(bits: &[u8], count: usize) -> Vec<u32> {
    let (words, _) = bits.as_chunks::<8>();
    let is_set = |number: &usize| {
        let word = words.get(number / 64).map_or(0, |word| u64::from_ne_bytes(*word));
        word >> (number % 64) & 1 != 0
    };
    (0..count).filter(is_set).filter_map(|number| u32::try_from(number).ok()).collect()
}

fn taken(process: u32, address: u64, length: usize) -> Option<Vec<u8>> {
    if address == 0 || length == 0 {
        return None;
    }
    let maps = Rc::new(Maps::of_process(process).ok()?);
    memory::of_process(process, maps).ok()?.take(address, length)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::TcpListener,
        os::fd::{AsFd as _, AsRawFd as _},
        thread,
    };

    use nix::{
        poll::{PollFd, PollFlags, PollTimeout, poll},
        sys::select::{FdSet, select},
        unistd::gettid,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::host::call::Activity;

    #[test]
    fn arrays_and_sets_are_read() {
        let entry =
            |fd: i32, events: i16| [fd.to_ne_bytes().as_slice(), &events.to_ne_bytes(), &[0; 2]].concat();
        let array = [
            entry(7, libc::POLLIN),
            entry(-1, libc::POLLIN),
            entry(9, libc::POLLOUT),
            entry(3, libc::POLLPRI),
        ];
        assert_eq!(parse_poll(&array.concat()), Awaited { input: vec![7], output: vec![9] });
        let bits = [(1_u64 << 3 | 1 << 63).to_ne_bytes(), 2_u64.to_ne_bytes()].concat();
        assert_eq!(parse_set(&bits, 128), [3, 63, 65]);
        assert_eq!(parse_set(&bits, 64), [3, 63]);
    }

    /// What a thread waits for once it waits in a call of that name, until a byte ends its wait.
    fn seen(name: &str, wait: impl FnOnce(&std::io::PipeReader, &TcpListener) + Send) -> (Awaited, u32, u32) {
        let (read, mut write) = std::io::pipe().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = |fd: i32| u32::try_from(fd).unwrap();
        let fds = (number(read.as_raw_fd()), number(listener.as_raw_fd()));
        let (tell, told) = std::sync::mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(gettid().as_raw().cast_unsigned()).unwrap();
                wait(&read, &listener);
            });
            let tid = told.recv().unwrap();
            let own = std::process::id();
            let found = loop {
                let activity = Activity::of_thread(own, tid).unwrap();
                if let Some(call) = activity.call().filter(|call| call.name().contains(name)) {
                    break awaited(own, call);
                }
                thread::yield_now();
            };
            write.write_all(b"x").unwrap();
            (found, fds.0, fds.1)
        })
    }

    #[test]
    fn what_a_thread_polls_is_seen() {
        let (found, read, listener) = seen("poll", |read, listener| {
            let mut both = [
                PollFd::new(read.as_fd(), PollFlags::POLLIN),
                PollFd::new(listener.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut both, PollTimeout::NONE).unwrap();
        });
        assert_eq!(found, Awaited { input: vec![read, listener], output: Vec::new() });
    }

    #[test]
    fn what_a_thread_selects_is_seen() {
        let (found, read, listener) = seen("select", |read, listener| {
            let mut set = FdSet::new();
            set.insert(read.as_fd());
            set.insert(listener.as_fd());
            select(None, &mut set, None, None, None).unwrap();
        });
        let expected = [read.min(listener), read.max(listener)];
        assert_eq!(found, Awaited { input: expected.to_vec(), output: Vec::new() });
    }

    #[test]
    fn what_a_thread_reads_is_seen() {
        let (found, read, _) = seen("read", |read, _| {
            std::io::Read::read(&mut &*read, &mut [0]).unwrap();
        });
        assert_eq!(found, Awaited { input: vec![read], output: Vec::new() });
    }

    #[test]
    fn a_wait_for_no_descriptor_has_none() {
        let call = SystemCall::made_up(libc::SYS_futex, [7, 0, 0, 0, 0, 0]);
        assert_eq!(awaited(std::process::id(), &call), Awaited::default());
        let nowhere = SystemCall::made_up(libc::SYS_ppoll, [8, 3, 0, 0, 0, 0]);
        assert_eq!(awaited(std::process::id(), &nowhere), Awaited::default());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0..2000_usize) {
            parse_poll(&bytes);
            prop_assert!(parse_set(&bytes, count).len() <= count);
        }
    }
}
