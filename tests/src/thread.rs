//! What a test does to a single thread of another process: hold it, or end it, while all others go on.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::ptrace::{self, Options},
    unistd::Pid,
};

#[cfg(target_arch = "x86_64")]
use crate::wait::until;

/// The thread of a process that has this comm.
pub fn named(process: i32, comm: &str) -> Result<i32> {
    let has_name =
        |folder: &PathBuf| fs::read_to_string(folder.join("comm")).is_ok_and(|name| name.trim_end() == comm);
    let threads = fs::read_dir(format!("/proc/{process}/task"))?;
    let found = threads.map_while(Result::ok).map(|entry| entry.path()).find(has_name);
    let name = found.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{process} has no thread {comm}"))?.parse()?)
}

/// A thread that stands still for as long as this lives. The calling thread must be the one that drops it.
pub struct Held(Pid);

impl Held {
    /// Holds a thread.
    pub fn new(thread: i32) -> Result<Self> {
        let thread = Pid::from_raw(thread);
        ptrace::seize(thread, Options::empty()).context("cannot hold the thread")?;
        let held = Self(thread);
        ptrace::interrupt(thread)?;
        let status = held.wait()?;
        ensure!(libc::WIFSTOPPED(status), "the thread does not stop: {status:#x}");
        Ok(held)
    }

    fn wait(&self) -> io::Result<libc::c_int> {
        let mut status = 0;
        // SAFETY: `status` is a place for an int.
        let found = unsafe { libc::waitpid(self.0.as_raw(), &raw mut status, libc::__WALL) };
        if found < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Fails only if the thread has ended.
        let _ = ptrace::detach(self.0, None);
    }
}

/// Ends a thread that sleeps in a system call, without anything that its program would do then.
#[cfg(target_arch = "x86_64")]
pub fn end(process: i32, thread: i32) -> Result<()> {
    let held = Held::new(thread)?;
    let mut registers = ptrace::getregs(held.0)?;
    // Back to the instruction by which it made its call, 2 bytes long, for another one.
    registers.rip -= 2;
    registers.rax = u64::try_from(libc::SYS_exit)?;
    registers.orig_rax = u64::MAX;
    registers.rdi = 0;
    ptrace::setregs(held.0, registers)?;
    drop(held);
    let task = PathBuf::from(format!("/proc/{process}/task/{thread}"));
    until("the thread to end", || Ok((!task.exists()).then_some(())))
}

/// Ends a thread that sleeps in a system call: only its registers tell how, and those are known of x86-64 alone.
#[cfg(not(target_arch = "x86_64"))]
pub fn end(_process: i32, _thread: i32) -> Result<()> {
    crate::host::skip("a thread is made to end on x86-64 alone")
}
