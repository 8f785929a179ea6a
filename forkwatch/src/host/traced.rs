//! A thread of another process that is stopped by ptrace(2) for some microseconds, and goes on whatever fails.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use nix::{
    sys::ptrace::{self, Options, regset::NT_PRSTATUS},
    unistd::Pid,
};

/// Between two looks whether a thread has stopped.
const PAUSE: Duration = Duration::from_micros(50);
/// Where a status tells why a traced thread has stopped, above the signal (ptrace(2), "Stopped states").
const EVENT_SHIFT: libc::c_int = 16;
/// `PTRACE_EVENT_STOP` (include/uapi/linux/ptrace.h).
const EVENT_STOP: libc::c_int = 128;

/// A thread that this thread traces. Dropped, it is let go; one that has not stopped by then the kernel lets go when this
/// process ends.
///
/// The kernel restarts `futex(2)` after a stop, with what was left of its time (signal(7), "Interruption of system calls
/// and library functions by stop signals"); some other calls end with EINTR, as after SIGSTOP and SIGCONT.
#[derive(Debug)]
pub struct Traced {
    pid: Pid,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// It runs or sleeps, as if nobody traced it.
    Free,
    /// It has stopped. A signal that was on its way in is handed on when it goes on; 0 where there was none.
    Stopped { signal: libc::c_int },
    /// It has ended.
    Ended,
}

/// Why a traced thread has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// forkwatch has asked it to.
    Asked,
    /// A signal was on its way in, or all of its process is being stopped.
    Signal,
}

impl Traced {
    /// Traces a thread, which neither stops it nor sends it a signal; says why that cannot be.
    pub fn seize(tid: u32) -> Result<Self, String> {
        let pid = i32::try_from(tid).map(Pid::from_raw).map_err(|_| format!("{tid} is no thread's id"))?;
        ptrace::seize(pid, Options::empty()).map_err(|error| match error {
            nix::Error::EPERM => {
                format!("thread {tid} cannot be stopped: it has a debugger, or ptrace(2) is not allowed here")
            }
            error => format!("thread {tid} cannot be stopped: {error}"),
        })?;
        Ok(Self { pid, state: State::Free })
    }

    /// The tid of the thread, as ptrace(2) takes it.
    pub const fn pid(&self) -> Pid {
        self.pid
    }

    /// Asks it to stop.
    pub fn interrupt(&self) -> io::Result<()> {
        ptrace::interrupt(self.pid).map_err(io::Error::from)
    }

    /// Waits until it has stopped, but no longer than this.
    pub fn wait_until(&mut self, deadline: Instant) -> io::Result<Stop> {
        loop {
            match self.poll(libc::WNOHANG)? {
                Some(stop) => return Ok(stop),
                None if Instant::now() < deadline => thread::sleep(PAUSE),
                None => return Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Waits until it has stopped, however long that takes.
    pub fn wait(&mut self) -> io::Result<Stop> {
        loop {
            if let Some(stop) = self.poll(0)? {
                return Ok(stop);
            }
        }
    }

    /// Has the call that it was stopped in end with EINTR, as if a signal handler without `SA_RESTART` had run. Only a call
    /// that would be restarted is ended (arch/x86/kernel/signal.c, `arch_do_signal_or_restart`).
    pub fn end_call(&self) -> io::Result<()> {
        let mut registers = ptrace::getregset::<NT_PRSTATUS>(self.pid)?;
        let result = result_of(&mut registers);
        if !RESTARTED.contains(&result.cast_signed()) {
            return Err(io::Error::other("it is not one that would be restarted"));
        }
        *result = i64::from(-libc::EINTR).cast_unsigned();
        Ok(ptrace::setregset::<NT_PRSTATUS>(self.pid, registers)?)
    }

    /// Looks whether it has stopped; not yet is nothing.
    fn poll(&mut self, flags: libc::c_int) -> io::Result<Option<Stop>> {
        let mut status = 0;
        // SAFETY: `status` is a place for an int.
        match unsafe { libc::waitpid(self.pid.as_raw(), &raw mut status, libc::__WALL | flags) } {
            0 => Ok(None),
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                error => Err(error),
            },
            _ if libc::WIFSTOPPED(status) => {
                let (event, signal) = (status >> EVENT_SHIFT, libc::WSTOPSIG(status));
                // Only a stop without an event keeps a signal from it (ptrace(2), "Signal-delivery-stop").
                self.state = State::Stopped { signal: if event == 0 { signal } else { 0 } };
                let was_asked = event == EVENT_STOP && signal == libc::SIGTRAP;
                Ok(Some(if was_asked { Stop::Asked } else { Stop::Signal }))
            }
            _ => {
                self.state = State::Ended;
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }
}

/// What a call returns within the kernel that is to be restarted: `-ERESTARTSYS`, `-ERESTARTNOINTR`, `-ERESTARTNOHAND` and
/// `-ERESTART_RESTARTBLOCK` (include/linux/errno.h).
const RESTARTED: [i64; 4] = [-512, -513, -514, -516];

/// The register in which a call returns its result.
#[cfg(target_arch = "x86_64")]
const fn result_of(registers: &mut libc::user_regs_struct) -> &mut u64 {
    &mut registers.rax
}

/// The register in which a call returns its result.
#[cfg(target_arch = "aarch64")]
const fn result_of(registers: &mut libc::user_regs_struct) -> &mut u64 {
    let [result, ..] = &mut registers.regs;
    result
}

impl Drop for Traced {
    fn drop(&mut self) {
        if matches!(self.state, State::Free) {
            // It may have stopped meanwhile.
            let _ = self.poll(libc::WNOHANG);
        }
        let State::Stopped { signal } = self.state else { return };
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: PTRACE_DETACH takes numbers only; a thread that is not traced is refused.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.pid.as_raw(), none, libc::c_long::from(signal)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{call::Activity, forked::Forked};

    #[test]
    fn a_thread_stops_and_goes_on_when_it_is_let_go() {
        let child = Forked::new();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.tgid())).unwrap();
        let mut traced = Traced::seize(child.tgid()).unwrap();
        assert!(Traced::seize(child.tgid()).is_err(), "it is traced already");
        traced.interrupt().unwrap();
        assert_eq!(traced.wait().unwrap(), Stop::Asked);
        assert!(state().contains(") t "), "{}", state());
        // What it sleeps in can still be seen.
        assert!(Activity::of_thread(child.tgid(), child.tgid()).is_ok());
        drop(traced);
        assert!(!state().contains(") t "), "{}", state());
    }

    #[test]
    fn one_that_was_not_asked_is_not_waited_for_without_end() {
        let child = Forked::new();
        let mut traced = Traced::seize(child.tgid()).unwrap();
        let error = traced.wait_until(Instant::now()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
