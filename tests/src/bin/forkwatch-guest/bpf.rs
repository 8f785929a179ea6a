//! The kernel's list of BPF programs.

use std::{collections::BTreeSet, io, mem::size_of};

use anyhow::{Context as _, Result};

/// `BPF_PROG_GET_NEXT_ID`, include/uapi/linux/bpf.h.
const PROG_GET_NEXT_ID: libc::c_long = 11;

/// The part of `union bpf_attr` that the command uses.
#[repr(C)]
struct NextId {
    start: u32,
    next: u32,
    flags: u32,
}

/// The ids of all loaded programs.
pub(crate) fn programs() -> Result<BTreeSet<u32>> {
    let mut ids = BTreeSet::new();
    let mut attribute = NextId { start: 0, next: 0, flags: 0 };
    loop {
        // SAFETY: the command reads and writes only the attribute, whose size is told.
        let answer = unsafe {
            libc::syscall(libc::SYS_bpf, PROG_GET_NEXT_ID, &raw mut attribute, size_of::<NextId>())
        };
        if answer != 0 {
            let error = io::Error::last_os_error();
            // The end of the list.
            if error.raw_os_error() == Some(libc::ENOENT) {
                return Ok(ids);
            }
            return Err(error).context("cannot list BPF programs");
        }
        ids.insert(attribute.next);
        attribute.start = attribute.next;
    }
}
