//! Who uses the memory of a process: the threads that `/proc` lists, and whole processes that were cloned with its memory
//! (`CLONE_VM` without `CLONE_THREAD`). What one of them unlocks is unlocked for all.

use std::io;

use super::{absence, file, stat::Stat, task};
use crate::model::{lock::MemoryUsers, process::ProcessKey};

/// Most that are named.
const MOST: usize = 16;

/// Who uses the memory of a child, of which `tid` is a living thread.
///
/// Every process is looked at: one that shares the memory may long have lost the child as its parent. Those of which the
/// program has another stack, or of which the memory has another size, cannot share it; all others the kernel compares
/// (`kcmp(2)`).
pub fn memory_users(child: ProcessKey, tid: u32) -> MemoryUsers {
    let unknown = |why: String| MemoryUsers::Unknown(why);
    let Some(own) = Stat::of(child).filter(|own| own.stack != 0) else {
        return unknown("its memory cannot be told from others'".to_owned());
    };
    let processes = match file::numbers("/proc", usize::MAX) {
        Ok(processes) => processes,
        Err(error) => return unknown(format!("cannot list /proc: {error}")),
    };
    let mut sharers = Vec::new();
    for process in processes.into_iter().filter(|process| *process != child.tgid) {
        match shares(process, &own, tid) {
            Ok(true) => sharers.push(process),
            Ok(false) => {}
            Err(error) if absence::is_gone(&error) => {}
            Err(error) => return unknown(format!("cannot tell whether process {process} uses it: {error}")),
        }
    }
    sharers.truncate(MOST);
    if sharers.is_empty() { MemoryUsers::Alone } else { MemoryUsers::Shared(sharers) }
}

/// Whether the kernel tells who has the memory of a process.
pub(super) fn may_be_compared(tgid: u32) -> io::Result<()> {
    same_memory(tgid, std::process::id()).map(drop)
}

/// Whether a process has the memory of that thread.
fn shares(process: u32, own: &Stat, tid: u32) -> io::Result<bool> {
    let stat = Stat::of_process(process)?;
    if stat.is_kernel_thread() || stat.process_has_ended() {
        return Ok(false);
    }
    match stat.stack {
        // The kernel hides where its stack is, and will not compare its memory either.
        0 if pages(process)? != pages(own.id)? => return Ok(false),
        0 => {}
        stack if stack != own.stack => return Ok(false),
        _ => {}
    }
    // A main thread that has ended has no memory any more, while others go on.
    let living = if stat.has_ended() { task::user_threads(process)?.first().copied() } else { Some(stat) };
    living.map_or(Ok(false), |living| same_memory(living.id, tid))
}

/// Pages that a process has mapped, which everybody may see (`/proc/PID/statm`).
fn pages(process: u32) -> io::Result<Vec<u8>> {
    let text = file::read_small(format!("/proc/{process}/statm"))?;
    Ok(text.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec())
}

/// Whether two threads have one memory.
fn same_memory(one: u32, other: u32) -> io::Result<bool> {
    /// `KCMP_VM` (include/uapi/linux/kcmp.h).
    const VM: libc::c_int = 1;
    let pid = |tid: u32| libc::pid_t::try_from(tid).map_err(|_| io::Error::from(io::ErrorKind::NotFound));
    let (one, other) = (pid(one)?, pid(other)?);
    // SAFETY: kcmp(2) takes numbers alone and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_kcmp, one, other, VM, 0, 0) } {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    fn users_of(child: &Forked) -> MemoryUsers {
        memory_users(child.key(), child.tgid())
    }

    #[test]
    fn a_child_of_its_own_is_alone() {
        let (child, _sibling) = (Forked::into(|| ()), Forked::into(|| ()));
        assert_eq!(users_of(&child), MemoryUsers::Alone);
    }

    #[test]
    fn a_process_cloned_with_the_memory_is_named() {
        extern "C" fn wait(parent: *mut libc::c_void) -> libc::c_int {
            // SAFETY: it takes numbers. The child's end ends this process too.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            // It may have ended before that.
            // SAFETY: it takes nothing.
            while unsafe { libc::getppid() }.cast_unsigned() as usize == parent.addr() {
                // SAFETY: as above.
                unsafe { libc::pause() };
            }
            0
        }
        let child = Forked::into(|| {
            const STACK: usize = 64 * 1024;
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: an anonymous mapping at an address of the kernel's choice.
            let stack = unsafe { libc::mmap(std::ptr::null_mut(), STACK, access, kind, -1, 0) };
            // SAFETY: the end of the mapping is one past its last byte.
            let top = unsafe { stack.byte_add(STACK) };
            let own = std::ptr::without_provenance_mut(std::process::id() as usize);
            // SAFETY: the function only waits, on that stack, which is never freed.
            unsafe { libc::clone(wait, top, libc::CLONE_VM | libc::SIGCHLD, own) };
            // SAFETY: the name is a string that ends in NUL.
            unsafe { libc::prctl(libc::PR_SET_NAME, c"shares-memory".as_ptr()) };
        });
        let named = loop {
            let stat = Stat::of(child.key()).unwrap();
            if stat.comm.to_text() == "shares-memory" {
                break users_of(&child);
            }
            std::thread::yield_now();
        };
        let MemoryUsers::Shared(sharers) = named else { panic!("{named:?}") };
        let [sharer] = sharers[..] else { panic!("{sharers:?}") };
        assert_eq!(Stat::of_process(sharer).unwrap().parent, child.tgid());
    }

    #[test]
    fn threads_of_the_child_are_no_others() {
        let own = Stat::of_process(std::process::id()).unwrap();
        std::thread::spawn(move || {
            let thread = nix::unistd::gettid().as_raw().try_into().unwrap();
            assert_eq!(memory_users(own.key(), thread), MemoryUsers::Alone);
        })
        .join()
        .unwrap();
    }
}
