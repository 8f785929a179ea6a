//! The process that runs hooks, beside a running daemon.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary, fixture,
    forkwatch::Forkwatch,
    host::needs_root,
    process::Identity,
    program::{Program, copy_program},
    runner::Tests,
    scenario::gunicorn_with_one_worker,
    schema, tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_finding_runs_its_hooks_in_their_order,
        hooks_are_switched_tried_and_read_anew_while_they_run,
        a_hook_may_kill_what_it_was_told_of,
        a_worker_that_was_killed_starts_a_hook,
        hooks_that_hang_keep_neither_the_watch_nor_the_end_waiting,
        a_hook_does_not_outlive_the_process_that_runs_it,
        a_daemon_that_ends_is_said_and_heard_again,
        a_stranger_may_neither_ask_nor_switch,
        a_file_that_cannot_be_used_is_refused_with_its_line,
    ])
}

/// A daemon, and a process that runs hooks.
pub(crate) struct Hooked {
    daemon: Option<Forkwatch>,
    hooks: Child,
    folder: TempDir,
}

impl Drop for Hooked {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.hooks.kill();
        let _ = self.hooks.wait();
    }
}

impl Hooked {
    /// With these hooks, in which `FOLDER` stands for a folder of their own.
    pub(crate) fn start(hooks: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path();
        fs::write(path.join("hooks.toml"), hooks.replace("FOLDER", &path.display().to_string()))?;
        let daemon = daemon(path)?;
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("hooks").arg("--config").arg(path.join("hooks.toml"));
        command.arg("--socket").arg(path.join("api.sock")).arg("--control").arg(path.join("hooks.sock"));
        let log = fs::File::create(path.join("log"))?;
        let hooks = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        let hooked = Self { daemon: Some(daemon), hooks, folder };
        hooked.until_heard()?;
        Ok(hooked)
    }

    fn until_heard(&self) -> Result<()> {
        until("the daemon to be heard", || {
            let list = self.run(&["list", "--json"])?;
            if !list.status.success() {
                return Ok(None);
            }
            let list: Value = serde_json::from_slice(&list.stdout)?;
            Ok((list.get("connected") == Some(&Value::Bool(true))).then_some(()))
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `forkwatch hook` with these arguments.
    fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("hook").args(arguments).env("FORKWATCH_HOOKS_SOCKET", self.path("hooks.sock"));
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// The same, which must end well; gives what it said.
    fn say(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments)?;
        ensure!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(crate) fn list(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.say(&["list", "--json"])?)?)
    }

    /// How often it has run so.
    pub(crate) fn count(&self, hook: &str, what: &str) -> Result<u64> {
        let list = self.list()?;
        let hooks = list.get("hooks").and_then(Value::as_array).context("no hooks")?;
        let found = hooks.iter().find(|one| one.get("name").and_then(Value::as_str) == Some(hook));
        found.and_then(|one| one.get(what)?.as_u64()).with_context(|| format!("no {what} of {hook}: {list}"))
    }

    pub(crate) fn until_counted(&self, hook: &str, what: &str, least: u64) -> Result<()> {
        until(&format!("{hook} to be counted as {what}"), || {
            Ok((self.count(hook, what)? >= least).then_some(()))
        })
    }

    /// Has both end.
    pub(crate) fn end(mut self) -> Result<()> {
        kill(Pid::from_raw(self.hooks.id().try_into()?), Signal::SIGTERM)?;
        let status = self.hooks.wait()?;
        ensure!(status.success(), "{status}: {}", fs::read_to_string(self.path("log"))?);
        self.daemon.take().map_or(Ok(()), |daemon| daemon.stop().map(drop))
    }
}

fn daemon(folder: &Path) -> Result<Forkwatch> {
    let configuration = format!(
        "[web]\nlisten_addresses = []\n[socket]\npath = \"{}\"\n[findings]\nstore = \"none\"\n",
        folder.join("api.sock").display()
    );
    let file = folder.join("forkwatch.toml");
    fs::write(&file, configuration)?;
    Forkwatch::daemon(["--config".as_ref(), file.as_os_str()])
}

/// A program that forks beside threads, and the child. Nobody else has its name.
pub(crate) fn unsafe_fork(name: &str) -> Result<(Program, i32)> {
    let mut program = fixture::hold_as("mt_fork", name, &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    Ok((program, child.try_into()?))
}

/// Documents that a hook has written, a line each.
pub(crate) fn documents(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may not be whole yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn pid(document: &Value) -> Option<i64> {
    document.pointer("/process/pid").and_then(Value::as_i64)
}

fn a_finding_runs_its_hooks_in_their_order() -> Result<()> {
    let hook = |name: &str, order: i32, more: &str| {
        format!(
            "[[hook]]\nname = \"{name}\"\non = [\"finding\"]\nhazard = [\"multithreaded-fork\", \"held-locks\"]\n\
             comm = \"hooked-order\"\norder = {order}\n{more}\n"
        )
    };
    let write = |name: &str, end: &str| {
        format!("exec = [\"/bin/sh\", \"-c\", \"echo {name} {{pid}} {{hazard}} >> FOLDER/order; {end}\"]")
    };
    let text = [
        hook("older", 0, &write("older", "exit 0")),
        hook("newer", 0, &write("newer", "exit 3")),
        hook("off", -9, &(write("off", "exit 0") + "\nenabled = false")),
        hook("other", -8, &(write("other", "exit 0") + "\nseverity = \"critical\"")),
        hook("document", -1, "exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/documents\"]"),
    ]
    .concat();
    let hooked = Hooked::start(&text)?;
    let (mut program, child) = unsafe_fork("hooked-order")?;
    hooked.until_counted("older", "good", 1)?;
    let ran = fs::read_to_string(hooked.path("order"))?;
    let told: Vec<&str> = ran.lines().collect();
    let [first, second] = told.as_slice() else { anyhow::bail!("{ran}") };
    for (line, name) in [(first, "newer"), (second, "older")] {
        ensure!(
            line.starts_with(&format!("{name} {child} multithreaded-fork"))
                || line.starts_with(&format!("{name} {child} held-locks")),
            "{ran}"
        );
    }
    ensure!(hooked.count("newer", "failed")? == 1 && hooked.count("off", "good")? == 0);
    let documents = documents(&hooked.path("documents"))?;
    let [document] = documents.as_slice() else { anyhow::bail!("{documents:?}") };
    ensure!(pid(document) == Some(child.into()), "{document}");
    schema::event(&document.to_string())?;
    let shown = hooked.say(&["list"])?;
    ensure!(shown.contains("it exited with code 3") && shown.lines().all(|line| line.len() <= 80), "{shown}");
    program.end(None)?;
    hooked.end()
}

fn hooks_are_switched_tried_and_read_anew_while_they_run() -> Result<()> {
    let one = "[[hook]]\nname = \"one\"\non = [\"finding\"]\ncomm = \"hooked-switch*\"\n\
               exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/one\"]\n";
    let all = "[[hook]]\nname = \"all\"\non = [\"finding\"]\ncomm = \"hooked-switch*\"\norder = 1\n\
               exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/all\"]\n";
    let hooked = Hooked::start(&(one.to_owned() + all))?;
    ensure!(hooked.say(&["disable", "one"])?.contains("for good, set enabled = false"));
    let (mut first, _) = unsafe_fork("hooked-switch1")?;
    hooked.until_counted("all", "good", 1)?;
    ensure!(documents(&hooked.path("one"))?.is_empty(), "it is off");
    // What is off can be tried.
    let tried = hooked.say(&["test", "one"])?;
    ensure!(tried.contains("one ran") && tried.contains("It is off"), "{tried}");
    let made_up = documents(&hooked.path("one"))?;
    ensure!(
        made_up.iter().all(|one| one.to_string().contains("This is a test of the hook one")),
        "{made_up:?}"
    );
    hooked.say(&["enable", "one"])?;
    let (mut second, child) = unsafe_fork("hooked-switch2")?;
    hooked.until_counted("one", "good", 1)?;
    ensure!(documents(&hooked.path("one"))?.iter().any(|one| pid(one) == Some(child.into())));

    let file = hooked.path("hooks.toml");
    let usable = fs::read_to_string(&file)?;
    fs::write(&file, usable.replace("\"finding\"", "\"findings\""))?;
    let refused = hooked.run(&["reload"])?;
    let why = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && why.contains("\"findings\" is none of finding"), "{why}");
    ensure!(hooked.count("one", "good")? == 1, "everything stays");
    fs::write(
        &file,
        format!("{usable}[[hook]]\nname = \"new\"\non = [\"rescued\"]\nexec = [\"/bin/false\"]\n"),
    )?;
    kill(Pid::from_raw(hooked.hooks.id().try_into()?), Signal::SIGHUP)?;
    until("the new hook", || Ok(hooked.count("new", "good").ok()))?;
    ensure!(hooked.count("one", "good")? == 1, "what was counted stays");
    let failed = hooked.run(&["test", "new"])?;
    ensure!(failed.status.code() == Some(1), "{failed:?}");
    ensure!(hooked.run(&["test", "none"])?.status.code() == Some(1));
    first.end(None)?;
    second.end(None)?;
    hooked.end()
}

fn a_hook_may_kill_what_it_was_told_of() -> Result<()> {
    let text = "[[hook]]\nname = \"kill\"\non = [\"finding\"]\ncomm = \"hooked-kill\"\n\
                exec = [\"/bin/kill\", \"-KILL\", \"{pid}\"]\n\
                [[hook]]\nname = \"over\"\non = [\"finding\"]\nstate = [\"resolved\"]\ncomm = \"hooked-kill\"\n\
                exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/over\"]\n";
    let hooked = Hooked::start(text)?;
    let (mut program, child) = unsafe_fork("hooked-kill")?;
    hooked.until_counted("over", "good", 1)?;
    let over = documents(&hooked.path("over"))?;
    let killed = over.iter().find(|one| pid(one) == Some(child.into())).context("not this child")?;
    let how = killed.pointer("/forkwatch/finding/resolution").and_then(Value::as_str);
    ensure!(how.is_some_and(|how| how.starts_with("killed")), "{killed}");
    ensure!(Identity::of(child).is_none(), "it lives");
    // One that tells of a process that has ended runs nothing, whoever has its pid by now.
    ensure!(hooked.say(&["test", "kill"])?.contains("kill ran"), "a test gives it a process to kill");
    program.end(None)?;
    hooked.end()
}

fn a_worker_that_was_killed_starts_a_hook() -> Result<()> {
    let text = "[[hook]]\nname = \"killed\"\non = [\"worker_exited\"]\nserver = \"gunicorn\"\nhow = [\"SIG*\"]\n\
                exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/killed\"]\n\
                [[hook]]\nname = \"ready\"\non = [\"worker_ready\"]\nserver = \"gunicorn\"\n\
                exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/ready\"]\n";
    let hooked = Hooked::start(text)?;
    let mut program = gunicorn_with_one_worker("wsgi")?;
    program.release()?;
    let master = i64::from(program.pid());
    let of_master =
        |document: &&Value| document.pointer("/process/parent/pid").and_then(Value::as_i64) == Some(master);
    let worker = until("a worker that is ready", || {
        Ok(documents(&hooked.path("ready"))?.iter().find(of_master).and_then(pid))
    })?;
    kill(Pid::from_raw(worker.try_into()?), Signal::SIGKILL)?;
    let ended = until("its end to be told", || {
        Ok(documents(&hooked.path("killed"))?.into_iter().find(|one| pid(one) == Some(worker)))
    })?;
    ensure!(
        ended.pointer("/forkwatch/worker/end/signal").and_then(Value::as_str) == Some("SIGKILL"),
        "{ended}"
    );
    schema::event(&ended.to_string())?;
    program.end(Some(Signal::SIGTERM))?;
    hooked.end()
}

fn hooks_that_hang_keep_neither_the_watch_nor_the_end_waiting() -> Result<()> {
    let text = "[[hook]]\nname = \"hang\"\non = [\"finding\"]\ncomm = \"hooked-hang*\"\ntimeout = \"1h\"\n\
                exec = [\"/bin/sh\", \"-c\", \"echo $$ >> FOLDER/hangs; sleep 100000; true\"]\n\
                [[hook]]\nname = \"flood\"\non = [\"finding\"]\ncomm = \"hooked-hang*\"\norder = -1\n\
                timeout = \"200ms\"\nexec = [\"/usr/bin/yes\"]\n";
    let hooked = Hooked::start(text)?;
    let mut programs = Vec::new();
    for number in 0..3 {
        programs.push(unsafe_fork(&format!("hooked-hang{number}"))?);
    }
    let pids = until("three that hang", || {
        let pids = fs::read_to_string(hooked.path("hangs")).unwrap_or_default();
        Ok((pids.lines().count() == 3).then_some(pids))
    })?;
    hooked.until_counted("flood", "timed_out", 3)?;
    let list = hooked.list()?;
    ensure!(list.get("connected") == Some(&Value::Bool(true)), "{list}");
    ensure!(list.get("gaps").and_then(Value::as_u64) == Some(0), "the daemon has not dropped it: {list}");
    for (mut program, _) in programs {
        program.end(None)?;
    }
    hooked.end()?;
    for pid in pids.lines() {
        // Not ours to wait for, so it may be a zombie for a moment.
        let pid = pid.parse()?;
        until("what hung to be killed", || Ok(Identity::of(pid).is_none().then_some(())))?;
    }
    Ok(())
}

fn a_hook_does_not_outlive_the_process_that_runs_it() -> Result<()> {
    let text = "[[hook]]\nname = \"long\"\non = [\"finding\"]\ncomm = \"hooked-orphan\"\ntimeout = \"1h\"\n\
                exec = [\"/bin/sh\", \"-c\", \"echo $$ > FOLDER/pid; exec sleep 100000\"]\n";
    let mut hooked = Hooked::start(text)?;
    let (mut program, _) = unsafe_fork("hooked-orphan")?;
    let pid: i32 = until("the hook to run", || {
        let pid = fs::read_to_string(hooked.path("pid")).unwrap_or_default();
        Ok(pid.strip_suffix('\n').map(str::to_owned))
    })?
    .parse()?;
    hooked.hooks.kill()?;
    until("the hook to be killed", || Ok(Identity::of(pid).is_none().then_some(())))?;
    program.end(None).map(drop)
}

fn a_daemon_that_ends_is_said_and_heard_again() -> Result<()> {
    let text =
        "[[hook]]\nname = \"one\"\non = [\"finding\"]\ncomm = \"hooked-again\"\nexec = [\"/bin/true\"]\n";
    let mut hooked = Hooked::start(text)?;
    hooked.daemon.take().context("no daemon")?.stop()?;
    until("the end to be noticed", || {
        Ok(hooked.say(&["list"])?.contains("NOTHING STARTS A HOOK").then_some(()))
    })?;
    hooked.daemon = Some(daemon(hooked.folder.path())?);
    hooked.until_heard()?;
    ensure!(hooked.list()?.get("gaps").and_then(Value::as_u64) == Some(1));
    let (mut program, _) = unsafe_fork("hooked-again")?;
    hooked.until_counted("one", "good", 1)?;
    program.end(None)?;
    hooked.end()
}

fn a_stranger_may_neither_ask_nor_switch() -> Result<()> {
    needs_root()?;
    let text = "[[hook]]\nname = \"one\"\non = [\"finding\"]\ncomm = \"nobody-is-called-so\"\nexec = [\"/bin/true\"]\n";
    let hooked = Hooked::start(text)?;
    let shared = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir()?;
    let program = shared.path().join("forkwatch");
    copy_program(Path::new(binary::forkwatch()?.as_os_str()), &program)?;
    fs::set_permissions(hooked.folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    for arguments in [["list"].as_slice(), &["disable", "one"], &["test", "one"], &["reload"]] {
        let mut command = Command::new(&program);
        command.arg("hook").args(arguments).arg("--control").arg(hooked.path("hooks.sock"));
        let output = command.uid(65_534).gid(65_534).stdin(Stdio::null()).output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(3), "{arguments:?}: {output:?}");
        ensure!(why.contains("only root may ask about hooks"), "{why}");
    }
    ensure!(hooked.say(&["list"])?.contains("one (on)"));
    hooked.end()
}

fn a_file_that_cannot_be_used_is_refused_with_its_line() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("hooks.toml");
    for (text, words) in [
        (
            "[[hook]]\nname = \"x\"\non = [\"finding\"]\nexec = [\"relative\"]\n",
            "absolute path of the program",
        ),
        (
            "[[hook]]\nname = \"x\"\non = [\"finding\"]\nurl = \"ftp://example.org\"\n",
            "begins neither with http:// nor with https://",
        ),
        ("[[hook]\n", "line 1"),
        ("\u{0}", "hooks.toml cannot be used"),
    ] {
        fs::write(&file, text)?;
        for command in [["hook", "check"].as_slice(), &["hooks", "--config"]] {
            let mut forkwatch = Command::new(binary::forkwatch()?);
            let output = forkwatch.args(command).arg(&file).stdin(Stdio::null()).output()?;
            let why = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(2), "{command:?} {text:?}: {output:?}");
            ensure!(why.contains(words), "{text:?}: {why}");
        }
    }
    fs::write(&file, "[[hook]]\nname = \"x\"\non = [\"finding\"]\nexec = [\"/nonexistent/program\"]\n")?;
    let mut check = Command::new(binary::forkwatch()?);
    let output = check.args(["hook", "check"]).arg(&file).stdin(Stdio::null()).output()?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && why.contains("/nonexistent/program cannot be found"), "{output:?}");
    Ok(())
}
