//! `cargo xtask pictures`: what the program looks like, from the program itself watching a server that goes wrong.
//!
//! No two runs give the same pids and times, so nothing compares them with what is committed.

mod browser;
mod page;
mod play;
mod recording;
mod screen;
mod tools;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::project;

/// Make the pictures in docs/pictures anew: top in a terminal, the page in a browser, and recordings (needs root, tmux,
/// Python, script(1), curl, and what `cargo xtask test` provides)
#[derive(Default, clap::Args)]
pub(crate) struct Options {
    /// Only these
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// The forkwatch to show; without one it is built
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// `forkwatch top`
    Top,
    /// The page: its overview, and a finding
    Page,
    /// `forkwatch demo`, and `forkwatch --pid` on a worker that hangs
    Recordings,
}

const SCENE: &str = include_str!("shop.py");
/// The terminal's size.
const COLUMNS: u32 = 100;
const LINES: u32 = 28;
/// How long the program may take to find what is wrong.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a screen may take until it is drawn.
const DRAWN: Duration = Duration::from_secs(4);
/// Largest picture.
const LARGEST: u64 = 150 << 10;

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // What has ended needs no end.
        let _ = Command::new("kill").arg(&pid).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let place = project::root()?.join("docs/pictures");
    fs::create_dir_all(&place)?;
    let program = match &options.program {
        Some(program) => {
            program.canonicalize().with_context(|| format!("there is no {}", program.display()))?
        }
        None => build()?,
    };
    let folder = tempfile::tempdir().context("cannot create a temporary directory")?;
    let is_wanted = |part| options.only.is_empty() || options.only.contains(&part);
    if is_wanted(Part::Top) || is_wanted(Part::Page) {
        let stage = Stage::set(&program, folder.path())?;
        let id = finding(&program, &stage.socket)?;
        if is_wanted(Part::Top) {
            let master = master(&program, &stage.socket, &id)?;
            let screens = terminal(&program, &stage.socket, &master, folder.path())?;
            let title = "forkwatch top: a server, of whose workers two hang; one of them; why";
            write(&place.join("top.svg"), screen::drawing(&screens, COLUMNS, LINES, title).as_bytes())?;
        }
        if is_wanted(Part::Page) {
            page::pictures(stage.address, &id, folder.path(), &place)?;
        }
    }
    if is_wanted(Part::Recordings) {
        recording::recordings(&program, folder.path(), &place)?;
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let arguments = ["build", "--locked", "--package", "forkwatch", "--bin", "forkwatch"];
    project::run(project::cargo()?.args(arguments))?;
    Ok(project::target()?.join("debug/forkwatch"))
}

/// A daemon, and a server that it watches going wrong.
struct Stage {
    socket: PathBuf,
    address: SocketAddr,
    _shop: Running,
    _daemon: Running,
}

impl Stage {
    fn set(program: &Path, folder: &Path) -> Result<Self> {
        let (socket, address) = (folder.join("api.sock"), browser::free_address()?);
        let configuration = folder.join("forkwatch.toml");
        let text = format!(
            "[web]\nlisten_addresses = [\"{address}\"]\n[socket]\npath = \"{}\"\ngroup = \"\"\n[judge]\nsummary_interval \
             = \"2s\"\n",
            socket.display()
        );
        fs::write(&configuration, text)?;
        let daemon = started(Command::new(program).arg("daemon").arg("--config").arg(&configuration))?;
        await_file(&socket)?;
        let scene = folder.join("shop.py");
        fs::write(&scene, SCENE)?;
        let shop = started(Command::new("/usr/bin/python3").arg(&scene))?;
        Ok(Self { socket, address, _shop: shop, _daemon: daemon })
    }
}

fn started(command: &mut Command) -> Result<Running> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Ok(Running(child.with_context(|| format!("cannot run {command:?}"))?))
}

/// Asks again and again.
fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("waited {} s in vain for {what}", PATIENCE.as_secs())
}

fn await_file(path: &Path) -> Result<()> {
    wait_for("the daemon", || path.exists().then_some(()))
}

fn findings(program: &Path, socket: &Path, more: &[&str]) -> Option<serde_json::Value> {
    let mut command = Command::new(program);
    let output = command.arg("findings").arg("--socket").arg(socket).args(more).output().ok()?;
    serde_json::from_slice(&output.stdout).ok()
}

/// The id of what is found.
fn finding(program: &Path, socket: &Path) -> Result<String> {
    wait_for("the finding", || {
        let found =
            findings(program, socket, &["--json", "--hazard", "orphaned-lock", "--program", "shop.py"])?;
        Some(found.pointer("/findings/0/id")?.as_str()?.to_owned())
    })
}

fn master(program: &Path, socket: &Path, id: &str) -> Result<String> {
    let found = findings(program, socket, &["--json", id]).context("the finding is gone")?;
    let pid = found.pointer("/finding/parent_pid").and_then(serde_json::Value::as_u64);
    Ok(pid.context("the finding has no forker")?.to_string())
}

/// Three screens of top.
fn terminal(program: &Path, socket: &Path, master: &str, folder: &Path) -> Result<Vec<String>> {
    let tmux = |arguments: &[&str]| -> Result<String> {
        let mut command = Command::new("tmux");
        command.env("LC_ALL", "C.UTF-8").arg("-S").arg(folder.join("tmux")).args(arguments);
        project::output(&mut command)
    };
    let top =
        format!("{} top --color always --socket {} --pid {master}", program.display(), socket.display());
    let (columns, lines) = (COLUMNS.to_string(), LINES.to_string());
    tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, &top])?;
    wait_for("the server on the screen", || {
        tmux(&["capture-pane", "-p"])
            .ok()
            .filter(|screen| screen.contains("4 workers") && screen.contains("awaits"))
    })?;
    let mut screens = Vec::new();
    for keys in [&["Down"][..], &["Enter"], &["Enter", "Tab", "Home", "Enter"]] {
        for key in keys {
            thread::sleep(Duration::from_millis(300));
            tmux(&["send-keys", key])?;
        }
        thread::sleep(DRAWN);
        screens.push(tmux(&["capture-pane", "-e", "-p"])?);
    }
    tmux(&["kill-server"])?;
    Ok(screens)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    println!("write {} ({} kB)", path.display(), content.len().div_ceil(1024));
    ensure!(content.len() as u64 <= LARGEST, "{} is larger than {LARGEST} bytes", path.display());
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_that_the_readme_shows_is_there_and_small() {
        let readme = include_str!("../../../README.md");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let shown = readme.split("](docs/pictures/").skip(1).map(|rest| rest.split_once(')').unwrap().0);
        let shown: Vec<&str> = shown.collect();
        assert!(shown.len() >= 3, "{shown:?}");
        for name in shown {
            let size = fs::metadata(root.join("docs/pictures").join(name)).map(|file| file.len());
            assert!(size.as_ref().is_ok_and(|size| (1..=LARGEST).contains(size)), "{name}: {size:?}");
        }
    }
}
