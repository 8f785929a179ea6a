//! Programs that run as somebody else, or elsewhere: this one becomes that, and then executes them.

use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_keepcaps,
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Gid, Uid, fork, setgid, setgroups, setuid},
};

/// The task of which the arguments are a uid, capabilities with commas between them, and a command line.
pub(crate) const AS: &str = "as";
/// The task of which the arguments are a command line.
pub(crate) const CONTAINED: &str = "contained";

/// The user that is nobody special.
pub(crate) const USER: &str = "1000";

/// A command by a user who has these capabilities and no others.
pub(crate) fn command_as(user: &str, capabilities: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args([AS, user, &capabilities.join(",")]).arg(program);
    command
}

/// A command in a pid namespace and with a `/proc` of its own.
pub(crate) fn contained(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg(CONTAINED).arg(program.as_ref());
    command
}

/// Becomes the user, and executes the program.
pub(crate) fn run_as(user: &str, capabilities: &str, program: &[&str]) -> ExitCode {
    fail(become_user(user, capabilities).and_then(|()| execute(program)))
}

/// Executes the program in a pid namespace of its own, as the first process there; ends as it does.
pub(crate) fn run_contained(program: &[&str]) -> ExitCode {
    match enter_pid_namespace() {
        Ok(ForkResult::Child) => fail(own_proc().and_then(|()| execute(program))),
        Ok(ForkResult::Parent { child }) => match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
            other => fail(Err(anyhow::Error::msg(format!("the program ended with {other:?}")))),
        },
        Err(error) => fail(Err(error)),
    }
}

fn fail(result: Result<()>) -> ExitCode {
    if let Err(error) = result {
        eprintln!("forkwatch-guest: {error:#}");
    }
    ExitCode::FAILURE
}

fn execute(program: &[&str]) -> Result<()> {
    let Some((path, arguments)) = program.split_first() else { bail!("which program?") };
    Err(Command::new(path).args(arguments).exec()).with_context(|| format!("cannot execute {path}"))
}

fn become_user(user: &str, capabilities: &str) -> Result<()> {
    let user = user.parse().context("no uid")?;
    let names = capabilities.split(',').filter(|name| !name.is_empty());
    let kept: CapsHashSet = names.map(str::parse::<Capability>).collect::<Result<_, _>>()?;
    for other in caps::read(None, CapSet::Bounding)?.difference(&kept) {
        caps::drop(None, CapSet::Bounding, *other)?;
    }
    set_keepcaps(true)?;
    setgroups(&[])?;
    setgid(Gid::from_raw(user))?;
    setuid(Uid::from_raw(user))?;
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
        caps::set(None, set, &kept)?;
    }
    Ok(())
}

fn enter_pid_namespace() -> Result<ForkResult> {
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS).context("cannot have a pid namespace")?;
    // SAFETY: this process has one thread.
    unsafe { fork() }.context("cannot fork into it")
}

fn own_proc() -> Result<()> {
    private_mounts().context("cannot have mounts of one's own")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).context("cannot mount /proc")
}

/// Has what is mounted in this mount namespace from now on stay in it.
pub(crate) fn private_mounts() -> io::Result<()> {
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?)
}
