//! What `docs/coming-from.md` says: the helpers inside a process, and what forkwatch says of the same processes.

use std::{
    os::unix::net::UnixStream,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary,
    daemon::Daemon,
    event::Event,
    forkwatch::Forkwatch,
    host::{needs_root, workspace},
    http::get,
    process::{self, Identity},
    program::{Launch, Program},
    provided::provided,
    python::Python,
    runner::Tests,
    scenario::{gunicorn_with_forksafe, uwsgi_with_forksafe},
    schema, tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        inspect_says_of_gunicorn_what_pyramid_forksafe_says,
        inspect_says_of_uwsgi_what_pyramid_forksafe_says,
        inspect_says_of_a_uwsgi_without_a_master_what_pyramid_forksafe_says,
        the_ends_that_ufork_remembers_are_told_with_their_code_or_signal,
        a_lock_of_standard_outputs_is_told_before_the_fork_and_released_after,
        the_lock_of_pythons_own_standard_output_hurts_no_child,
    ])
}

fn run(command: &str, pid: i32, arguments: &[&str]) -> Result<Output> {
    let mut forkwatch = Command::new(binary::forkwatch()?);
    forkwatch.arg(command).arg(pid.to_string()).args(arguments).output().context("cannot run forkwatch")
}

fn document(output: &Output) -> Result<Value> {
    serde_json::from_slice(&output.stdout).with_context(|| format!("no document: {output:?}"))
}

fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}

/// The debug object of `pyramid_forksafe` in a worker that waits for connections, and what `inspect` says of its server and of
/// itself at the same time.
fn debug_and_inspect(program: &mut Program) -> Result<(Value, Value, Value)> {
    let socket = program.folder().join("socket");
    program.release()?;
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    let debug: Value = serde_json::from_str(&get(UnixStream::connect(&socket)?, "/debug")?)?;
    let worker: i32 = at(&debug, "/pid").as_i64().context("no pid")?.try_into()?;
    until("a worker that waits for connections", || {
        let document = document(&run("inspect", worker, &["-o", "json"])?)?;
        let processes = at(&document, "/processes").as_array().context("no processes")?;
        let own = processes.iter().find(|process| at(process, "/pid") == worker).cloned();
        let is_idle = |own: &Value| at(own, "/threads/0/does") == "awaits connections";
        Ok(own.filter(is_idle).map(|own| (debug.clone(), at(&document, "/server").clone(), own)))
    })
}

fn setting<'a>(server: &'a Value, name: &str) -> Option<&'a str> {
    let settings = at(server, "/settings").as_array()?;
    settings.iter().find(|setting| at(setting, "/name") == name)?.get("value")?.as_str()
}

/// It has not been told which server it is under; that its hooks ran is all that it knows.
fn inspect_says_of_gunicorn_what_pyramid_forksafe_says() -> Result<()> {
    let mut program = Program::hold(|folder| gunicorn_with_forksafe(folder, "sync"))?;
    let (debug, server, worker) = debug_and_inspect(&mut program)?;
    ensure!(at(&debug, "/environment").is_null(), "{debug:#}");
    let hooks = json!([
        ["containers.gunicorn.post_fork", "ApplicationPostFork"],
        ["containers.gunicorn.post_worker_init", "ApplicationPostWorkerInit"],
    ]);
    ensure!(at(&debug, "/executed_hooks") == &hooks, "{debug:#}");
    ensure!(at(&server, "/name") == "gunicorn" && at(&worker, "/role") == "worker", "{server:#} {worker:#}");
    ensure!(setting(&server, "worker class") == Some("sync"), "{server:#}");
    ensure!(setting(&server, "preload") == Some("yes"), "{server:#}");
    program.end(Some(Signal::SIGTERM)).map(drop)
}

fn inspect_says_of_uwsgi_what_pyramid_forksafe_says() -> Result<()> {
    let mut program = Program::hold(|folder| uwsgi_with_forksafe(folder, true))?;
    let (debug, server, worker) = debug_and_inspect(&mut program)?;
    ensure!(at(&debug, "/environment") == "uWSGI", "{debug:#}");
    ensure!(at(&debug, "/status") == "uWSGI hook configured", "{debug:#}");
    let hooks = json!([["containers.uwsgi.post_fork_hook", "ApplicationPostFork"]]);
    ensure!(at(&debug, "/executed_hooks") == &hooks, "{debug:#}");
    ensure!(at(&server, "/name") == "uWSGI" && at(&worker, "/role") == "worker", "{server:#} {worker:#}");
    ensure!(setting(&server, "master") == Some("yes"), "{server:#}");
    program.end(Some(Signal::SIGTERM)).map(drop)
}

/// Its hooks do not work there, and it says so.
fn inspect_says_of_a_uwsgi_without_a_master_what_pyramid_forksafe_says() -> Result<()> {
    let mut program = Program::hold(|folder| uwsgi_with_forksafe(folder, false))?;
    let (debug, server, _) = debug_and_inspect(&mut program)?;
    ensure!(at(&debug, "/environment").is_null() && at(&debug, "/executed_hooks") == &json!([]), "{debug:#}");
    ensure!(at(&debug, "/status") == "uWSGI error", "{debug:#}");
    ensure!(
        at(&debug, "/autoconfigure.log/0").as_str().is_some_and(|why| why.contains("master")),
        "{debug:#}"
    );
    ensure!(at(&server, "/name") == "uWSGI", "{server:#}");
    ensure!(setting(&server, "master").is_some_and(|master| master.starts_with("no: ")), "{server:#}");
    // Without a master nobody ends the other worker but whoever clears away.
    Ok(())
}

/// What ufork remembers of a worker: its pid, the status that `waitpid` gave, and the name of a code.
#[derive(Debug, PartialEq)]
struct Remembered {
    pid: i64,
    how: String,
    name: Option<String>,
}

impl Remembered {
    fn of(entry: &Value) -> Result<Self> {
        let number = |pointer: &str| at(entry, pointer).as_i64().with_context(|| format!("{entry}"));
        let (pid, status) = (number("/0")?, i32::try_from(number("/1")?)?);
        let how = if libc::WIFSIGNALED(status) {
            Signal::try_from(libc::WTERMSIG(status))?.as_str().to_owned()
        } else {
            format!("code {}", libc::WEXITSTATUS(status))
        };
        Ok(Self { pid, how, name: at(entry, "/2").as_str().map(str::to_owned) })
    }
}

/// The last workers that have ended, as a daemon tells them; none while it does not know the server.
fn ends(socket: &str, master: i32) -> Result<Option<Vec<Value>>> {
    let mut command = Command::new(binary::forkwatch()?);
    command.args(["inspect", "-o", "json", &master.to_string()]).env("FORKWATCH_SOCKET", socket);
    let document = document(&command.output().context("cannot run forkwatch")?)?;
    Ok(at(&document, "/ends").as_array().cloned())
}

/// Three workers of ufork's end in three ways.
fn the_ends_that_ufork_remembers_are_told_with_their_code_or_signal() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("api.sock").display().to_string();
    let daemon = Daemon::start(&format!("[socket]\npath = \"{socket}\"\ngroup = \"\"\n"), &[])?;
    let python = provided("python")?.join("bin/python");
    let mut program = Program::hold(|_| {
        Ok(Launch::new(python)
            .args([workspace().join("tests/fixtures/python/ufork_ends.py")])
            .env("PYTHONDONTWRITEBYTECODE", "1"))
    })?;
    program.release()?;
    let master = program.pid();
    program.wait_for("three workers", |_| Ok(process::descendants(master).len() == 3))?;
    // A server of an unknown kind is one when its workers have lived for a while.
    until("the daemon to know the server", || ends(&socket, master))?;

    let mut remembered = Vec::new();
    for (worker, signal) in
        process::descendants(master).into_iter().zip([Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGKILL])
    {
        kill(Pid::from_raw(worker.pid), signal)?;
        remembered = until("ufork to have taken note of it", || {
            program.step()?;
            let told = program.next_json()?;
            let told = told.as_array().context("no list")?.iter().map(Remembered::of);
            let told = told.collect::<Result<Vec<_>>>()?;
            Ok(told.iter().any(|dead| dead.pid == i64::from(worker.pid)).then_some(told))
        })?;
    }
    let of_ufork: Vec<(&str, Option<&str>)> =
        remembered.iter().map(|dead| (dead.how.as_str(), dead.name.as_deref())).collect();
    // It looks for the name of the code where the status has it not.
    ensure!(of_ufork == [("code 0", Some("EX_OK")), ("code 70", None), ("SIGKILL", None)], "{remembered:?}");

    let told = until("all three, each with the worker in its place", || {
        let told = ends(&socket, master)?.context("the server is forgotten")?;
        let replaced = told.iter().filter(|end| at(end, "/replaced_by").is_u64()).count();
        Ok((replaced >= remembered.len()).then_some(told))
    })?;
    let same = told.iter().zip(&remembered).all(|(end, dead)| {
        at(end, "/pid") == &Value::from(dead.pid) && at(end, "/how") == &Value::from(dead.how.as_str())
    });
    ensure!(same && told.len() == remembered.len(), "{told:#?}\n{remembered:?}");
    // And what ufork does not know: who has sent the signal.
    let words = told.last().and_then(|end| at(end, "/words").as_str()).unwrap_or_default();
    ensure!(words.contains(&format!("pid {}", std::process::id())), "{told:#?}");
    program.end(Some(Signal::SIGTERM))?;
    daemon.stop()
}

/// What `stdout_lock.py` does with this stream, held before its fork.
fn blocked_output(stream: &str) -> Result<Program> {
    let (_, mut program) = Python::system()?.hold_script("stdout_lock.py", stream)?;
    program.release()?;
    program.next_json()?;
    Ok(program)
}

/// Has it fork; gives the child.
fn fork(program: &mut Program) -> Result<i32> {
    program.step()?;
    let told = program.next_json()?;
    Ok(at(&told, "/child").as_i64().with_context(|| format!("no child in {told}"))?.try_into()?)
}

/// A finding about this process.
fn is_about(event: &Event, hazard: &str, child: i32) -> bool {
    event.pid() == Some(child.into()) && event.finding().is_some_and(|finding| finding.hazard() == hazard)
}

/// The whole of what atfork-lock-release is for: before the fork, in the child, and how the child goes on.
fn a_lock_of_standard_outputs_is_told_before_the_fork_and_released_after() -> Result<()> {
    let mut program = blocked_output("own")?;
    let checked = run("check", program.pid(), &["-o", "json"])?;
    ensure!(checked.status.code() == Some(10), "{checked:?}");
    let checked = document(&checked)?;
    let reasons = at(&checked, "/reasons").as_array().context("no reasons")?;
    let held = reasons.iter().find(|reason| at(reason, "/id") == "held-lock");
    let held = held.and_then(|reason| at(reason, "/what").as_str()).unwrap_or_default();
    ensure!(held.contains("standard output's buffer, by reporter ("), "{checked:#}");

    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    let child = fork(&mut program)?;
    let beside = forkwatch.wait_for("the thread that ran at the fork", |event| {
        ["multithreaded-fork", "held-locks"].iter().any(|hazard| is_about(event, hazard, child))
    })?;
    let summary = beside.finding().context("no finding")?.summary();
    ensure!(summary.contains("reporter"), "{summary}");
    let stuck = forkwatch.wait_for("the child that hangs", |event| {
        is_about(event, "orphaned-lock", child)
            && event.finding().is_some_and(|finding| finding.state() == "confirmed")
    })?;
    let finding = stuck.finding().context("no finding")?;
    ensure!(at(finding.lock(), "/script/frames/0/function") == "main", "{stuck:#?}");

    let rescue = |arguments: &[&str], code: i32, action: &str| -> Result<Value> {
        let output = run("rescue", child, &[arguments, &["-o", "json"]].concat())?;
        let said = schema::rescue(&String::from_utf8_lossy(&output.stdout))?;
        ensure!(output.status.code() == Some(code) && at(&said, "/action") == action, "{said:#}");
        Ok(said)
    };
    let shown = rescue(&["--dry-run"], 0, "would-rescue")?;
    ensure!(at(&shown, "/lock/words").as_array().is_some_and(|words| !words.is_empty()), "{shown:#}");
    ensure!(Identity::of(child).is_some(), "a dry run has let it go on");
    let released = rescue(&["--yes"], 0, "rescued")?;
    ensure!(at(&released, "/released/went_on") == true, "{released:#}");
    // It has nothing to do but to flush.
    let ended = forkwatch
        .wait_for("its end", |event| event.action() == "exit" && event.pid() == Some(child.into()))?;
    ensure!(ended.exit_code() == Some(0), "{ended:?}");
    program.end(None)?;
    forkwatch.stop().map(drop)
}

/// Of the streams that atfork-lock-release is for by itself Python makes the locks anew now.
fn the_lock_of_pythons_own_standard_output_hurts_no_child() -> Result<()> {
    let mut program = blocked_output("python")?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    let child = fork(&mut program)?;
    let ended = forkwatch
        .wait_for("its end", |event| event.action() == "exit" && event.pid() == Some(child.into()))?;
    ensure!(ended.exit_code() == Some(0), "{ended:?}");
    program.end(None)?;
    let (events, _) = forkwatch.stop()?;
    let told = |hazard: &str| events.iter().any(|event| is_about(event, hazard, child));
    ensure!(!told("held-locks") && !told("orphaned-lock"), "{events:#?}");
    Ok(())
}
