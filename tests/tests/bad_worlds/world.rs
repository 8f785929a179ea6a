//! What the tests share: running the command, and knowing whether a test can be run here.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use forkwatch_tests::{
    binary,
    host::{needs_bpf, needs_root},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// The program under test.
pub(super) fn forkwatch() -> &'static str {
    static PATH: LazyLock<String> =
        LazyLock::new(|| binary::forkwatch().unwrap().to_str().unwrap().to_owned());
    &PATH
}

/// How long something may take that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Skips the test where the command cannot watch.
pub(super) fn can_run() -> Result<()> {
    needs_root()?;
    needs_bpf()?;
    binary::forkwatch().map(drop)
}

/// Runs a command line to its end.
pub(super) fn output(words: &[&str]) -> Output {
    let (program, arguments) = words.split_first().unwrap();
    Command::new(program).args(arguments).env_remove("CLICOLOR_FORCE").output().unwrap()
}

/// Runs a command line that must end with this code, and gives what it said on stderr.
#[track_caller]
pub(super) fn said(words: &[&str], code: i32) -> String {
    let Output { status, stderr, .. } = output(words);
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{words:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

#[track_caller]
pub(super) fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

/// A short watch, with these capabilities alone.
pub(super) fn with_capabilities(which: &str, command: &[&str]) -> Vec<String> {
    let bounding = format!("--bounding-set={which}");
    ["setpriv", &bounding, "--inh-caps=-all", forkwatch()]
        .into_iter()
        .chain(command.iter().copied())
        .map(str::to_owned)
        .collect()
}

#[track_caller]
pub(super) fn said_with_capabilities(which: &str, command: &[&str], code: i32) -> String {
    let words = with_capabilities(which, command);
    said(&words.iter().map(String::as_str).collect::<Vec<_>>(), code)
}

/// A running forkwatch, which is killed where a test fails.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(forkwatch());
        command.args(arguments).env_remove("CLICOLOR_FORCE");
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Starts to watch, and returns when it does.
    pub(super) fn watch() -> Self {
        let mut running = Self::start(&["tail", "--comm", "nobody has this name"]);
        let stderr = running.0.stderr.as_mut().unwrap();
        let mut first = String::new();
        BufReader::new(stderr).read_line(&mut first).unwrap();
        assert_has(&first, &["ready"]);
        running
    }

    pub(super) fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id().try_into().unwrap())
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub(super) fn end(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks again and again until it holds: there is nothing to wait for where the kernel cleans up by itself.
#[track_caller]
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "not {what} within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
