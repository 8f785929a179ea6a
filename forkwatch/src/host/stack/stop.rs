//! All registers of a thread, which is stopped for them for some microseconds.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::ptrace::{self, Options, regset::NT_PRSTATUS},
    unistd::Pid,
};

use super::registers::Registers;

/// A sleeping thread stops as soon as a processor is free; one that waits for a disk does not. Until it stops, it is not
/// held up.
const PATIENCE: Duration = Duration::from_millis(200);

/// Stops a thread of another process, reads its registers, and lets it go on.
///
/// The kernel restarts `futex(2)` afterwards, with what was left of its time (signal(7), "Interruption of system calls
/// and library functions by stop signals"); other calls may end with EINTR, which the caller must see to.
///
/// Whatever fails, the thread goes on. One that does not stop in time cannot be let go before it does: it is waited for
/// without end, and whoever asked may lose patience and end this process. Then the kernel lets go of the thread.
pub(super) fn registers(tid: u32) -> Result<Registers, String> {
    let pid = i32::try_from(tid).map(Pid::from_raw).map_err(|_| format!("{tid} is no thread's id"))?;
    // SEIZE neither stops it nor sends it a signal.
    ptrace::seize(pid, Options::empty()).map_err(|error| match error {
        nix::Error::EPERM => {
            format!("thread {tid} cannot be stopped: it has a debugger, or ptrace(2) is not allowed here")
        }
        error => format!("thread {tid} cannot be stopped: {error}"),
    })?;
    let stopped = ptrace::interrupt(pid).map_err(io::Error::from).and_then(|()| wait(pid));
    let registers = stopped.as_ref().ok().map(|_| ptrace::getregset::<NT_PRSTATUS>(pid));
    // A signal that was on its way in is handed on.
    let signal = match &stopped {
        Ok(signal) => *signal,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => wait_on(pid),
        Err(_) => 0,
    };
    detach(pid, signal);
    match (stopped, registers) {
        (Ok(_), Some(Ok(registers))) => Ok(of_kernel(&registers)),
        (Err(error), _) => Err(format!("thread {tid} does not stop: {error}")),
        (_, Some(Err(error))) => Err(format!("the registers of thread {tid} cannot be read: {error}")),
        (Ok(_), None) => Err(format!("the registers of thread {tid} were not read")),
    }
}

/// Waits until it has stopped; returns the signal to hand on, or 0.
fn wait(pid: Pid) -> io::Result<libc::c_int> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a place for an int.
        let found = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
        match found {
            0 if Instant::now() < deadline => thread::sleep(Duration::from_micros(50)),
            0 => return Err(io::ErrorKind::TimedOut.into()),
            -1 => return Err(io::Error::last_os_error()),
            _ if libc::WIFSTOPPED(status) => return Ok(signal_of(status)),
            _ => return Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Waits until it stops or ends, however long that takes; returns the signal to hand on, or 0.
fn wait_on(pid: Pid) -> libc::c_int {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a place for an int.
        let found = unsafe { libc::waitpid(pid.as_raw(), &raw mut status, libc::__WALL) };
        let interrupted = found == -1 && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted;
        if !interrupted {
            return if found > 0 { signal_of(status) } else { 0 };
        }
    }
}

/// The signal that a thread has stopped for; 0 where it was asked to stop.
fn signal_of(status: libc::c_int) -> libc::c_int {
    let event = status >> 16;
    if libc::WIFSTOPPED(status) && event == 0 { libc::WSTOPSIG(status) } else { 0 }
}

/// Lets go of one that has stopped.
fn detach(pid: Pid, signal: libc::c_int) {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_DETACH takes numbers only; a thread that is not traced is refused.
    unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.as_raw(), none, libc::c_long::from(signal)) };
}

#[cfg(target_arch = "x86_64")]
fn of_kernel(registers: &libc::user_regs_struct) -> Registers {
    let r = registers;
    // In the order of DWARF (System V ABI for AMD64, figure 3.36).
    let values = [
        r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ];
    Registers::complete(r.rip, &values)
}

#[cfg(target_arch = "aarch64")]
fn of_kernel(registers: &libc::user_regs_struct) -> Registers {
    // x0 to x30 have the numbers 0 to 30, sp has 31 (DWARF for the Arm 64-bit Architecture).
    let values: Vec<u64> = registers.regs.iter().copied().chain([registers.sp]).collect();
    Registers::complete(registers.pc, &values)
}
