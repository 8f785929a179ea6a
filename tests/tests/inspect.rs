//! `forkwatch inspect`: what it says of real servers, of other processes, and of those that it cannot look at.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, bail, ensure};
use forkwatch_tests::{
    binary, fixture,
    host::needs_root,
    process,
    program::{Program, copy_program},
    runner::Tests,
    scenario::{gunicorn_with_stuck_threads, plain_uwsgi},
    tests,
    wait::until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        inspect_tells_the_workers_of_gunicorn,
        inspect_tells_a_uwsgi_without_a_master,
        inspect_tells_of_a_process_without_a_server,
        inspect_says_what_it_may_not_see,
        inspect_refuses_what_is_no_process,
    ])
}

fn inspect(pid: i32, arguments: &[&str]) -> Result<Output> {
    let pid = pid.to_string();
    Command::new(binary::forkwatch()?)
        .arg("inspect")
        .args(arguments)
        .arg(pid)
        .output()
        .context("cannot run forkwatch")
}

/// The answer as JSON, which is what its schema says.
fn document(pid: i32) -> Result<Value> {
    read(&inspect(pid, &["-o", "json"])?)
}

fn read(output: &Output) -> Result<Value> {
    let document: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("no document: {output:?}"))?;
    let schema: Value = serde_json::from_str(include_str!("../../docs/inspect.schema.json"))?;
    if let Err(error) = jsonschema::validate(&schema, &document) {
        bail!("breaks the schema at {}: {error}\nin {document:#}", error.instance_path());
    }
    Ok(document)
}

/// The answer as text, which fits into 80 columns.
fn text(pid: i32) -> Result<String> {
    let output = inspect(pid, &[])?;
    ensure!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_wide =
        |line: &&str| line.chars().count() > 80 && line.split_whitespace().all(|word| word.len() < 60);
    ensure!(!text.lines().any(|line| is_wide(&line)), "{text}");
    Ok(text)
}

fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}

fn setting<'a>(document: &'a Value, name: &str) -> Option<&'a str> {
    let settings = at(document, "/server/settings").as_array()?;
    settings.iter().find(|setting| at(setting, "/name") == name)?.get("value")?.as_str()
}

/// Waits until a server has its two workers and answers, and gives the pid of one.
fn serve(program: &mut Program) -> Result<i32> {
    let socket = program.folder().join("socket");
    program.release()?;
    program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    let worker = process::descendants(program.pid()).first().context("no worker")?.pid;
    Ok(worker)
}

/// Asked by a worker's pid: whose worker it is, that it waits for connections, and which thread the fork left behind.
fn inspect_tells_the_workers_of_gunicorn() -> Result<()> {
    let mut program = gunicorn_with_stuck_threads("wsgi_with_thread")?;
    let (master, worker) = (program.pid(), serve(&mut program)?);
    let (document, own) = until("a worker that waits for connections", || {
        let document = document(worker)?;
        let processes = at(&document, "/processes").as_array().context("no processes")?;
        let own = processes.iter().find(|process| at(process, "/pid") == worker).cloned();
        let is_idle = |own: &Value| at(own, "/threads/0/does") == "awaits connections";
        Ok(own.filter(is_idle).map(|own| (document, own)))
    })?;
    ensure!(at(&document, "/server/name") == "gunicorn", "{document:#}");
    ensure!(setting(&document, "worker class") == Some("gthread"), "{document:#}");
    ensure!(setting(&document, "preload") == Some("yes"), "{document:#}");
    let socket = program.folder().join("socket");
    // Its control socket is there, too, as soon as the thread that serves it has begun.
    let listens = at(&document, "/server/listens").as_array().context("no addresses")?;
    ensure!(listens.iter().any(|address| socket.to_str() == address.as_str()), "{document:#}");
    let processes = at(&document, "/processes").as_array().context("no processes")?;
    let roles: Vec<&Value> = processes.iter().map(|process| at(process, "/role")).collect();
    ensure!(roles == ["master", "worker", "worker"], "{document:#}");
    ensure!(at(&document, "/processes/0/pid") == master, "{document:#}");
    // What the fork left behind, and whom its output goes with.
    let lacks = at(&own, "/lacks_threads").as_array().context("no threads")?;
    ensure!(lacks.iter().any(|name| name == "metrics-push"), "{own:#}");
    ensure!(at(&own, "/stdout/shared_with").as_array().is_some_and(|pids| pids.len() == 2), "{own:#}");
    ensure!(at(&own, "/memory/shared").as_u64().is_some_and(|bytes| bytes > 0), "{own:#}");
    ensure!(at(&document, "/next_fork/pid") == master, "{document:#}");
    ensure!(at(&document, "/next_fork/verdict") == "unsafe", "{document:#}");

    let text = text(worker)?;
    for line in [
        format!("gunicorn (pid {master}, "),
        format!("> {worker:<8}worker "),
        "  lacks     threads of the master: ".to_owned(),
        format!("A fork of the master now (pid {master}) would be unsafe"),
        format!("`forkwatch check {master}` says why"),
    ] {
        ensure!(text.contains(&line), "no {line:?} in\n{text}");
    }
    program.end(Some(Signal::SIGTERM)).map(drop)
}

fn inspect_tells_a_uwsgi_without_a_master() -> Result<()> {
    let mut program = Program::hold(|folder| plain_uwsgi(folder, false))?;
    let socket = program.folder().join("socket");
    program.release()?;
    program.wait_for("another worker", |program| Ok(process::descendants(program.pid()).len() == 1))?;
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    let document = document(program.pid())?;
    ensure!(at(&document, "/server/name") == "uWSGI", "{document:#}");
    let master = setting(&document, "master").unwrap_or_default();
    ensure!(master.starts_with("no: "), "{document:#}");
    // Without a master nobody ends the other worker but whoever clears away.
    Ok(())
}

fn inspect_tells_of_a_process_without_a_server() -> Result<()> {
    let mut program = fixture::hold("holder", &["nothing"])?;
    program.release()?;
    program.next_json()?;
    let text = text(program.pid())?;
    ensure!(text.contains("belongs to no server"), "{text}");
    ensure!(text.contains(&format!("A fork now (pid {}) would be safe.", program.pid())), "{text}");
    program.end(None).map(drop)
}

fn inspect_says_what_it_may_not_see() -> Result<()> {
    /// `nobody`, who may not look at what is root's.
    const NOBODY: u32 = 65534;
    needs_root()?;
    let mut program = fixture::hold("holder", &["nothing"])?;
    program.release()?;
    program.next_json()?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("forkwatch");
    copy_program(&binary::forkwatch()?, &copy)?;
    let pid = program.pid().to_string();
    let as_nobody = |arguments: &[&str]| {
        Command::new(&copy).arg("inspect").args(arguments).arg(&pid).uid(NOBODY).gid(NOBODY).output()
    };
    let output = as_nobody(&["-o", "json"])?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    let document = read(&output)?;
    ensure!(at(&document, "/processes/0/hidden/denied") == true, "{document:#}");
    let output = as_nobody(&[])?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(3) && text.contains("that takes root"), "{output:?}");
    program.end(None).map(drop)
}

fn inspect_refuses_what_is_no_process() -> Result<()> {
    let mut program = fixture::hold("holder", &["nothing"])?;
    program.release()?;
    program.next_json()?;
    let pid = program.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    program.end(None)?;
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} is there still");
    let output = inspect(pid, &[])?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains(&format!("there is no process {pid}: it has ended")), "{said}");
    Ok(())
}
