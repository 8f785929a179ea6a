//! Redis, which forks beside its threads by design.

use std::{
    io::{BufRead, BufReader, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Scenario;
use crate::{
    expectation::Expected,
    program::{Launch, Program},
    provided::Provided,
};

/// With the delay of `server`, saving so many keys takes four seconds: far more than the grace.
const KEYS: usize = 200;
/// Where a server listens in its folder: its name says what it is.
pub(crate) const SOCKET: &str = "redis.sock";
/// What asks a server to end.
pub(crate) const STOP: Signal = Signal::SIGTERM;

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "redis_saves_in_the_background",
    expected: &[Expected {
        hazard: "multithreaded-fork",
        severity: "info",
        program: Some("redis-server"),
        threads: &["bio_close_file", "bio_lazy_free"],
        signals: &[],
    }],
    prepare: |folder| server(folder, None),
    work: |program| {
        let mut client = connect(program)?;
        for key in 0..KEYS {
            ask(&mut client, &format!("SET key{key} value"), "+OK")?;
        }
        ask(&mut client, "BGSAVE", "+Background saving started")
    },
    stop: Some(STOP),
}];

/// A server at [`SOCKET`] in this folder and, if one is given, at an address, that stores nothing unless asked to.
fn server(folder: &Path, address: Option<Ipv4Addr>) -> Result<Launch> {
    let port = if address.is_some() { "6379" } else { "0" };
    let address = address.unwrap_or(Ipv4Addr::LOCALHOST).to_string();
    let socket = folder.join(SOCKET).display().to_string();
    Ok(Provided::find("redis-server")?
        .launch()?
        .args(["--save", "", "--rdb-key-save-delay", "20000", "--dir", &folder.display().to_string()])
        .args(["--bind", &address, "--port", port, "--unixsocket", &socket]))
}

/// A running server, for programs that need one.
pub(crate) fn running(address: Option<Ipv4Addr>) -> Result<Program> {
    let mut program = Program::hold(|folder| server(folder, address))?;
    program.release()?;
    connect(&mut program)?;
    Ok(program)
}

fn connect(program: &mut Program) -> Result<UnixStream> {
    let socket = program.folder().join(SOCKET);
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
