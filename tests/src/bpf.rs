//! The kernel's lists of BPF objects.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context, Result};

/// What there are lists of, by the command of bpf(2) that goes through one (linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Kind {
    /// `BPF_PROG_GET_NEXT_ID`
    Program = 11,
    /// `BPF_MAP_GET_NEXT_ID`
    Map = 12,
    /// `BPF_LINK_GET_NEXT_ID`: what holds a program where it is attached.
    Link = 31,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Program, Self::Map, Self::Link];
}

/// The part of `union bpf_attr` that the commands use.
#[repr(C)]
struct NextId {
    start: u32,
    next: u32,
    flags: u32,
}

/// The ids of all loaded programs, in ascending order.
pub fn programs() -> Result<Vec<u32>> {
    ids(Kind::Program)
}

/// The ids of all objects of a kind, in ascending order.
pub fn ids(kind: Kind) -> Result<Vec<u32>> {
    let mut ids = Vec::new();
    let mut attribute = NextId { start: 0, next: 0, flags: 0 };
    loop {
        // SAFETY: the command reads and writes only the attribute, whose size is told.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, kind as libc::c_long, &raw mut attribute, size_of::<NextId>())
        };
        if answer != 0 {
            let error = io::Error::last_os_error();
            // The end of the list.
            if error.raw_os_error() == Some(libc::ENOENT) {
                return Ok(ids);
            }
            return Err(error).with_context(|| format!("cannot list what there is of {kind:?}"));
        }
        ids.push(attribute.next);
        attribute.start = attribute.next;
    }
}

/// `BPF_PROG_GET_FD_BY_ID` and `BPF_OBJ_GET_INFO_BY_FD` of linux/bpf.h.
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// Program types of linux/bpf.h that are attached to kprobes, tracepoints and the kernel's functions.
const TRACING: [u32; 4] = [2, 5, 17, 26];

/// The part of `union bpf_attr` that the second command uses.
#[repr(C)]
struct GetInfo {
    descriptor: u32,
    length: u32,
    info: u64,
}

/// Those of [`programs`] that trace, as forkwatch's do: systemd loads others, for its units' cgroups.
pub fn tracing_programs() -> Result<Vec<u32>> {
    let mut tracing = Vec::new();
    for id in programs()? {
        if kind(id)?.is_some_and(|kind| TRACING.contains(&kind)) {
            tracing.push(id);
        }
    }
    Ok(tracing)
}

/// The type of a program; none if it has gone.
fn kind(id: u32) -> Result<Option<u32>> {
    let attribute = NextId { start: id, next: 0, flags: 0 };
    // SAFETY: the command reads only the attribute, whose size is told.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, &raw const attribute, size_of::<NextId>()) };
    if answer < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENOENT) {
            Ok(None)
        } else {
            Err(error).with_context(|| format!("cannot open the BPF program {id}"))
        };
    }
    // SAFETY: just opened, and owned by nobody.
    let program = unsafe { OwnedFd::from_raw_fd(i32::try_from(answer)?) };
    // The first two fields of `struct bpf_prog_info`: type and id.
    let mut info = [0_u32; 2];
    let mut request = GetInfo {
        descriptor: program.as_raw_fd().cast_unsigned(),
        length: u32::try_from(size_of_val(&info))?,
        info: info.as_mut_ptr() as u64,
    };
    // SAFETY: the kernel writes no more than `length` bytes to `info`, which lives through the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, &raw mut request, size_of::<GetInfo>()) };
    if answer != 0 {
        return Err(io::Error::last_os_error()).context("cannot ask what a BPF program is");
    }
    let [kind, _] = info;
    Ok(Some(kind))
}
