//! Threads that wait for a lock.

use super::file;

/// What a thread that sleeps in `futex(2)` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FutexWait {
    /// The address of the futex word, in its process.
    pub address: u64,
    /// The kernel function it sleeps in; absent where the kernel does not tell.
    pub function: Option<String>,
}

/// What the main thread of a process waits for in `futex(2)`; absent where it does something else, or may not be
/// looked at (another user's, without `CAP_SYS_PTRACE`).
pub fn futex_wait(tgid: u32) -> Option<FutexWait> {
    let call = file::read_small(format!("/proc/{tgid}/syscall")).ok()?;
    let address = parse(std::str::from_utf8(&call).ok()?)?;
    let function = file::read_small(format!("/proc/{tgid}/wchan")).ok();
    let function = function.and_then(|name| String::from_utf8(name).ok()).filter(|name| name.trim() != "0");
    Some(FutexWait { address, function: function.map(|name| name.trim().to_owned()) })
}

/// `proc_pid_syscall(5)`: the number of the call, and its arguments.
fn parse(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace();
    let number: libc::c_long = fields.next()?.parse().ok()?;
    let address = fields.next()?.strip_prefix("0x")?;
    if number == libc::SYS_futex { u64::from_str_radix(address, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_waited_for_is_the_first_argument() {
        let futex = libc::SYS_futex;
        assert_eq!(
            parse(&format!("{futex} 0x5581d0c0 0x80 0x2 0x0 0x0 0x0 0x7ffe 0x7f1c\n")),
            Some(0x5581_d0c0)
        );
        assert_eq!(parse(&format!("{} 0x5581d0c0 0x80\n", futex + 1)), None);
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse("-1 0x7ffe 0x7f1c\n"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn a_process_that_does_something_else_waits_for_no_futex() {
        assert_eq!(futex_wait(u32::MAX), None);
        // The main thread of a test harness waits for its tests elsewhere or in a futex; pid 2 is a kernel thread.
        assert_eq!(futex_wait(2), None);
    }
}
