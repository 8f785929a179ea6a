//! Redis, which forks beside its threads by design.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Scenario;
use crate::{
    expectation::Expected,
    program::{Launch, Program},
    provided::provided,
};

/// With the delay of `server`, saving so many keys takes four seconds: far more than the grace.
const KEYS: usize = 200;

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "redis_saves_in_the_background",
    expected: &[Expected {
        hazard: "multithreaded-fork",
        severity: "info",
        program: Some("redis-server"),
        threads: &["bio_close_file", "bio_lazy_free"],
        signals: &[],
    }],
    prepare: |folder| server(folder),
    work: |program| {
        let mut client = connect(program)?;
        for key in 0..KEYS {
            ask(&mut client, &format!("SET key{key} value"), "+OK")?;
        }
        ask(&mut client, "BGSAVE", "+Background saving started")
    },
    stop: Some(Signal::SIGTERM),
}];

/// A server at `socket` in this folder that stores nothing unless asked to.
fn server(folder: &Path) -> Result<Launch> {
    let folder = folder.display();
    Ok(Launch::new(provided("redis-server")?)
        .args(["--port", "0", "--save", "", "--rdb-key-save-delay", "20000"])
        .args([
            "--unixsocket".to_owned(),
            format!("{folder}/socket"),
            "--dir".to_owned(),
            folder.to_string(),
        ]))
}

/// A running server, for programs that need one.
pub(super) fn running() -> Result<Program> {
    let mut program = Program::hold(server)?;
    program.release()?;
    connect(&mut program)?;
    Ok(program)
}

fn connect(program: &mut Program) -> Result<UnixStream> {
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    UnixStream::connect(socket).context("cannot connect to redis")
}

/// Sends a command and checks the answer.
fn ask(client: &mut UnixStream, command: &str, wanted: &str) -> Result<()> {
    client.write_all(format!("{command}\r\n").as_bytes())?;
    let mut answer = String::new();
    // Nothing more comes before the next command, so no byte is lost in the buffer.
    BufReader::new(client).read_line(&mut answer)?;
    ensure!(answer.trim_end() == wanted, "redis answered {command} with {answer}");
    Ok(())
}
