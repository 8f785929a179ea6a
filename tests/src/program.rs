//! A program under watch: held before its exec, released, and cleared away with all its children.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Write,
    os::unix::{fs::lchown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid, User},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{process, provided::PROGRAMS, wait::until};

/// Waits for a line on stdin and becomes the program, which inherits stdin.
const GATE: &str = "read -r go && exec \"$@\"";

/// What is to run, and as whom.
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    user: Option<&'static str>,
    companions: Vec<(Program, Signal)>,
}

impl Launch {
    /// A program without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            user: None,
            companions: Vec::new(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Has it run as this user if the tests run as root: some servers refuse root.
    #[must_use]
    pub fn user(mut self, name: &'static str) -> Self {
        self.user = Uid::effective().is_root().then_some(name);
        self
    }

    /// Has another program live as long as this one, the server it talks to, which then ends by this signal.
    #[must_use]
    pub fn beside(mut self, companion: Program, stop: Signal) -> Self {
        self.companions.push((companion, stop));
        self
    }
}

/// A running program and its temporary folder.
pub struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines_read: usize,
    folder: TempDir,
    /// Dropped, and so ended, after the program itself.
    companions: Vec<(Program, Signal)>,
}

impl Program {
    /// Makes a folder, has `prepare` say what is to run in it, and starts that up to the moment before its exec.
    pub fn hold(prepare: impl FnOnce(&Path) -> Result<Launch>) -> Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("forkwatch-").tempdir().context("no temporary folder")?;
        let launch = prepare(folder.path())?;
        let file = |name: &str| {
            File::create(folder.path().join(name)).with_context(|| format!("cannot make {name}"))
        };
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", GATE, "gate"])
            .arg(&launch.program)
            .args(&launch.arguments)
            .envs(launch.environment)
            // Nothing may touch the home of whoever runs the tests.
            .env("HOME", folder.path())
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?)
            .process_group(0);
        if let Some(name) = launch.user {
            let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
            give_away(folder.path(), &user)?;
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut child = command.spawn().context("cannot start /bin/sh")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines_read: 0, folder, companions: launch.companions })
    }

    /// Lets it run.
    pub fn release(&mut self) -> Result<()> {
        self.step()
    }

    /// Has a fixture take its next step.
    pub fn step(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its stdin is closed")?;
        stdin.write_all(b"\n").context("it takes no more steps")
    }

    /// Its pid, from before its exec on.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Its temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The first program that lives beside it.
    pub fn companion(&self) -> Option<&Self> {
        self.companions.first().map(|(companion, _)| companion)
    }

    /// Waits for the next line on its stdout, which is JSON.
    pub fn next_json(&mut self) -> Result<Value> {
        let path = self.folder.path().join("stdout");
        let number = self.lines_read;
        let line = until("a line of the fixture", || {
            let text = fs::read_to_string(&path)?;
            match text.split_inclusive('\n').nth(number).filter(|line| line.ends_with('\n')) {
                Some(line) => Ok(Some(line.to_owned())),
                None => self.may_still_speak().map(|()| None),
            }
        })?;
        self.lines_read += 1;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }

    /// Waits until its output says this.
    pub fn said(&mut self, text: &str) -> Result<()> {
        self.wait_for(text, |program| Ok(program.output().contains(text)))
    }

    /// Waits for a condition, and fails at once if the program ends.
    pub fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        let waited = until(what, || {
            if is_so(self)? {
                return Ok(Some(()));
            }
            self.still_runs().map(|()| None)
        });
        waited.with_context(|| format!("no {what} from a program that said {:?}", self.output()))
    }

    /// Waits for it to end by itself, with success.
    pub fn wait_for_success(&mut self) -> Result<()> {
        let status = until("its end", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "it ended with {status}, saying: {}", self.output());
        Ok(())
    }

    /// All that it wrote.
    pub fn output(&self) -> String {
        let read = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[read("stdout"), read("stderr")].concat()).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Closes its stdin, sends it a signal if one is named, and waits until it has ended with all its descendants,
    /// and its companions after it.
    pub fn end(&mut self, signal: Option<Signal>) -> Result<ExitStatus> {
        let family = process::descendants(self.pid());
        drop(self.stdin.take());
        if let Some(signal) = signal
            && self.child.try_wait()?.is_none()
        {
            self.signal(signal)?;
        }
        let status = until("its end", || Ok(self.child.try_wait()?))
            .with_context(|| format!("it does not end; it said: {}", self.output()))?;
        until("the end of its children", || Ok((!family.iter().any(|member| member.lives())).then_some(())))?;
        for (companion, stop) in &mut self.companions {
            companion.end(Some(*stop))?;
        }
        Ok(status)
    }

    /// Whether a line may still come: a program that has ended well may have left a daemon that speaks in its place.
    fn may_still_speak(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some_and(|status| status.success()) {
            return Ok(());
        }
        self.still_runs()
    }

    fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            // Automake's code for a test that cannot run.
            Some(status) if status.code() == Some(77) => crate::host::skip(self.output().trim()),
            Some(status) => bail!("it ended early with {status}"),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        for member in process::descendants(self.pid()) {
            member.kill();
        }
        // They fail only if it has ended, which is what is wanted.
        let _ = nix::sys::signal::killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a program, by another process. A child that is started at this moment in another thread would have a descriptor
/// of this one that writes to the copy, until its exec, and nobody could run the copy so long (ETXTBSY of execve(2)).
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    let copied = Command::new("cp").arg("--").args([from, to]).status().context("cannot run cp")?;
    ensure!(copied.success(), "cannot copy {}: cp ended with {copied}", from.display());
    Ok(())
}

/// Makes a folder and all in it a user's, but for the programs: their files are the cache's too.
fn give_away(folder: &Path, user: &User) -> Result<()> {
    let give = |path: &Path| {
        // A link may lead nowhere, and what it leads to is nobody's to give away here.
        lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("cannot chown {}", path.display()))
    };
    give(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() == PROGRAMS {
            continue;
        }
        if entry.file_type()?.is_dir() {
            give_away(&entry.path(), user)?;
        } else {
            give(&entry.path())?;
        }
    }
    Ok(())
}
