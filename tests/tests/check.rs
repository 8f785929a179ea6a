//! `forkwatch check`: what it says of processes in known states, and that safefork, asked inside the same Python
//! processes, says the same.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
    thread,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, fixture,
    host::{needs_root, needs_the_hosts_mounts, skip, workspace},
    process,
    program::{Launch, Program, copy_program},
    provided::provided,
    python::Python,
    runner::Tests,
    scenario::{Scenario, uwsgi},
    tests,
    wait::until,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        check_says_what_safefork_says,
        check_of_an_idle_uwsgi_master_says_what_safefork_says,
        check_knows_whether_gunicorn_ends_its_control_thread,
        check_sees_a_running_event_loop,
        check_sees_the_loops_of_every_python,
        check_tells_locks_of_a_process_from_those_of_a_file,
        check_tells_both_ends_of_a_connection,
        check_names_the_holder_of_a_mutex,
        check_of_a_plain_process_is_one_line,
        check_explains_what_it_cannot_look_at,
        check_refuses_what_is_no_process,
        check_says_why_root_may_not_look,
    ])
}

/// What came of a check.
struct Checked {
    code: Option<i32>,
    document: Value,
}

impl Checked {
    fn verdict(&self) -> &str {
        self.document.get("verdict").and_then(Value::as_str).unwrap_or_default()
    }

    /// The ids of the reasons, the weightiest first.
    fn reasons(&self) -> Vec<&str> {
        let reasons = self.document.get("reasons").and_then(Value::as_array);
        reasons.into_iter().flatten().filter_map(|reason| reason.get("id")?.as_str()).collect()
    }

    /// What a reason says was seen.
    fn what(&self, id: &str) -> Result<&str> {
        let reasons = self.document.get("reasons").and_then(Value::as_array).context("no reasons")?;
        let reason = reasons.iter().find(|reason| reason.get("id").is_some_and(|name| name == id));
        let what = reason.and_then(|reason| reason.get("what")?.as_str());
        what.with_context(|| format!("no {id} in {:#}", self.document))
    }
}

fn check(pid: i32) -> Result<Checked> {
    run_check(Command::new(binary::forkwatch()?).args(["check", "-o", "json", &pid.to_string()]))
}

fn run_check(command: &mut Command) -> Result<Checked> {
    let output = command.output().context("cannot run forkwatch")?;
    let document = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no document, but: {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok(Checked { code: output.status.code(), document })
}

/// A state that `fork_check.py` gets into, and what is to be said of it.
struct Case {
    state: &'static str,
    /// Whether safefork finds it safe.
    safefork: bool,
    verdict: &'static str,
    reasons: &'static [&'static str],
    /// Why the two rightly differ.
    differs: Option<&'static str>,
}

impl Case {
    const fn new(
        state: &'static str,
        safefork: bool,
        verdict: &'static str,
        reasons: &'static [&'static str],
    ) -> Self {
        Self { state, safefork, verdict, reasons, differs: None }
    }

    const fn differs(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }
}

const CASES: [Case; 23] = [
    Case::new("nothing", true, "safe", &[]),
    Case::new("named", false, "unsafe", &["threads"]),
    Case::new("daemon", false, "unsafe", &["threads"]),
    Case::new("ended_thread", true, "safe", &[]),
    Case::new("blocked_signal", true, "safe", &[]),
    Case::new("pending_signal", false, "unsafe", &["pending-signals"]),
    Case::new("running_loop", false, "unsafe", &["event-loop"]),
    Case::new("sleeping_loop", false, "unsafe", &["event-loop"]),
    Case::new("busy_loop", false, "unsafe", &["event-loop"]),
    Case::new("computing_loop", false, "unsafe", &["event-loop"]),
    Case::new("idle_loop", true, "risky", &["event-loop"]),
    Case::new("closed_loop", true, "safe", &[]),
    Case::new("ended_loop", true, "safe", &[]),
    Case::new("database", true, "risky", &["database", "posix-lock"]),
    Case::new("gevent_waits", true, "risky", &["event-loop"]),
    Case::new("gevent_works", true, "risky", &["event-loop"]),
    Case::new("gevent_serves", true, "risky", &["event-loop", "listener"]),
    Case::new("gevent_pool", true, "risky", &["threads", "event-loop"]),
    Case::new("gevent_pool_works", true, "unsafe", &["threads", "event-loop"]).differs(
        "safefork does not see the threads of gevent's pool; what one does at the moment may hold any lock",
    ),
    Case::new("numpy_loaded", true, "safe", &["threads"]),
    Case::new("numpy_beside_a_thread", false, "unsafe", &["threads"]),
    Case::new("unknown_to_threading", true, "unsafe", &["threads"])
        .differs("safefork sees the threads that Python's threading module knows; the kernel knows them all"),
    Case::new("not_frozen", false, "safe", &[])
        .differs("that gc.freeze() did not run costs memory, but breaks nothing in the child"),
];

fn check_says_what_safefork_says() -> Result<()> {
    let python = provided("python")?.join("bin/python");
    for case in &CASES {
        let state = case.state;
        // OpenBLAS starts as many threads as there are processors, beside the main one.
        if case.state.starts_with("numpy") && thread::available_parallelism()?.get() < 2 {
            eprintln!("{state} is not compared: it takes two processors");
            continue;
        }
        let mut program = Program::hold(|_| {
            let fixtures = workspace().join("tests/fixtures/python");
            Ok(Launch::new(&python)
                .args([fixtures.join("fork_check.py").into_os_string(), case.state.into()])
                .env("PYTHONDONTWRITEBYTECODE", "1"))
        })?;
        program.release()?;
        let answer = program.next_json()?;
        compare(&program, case, &answer).with_context(|| format!("{state}: {}", program.output()))?;
    }
    Ok(())
}

/// The master of an idle uWSGI waits in an epoll instance for its own workers' signals, and forks from there.
fn check_of_an_idle_uwsgi_master_says_what_safefork_says() -> Result<()> {
    let environment = provided("python")?.display().to_string();
    let cases = [
        (Case::new("without threads", true, "safe", &["event-loop", "listener"]), "wsgi_fork_check.py"),
        (
            Case::new("with a thread", false, "unsafe", &["threads", "event-loop", "listener"]),
            "wsgi_with_thread.py",
        ),
    ];
    for (case, application) in cases {
        let mut program =
            Program::hold(|folder| uwsgi(folder, application, &["--virtualenv", &environment]))?;
        program.release()?;
        program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
        // The application without a thread has asked safefork; of the other one its answer is known.
        let file = program.folder().join("safefork.json");
        let answer =
            fs::read(&file).map_or(Ok(json!({ "safe": false })), |text| serde_json::from_slice(&text))?;
        ensure!(file.exists() == case.safefork, "{} exists: {}", file.display(), file.exists());
        compare(&program, &case, &answer).with_context(|| format!("uWSGI {}", case.state))?;
    }
    Ok(())
}

/// gunicorn 25.1 forks beside the thread of its control socket; later releases end it before each fork.
fn check_knows_whether_gunicorn_ends_its_control_thread() -> Result<()> {
    for (name, verdict, reasons) in [
        (
            "gunicorn_preloads_an_application_without_threads_and_adds_a_worker",
            "safe",
            &["threads", "listener"][..],
        ),
        (
            "gunicorn_25_1_0_forks_beside_its_own_control_thread",
            "unsafe",
            &["threads", "event-loop", "listener"][..],
        ),
    ] {
        let mut program = Scenario::named(name)?.hold()?;
        program.release()?;
        program.said("Control socket listening")?;
        let checked = until("the expected verdict", || {
            let checked = check(program.pid())?;
            Ok((checked.verdict() == verdict).then_some(checked))
        })
        .with_context(|| format!("{name}: {:?}", check(program.pid()).map(|checked| checked.document)))?;
        ensure!(checked.reasons() == reasons, "{name}: {:#}", checked.document);
        ensure!(checked.code == Some(if verdict == "unsafe" { 10 } else { 0 }), "{name}: {:?}", checked.code);
        program.end(Some(Signal::SIGTERM))?;
    }
    Ok(())
}

/// Holds what is said of a program against what it has said of itself.
fn compare(program: &Program, case: &Case, answer: &Value) -> Result<()> {
    let safe = answer.get("safe").and_then(Value::as_bool).context("safefork said nothing")?;
    // Right after it spoke, its event loop need not yet wait.
    let checked = until("the expected verdict", || {
        let checked = check(program.pid())?;
        Ok((checked.verdict() == case.verdict && checked.reasons() == case.reasons).then_some(checked))
    })
    .with_context(|| {
        let last = check(program.pid()).map(|checked| format!("{:#}", checked.document));
        last.unwrap_or_default()
    })?;
    ensure!(safe == case.safefork, "safefork says {safe}");
    let code = if case.verdict == "unsafe" { 10 } else { 0 };
    ensure!(checked.code == Some(code), "exit code {:?}", checked.code);
    let agree = safe == (code == 0);
    ensure!(agree == case.differs.is_none(), "{:?}", case.differs);
    Ok(())
}

/// A fixture that holds something, and what it told.
fn holder(what: &str) -> Result<(Program, Value)> {
    let mut program = fixture::hold("holder", &[what])?;
    program.release()?;
    let told = program.next_json()?;
    Ok((program, told))
}

fn check_sees_a_running_event_loop() -> Result<()> {
    let (mut program, _) = holder("epoll")?;
    let checked = until("the loop to wait", || {
        let checked = check(program.pid())?;
        Ok((checked.verdict() == "unsafe").then_some(checked))
    })?;
    ensure!(checked.reasons() == ["event-loop"] && checked.code == Some(10), "{:#}", checked.document);
    program.end(None).map(drop)
}

fn check_sees_the_loops_of_every_python() -> Result<()> {
    for python in Python::all()?.into_iter().filter(|python| python.version >= (3, 6)) {
        for state in ["waits", "sleeps", "computes", "ended"] {
            // Where the frames of a version are not known it says so, instead of a guess.
            let expected = match (python.has_known_frames(), state) {
                (false, _) => "undecided",
                (true, "ended") => "risky",
                (true, _) => "unsafe",
            };
            let (name, mut program) = python.hold_script("loops.py", state)?;
            program.release()?;
            let checked = until("the expected verdict", || {
                let checked = check(program.pid())?;
                Ok((checked.verdict() == expected).then_some(checked))
            })
            .with_context(|| name.clone())?;
            ensure!(checked.reasons() == ["event-loop"], "{name}: {:#}", checked.document);
            let what = checked.what("event-loop")?;
            ensure!(
                (expected == "unsafe") == what.starts_with("an event loop runs (asyncio)"),
                "{name}: {what}"
            );
        }
    }
    Ok(())
}

fn check_tells_locks_of_a_process_from_those_of_a_file() -> Result<()> {
    for (what, id, file) in [("posix-lock", "posix-lock", "daemon.pid"), ("flock", "flock", "daemon.lock")] {
        let (mut program, _) = holder(what)?;
        let checked = check(program.pid())?;
        ensure!(checked.reasons() == [id] && checked.verdict() == "risky", "{:#}", checked.document);
        ensure!(checked.what(id)?.ends_with(file) && checked.code == Some(0), "{:#}", checked.document);
        program.end(None)?;
    }
    Ok(())
}

fn check_tells_both_ends_of_a_connection() -> Result<()> {
    let (mut program, told) = holder("tcp")?;
    let port = told.get("port").and_then(Value::as_u64).context("no port")?;
    let checked = check(program.pid())?;
    ensure!(
        checked.reasons() == ["connection", "accepted-connections", "listener"],
        "{:#}",
        checked.document
    );
    ensure!(
        checked.what("connection")? == format!("connected to 127.0.0.1:{port}"),
        "{:#}",
        checked.document
    );
    program.end(None).map(drop)
}

fn check_names_the_holder_of_a_mutex() -> Result<()> {
    let (mut program, _) = holder("mutex")?;
    let checked = until("a thread to wait for the mutex", || {
        let checked = check(program.pid())?;
        Ok(checked.reasons().contains(&"contended-lock").then_some(checked))
    })?;
    let what = checked.what("contended-lock")?;
    ensure!(what.contains(&format!("thread {} (log-flush) holds", program.pid())), "{what}");
    ensure!(what.contains("(request) waits for it"), "{what}");
    ensure!(checked.reasons() == ["contended-lock", "threads"], "{:#}", checked.document);
    program.end(None).map(drop)
}

fn check_of_a_plain_process_is_one_line() -> Result<()> {
    needs_the_hosts_mounts()?;
    let (mut program, _) = holder("nothing")?;
    let output = Command::new(binary::forkwatch()?).args(["check", &program.pid().to_string()]).output()?;
    let uid = nix::unistd::getuid();
    let expected = format!("holder (pid {}, uid {uid}): a fork now would be safe.\n", program.pid());
    ensure!(String::from_utf8_lossy(&output.stdout) == expected, "{output:?}");
    ensure!(output.status.code() == Some(0), "{output:?}");
    program.end(None).map(drop)
}

fn check_explains_what_it_cannot_look_at() -> Result<()> {
    /// `nobody`, who may not look at what is root's.
    const NOBODY: u32 = 65534;
    needs_root()?;
    let (mut program, _) = holder("nothing")?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("forkwatch");
    copy_program(&binary::forkwatch()?, &copy)?;
    let mut command = Command::new(copy);
    command.args(["check", "-o", "json", &program.pid().to_string()]).uid(NOBODY).gid(NOBODY);
    let checked = run_check(&mut command)?;
    ensure!(checked.verdict() == "undecided" && checked.code == Some(3), "{:#}", checked.document);
    let unknown = checked.document.get("unknown").and_then(Value::as_array).context("no unknown")?;
    ensure!(
        unknown.iter().any(|unknown| unknown.get("what").is_some_and(|what| what == "descriptors")),
        "{:#}",
        checked.document
    );
    program.end(None).map(drop)
}

fn check_refuses_what_is_no_process() -> Result<()> {
    let (mut program, _) = holder("mutex")?;
    let pid = program.pid();
    let thread = fs::read_dir(format!("/proc/{pid}/task"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .find(|tid| *tid != pid)
        .with_context(|| format!("no other thread: {:?}", process::thread_names(pid)))?;
    let said = |output: &Output, with: &str| {
        ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
        ensure!(String::from_utf8_lossy(&output.stderr).contains(with), "{output:?}");
        Ok(())
    };
    let refused = |pid: i32, with: &str| {
        said(&Command::new(binary::forkwatch()?).args(["check", &pid.to_string()]).output()?, with)
    };
    refused(thread, &format!("{thread} is a thread of process {pid}"))?;
    program.end(None)?;
    refused(pid, &format!("there is no process {pid}: it has ended"))?;

    let mut ended = Command::new("true").spawn().context("cannot run true")?;
    let zombie = ended.id().cast_signed();
    until("a zombie", || {
        Ok(fs::read_to_string(format!("/proc/{zombie}/stat"))?.contains(") Z ").then_some(()))
    })?;
    let own = std::process::id();
    refused(
        zombie,
        &format!(
            "process {zombie} (true) has ended: it is a zombie, and stays one until its parent, process {own},"
        ),
    )?;
    ended.wait()?;

    let itself =
        Command::new("sh").args(["-c", "exec \"$0\" check $$"]).arg(binary::forkwatch()?).output()?;
    said(&itself, "is this forkwatch itself: give the pid of the process that forks")?;
    // In a pid namespace of its own a container sees no thread of the kernel.
    if fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm == "kthreadd\n") {
        refused(2, "2 is a thread of the kernel")?;
    }
    Ok(())
}

/// Where pid 1 is closed also to root, as in some sandboxes, no privilege would help.
fn check_says_why_root_may_not_look() -> Result<()> {
    needs_root()?;
    if fs::read_link("/proc/1/fd/0").is_ok() || Path::new("/proc/1/fd/0").symlink_metadata().is_err() {
        return skip("pid 1 can be looked into here, or has no stdin");
    }
    let checked = check(1)?;
    let unknown = checked.document.get("unknown").and_then(Value::as_array).context("no unknown")?;
    let descriptors = unknown
        .iter()
        .find(|unknown| unknown.get("what").is_some_and(|what| what == "descriptors"))
        .with_context(|| format!("{:#}", checked.document))?;
    let why = descriptors.get("why").and_then(Value::as_str).unwrap_or_default();
    ensure!(why.contains("the kernel refuses it although forkwatch has CAP_SYS_PTRACE"), "{why}");
    ensure!(descriptors.get("denied") == Some(&json!(false)), "{descriptors}");
    Ok(())
}
