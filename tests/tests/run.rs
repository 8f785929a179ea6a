//! `forkwatch run`: the command's output, signals and exit code pass through, and what is found fails the run.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    host::{needs_bpf, needs_root},
    program::copy_program,
    runner::Tests,
    schema, tests,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use quick_junit::{Report, TestCaseStatus};
use serde_json::{Value, json};
use serde_sarif::sarif::Sarif;
use tempfile::TempDir;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        output_input_and_exit_code_are_the_commands,
        a_signal_reaches_the_command_and_its_end_is_told_as_a_shell_does,
        a_command_that_cannot_be_run_ends_as_env_says,
        a_proven_fault_ends_it_with_10_and_stands_in_every_report,
        the_level_says_what_counts,
        what_is_accepted_does_not_count,
        a_child_that_outlives_the_command_is_judged,
        a_report_that_cannot_be_written_is_said_before_the_command_runs,
        without_privileges_the_command_does_not_run,
        without_ptrace_the_fork_is_found_and_it_is_said_what_cannot_be_seen,
        tail_ends_with_10_where_it_is_asked_to,
        a_user_who_may_ask_a_daemon_needs_no_privileges,
        what_else_a_daemon_finds_is_not_the_commands,
    ])
}

/// A run that has started, with its stdin and stderr in pipes.
struct Run {
    process: Child,
    stderr: BufReader<ChildStderr>,
    said: String,
}

impl Run {
    fn start(options: &[&str], command: &[&str]) -> Result<Self> {
        needs_bpf()?;
        Self::start_by(&mut Command::new(binary::forkwatch()?), options, command)
    }

    fn start_by(forkwatch: &mut Command, options: &[&str], command: &[&str]) -> Result<Self> {
        let mut process = forkwatch
            .arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run forkwatch")?;
        let stderr = BufReader::new(process.stderr.take().context("no pipe")?);
        Ok(Self { process, stderr, said: String::new() })
    }

    /// Reads what it says until this is in a line.
    fn wait_for(&mut self, what: &str) -> Result<()> {
        loop {
            let mut line = String::new();
            ensure!(self.stderr.read_line(&mut line)? > 0, "it ended without {what:?}: {}", self.said);
            self.said += &line;
            if line.contains(what) {
                return Ok(());
            }
        }
    }

    /// Closes stdin, and waits for the end. The text is all that it said on stderr.
    fn finish(mut self) -> Result<(Output, String)> {
        drop(self.process.stdin.take());
        self.stderr.read_to_string(&mut self.said).context("no stderr")?;
        let output = self.process.wait_with_output().context("it does not end")?;
        Ok((output, self.said))
    }
}

/// A daemon that members of `nogroup` may ask, and programs that everybody may run.
struct Asked {
    daemon: Forkwatch,
    folder: TempDir,
}

impl Asked {
    fn start() -> Result<Self> {
        needs_root()?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let folder = tempfile::Builder::new().prefix("forkwatch-").permissions(mode).tempdir()?;
        let configuration = format!(
            "[web]\nlisten_addresses = []\n[socket]\npath = \"{}\"\ngroup = \"nogroup\"\n[findings]\nstore = \"none\"\n",
            folder.path().join("api.sock").display()
        );
        let file = folder.path().join("forkwatch.toml");
        fs::write(&file, configuration)?;
        copy_program(&binary::forkwatch()?, &folder.path().join("forkwatch"))?;
        copy_program(&fixture::fixture("mt_fork")?, &folder.path().join("asked-daemon"))?;
        let daemon = Forkwatch::daemon(["--config".as_ref(), file.as_os_str()])?;
        Ok(Self { daemon, folder })
    }

    /// The program that forks beside threads.
    fn unsafe_program(&self) -> String {
        self.folder.path().join("asked-daemon").display().to_string()
    }

    /// Runs it as this user, who has this group alone.
    fn run_as(&self, id: u32, options: &[&str], command: &[&str]) -> Result<Run> {
        let mut forkwatch = Command::new(self.folder.path().join("forkwatch"));
        forkwatch
            .uid(id)
            .gid(id)
            .env("FORKWATCH_SOCKET", self.folder.path().join("api.sock"))
            .current_dir("/");
        Run::start_by(&mut forkwatch, options, command)
    }
}

/// `nobody`, and `nogroup`.
const NOBODY: u32 = 65_534;

fn a_user_who_may_ask_a_daemon_needs_no_privileges() -> Result<()> {
    let asked = Asked::start()?;
    // The same again, which a daemon would else sum up.
    for _ in 0..2 {
        let mut run = asked.run_as(NOBODY, &["--fail-on", "suspected"], &[&asked.unsafe_program()])?;
        run.wait_for("is asked; its own settings apply")?;
        run.wait_for("WARNING")?;
        let (output, said) = run.finish()?;
        code(&output, &said, 10)?;
        ensure!(said.contains("watched by the daemon; 1 finding, 1 of which count"), "{said}");
    }
    let (output, said) = asked.run_as(NOBODY, &[], &["/bin/sh", "-c", "exit 7"])?.finish()?;
    code(&output, &said, 7)?;
    ensure!(said.contains("nothing unsafe was found"), "{said}");
    // Whoever may neither watch nor ask is told both.
    let trace = path(&asked.folder, "trace");
    let (output, said) = asked.run_as(1, &[], &["/usr/bin/touch", &trace])?.finish()?;
    code(&output, &said, 3)?;
    ensure!(said.contains("CAP_BPF") && said.contains("uid 1 may not ask"), "{said}");
    let (output, said) =
        asked.run_as(NOBODY, &["--record", &trace], &["/usr/bin/touch", &trace])?.finish()?;
    code(&output, &said, 3)?;
    ensure!(said.contains("not with --record") && !Path::new(&trace).exists(), "{said}");
    asked.daemon.stop().map(drop)
}

fn what_else_a_daemon_finds_is_not_the_commands() -> Result<()> {
    let asked = Asked::start()?;
    let run = asked.run_as(NOBODY, &["--fail-on", "info"], &["/bin/cat"])?;
    let mut other = Command::new(asked.folder.path().join("asked-daemon"));
    let mut other = other
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .current_dir("/")
        .spawn()?;
    let mut forked = String::new();
    BufReader::new(other.stdout.take().context("no pipe")?).read_line(&mut forked)?;
    let forked: Value = serde_json::from_str(&forked)?;
    let child = forked.get("child").and_then(Value::as_i64).context("no child")?;
    let mut asked = asked;
    let found = |event: &Event| event.finding().is_some() && event.pid() == Some(child);
    asked.daemon.wait_for("the finding about the other", found)?;
    drop(other.stdin.take());
    other.wait()?;
    let (output, said) = run.finish()?;
    code(&output, &said, 0)?;
    ensure!(said.contains("nothing unsafe was found"), "{said}");
    asked.daemon.stop().map(drop)
}

/// Runs to the end, without input.
fn run(options: &[&str], command: &[&str]) -> Result<(Output, String)> {
    Run::start(options, command)?.finish()
}

fn code(output: &Output, said: &str, code: i32) -> Result<()> {
    ensure!(output.status.code() == Some(code), "ended with {} and not {code}: {said}", output.status);
    Ok(())
}

/// A folder for reports, that only its owner can write to.
fn folder() -> Result<TempDir> {
    tempfile::Builder::new().prefix("forkwatch-").tempdir().context("no temporary folder")
}

fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

fn read_json(file: &str) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))
}

fn output_input_and_exit_code_are_the_commands() -> Result<()> {
    needs_root()?;
    let mut started = Run::start(&[], &["/bin/sh", "-c", "read word; echo \"got $word\"; exit 7"])?;
    {
        use std::io::Write as _;
        started.process.stdin.as_mut().context("no pipe")?.write_all(b"this\n")?;
    }
    let (output, said) = started.finish()?;
    code(&output, &said, 7)?;
    ensure!(output.stdout == b"got this\n", "{}", String::from_utf8_lossy(&output.stdout));
    ensure!(said.contains("the command ended with code 7"), "{said}");
    ensure!(said.contains("nothing unsafe was found"), "{said}");
    // The command has no descriptor that it would not have without forkwatch.
    let (output, said) = run(&[], &["/bin/ls", "/proc/self/fd"])?;
    code(&output, &said, 0)?;
    let plain = Command::new("/bin/ls")
        .arg("/proc/self/fd")
        .stdin(Stdio::piped())
        .output()
        .context("cannot run ls")?;
    let listed = |output: &Output| String::from_utf8_lossy(&output.stdout).split_whitespace().count();
    ensure!(listed(&output) == listed(&plain), "{} and not {} descriptors", listed(&output), listed(&plain));
    Ok(())
}

fn a_signal_reaches_the_command_and_its_end_is_told_as_a_shell_does() -> Result<()> {
    needs_root()?;
    let script = "trap 'echo caught >&2; exit 3' USR1; echo begun >&2; while :; do read word || exit 9; done";
    let mut started = Run::start(&[], &["/bin/sh", "-c", script])?;
    started.wait_for("begun")?;
    kill(Pid::from_raw(i32::try_from(started.process.id())?), Signal::SIGUSR1)?;
    // A shell takes a signal in when its read has been interrupted, or has ended.
    started.wait_for("caught")?;
    let (output, said) = started.finish()?;
    code(&output, &said, 3)?;

    let mut started = Run::start(&[], &["/bin/sh", "-c", "echo begun >&2; read word"])?;
    started.wait_for("begun")?;
    kill(Pid::from_raw(i32::try_from(started.process.id())?), Signal::SIGTERM)?;
    started.wait_for("the command was killed by SIGTERM")?;
    let (output, said) = started.finish()?;
    code(&output, &said, 128 + 15)
}

fn a_command_that_cannot_be_run_ends_as_env_says() -> Result<()> {
    needs_root()?;
    let (output, said) = run(&[], &["/no/such/command"])?;
    code(&output, &said, 127)?;
    ensure!(said.contains("cannot run /no/such/command: No such file"), "{said}");
    let (output, said) = run(&[], &["/etc/passwd"])?;
    code(&output, &said, 126)
}

fn a_proven_fault_ends_it_with_10_and_stands_in_every_report() -> Result<()> {
    needs_root()?;
    let folder = folder()?;
    let [junit, sarif, document] = ["junit.xml", "out.sarif", "run.json"].map(|name| path(&folder, name));
    fs::write(&junit, "a report of an earlier run, which is longer than nothing")?;
    let reports = [format!("junit={junit}"), format!("sarif={sarif}"), format!("json={document}")];
    let mut options: Vec<&str> = reports.iter().flat_map(|report| ["--report", report.as_str()]).collect();
    options.extend(["--report", "github"]);
    let fixture = fixture::fixture("orphan_mutex")?;
    let mut started = Run::start(&options, &[&fixture.display().to_string()])?;
    // While the command still runs.
    started.wait_for("CRITICAL orphaned-lock")?;
    let (output, said) = started.finish()?;
    code(&output, &said, 10)?;
    ensure!(said.contains("the command ended with code 0"), "{said}");
    ensure!(said.contains("fix:"), "what to change is not said: {said}");

    let read = Report::deserialize_from_str(&fs::read_to_string(&junit)?).context("JUnit's XML")?;
    let case = read.test_suites.iter().flat_map(|suite| &suite.test_cases);
    let failed: Vec<&str> = case
        .clone()
        .filter(|case| matches!(case.status, TestCaseStatus::NonSuccess { .. }))
        .map(|case| case.name.as_str())
        .collect();
    ensure!(failed == ["held-locks", "orphaned-lock"], "failed: {failed:?}");
    ensure!(case.count() > 10, "a test for each hazard");

    let read: Sarif = serde_json::from_value(read_json(&sarif)?).context("SARIF")?;
    let results = read.runs.first().and_then(|run| run.results.as_ref()).context("no results")?;
    let lock = results.iter().find(|result| result.rule_id.as_deref() == Some("orphaned-lock"));
    ensure!(lock.is_some(), "{results:?}");

    let read = read_json(&document)?;
    for (pointer, expected) in
        [("/schema", json!("forkwatch.run/1")), ("/exit_code", json!(0)), ("/failures", json!(2))]
    {
        ensure!(read.pointer(pointer) == Some(&expected), "{pointer}: {read}");
    }
    let findings = read.pointer("/findings").and_then(Value::as_array).context("no findings")?;
    for finding in findings {
        schema::event(&finding.to_string())?;
    }
    let hazard = |event: &&Value| event.pointer("/forkwatch/finding/hazard") == Some(&json!("orphaned-lock"));
    ensure!(findings.iter().any(|event| hazard(&event)), "{read}");

    let lines = String::from_utf8_lossy(&output.stdout);
    ensure!(
        lines.lines().any(|line| line.starts_with("::error title=forkwatch%3A orphaned-lock::")),
        "{lines}"
    );
    Ok(())
}

/// The fork beside a thread is a risk, and no fault that was seen.
fn the_level_says_what_counts() -> Result<()> {
    needs_root()?;
    let fixture = fixture::fixture("mt_fork")?.display().to_string();
    for (level, expected) in
        [("confirmed", 0), ("never", 0), ("critical", 0), ("suspected", 10), ("info", 10)]
    {
        let mut started = Run::start(&["--fail-on", level], &[&fixture])?;
        started.wait_for("multithreaded-fork")?;
        let (output, said) = started.finish()?;
        code(&output, &said, expected).context(level)?;
    }
    Ok(())
}

fn what_is_accepted_does_not_count() -> Result<()> {
    needs_root()?;
    let folder = folder()?;
    let (rules, document) = (path(&folder, "accepted.toml"), path(&folder, "run.json"));
    let rule = |hazard: &str| format!("[[suppress]]\nhazard = \"{hazard}\"\nreason = \"a test\"\n");
    fs::write(&rules, rule("held-locks") + &rule("multithreaded-fork"))?;
    let fixture = fixture::fixture("orphan_mutex")?.display().to_string();
    let report = format!("json={document}");
    let mut started = Run::start(&["--suppress", &rules, "--report", &report], &[&fixture])?;
    // Comes later than what is accepted.
    started.wait_for("CRITICAL orphaned-lock")?;
    let (output, said) = started.finish()?;
    code(&output, &said, 10)?;
    ensure!(!said.contains("held-locks") && !said.contains("multithreaded-fork"), "{said}");
    ensure!(said.contains("accepted by the rules of --suppress"), "{said}");
    let read = read_json(&document)?;
    let accepted = read.pointer("/accepted").and_then(Value::as_u64);
    ensure!(accepted.is_some_and(|accepted| accepted > 0), "{read}");

    fs::write(&rules, "[judge]\ngrace = \"2s\"\n")?;
    let (output, said) = run(&["--suppress", &rules], &["/bin/true"])?;
    code(&output, &said, 2)?;
    ensure!(said.contains("sets more than [[suppress]] rules"), "{said}");
    Ok(())
}

/// Such as a server that a test leaves behind.
fn a_child_that_outlives_the_command_is_judged() -> Result<()> {
    needs_root()?;
    let fixture = fixture::fixture("orphan_mutex")?.display().to_string();
    let script = "exec 3<&0; \"$0\" <&3 & exit 0";
    let mut started = Run::start(&["--linger", "90s"], &["/bin/sh", "-c", script, &fixture])?;
    started.wait_for("CRITICAL orphaned-lock")?;
    let (output, said) = started.finish()?;
    code(&output, &said, 10)
}

fn a_report_that_cannot_be_written_is_said_before_the_command_runs() -> Result<()> {
    needs_root()?;
    let folder = folder()?;
    let trace = path(&folder, "trace");
    let (output, said) = run(&["--report", "junit=/no/such/folder/x"], &["/usr/bin/touch", &trace])?;
    code(&output, &said, 1)?;
    ensure!(said.contains("cannot write a report to /no/such/folder/x"), "{said}");
    ensure!(!Path::new(&trace).exists(), "the command ran");
    let (output, said) = run(&["--report", "html=x"], &["/usr/bin/touch", &trace])?;
    code(&output, &said, 2)?;
    ensure!(said.contains("take junit, sarif, json or github"), "{said}");
    Ok(())
}

fn without_privileges_the_command_does_not_run() -> Result<()> {
    needs_root()?;
    let folder = folder()?;
    let trace = path(&folder, "trace");
    // setpriv is util-linux, which every Debian has.
    let output = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(binary::forkwatch()?)
        .args(["run", "--", "/usr/bin/touch", &trace])
        .output()
        .context("cannot run setpriv")?;
    let said = String::from_utf8_lossy(&output.stderr);
    code(&output, &said, 3)?;
    ensure!(said.contains("CAP_BPF") && !Path::new(&trace).exists(), "{said}");
    Ok(())
}

/// As in a container that was given some capabilities only.
fn without_ptrace_the_fork_is_found_and_it_is_said_what_cannot_be_seen() -> Result<()> {
    needs_root()?;
    let fixture = fixture::fixture("mt_fork")?.display().to_string();
    let mut forkwatch = Command::new("setpriv");
    forkwatch.args(["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]).arg(binary::forkwatch()?);
    let mut run = Run::start_by(&mut forkwatch, &["--fail-on", "suspected"], &[&fixture])?;
    run.wait_for("without CAP_SYS_PTRACE")?;
    run.wait_for("multithreaded-fork")?;
    let (output, said) = run.finish()?;
    code(&output, &said, 10)
}

fn tail_ends_with_10_where_it_is_asked_to() -> Result<()> {
    needs_bpf()?;
    for (level, expected) in [("confirmed", 10), ("never", 0)] {
        let mut program = fixture::hold("orphan_mutex", &[])?;
        let pid = program.pid().to_string();
        let mut tail = Command::new(binary::forkwatch()?)
            .args(["tail", "--pid", &pid, "--unsafe", "--fail-on", level])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run forkwatch")?;
        let mut stderr = BufReader::new(tail.stderr.take().context("no pipe")?);
        let mut stdout = BufReader::new(tail.stdout.take().context("no pipe")?);
        read_until(&mut stderr, "ready")?;
        program.release()?;
        read_until(&mut stdout, "CRITICAL orphaned-lock")?;
        // The program ends, and all its children with it; so does the tail.
        drop(program);
        let status = tail.wait().context("it does not end")?;
        ensure!(status.code() == Some(expected), "{level}: {status}");
    }
    Ok(())
}

fn read_until(lines: &mut impl BufRead, what: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        ensure!(lines.read_line(&mut line)? > 0, "it ended without {what:?}");
        if line.contains(what) {
            return Ok(());
        }
    }
}
