//! The kernel's lists of BPF objects.

use std::{io, mem::size_of};

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
