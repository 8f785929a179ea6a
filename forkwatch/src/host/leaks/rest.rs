//! What all threads of a process do, and whether any of them has moved.

use std::io;

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

/// The auxiliary vector has some twenty pairs of words.
const MAX_VECTOR: u64 = 4096;
/// Kinds of its entries have small numbers (`include/uapi/linux/auxvec.h`).
const MAX_KIND: u64 = 0xffff;

/// The numbers of system calls are those of the calling program's architecture, and a 32-bit program's mean something
/// else: it cannot be judged.
fn is_native(tgid: u32) -> io::Result<()> {
    let vector = file::read(format!("/proc/{tgid}/auxv"), MAX_VECTOR)?;
    if vector.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    if is_vector_of_native(&vector) {
        Ok(())
    } else {
        Err(io::Error::other("a program of another architecture"))
    }
}

/// What the kernel told the program at its start tells its architecture, without a look at the program's file: pairs of
/// words of the architecture's own size (`create_elf_tables`, `fs/binfmt_elf.c`), one of which is the size of a page.
fn is_vector_of_native(vector: &[u8]) -> bool {
    let (words, _) = vector.as_chunks::<{ size_of::<usize>() }>();
    let words: Vec<u64> = words.iter().map(|word| usize::from_ne_bytes(*word) as u64).collect();
    let pairs = words.as_chunks::<2>().0.iter().take_while(|[kind, _]| *kind != 0);
    let sizes = || pairs.clone().filter(|[kind, _]| *kind == libc::AT_PAGESZ);
    pairs.clone().all(|[kind, _]| *kind <= MAX_KIND)
        && sizes().count() == 1
        && sizes().all(|[_, size]| size.is_power_of_two())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel wrote it for `sleep` of Debian's i386: kind and value in 4 bytes each.
    fn of_32_bits(pairs: &[(u32, u32)]) -> Vec<u8> {
        pairs.iter().flat_map(|(kind, value)| [kind.to_ne_bytes(), value.to_ne_bytes()].concat()).collect()
    }

    #[test]
    fn a_program_of_another_size_is_known_by_its_vector() {
        is_native(std::process::id()).unwrap();
        let pairs =
            [(32, 0xf7f2_3540), (33, 0xf7f2_3000), (16, 0x0f8b_fbff), (6, 4096), (17, 100), (3, 0x5660_5034)];
        assert!(!is_vector_of_native(&of_32_bits(&[&pairs[..], &[(0, 0)]].concat())));
        assert!(!is_vector_of_native(&of_32_bits(&[(6, 4096), (0, 0)])));
        let native: Vec<u8> =
            [33, 0x7fff_0000_1000, 6, 4096, 0, 0_usize].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert!(is_vector_of_native(&native));
        assert!(!is_vector_of_native(&native[..16]));
        assert!(!is_vector_of_native(b""));
    }
}
