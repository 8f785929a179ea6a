//! Many forked children that never exec, and do nothing.

use std::fmt;
use std::io::Read as _;
use std::sync::atomic::AtomicU32;
use std::{ptr, thread};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use nix::unistd::{ForkResult, fork};

use crate::helper::Helper;

/// What the children sleep in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sleep {
    /// pause(2)
    Pause,
    /// futex(2), as a thread does that waits for a lock
    Futex,
}

impl fmt::Display for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "in pause(2)",
            Self::Futex => "in futex(2)",
        })
    }
}

/// The process that forks them.
#[derive(clap::Args)]
pub(crate) struct Forker {
    sleep: Sleep,
    count: u32,
}

/// A crowd, which ends when dropped.
pub(crate) struct Crowd {
    _forker: Helper,
}

impl Crowd {
    /// Starts one, and returns when all have been forked.
    pub(crate) fn start(sleep: Sleep, count: u32) -> Result<Self> {
        let name = sleep.to_possible_value().context("this sleep has no name")?;
        let mut forker = Helper::start(&["crowd", name.get_name(), &count.to_string()])?;
        forker.line()?;
        Ok(Self { _forker: forker })
    }
}

/// Forks them beside a thread, and waits for the end of standard input.
pub(crate) fn work(forker: &Forker) -> Result<()> {
    thread::Builder::new()
        .name("metrics-push".to_owned())
        .spawn(|| {
            loop {
                thread::park();
            }
        })
        .context("cannot create a thread")?;
    for _ in 0..forker.count {
        // SAFETY: the child makes nothing but system calls, whatever the other thread holds.
        if let ForkResult::Child = unsafe { fork() }.context("cannot fork")? {
            live_on(forker.sleep);
        }
    }
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new()).context("cannot wait for the end of the input")?;
    Ok(())
}

/// The life of a child: it sleeps until the forker ends.
fn live_on(sleep: Sleep) -> ! {
    /// As a lock of glibc that is held and waited for.
    static WORD: AtomicU32 = AtomicU32::new(2);
    // SAFETY: asks the kernel for a signal, and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        match sleep {
            // SAFETY: touches no memory.
            Sleep::Pause => unsafe { libc::pause() },
            Sleep::Futex => {
                let wait = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                // SAFETY: the kernel reads the word, which lives as long as the process.
                unsafe {
                    libc::syscall(libc::SYS_futex, WORD.as_ptr(), wait, 2, ptr::null::<libc::timespec>())
                };
                0
            }
        };
    }
}
