//! Recordings of the program in a terminal, in asciinema's format (version 2), and as drawings that play.

use std::{
    env, fs,
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{Running, browser::free_address, play, project, started, tools, wait_for, write};

const PRELOADED: &str = include_str!("preloaded.py");
/// The terminal's size.
const COLUMNS: u32 = 80;
const LINES: u32 = 46;
/// Seconds after which `forkwatch --pid` is asked to end: it has found what there is then.
const WATCHED: u32 = 9;

/// A part of the output, and so many seconds after the one before.
struct Piece {
    pause: f64,
    text: String,
}

/// Makes both recordings.
pub(super) fn recordings(program: &Path, folder: &Path, place: &Path) -> Result<()> {
    // As whoever has installed it calls it.
    let bin = folder.join("bin");
    fs::create_dir(&bin)?;
    symlink(program, bin.join("forkwatch"))?;
    let demo = record("forkwatch demo", "exec forkwatch demo --color always", &bin, folder)?;
    keep(place, "demo", "forkwatch demo", &demo)?;
    let shop = Shop::start(program, folder)?;
    let worker = shop.worker;
    let watched = record(
        &format!("forkwatch --pid {worker}"),
        &format!("exec timeout --signal INT {WATCHED} forkwatch --color always --pid {worker}"),
        &bin,
        folder,
    )?;
    drop(shop);
    keep(place, "worker", "forkwatch --pid WORKER: a worker of gunicorn that hangs", &watched)
}

/// A gunicorn whose only worker hangs.
struct Shop {
    worker: u32,
    _request: Running,
    _gunicorn: Running,
}

impl Shop {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        fs::write(folder.join("shop.py"), PRELOADED)?;
        let address = free_address()?;
        let mut command = Command::new(tools::path("python")?.join("bin/gunicorn"));
        command.args(["--preload", "--workers", "1", "--timeout", "0", "--no-control-socket", "--bind"]);
        let gunicorn = started(command.arg(address.to_string()).arg("shop:application").current_dir(folder))?;
        wait_for("gunicorn", || TcpStream::connect(address).ok())?;
        let children = format!("/proc/{0}/task/{0}/children", gunicorn.0.id());
        let worker = wait_for("a worker", || fs::read_to_string(&children).ok()?.trim().parse().ok())?;
        let request = started(
            Command::new("curl")
                .args(["--silent", "--output", "/dev/null"])
                .arg(format!("http://{address}/")),
        )?;
        // Whoever watches from now on finds it.
        wait_for("the worker to hang", || {
            let scan = Command::new(program).arg("scan").output().ok()?;
            String::from_utf8_lossy(&scan.stdout).contains(&format!("{worker}")).then_some(())
        })?;
        Ok(Self { worker, _request: request, _gunicorn: gunicorn })
    }
}

/// Runs a command in a terminal of its own (script(1)), below what a user would have typed, and notes what it writes and
/// when.
fn record(typed: &str, command: &str, bin: &Path, folder: &Path) -> Result<Vec<Piece>> {
    let (output, timing) = (folder.join("output"), folder.join("timing"));
    let command = format!("stty cols {COLUMNS} rows {LINES}; echo '$ {typed}'; {command}");
    let paths = env::var_os("PATH").unwrap_or_default();
    let paths = env::join_paths([bin.to_owned()].into_iter().chain(env::split_paths(&paths)))?;
    let mut script = Command::new("script");
    script.env("TERM", "xterm-256color").env("PATH", paths);
    script.args(["--quiet", "--command", &command, "--log-out"]);
    project::output(script.arg(&output).arg("--log-timing").arg(&timing))?;
    let output = fs::read(&output).context("script(1) has written nothing")?;
    // Its own line stands first.
    let begin = output.iter().position(|byte| *byte == b'\n').map_or(0, |place| place + 1);
    pieces(output.get(begin..).unwrap_or_default(), &fs::read_to_string(&timing)?)
}

/// Lines of `timing` are the seconds since the piece before, and the bytes of a piece.
fn pieces(mut output: &[u8], timing: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for line in timing.lines() {
        let (pause, count) = line.split_once(' ').context("script(1) has another format")?;
        let (piece, rest) = output.split_at_checked(count.parse()?).context("script(1) has lost output")?;
        pieces.push(Piece { pause: pause.parse()?, text: String::from_utf8_lossy(piece).into_owned() });
        output = rest;
    }
    ensure!(!pieces.is_empty(), "nothing was recorded");
    Ok(pieces)
}

/// Writes a recording and its drawing.
fn keep(place: &Path, name: &str, title: &str, pieces: &[Piece]) -> Result<()> {
    let file = |extension: &str| -> PathBuf { place.join(format!("{name}.{extension}")) };
    let cast = cast(title, pieces)?;
    write(&file("cast"), cast.as_bytes())?;
    write(&file("svg"), play::drawing(&cast, title)?.as_bytes())
}

/// <https://docs.asciinema.org/manual/asciicast/v2/>
fn cast(title: &str, pieces: &[Piece]) -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let head = json!({ "version": 2, "width": COLUMNS, "height": LINES, "timestamp": now, "title": title });
    let mut text = format!("{head}\n");
    let mut at = 0.0;
    for piece in pieces {
        at += piece.pause;
        text += &json!([(at * 1e6_f64).round() / 1e6, "o", piece.text]).to_string();
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_script_has_written_becomes_a_cast() {
        let pieces = pieces(b"one\r\ntwo", "0.5 5\n0.25 3\n").unwrap();
        let cast = cast("x", &pieces).unwrap();
        let lines: Vec<&str> = cast.lines().collect();
        assert!(lines[0].contains("\"version\":2") && lines[0].contains("\"width\":80"), "{cast}");
        assert_eq!(lines[1..], ["[0.5,\"o\",\"one\\r\\n\"]", "[0.75,\"o\",\"two\"]"]);
        assert!(super::pieces(b"one", "0.5 5\n").is_err());
    }
}
