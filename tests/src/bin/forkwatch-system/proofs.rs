//! That the unit's hardening leaves what proofs take: other processes' memory, calls and sockets, and programs that
//! are attached when the privileges are long given up.

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::{
    events::{Events, finding, found},
    systemd::{run, systemctl},
};

/// A program whose child waits for a mutex of the C library that another thread held.
const STUCK: &str = "import ctypes, os, threading, time
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
held = threading.Event()
def hold():
    libc.pthread_mutex_lock(mutex)
    held.set()
    time.sleep(1000)
threading.Thread(target=hold, daemon=True).start()
held.wait()
if os.fork() == 0:
    libc.pthread_mutex_lock(mutex)
time.sleep(1000)
";
/// A program that writes to a connection that its child writes to as well.
const SHARING: &str = "import os, socket, time
server = socket.create_server(('127.0.0.1', 8001))
shared = socket.create_connection(('127.0.0.1', 8001))
os.fork()
while True:
    shared.sendall(b'x')
    time.sleep(0.05)
";

/// Runs a program of Python's in a unit of its own.
fn start(unit: &str, program: &str) -> Result<()> {
    run("systemd-run", &["--unit", unit, "/usr/bin/python3", "-c", program]).map(drop)
}

pub(crate) fn an_orphaned_lock_is_proven() -> Result<()> {
    const UNIT: &str = "stuck.service";
    let events = Events::begin("[judge]\nstuck_after = \"500ms\"\n")?;
    start(UNIT, STUCK)?;
    let event = finding("orphaned-lock", UNIT)?;
    let about = found(&event)?;
    ensure!(about.certainty() == "certain", "it is {}: {}", about.certainty(), event.0);
    ensure!(
        about.lock().pointer("/proof").and_then(Value::as_str) == Some("owner"),
        "not by its owner: {}",
        event.0
    );
    // From its memory: the frames of the C library, and the script's.
    for (stack, frame) in [("/stack", "pthread_mutex_lock"), ("/script", "<module>")] {
        let frames = about.lock().pointer(&format!("{stack}/frames")).and_then(Value::as_array);
        let is_it = |found: &Value| found.pointer("/function").and_then(Value::as_str) == Some(frame);
        ensure!(frames.is_some_and(|frames| frames.iter().any(is_it)), "no {frame}: {}", event.0);
    }
    systemctl(&["stop", UNIT])?;
    events.end()
}

pub(crate) fn a_shared_connection_is_found() -> Result<()> {
    const UNIT: &str = "sharing.service";
    let events = Events::begin("")?;
    start(UNIT, SHARING)?;
    let event = finding("shared-connection", UNIT)?;
    let about = found(&event)?;
    // The program speaks a protocol of its own, so that nothing says that each question has its own answer.
    ensure!(about.certainty() == "strong", "it is {}: {}", about.certainty(), event.0);
    ensure!(about.summary().contains("127.0.0.1:8001"), "the peer is not named: {}", event.0);
    systemctl(&["stop", UNIT])?;
    events.end()
}
