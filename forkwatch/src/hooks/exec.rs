//! Runs the program of a hook: in a process group of its own, with the document on its standard input, for so long and no
//! longer. It does not outlive us, whatever ends us: the kernel kills it when the thread ends that has started it, which
//! waits for it.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    process::{Child, Command},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        memfd::{MFdFlags, memfd_create},
        prctl,
        signal::{Signal, killpg},
    },
    unistd::{Pid, getpid, getppid, pipe2},
};

use super::{How, Ran, stop::Stop};
use crate::host;

/// So much of the end of its output is kept.
const KEPT: usize = 2048;
/// So much is read in one go.
const GULP: usize = 64 << 10;
/// Most that is read of it after the end of its first process: what a pipe can hold. Somebody who has left its group may have
/// the pipe still, and write on.
const MOST_LEFT: u64 = 1 << 20;
/// How long one that was killed is waited for. It may sleep in a call that no signal ends.
const DYING: Duration = Duration::from_secs(5);
/// What a service manager tells its service, and nobody else.
const NOT_INHERITED: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// What is to be run.
pub(super) struct Program<'a> {
    pub(super) words: &'a [String],
    pub(super) document: &'a str,
    pub(super) variables: &'a [(&'static str, &'a str)],
    pub(super) timeout: Duration,
}

/// Runs it to its end.
pub(super) fn run(program: &Program<'_>, stop: &Stop) -> Ran {
    let began = Instant::now();
    let mut output = Tail::default();
    let how = match start(program) {
        Ok((child, pipe)) => watch(child, pipe, began + program.timeout, stop, &mut output)
            .unwrap_or_else(|error| How::Failed(error.to_string())),
        Err(error) => {
            let name = program.words.first().map_or("", String::as_str);
            How::Failed(format!("{name} cannot be run: {error}"))
        }
    };
    Ran { how, took: began.elapsed(), output: output.text(), written: output.read }
}

fn start(program: &Program<'_>) -> io::Result<(Child, File)> {
    let (name, arguments) =
        program.words.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // A file, so that nobody waits for one who does not read it.
    let mut document = File::from(memfd_create(c"forkwatch-event", MFdFlags::MFD_CLOEXEC)?);
    document.write_all(program.document.as_bytes())?;
    document.write_all(b"\n")?;
    document.rewind()?;
    let (output, end) = pipe2(OFlag::O_CLOEXEC)?;
    // Ours alone: the other end has flags of its own.
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let mut command = Command::new(name);
    command
        .args(arguments)
        .stdin(document)
        .stdout(end.try_clone()?)
        .stderr(end)
        .current_dir("/")
        .envs(program.variables.iter().copied())
        .process_group(0);
    for variable in NOT_INHERITED {
        command.env_remove(variable);
    }
    let own = getpid();
    let die_along = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // We may have ended before it was asked for.
        if getppid() == own { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: what runs between fork and exec makes system calls only, and an error of it allocates nothing.
    unsafe { command.pre_exec(die_along) };
    let child = command.spawn()?;
    Ok((child, File::from(output)))
}

/// Waits for the end of its first process, and then ends whatever else is in its group. While that process has not been
/// waited for, nothing else can have its pid, which is the group's.
fn watch(
    mut child: Child,
    mut pipe: File,
    deadline: Instant,
    stop: &Stop,
    output: &mut Tail,
) -> io::Result<How> {
    let group = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let ended = host::pidfd_open(child.id());
    let result = ended.and_then(|ended| until(&ended, &mut pipe, deadline, stop, output));
    // Nobody is left where the first process was the only one.
    if let Err(error) = killpg(group, Signal::SIGKILL)
        && error != Errno::ESRCH
    {
        tracing::warn!(%error, "the process group {group} of a hook cannot be killed");
    }
    if !matches!(result, Ok(Over::Ended)) {
        reap(child);
        return result.map(|over| if over == Over::Late { How::TimedOut } else { How::Stopped });
    }
    let status = child.wait()?;
    output.drain(&mut pipe);
    Ok(match (status.code(), status.signal()) {
        (Some(0), _) => How::Good,
        (Some(code), _) => How::Code(code),
        (None, signal) => How::Signal(signal.unwrap_or(0)),
    })
}

/// Why nobody waits any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Ended,
    Late,
    Stopped,
}

fn until(
    ended: &OwnedFd,
    pipe: &mut File,
    deadline: Instant,
    stop: &Stop,
    output: &mut Tail,
) -> io::Result<Over> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Over::Late);
        }
        let is_read = !output.has_ended;
        let mut waits =
            vec![PollFd::new(ended.as_fd(), PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        if is_read {
            waits.push(PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, so that the last millisecond is no loop.
        let wait = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut waits, wait) {
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let woken: Vec<bool> = waits.iter().map(|wait| wait.any().unwrap_or(false)).collect();
        if let [true, ..] = woken.as_slice() {
            return Ok(Over::Ended);
        }
        if let [_, true, ..] = woken.as_slice() {
            return Ok(Over::Stopped);
        }
        if let [_, _, true] = woken.as_slice() {
            output.read(pipe);
        }
    }
}

/// Waits a little for one that was killed, and leaves it to nobody: a thread of its own waits as long as that takes.
fn reap(mut child: Child) {
    let is_over = host::pidfd_open(child.id()).is_ok_and(|ended| {
        let wait = PollTimeout::try_from(DYING).unwrap_or(PollTimeout::ZERO);
        matches!(poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], wait), Ok(ready) if ready > 0)
    });
    if !is_over {
        tracing::warn!(
            pid = child.id(),
            "a hook does not end, although it was killed: it sleeps in the kernel"
        );
        let waits = std::thread::Builder::new().name("hook-reaper".to_owned());
        // Without the thread its last trace stays until we end.
        let _ = waits.stack_size(64 << 10).spawn(move || child.wait());
        return;
    }
    if let Err(error) = child.wait() {
        tracing::debug!(%error, "a hook cannot be waited for");
    }
}

/// The end of what was written.
struct Tail {
    kept: Vec<u8>,
    /// Bytes that were read in all.
    read: u64,
    has_ended: bool,
    buffer: Vec<u8>,
}

impl Default for Tail {
    fn default() -> Self {
        Self { kept: Vec::new(), read: 0, has_ended: false, buffer: vec![0; GULP] }
    }
}

impl Tail {
    /// Reads what is there, so that nobody waits who writes much, and drops all but the end of it. Whether there was anything.
    fn read(&mut self, pipe: &mut File) -> bool {
        match pipe.read(&mut self.buffer) {
            Ok(0) => self.has_ended = true,
            Ok(count) => {
                self.read = self.read.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
                let new = self.buffer.get(count.saturating_sub(KEPT)..count).unwrap_or_default();
                self.kept.extend_from_slice(new);
                let excess = self.kept.len().saturating_sub(KEPT);
                self.kept.drain(..excess);
                return true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.has_ended = true,
        }
        false
    }

    fn drain(&mut self, pipe: &mut File) {
        let most = self.read.saturating_add(MOST_LEFT);
        while !self.has_ended && self.read < most && self.read(pipe) {}
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Ran {
        let words = ["/bin/sh", "-c", script].map(str::to_owned);
        let program =
            Program { words: &words, document: "{}", variables: &[("FORKWATCH_HOOK", "x")], timeout };
        run(&program, &Stop::new().unwrap())
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_gets_the_document_and_its_end_and_output_are_told() {
        let ran = shell("cat; echo $FORKWATCH_HOOK >&2; pwd", LONG);
        assert_eq!((ran.how, ran.output.as_str()), (How::Good, "{}\nx\n/"));
        assert_eq!(shell("exit 7", LONG).how, How::Code(7));
        assert_eq!(shell("kill -9 $$", LONG).how, How::Signal(9));
        let words = ["/nonexistent/program".to_owned()];
        let program = Program { words: &words, document: "", variables: &[], timeout: LONG };
        let ran = run(&program, &Stop::new().unwrap());
        let How::Failed(why) = ran.how else { panic!("{ran:?}") };
        assert!(why.starts_with("/nonexistent/program cannot be run: No such file"), "{why}");
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_has_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; sleep 1000", file.display());
        let ran = shell(&script, Duration::from_millis(300));
        assert_eq!(ran.how, How::TimedOut);
        let pid: u32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        ended(pid);
    }

    #[test]
    fn what_it_leaves_behind_in_its_group_is_killed_too_and_not_waited_for() {
        let ran = shell("sleep 1000 & echo $!", LONG);
        assert_eq!(ran.how, How::Good);
        ended(ran.output.trim().parse().unwrap());
    }

    /// It is nobody's child here, so its init waits for it: that it is killed is all that is certain at once.
    fn ended(pid: u32) {
        if let Ok(descriptor) = host::pidfd_open(pid) {
            let mut wait = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut wait, PollTimeout::try_from(LONG).unwrap()), Ok(1), "{pid} lives on");
        }
    }

    #[test]
    fn one_that_writes_much_does_not_wait_and_its_end_is_kept() {
        let ran = shell("head -c 5000000 /dev/zero | tr '\\0' x; echo; echo done", LONG);
        assert_eq!((ran.how, ran.written), (How::Good, 5_000_006));
        assert!(ran.output.len() <= KEPT && ran.output.ends_with("x\ndone"), "{}", ran.output.len());
    }

    #[test]
    fn one_that_has_left_its_group_and_writes_on_keeps_nobody_waiting() {
        // It ends with the pipe, which nobody reads any more.
        let ran = shell("setsid yes & echo started", LONG);
        assert_eq!(ran.how, How::Good);
    }

    #[test]
    fn a_flood_of_output_is_cut_and_ends_with_the_time() {
        let ran = shell("exec yes", Duration::from_millis(500));
        assert_eq!(ran.how, How::TimedOut);
        assert!(ran.output.len() <= KEPT && ran.output.ends_with('y'), "{}", ran.output.len());
    }

    #[test]
    fn a_document_that_nobody_reads_keeps_nobody_waiting() {
        let words = ["/bin/true".to_owned()];
        let document = "x".repeat(4 << 20);
        let program = Program { words: &words, document: &document, variables: &[], timeout: LONG };
        assert_eq!(run(&program, &Stop::new().unwrap()).how, How::Good);
    }

    #[test]
    fn when_everything_ends_it_ends() {
        let stop = Stop::new().unwrap();
        stop.ask();
        let words = ["/bin/sleep", "1000"].map(str::to_owned);
        let program = Program { words: &words, document: "", variables: &[], timeout: LONG };
        assert_eq!(run(&program, &stop).how, How::Stopped);
    }
}
