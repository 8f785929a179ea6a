//! What a stranger on the host can put into forkwatch's way: links, pipes, files without end, clients that say nothing,
//! outputs that nobody reads.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::{MetadataExt as _, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary,
    daemon::Daemon,
    fixture,
    forkwatch::Forkwatch,
    host::{needs_bpf, needs_root, skip},
    http,
    metrics::{Scrape, free_address},
    program::{Launch, Program},
    runner::Tests,
    tests,
    wait::{until, until_within},
};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The stranger.
const UID: u32 = 12_345;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        no_link_of_a_stranger_is_written_through,
        a_recording_is_for_its_owner_and_group_alone,
        root_writes_where_the_permission_bits_let_it,
        nothing_that_never_ends_is_read,
        a_recording_with_settings_that_nobody_has_is_refused,
        a_page_in_a_browser_cannot_read_the_metrics_by_a_name_of_its_own,
        few_descriptors_are_told_and_nobody_takes_the_last,
        a_limit_of_file_sizes_ends_nothing,
        a_small_cgroup_is_told_and_watched_from,
    ])
    .and(
        // Answers are to come within two seconds; and the names of all programs of the host are counted.
        Tests::alone(tests![
            an_output_that_nobody_reads_stops_nothing,
            clients_that_say_nothing_keep_no_scrape_out,
            one_users_names_push_no_honest_program_into_other,
        ]),
    )
}

/// How a command ended, and what it said on stderr.
struct Ended {
    code: Option<i32>,
    said: String,
}

/// Runs forkwatch to its end, which must come by itself.
fn run(arguments: &[&str]) -> Result<Ended> {
    run_command(Command::new(binary::forkwatch()?).args(arguments))
}

/// A forkwatch under a limit that not even root may raise: a word of prlimit(1).
fn limited(limit: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource", "prlimit", limit]);
    command.arg(binary::forkwatch()?);
    Ok(command)
}

fn run_command(command: &mut Command) -> Result<Ended> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let status = until("forkwatch to end", || Ok(child.try_wait()?));
    if status.is_err() {
        child.kill()?;
    }
    let mut said = String::new();
    child.stderr.take().context("no stderr")?.read_to_string(&mut said)?;
    Ok(Ended { code: status.with_context(|| format!("{command:?} said {said}"))?.code(), said })
}

/// A file that is not the stranger's to change, and a directory of his with a link to it.
struct Trap {
    folder: TempDir,
    link: PathBuf,
}

impl Trap {
    fn set() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let theirs = folder.path().join("theirs");
        fs::write(folder.path().join("precious"), "")?;
        fs::create_dir(&theirs)?;
        chown(&theirs, Some(UID), Some(UID))?;
        let link = theirs.join("link");
        symlink(folder.path().join("precious"), &link)?;
        lchown(&link, Some(UID), Some(UID))?;
        Ok(Self { folder, link })
    }

    fn precious(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.path().join("precious"))?)
    }
}

fn no_link_of_a_stranger_is_written_through() -> Result<()> {
    needs_root()?;
    needs_bpf()?;
    let trap = Trap::set()?;
    let link = trap.link.to_str().context("not UTF-8")?;
    for arguments in [
        &["daemon", "--web.listen-address=127.0.0.1:0", "--events", link][..],
        &["daemon", "--web.listen-address=127.0.0.1:0", "--record", link],
        &["tail", "--duration", "1s", "--record", link],
    ] {
        let Ended { code, said } = run(arguments)?;
        ensure!(code == Some(2), "{arguments:?} ended with {code:?}: {said}");
        ensure!(said.contains("is a symbolic link that another user could have put there"), "{said}");
        ensure!(trap.precious()?.is_empty(), "{arguments:?} has written to it");
    }
    // To what does not exist yet, it would be made.
    let dangling = trap.link.with_file_name("dangling");
    symlink(trap.folder.path().join("new"), &dangling)?;
    lchown(&dangling, Some(UID), Some(UID))?;
    let dangling = dangling.to_str().context("not UTF-8")?;
    let Ended { code, said } = run(&["daemon", "--web.listen-address=127.0.0.1:0", "--events", dangling])?;
    ensure!(code == Some(2), "it ended with {code:?}: {said}");
    ensure!(!trap.folder.path().join("new").exists(), "a file was made");
    Ok(())
}

fn a_recording_is_for_its_owner_and_group_alone() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recording");
    Forkwatch::tail(["--record", file.to_str().context("not UTF-8")?])?.stop()?;
    let mode = fs::metadata(&file)?.mode();
    ensure!(mode & 0o7137 == 0 && mode & 0o600 == 0o600, "its mode is {mode:o}");
    // What is no file is usable still.
    Forkwatch::tail(["--record", "/dev/null"])?.stop().map(drop)
}

/// Capabilities are given up by then, so that nothing is written where its user may not.
fn root_writes_where_the_permission_bits_let_it() -> Result<()> {
    needs_root()?;
    needs_bpf()?;
    let trap = Trap::set()?;
    let file = trap.link.with_file_name("recording");
    let name = file.to_str().context("not UTF-8")?;
    let Ended { code, said } = run(&["tail", "--duration", "1s", "--record", name])?;
    ensure!(code == Some(3), "it ended with {code:?}: {said}");
    ensure!(said.contains(name) && said.contains("without CAP_DAC_OVERRIDE"), "{said}");
    ensure!(!file.exists(), "the file was made");
    Ok(())
}

fn nothing_that_never_ends_is_read() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU)?;
    let pipe = pipe.to_str().context("not UTF-8")?;
    for (path, kind) in [(pipe, "is a pipe"), ("/dev/zero", "is a device"), ("/", "is a directory")] {
        for (arguments, expected) in [
            (&["replay", path][..], 1),
            (&["check-config", path], 2),
            (&["daemon", "--config", path, "--web.listen-address=127.0.0.1:0"], 2),
        ] {
            let Ended { code, said } = run(arguments)?;
            ensure!(code == Some(expected), "{arguments:?} ended with {code:?}: {said}");
            ensure!(said.contains(path) && said.contains(kind), "{arguments:?}: {said}");
        }
    }
    let long = folder.path().join("long.toml");
    fs::File::create(&long)?.set_len(1 << 32)?;
    let Ended { code, said } = run(&["check-config", long.to_str().context("not UTF-8")?])?;
    ensure!(code == Some(2) && said.contains("is longer than"), "{code:?}: {said}");
    Ok(())
}

/// Writes a recording of these lines.
fn recording(file: &Path, settings: &Value, lines: &[Value]) -> Result<()> {
    let header = json!({
        "format": "forkwatch.recording/1",
        "version": "0",
        "abi": 0,
        "wall_offset": 0,
        "settings": settings,
    });
    let lines = [&header].into_iter().chain(lines).map(|line| format!("{line}\n"));
    Ok(fs::write(file, lines.collect::<String>())?)
}

/// The settings with another value.
fn with(settings: &Value, name: &str, value: Value) -> Value {
    let mut settings = settings.clone();
    if let Some(settings) = settings.as_object_mut() {
        settings.insert(name.to_owned(), value);
    }
    settings
}

fn a_recording_with_settings_that_nobody_has_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("recording");
    let name = file.to_str().context("not UTF-8")?;
    let seconds = |seconds: u64| json!({ "secs": seconds, "nanos": 0 });
    let usual = json!({
        "grace": seconds(1), "recheck": seconds(0), "summary_interval": seconds(60), "stuck_after": seconds(10),
        "sweep_interval": seconds(10), "leak_interval": seconds(30), "pipe_patience": seconds(60),
        "stacks": "light", "allow": [], "max_children": 65536,
    });
    let time = json!({ "advance": 1 });
    recording(&file, &usual, std::slice::from_ref(&time))?;
    let Ended { code, said } = run(&["replay", name])?;
    ensure!(code == Some(0), "usual settings: {code:?} and {said}");
    let delays = [
        "grace",
        "recheck",
        "summary_interval",
        "stuck_after",
        "sweep_interval",
        "leak_interval",
        "pipe_patience",
    ];
    for delay in delays {
        let odd = with(&usual, delay, seconds(u64::MAX));
        recording(&file, &odd, std::slice::from_ref(&time))?;
        let first = run(&["replay", name])?;
        recording(&file, &usual, &[json!({ "settings": odd }), time.clone()])?;
        for Ended { code, said } in [first, run(&["replay", name])?] {
            ensure!(code == Some(1), "{delay}: ended with {code:?}: {said}");
            ensure!(said.contains(&format!("its {delay} is")), "{delay}: {said}");
        }
    }
    recording(&file, &with(&usual, "max_children", json!(0)), &[])?;
    let Ended { code, said } = run(&["replay", name])?;
    ensure!(code == Some(1) && said.contains("its max_children is 0"), "{code:?}: {said}");
    Ok(())
}

/// Two outputs in one pipe that is full: events, and the log that says so.
fn an_output_that_nobody_reads_stops_nothing() -> Result<()> {
    needs_bpf()?;
    let address = free_address()?;
    let (reader, writer) = nix::unistd::pipe()?;
    let mut daemon = Command::new(binary::forkwatch()?)
        .args(["daemon", "--events", "stdout", &format!("--web.listen-address={address}")])
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    let ready = || match TcpStream::connect(address) {
        Ok(stream) => Ok(http::get(stream, "/-/ready").ok()),
        Err(_) => Ok(None),
    };
    let tried = until("it to be ready", ready).and_then(|_| {
        let lost = || Scrape::of(address).map(|scrape| scrape.sum("forkwatch_event_file_dropped_total", ""));
        until("lost events", || {
            let mut storm = fixture::hold("fork_storm", &["2", "2000"])?;
            storm.release()?;
            storm.next_json()?;
            storm.end(None)?;
            Ok((lost()? > 0.5).then_some(()))
        })?;
        http::get(TcpStream::connect(address)?, "/-/healthy")?;
        kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM)?;
        until_within(Duration::from_secs(2), "the end", || Ok(daemon.try_wait()?))
    });
    if tried.is_err() {
        daemon.kill()?;
        daemon.wait()?;
    }
    let mut said = String::new();
    fs::File::from(reader).read_to_string(&mut said)?;
    let status = tried?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    Ok(())
}

fn clients_that_say_nothing_keep_no_scrape_out() -> Result<()> {
    let daemon = Daemon::start("", &[])?;
    let mut silent = Vec::new();
    for number in 0..600 {
        let mut client = TcpStream::connect(daemon.address)?;
        if number % 2 == 0 {
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n")?;
        }
        silent.push(client);
    }
    let began = Instant::now();
    for path in ["/metrics", "/-/healthy", "/metrics"] {
        http::get(TcpStream::connect(daemon.address)?, path)?;
    }
    ensure!(began.elapsed() < Duration::from_secs(2), "three answers took {:?}", began.elapsed());
    daemon.stop()
}

fn a_page_in_a_browser_cannot_read_the_metrics_by_a_name_of_its_own() -> Result<()> {
    let daemon = Daemon::start("[web]\nallowed_hosts = [\"*.example.org\"]\n", &[])?;
    let ask = |host: &str| -> Result<String> {
        let mut stream = TcpStream::connect(daemon.address)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let port = daemon.address.port();
    let refused = ask(&format!("evil.example:{port}"))?;
    ensure!(refused.starts_with("HTTP/1.1 421 ") && refused.contains("web.allowed_hosts"), "{refused}");
    ensure!(!refused.contains("forkwatch_forks_total"), "{refused}");
    for host in [format!("localhost:{port}"), daemon.address.to_string(), "a.example.org".to_owned()] {
        ensure!(ask(&host)?.starts_with("HTTP/1.1 200 "), "{host} was refused");
    }
    until("the log to say so", || Ok(daemon.forkwatch.stderr().contains("evil.example").then_some(())))?;
    daemon.stop()
}

/// Makes an unsafe fork under a name, and waits until it is told.
fn finding(forkwatch: &mut Forkwatch, alias: &str) -> Result<()> {
    let mut program = fixture::hold_as("mt_fork", alias, &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    forkwatch.wait_for("the finding", |event| event.finding().is_some() && event.pid() == Some(child))?;
    program.end(None).map(drop)
}

fn few_descriptors_are_told_and_nobody_takes_the_last() -> Result<()> {
    needs_root()?;
    needs_bpf()?;
    let nowhere = ["daemon", "--web.listen-address=127.0.0.1:0"];
    for files in [8, 20, 32, 48] {
        let Ended { code, said } = run_command(limited(&format!("--nofile={files}:{files}"))?.args(nowhere))?;
        ensure!(code == Some(1), "with {files} it ended with {code:?}: {said}");
        ensure!(said.contains("ulimit -n") && !said.contains("Please report"), "with {files}: {said}");
    }

    let address = free_address()?;
    let listen = format!("--web.listen-address={address}");
    let watching = ["daemon", "--events", "stdout", &listen];
    let mut tight = Forkwatch::start(limited("--nofile=64:64")?.args(watching))?;
    ensure!(tight.stderr().contains("more files can be opened"), "it says nothing: {}", tight.stderr());
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    finding(&mut tight, "fw-few-files")?;
    http::get(TcpStream::connect(address)?, "/-/healthy")?;
    drop(silent);
    tight.stop()?;

    let raised = Forkwatch::start(limited("--nofile=20:4096")?.args(watching))?;
    ensure!(raised.stderr().contains("was raised from 20 to 256"), "it says nothing: {}", raised.stderr());
    raised.stop().map(drop)
}

fn a_limit_of_file_sizes_ends_nothing() -> Result<()> {
    needs_root()?;
    needs_bpf()?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let Ended { code, said } = run_command(limited("--fsize=0")?.args([
        "tail",
        "--duration",
        "1s",
        "--record",
        &path("recording"),
    ]))?;
    ensure!(code == Some(1) && said.contains("ulimit -f"), "it ended with {code:?}: {said}");

    let address = free_address()?;
    let listen = format!("--web.listen-address={address}");
    let daemon =
        Forkwatch::start(limited("--fsize=0")?.args(["daemon", "--events", &path("events"), &listen]))?;
    let lost = || Ok(Scrape::of(address)?.sum("forkwatch_event_file_dropped_total", ""));
    until("lost events", || {
        Command::new("true").status()?;
        lost().map(|lost: f64| (lost > 0.5).then_some(()))
    })?;
    ensure!(daemon.stderr().contains("ulimit -f"), "the log does not say why: {}", daemon.stderr());
    daemon.stop().map(drop)
}

/// A cgroup that may take so much memory.
struct SmallCgroup(PathBuf);

impl SmallCgroup {
    /// In the tree of version 1 or 2; skips the test where that cannot be.
    fn make(bytes: u64) -> Result<Self> {
        needs_root()?;
        for (tree, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let folder = Path::new(tree).join(format!("forkwatch-test-{}-small", std::process::id()));
            if fs::create_dir(&folder).is_ok() {
                let cgroup = Self(folder);
                let file = cgroup.0.join(limit);
                if file.exists() && fs::write(&file, bytes.to_string()).is_ok() {
                    return Ok(cgroup);
                }
            }
        }
        skip("needs to make a cgroup with a limit of memory")
    }
}

impl Drop for SmallCgroup {
    fn drop(&mut self) {
        // Fails only if somebody is left in it; then it stays, empty of meaning.
        let _ = fs::remove_dir(&self.0);
    }
}

fn a_small_cgroup_is_told_and_watched_from() -> Result<()> {
    needs_bpf()?;
    let cgroup = SmallCgroup::make(60 << 20)?;
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$1/cgroup.procs\" && shift && exec \"$@\"", "sh"]).arg(&cgroup.0);
    command.arg(binary::forkwatch()?).args([
        "daemon",
        "--events",
        "stdout",
        "--web.listen-address=127.0.0.1:0",
    ]);
    let mut daemon = Forkwatch::start(&mut command)?;
    let said = daemon.stderr();
    ensure!(said.contains("may take 60 MiB of memory: 8192 children"), "it says nothing: {said}");
    finding(&mut daemon, "fw-small")?;
    daemon.stop().map(drop)
}

/// More names than there may be series, and then an honest program. On a host where others' programs keep forkwatch busy
/// it may give up a fork, and says so; then another is made.
fn one_users_names_push_no_honest_program_into_other() -> Result<()> {
    needs_root()?;
    let configuration = "[judge]\ngrace = \"200ms\"\n[metrics]\nmax_series = 6\nby_unit = false\n";
    let daemon = Daemon::start(configuration, &[])?;
    let limited = || daemon.metric("forkwatch_metrics_series_limited_total", "");
    let given_up = || daemon.metric("forkwatch_given_up_total", "unanswered");
    // Whether an unsafe fork by this program gets a series of its own.
    let fork = |name: &str, mut program: Program| -> Result<bool> {
        let before = (limited()?, given_up()?);
        program.release()?;
        program.next_json()?;
        let label = format!("{name}\"");
        let has_series = until("a fork to be counted, or given up", || {
            let counted = daemon.metric("forkwatch_unsafe_forks_total", &label)? > 0.5;
            let over = limited()? > before.0 || given_up()? > before.1;
            Ok((counted || over).then_some(counted))
        })?;
        program.end(None)?;
        Ok(has_series)
    };
    let binary = fixture::fixture("mt_fork")?;
    let mut names = (0..50).map(|number| format!("fw-name-{number}"));
    while limited()? < 0.5 {
        let name = names.next().context("50 names found room for 6")?;
        let program = Program::hold(|folder| {
            fs::copy(&binary, folder.join(&name)).context("cannot copy the fixture")?;
            Ok(Launch::new(folder.join(&name)).user("nobody"))
        })?;
        fork(&name, program)?;
    }
    until("a series for the honest program", || {
        let honest = fixture::hold_as("mt_fork", "fw-honest", &[])?;
        Ok(fork("program=\"fw-honest", honest)?.then_some(()))
    })?;
    daemon.stop()
}
