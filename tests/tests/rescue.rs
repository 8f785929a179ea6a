//! `forkwatch rescue`: which locks it releases, so that the child goes on and the lock works, and which it leaves alone.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    process::{Command, Output, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, ensure};
use forkwatch_tests::{
    binary,
    event::Event,
    fixture,
    host::needs_root,
    http::get,
    process,
    program::{Program, copy_program},
    python::Python,
    runner::Tests,
    scenario::gunicorn_with_one_worker,
    schema, tests,
    wait::until,
};
use nix::pty::openpty;
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        orphaned_locks_of_glibc_are_released_and_work,
        locks_of_cpython_are_released,
        a_gunicorn_worker_answers_after_all,
        what_may_not_be_released_is_left_alone,
        nothing_is_written_without_consent,
        on_a_terminal_it_asks,
        who_may_not_do_it_is_told_what_is_missing,
    ])
}

/// How rescue ends.
const RESCUED: i32 = 0;
const USAGE: i32 = 2;
const PRIVILEGE: i32 = 3;
const REFUSED: i32 = 11;

/// A program whose child hangs for a lock.
struct Hang {
    name: String,
    program: Program,
    child: i32,
}

impl Hang {
    fn of(name: &str, mut program: Program) -> Result<Self> {
        program.release()?;
        let told = program.next_json()?;
        let child =
            told.get("child").and_then(Value::as_i64).with_context(|| format!("no child in {told}"))?;
        Ok(Self { name: name.to_owned(), program, child: child.try_into()? })
    }

    fn fixture(name: &str, arguments: &[&str]) -> Result<Self> {
        let hang = Self::of(&format!("{name} {}", arguments.join(" ")), fixture::hold(name, arguments)?)?;
        hang.wait().with_context(|| hang.name.clone())?;
        Ok(hang)
    }

    /// Until its child wants the lock.
    fn wait(&self) -> Result<()> {
        until("the child to sleep in futex", || Ok(sleeps_in_futex(self.child).then_some(())))
    }

    /// Rescues it as soon as it is proven to hang, or refused for another reason than that it is too early.
    fn rescue(&self, arguments: &[&str]) -> Result<Rescue> {
        until("a proof", || {
            let rescue = Rescue::of(self.child, arguments)?;
            let reason = rescue.text("/reason");
            // On a busy host the reader may not answer in time.
            let is_to_be_tried_again = ["not for long enough", "changed while", "do not answer"]
                .iter()
                .any(|why| reason.contains(why));
            Ok((!is_to_be_tried_again).then_some(rescue))
        })
        .with_context(|| self.name.clone())
    }
}

/// Whether a thread of a process sleeps in futex(2).
fn sleeps_in_futex(pid: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    let call = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
    threads.flatten().any(|thread| call(thread).starts_with(&format!("{} ", libc::SYS_futex)))
}

/// What a run of rescue said.
struct Rescue {
    code: Option<i32>,
    document: Value,
}

impl Rescue {
    fn of(pid: i32, arguments: &[&str]) -> Result<Self> {
        let output = run(pid, &[arguments, &["-o", "json"]].concat())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = || format!("{} {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
        let document = schema::rescue(&text).with_context(said)?;
        if let Some(finding) = document.get("finding") {
            schema::event(&finding.to_string())?;
        }
        Ok(Self { code: output.status.code(), document })
    }

    fn text(&self, pointer: &str) -> &str {
        self.document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    fn ended(&self, code: i32, action: &str) -> Result<()> {
        ensure!(
            self.code == Some(code) && self.text("/action") == action,
            "{:?}: {:#}",
            self.code,
            self.document
        );
        Ok(())
    }
}

fn run(pid: i32, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary::forkwatch()?);
    command.arg("rescue").arg(pid.to_string()).args(arguments).stdin(Stdio::null());
    command.output().context("cannot run forkwatch")
}

fn orphaned_locks_of_glibc_are_released_and_work() -> Result<()> {
    let kinds = [
        ("normal", "mutex"),
        ("recursive", "mutex"),
        ("checking", "mutex"),
        ("adaptive", "mutex"),
        ("queue", "mutex"),
        ("semaphore", "semaphore"),
        ("writer", "rwlock-writer"),
        ("reader", "rwlock-writer"),
    ];
    let hangs = kinds.iter().map(|(how, _)| Hang::fixture("rescued", &[how])).collect::<Result<Vec<_>>>()?;
    for (mut hang, (how, kind)) in hangs.into_iter().zip(kinds) {
        let rescue = hang.rescue(&["--yes"])?;
        rescue.ended(RESCUED, "rescued").with_context(|| how.to_owned())?;
        ensure!(rescue.text("/lock/kind") == kind, "{how}: {:#}", rescue.document);
        let went_on = rescue.document.pointer("/released/went_on");
        ensure!(went_on == Some(&Value::Bool(true)), "{how}: {:#}", rescue.document);
        let worked = hang.program.next_json().with_context(|| how.to_owned())?;
        ensure!(worked.get("worked") == Some(&Value::from(8000)), "{how}: {worked}");
        // The parent's own is as it was: its thread releases it.
        hang.program.step()?;
        let released = hang.program.next_json()?;
        ensure!(released.get("released").is_some(), "{how}: {released}");
        hang.program.end(None)?;
    }
    Ok(())
}

/// What a child of CPython's wants, which ends when it has got it.
const OF_CPYTHON: [&str; 4] = ["lock", "rlock", "nested_rlock", "buffer"];

fn locks_of_cpython_are_released() -> Result<()> {
    let of_python = |python: Python| -> Result<(Python, Vec<Hang>)> {
        let start = |case: &str| {
            let (name, program) = python.hold(case)?;
            Hang::of(&name, program)
        };
        let hangs = OF_CPYTHON.into_iter().map(start).collect::<Result<_>>()?;
        Ok((python, hangs))
    };
    let known = Python::all()?.into_iter().filter(|python| python.version >= (3, 6));
    let all = known.map(of_python).collect::<Result<Vec<_>>>()?;
    // Each looks twice, two seconds apart.
    thread::scope(|scope| {
        let running = all.iter().map(|(python, hangs)| scope.spawn(|| rescue_all(python, hangs)));
        let running: Vec<_> = running.collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("it has panicked"))?)
    })
}

fn rescue_all(python: &Python, hangs: &[Hang]) -> Result<()> {
    for (hang, case) in hangs.iter().zip(OF_CPYTHON) {
        let name = || hang.name.clone();
        hang.wait().with_context(name)?;
        let rescue = hang.rescue(&["--yes"])?;
        // Without its calls it is not proven what such a child waits for. And from 3.15 on a buffer's lock is a `PyMutex` that
        // belongs to no object, and so may be anything.
        if !python.has_known_frames() || case == "buffer" && python.version >= (3, 15) {
            rescue.ended(REFUSED, "refused").with_context(name)?;
            ensure!(sleeps_in_futex(hang.child), "{} does not wait any more", hang.name);
            continue;
        }
        rescue.ended(RESCUED, "rescued").with_context(name)?;
        let is_parked = match case {
            "lock" => python.parks,
            "rlock" | "nested_rlock" => python.version >= (3, 14),
            _ => false,
        };
        let kind = if is_parked { "py-mutex" } else { "semaphore" };
        ensure!(rescue.text("/lock/kind") == kind, "{}: {:#}", hang.name, rescue.document);
        let ended = || Ok(process::Identity::of(hang.child).is_none().then_some(()));
        until("its end", ended).with_context(name)?;
    }
    Ok(())
}

/// The worker hangs in its first request.
fn a_gunicorn_worker_answers_after_all() -> Result<()> {
    let mut gunicorn = gunicorn_with_one_worker("wsgi_stuck")?;
    gunicorn.release()?;
    let socket = gunicorn.folder().join("socket");
    gunicorn.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    let mut request = UnixStream::connect(&socket)?;
    request.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let master = gunicorn.pid();
    let rescue = until("the worker to be rescued", || {
        for worker in process::descendants(master).iter().filter(|worker| sleeps_in_futex(worker.pid)) {
            let rescue = Rescue::of(worker.pid, &["--yes"])?;
            if rescue.code == Some(RESCUED) {
                return Ok(Some(rescue));
            }
            ensure!(rescue.code == Some(REFUSED), "{:?}: {:#}", rescue.code, rescue.document);
        }
        Ok(None)
    })?;
    rescue.ended(RESCUED, "rescued")?;
    let finding = Event(rescue.document.get("finding").cloned().context("no finding")?);
    let frame =
        finding.finding().context("it is a finding")?.lock().pointer("/script/frames/0/function").cloned();
    ensure!(frame == Some("application".into()), "{frame:?}");
    let mut answer = String::new();
    request.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    for _ in 0..3 {
        let body = get(UnixStream::connect(&socket)?, "/")?;
        ensure!(body == "never\n", "{body}");
    }
    gunicorn.end(Some(nix::sys::signal::Signal::SIGTERM)).map(drop)
}

fn what_may_not_be_released_is_left_alone() -> Result<()> {
    let cases: [(&str, &[&str], &str); 11] = [
        // The forking thread goes on in the child.
        ("self_deadlock", &[], "the thread that called fork held the lock"),
        // The child itself has taken it.
        ("own_deadlock", &["mutex"], ""),
        ("own_deadlock", &["semaphore"], ""),
        ("own_deadlock", &["ended"], ""),
        ("own_deadlock", &["bare"], ""),
        ("shared_semaphore", &[], "other processes may share"),
        ("shared_semaphore", &["mutex"], "other processes may share"),
        ("cond_living_notifier", &["lost"], "is no lock"),
        // A lock of the C library's own.
        ("queue_lll", &["main"], "no kind of lock"),
        ("rescued", &["robust"], ""),
        // Who holds it to read, it does not say.
        ("rescued", &["read"], ""),
    ];
    let start = |(name, arguments, why): (&'static str, &'static [&'static str], &'static str)| {
        Ok((Hang::fixture(name, arguments)?, why))
    };
    let hangs = cases.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    // What is only suspected takes a minute to be told.
    thread::scope(|scope| {
        let running = hangs.iter().map(|(hang, why)| scope.spawn(|| is_refused(hang, why)));
        let running: Vec<_> = running.collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("it has panicked"))?)
    })?;
    a_child_of_which_a_thread_runs_is_left_alone()
}

fn is_refused(hang: &Hang, why: &str) -> Result<()> {
    let before = where_they_sleep(hang.child)?;
    let rescue = hang.rescue(&["--yes"])?;
    rescue.ended(REFUSED, "refused").with_context(|| hang.name.clone())?;
    ensure!(rescue.text("/reason").contains(why), "{}: {:#}", hang.name, rescue.document);
    ensure!(sleeps_in_futex(hang.child), "{} does not wait any more", hang.name);
    ensure!(where_they_sleep(hang.child)? == before, "{} has moved", hang.name);
    Ok(())
}

/// Where each thread sleeps, and how often it has run: one that was stopped has run once more.
fn where_they_sleep(pid: i32) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let folder = thread?.path();
        let status = fs::read_to_string(folder.join("status"))?;
        let switches = status.lines().filter(|line| line.contains("ctxt_switches")).collect::<Vec<_>>();
        seen.push(format!("{}{}", fs::read_to_string(folder.join("syscall"))?, switches.join(" ")));
    }
    Ok(seen)
}

fn a_child_of_which_a_thread_runs_is_left_alone() -> Result<()> {
    let hang = Hang::fixture("rescued", &["spinner"])?;
    let rescue = hang.rescue(&["--yes"])?;
    rescue.ended(REFUSED, "refused")?;
    ensure!(rescue.text("/reason").contains("runs, and does not sleep"), "{:#}", rescue.document);
    let status = fs::read_to_string(format!("/proc/{}/status", hang.child))?;
    ensure!(status.contains("TracerPid:\t0\n") && sleeps_in_futex(hang.child), "{status}");
    Ok(())
}

fn nothing_is_written_without_consent() -> Result<()> {
    let mut hang = Hang::fixture("rescued", &["normal"])?;
    let output = run(hang.child, &[])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(USAGE) && said.contains("--yes"), "{} {said}", output.status);
    let rescue = hang.rescue(&["--dry-run"])?;
    rescue.ended(RESCUED, "would-rescue")?;
    let lock = rescue.document.pointer("/lock/words").and_then(Value::as_array).context("no words")?;
    let last = lock.last().context("no words")?;
    ensure!(
        last.get("before") == Some(&Value::from(2)) && last.get("after") == Some(&Value::from(0)),
        "{last}"
    );
    let text = run(hang.child, &["--dry-run"])?;
    let text = String::from_utf8(text.stdout).context("not UTF-8")?;
    for part in ["ledger", "before: ", "after: owner 0x0", "risk: ", "better: ", "Nothing was written"] {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    let long = text.lines().find(|line| line.chars().count() > 80);
    ensure!(long.is_none(), "longer than 80 columns: {long:?}");
    ensure!(sleeps_in_futex(hang.child), "{} does not wait any more", hang.name);
    // One that did not inherit anything, and none at all.
    let rescue = Rescue::of(hang.program.pid(), &["--yes"])?;
    rescue.ended(REFUSED, "refused")?;
    hang.rescue(&["--yes"])?.ended(RESCUED, "rescued")?;
    hang.program.next_json()?;
    let again = Rescue::of(hang.child, &["--yes"])?;
    again.ended(REFUSED, "refused")
}

fn on_a_terminal_it_asks() -> Result<()> {
    let mut hang = Hang::fixture("rescued", &["normal"])?;
    hang.rescue(&["--dry-run"])?.ended(RESCUED, "would-rescue")?;
    let answers = [
        ("no\n", REFUSED, "Nothing was written"),
        ("\n", REFUSED, "Nothing was written"),
        ("y\n", RESCUED, "was released"),
    ];
    for (answer, code, said) in answers {
        let terminal = openpty(None, None).context("no terminal")?;
        fs::File::from(terminal.master.try_clone()?).write_all(answer.as_bytes())?;
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("rescue").arg(hang.child.to_string());
        command.stdin(terminal.slave.try_clone()?).stderr(terminal.slave);
        let output = command.output().context("cannot run forkwatch")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.code() == Some(code) && text.contains(said),
            "{answer:?}: {} {text}",
            output.status
        );
        ensure!(text.contains("before: owner"), "{answer:?}: asked without a word of what: {text}");
    }
    let worked = hang.program.next_json()?;
    ensure!(worked.get("worked").is_some(), "{worked}");
    Ok(())
}

fn who_may_not_do_it_is_told_what_is_missing() -> Result<()> {
    const NOBODY: u32 = 65534;
    needs_root()?;
    let hang = Hang::fixture("rescued", &["normal"])?;
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("forkwatch");
    copy_program(&binary::forkwatch()?, &copy)?;
    let mut command = Command::new(&copy);
    command.args(["rescue", "--yes"]).arg(hang.child.to_string()).uid(NOBODY).gid(NOBODY);
    let output = command.output().context("cannot run forkwatch")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(PRIVILEGE) && said.contains("CAP_SYS_PTRACE"),
        "{} {said}",
        output.status
    );
    ensure!(sleeps_in_futex(hang.child), "it does not wait any more");
    Ok(())
}
