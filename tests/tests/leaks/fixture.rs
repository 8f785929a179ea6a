//! Programs of `tests/fixtures/c` of which something is left to us.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::Result;
use forkwatch_tests::fixture;

use nix::{
    sys::{
        prctl::set_child_subreaper,
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::Pid,
};

/// A running fixture, with what it has told.
pub(crate) struct Fixture {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    told: serde_json::Value,
    /// A process that it leaves to us.
    adopted: Option<Pid>,
}

impl Fixture {
    /// Starts one, and waits for what it tells first.
    pub(crate) fn start(name: &str, arguments: &[&str]) -> Result<Self> {
        let program = fixture::fixture(name)?;
        // Orphans come to this process, not to whoever reaps them on this host.
        set_child_subreaper(true).unwrap();
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut fixture = Self { child, input, output, told: serde_json::Value::Null, adopted: None };
        fixture.told = fixture.line();
        Ok(fixture)
    }

    fn line(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// A number that it told.
    pub(crate) fn number(&self, name: &str) -> u32 {
        self.told.get(name).unwrap().as_u64().unwrap().try_into().unwrap()
    }

    /// Has it do its next step, and waits for what it tells of that.
    pub(crate) fn step(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        self.line();
    }

    /// Its child, which is killed at the end of the test: the fixture does not.
    pub(crate) fn adopted(&mut self) -> u32 {
        let child = self.number("child");
        self.adopted = Some(Pid::from_raw(child.try_into().unwrap()));
        child
    }

    /// Ends the fixture itself.
    pub(crate) fn end(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }

    /// The listening socket that a child got: the first of its sockets, as the fixture opens it first.
    pub(crate) fn listener(child: u32) -> u64 {
        let link = |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned);
        let sockets: Vec<u64> = fs::read_dir(format!("/proc/{child}/fd"))
            .unwrap()
            .filter_map(|entry| {
                link(entry.unwrap())?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
            })
            .collect();
        *sockets.first().unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
        if let Some(child) = self.adopted {
            let _ = kill(child, Signal::SIGKILL);
            let _ = waitpid(child, None);
        }
        let _ = set_child_subreaper(false);
    }
}
