//! All registers of a thread, which is stopped for them for some microseconds.

use std::{
    io,
    time::{Duration, Instant},
};

use nix::sys::ptrace::{self, regset::NT_PRSTATUS};

use super::registers::Registers;
use crate::host::traced::Traced;

/// A sleeping thread stops as soon as a processor is free; one that waits for a disk does not. Until it stops, it is not
/// held up.
const PATIENCE: Duration = Duration::from_millis(200);

/// Stops a thread of another process, reads its registers, and lets it go on.
///
/// Calls other than `futex(2)` may end with EINTR, which the caller must see to.
///
/// Whatever fails, the thread goes on. One that does not stop in time cannot be let go before it does: it is waited for
/// without end, and whoever asked may lose patience and end this process. Then the kernel lets go of the thread.
pub(super) fn registers(tid: u32) -> Result<Registers, String> {
    let mut traced = Traced::seize(tid)?;
    let stopped = traced.interrupt().and_then(|()| traced.wait_until(Instant::now() + PATIENCE));
    match stopped {
        Ok(_) => ptrace::getregset::<NT_PRSTATUS>(traced.pid())
            .map(|registers| of_kernel(&registers))
            .map_err(|error| format!("the registers of thread {tid} cannot be read: {error}")),
        Err(error) => {
            if error.kind() == io::ErrorKind::TimedOut {
                let _ = traced.wait();
            }
            Err(format!("thread {tid} does not stop: {error}"))
        }
    }
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
