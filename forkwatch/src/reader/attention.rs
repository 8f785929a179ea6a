//! The process that a reader looks into just now, told in memory that it shares with whoever asks it: a reader that
//! hangs says no more.

use std::{io, ptr, sync::atomic::AtomicU32};

/// A page that stays shared with every process that is forked from now on, and is never given back.
pub(super) fn shared() -> io::Result<&'static AtomicU32> {
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size_of::<AtomicU32>(),
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the page is zeroed, aligned, used as nothing else, and never unmapped.
    Ok(unsafe { &*page.cast::<AtomicU32>() })
}
