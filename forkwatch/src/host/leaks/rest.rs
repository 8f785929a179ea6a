//! What all threads of a process do, and whether any of them has moved.

use std::{
    fs::File,
    io::{self, Read},
};

use super::calls::Calls;
use crate::{
    host::{
        call::{Activity, SystemCall},
        descriptors::Table,
        file,
        stat::Stat,
        status::Status,
    },
    model::leak::{End, Object, PipeWait, Rest},
};

/// A process with more threads is not looked at.
const MAX_TASKS: usize = 1024;

/// What the threads of a process do.
///
/// Of each thread its call is read first and its switches afterwards. A thread that wakes and sleeps again has one
/// more of them by then, so that two looks with the same number and the same call mean that it slept from the first
/// to the second.
pub(super) fn of_process(stat: &Stat) -> io::Result<(Calls, Rest)> {
    is_native(stat.id)?;
    let tids = file::numbers(format!("/proc/{}/task", stat.id), MAX_TASKS + 1)?;
    if tids.len() > MAX_TASKS {
        return Err(io::Error::other("too many threads"));
    }
    let caught = Status::of_process(stat.id)?.caught;
    let mut calls = Vec::with_capacity(tids.len());
    let (mut switches, mut stopped) = (0_u64, false);
    let mut waits = Vec::with_capacity(tids.len());
    for tid in &tids {
        let thread = Stat::of_thread(stat.id, *tid)?;
        if thread.has_ended() {
            continue;
        }
        let activity = Activity::of_thread(stat.id, *tid)?;
        waits.push(activity.call().and_then(|call| pipe_wait(stat, call)));
        calls.push(activity);
        let status = Status::of_thread(stat.id, *tid)?;
        stopped |= status.traced || thread.is_stopped();
        switches = switches.wrapping_add(status.switches);
    }
    let first = waits.first().copied().flatten();
    let rest = Rest {
        threads: u32::try_from(calls.len()).unwrap_or(u32::MAX),
        switches,
        stopped,
        caught,
        doing: calls.first().map_or_else(|| "unknown".to_owned(), Activity::name),
        pipe: first.filter(|_| waits.iter().all(|wait| *wait == first)),
    };
    Ok((Calls(calls), rest))
}

/// The numbers of system calls are those of the calling program's architecture, and a 32-bit program's mean something
/// else: it cannot be judged. `e_ident[EI_CLASS]` tells (elf(5)).
fn is_native(tgid: u32) -> io::Result<()> {
    let mut identity = [0; 5];
    File::open(format!("/proc/{tgid}/exe"))?.read_exact(&mut identity)?;
    let native: u8 = if cfg!(target_pointer_width = "64") { 2 } else { 1 };
    if identity == [0x7f, b'E', b'L', b'F', native] {
        Ok(())
    } else {
        Err(io::Error::other("a program of another architecture"))
    }
}

/// The pipe that a call sleeps on.
fn pipe_wait(stat: &Stat, call: &SystemCall) -> Option<PipeWait> {
    let end = match call.number {
        libc::SYS_read | libc::SYS_readv => End::Read,
        libc::SYS_write | libc::SYS_writev => End::Write,
        _ => return None,
    };
    let fd = call.word(0)?;
    match Table::of_living(stat).ok()??.get(fd).ok()??.object()? {
        Object::Pipe(inode) => Some(PipeWait { inode, end }),
        Object::Socket(_) => None,
    }
}
