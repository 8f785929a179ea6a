//! What a running daemon answers over HTTP and its local socket, what it keeps, and who may ask.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt as _, net::UnixStream, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, fixture,
    forkwatch::Forkwatch,
    host::needs_root,
    http,
    metrics::{Scrape, free_address},
    program::{Launch, Program, copy_program},
    runner::Tests,
    scenario::gunicorn_with_one_worker,
    schema, tests,
    wait::{DEADLINE, until},
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        every_answer_is_as_it_is_described,
        every_child_is_found_and_a_restart_finds_nothing_anew,
        a_bundle_has_what_belongs_to_a_finding_and_nothing_of_people,
        servers_are_told_with_their_workers_and_how_they_ended,
        a_finding_is_told_kept_and_found_again_after_sigkill,
        strangers_are_sent_away_from_the_local_socket,
        whoever_listens_too_slowly_is_dropped_and_the_others_are_not,
        elsewhere_than_on_loopback_a_token_is_wanted,
        a_disk_that_cannot_be_written_stops_nothing_and_is_said,
        a_rescue_is_in_log_metrics_and_events,
    ])
}

/// A daemon with a local socket and a store of its own.
struct Asked {
    daemon: Forkwatch,
    address: SocketAddr,
    folder: TempDir,
}

impl Asked {
    fn start() -> Result<Self> {
        Self::start_with("127.0.0.1", "", |folder| folder.join("findings.redb"))
    }

    /// Listens there, with more in the section `[web]`.
    fn start_with(host: &str, web: &str, store: impl FnOnce(&Path) -> PathBuf) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = SocketAddr::new(host.parse()?, free_address()?.port());
        let configuration = format!(
            "[web]\nlisten_addresses = [\"{address}\"]\n{web}\n[socket]\npath = \"{}\"\ngroup = \"\"\n[findings]\nstore = \
             \"{}\"\n",
            folder.path().join("api.sock").display(),
            store(folder.path()).display(),
        );
        let file = folder.path().join("forkwatch.toml");
        fs::write(&file, configuration)?;
        let daemon = Forkwatch::daemon(["--config".as_ref(), file.as_os_str()])?;
        let address = SocketAddr::new("127.0.0.1".parse()?, address.port());
        Ok(Self { daemon, address, folder })
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    fn get(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&http::get(TcpStream::connect(self.address)?, path)?)?)
    }

    /// The findings about this child.
    fn findings_about(&self, child: i64) -> Result<Vec<Value>> {
        let answer = self.get(&format!("/api/v1/findings?pid={child}"))?;
        Ok(list(&answer, "/findings"))
    }

    /// `forkwatch findings` with these arguments.
    fn command(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binary::forkwatch()?);
        command.arg("findings").arg("--socket").arg(self.socket()).args(arguments);
        Ok(command.stdin(Stdio::null()).output()?)
    }
}

fn list(document: &Value, pointer: &str) -> Vec<Value> {
    document.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn text<'a>(document: &'a Value, pointer: &str) -> &'a str {
    document.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A program that forks beside a thread, and the child. Nobody else has its name: what a program does again is told later.
fn unsafe_fork(name: &str) -> Result<(Program, i64)> {
    let mut program = fixture::hold_as("mt_fork", name, &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    Ok((program, child))
}

fn every_answer_is_as_it_is_described() -> Result<()> {
    let asked = Asked::start()?;
    let (mut program, child) = unsafe_fork("described")?;
    let found = until("the finding", || Ok(asked.findings_about(child)?.first().cloned()))?;
    let id = text(&found, "/id").to_owned();
    let described = asked.get("/api/v1/openapi.json")?;
    for path in ["findings", "findings/{id}", "processes", "servers", "workers", "hazards", "health"] {
        let pointer = format!(
            "/paths/~1api~1v1~1{}/get/responses/200/content/application~1json/schema/$ref",
            path.replace('/', "~1")
        );
        let mut schema = json!({ "$ref": text(&described, &pointer) });
        let components = described.get("components").context("no components")?.clone();
        schema.as_object_mut().context("no object")?.insert("components".to_owned(), components);
        let answer = asked.get(&format!("/api/v1/{}", path.replace("{id}", &id)))?;
        let validator = jsonschema::validator_for(&schema)?;
        let errors: Vec<String> = validator.iter_errors(&answer).map(|error| error.to_string()).collect();
        ensure!(errors.is_empty(), "{path}: {errors:?}\n{answer}");
    }
    let report = asked.get(&format!("/api/v1/findings/{id}"))?;
    let report = report.pointer("/finding/report").context("no report")?;
    schema::event(&report.to_string())?;

    let processes = list(&asked.get(&format!("/api/v1/processes?pid={child}"))?, "/processes");
    ensure!(
        processes.iter().any(|one| one.get("pid").and_then(Value::as_i64) == Some(child)),
        "{processes:?}"
    );
    let mut inspect = Command::new(binary::forkwatch()?);
    inspect.arg("inspect").arg(child.to_string()).env("FORKWATCH_SOCKET", asked.socket());
    let told = String::from_utf8(inspect.stdin(Stdio::null()).output()?.stdout)?;
    ensure!(told.contains("The daemon has found about these processes") && told.contains(&id), "{told}");
    let markdown = http::get(TcpStream::connect(asked.address)?, &format!("/api/v1/findings/{id}/markdown"))?;
    ensure!(markdown.starts_with("### multithreaded-fork\n"), "{markdown}");
    for (path, status) in [
        ("/api/v1/findings?colour=red", " 400 "),
        ("/api/v1/findings/0", " 404 "),
        ("/api/v1/findings/../../etc/passwd", " 404 "),
        ("/api/v1/none", " 404 "),
        ("/api/v1", " 404 "),
        ("/api/v1/rescues", " 405 "),
    ] {
        let (answer, _) = http::ask(TcpStream::connect(asked.address)?, path)?;
        ensure!(answer.contains(status), "{path}: {answer}");
    }
    program.end(None)?;
    asked.daemon.stop().map(drop)
}

fn a_finding_is_told_kept_and_found_again_after_sigkill() -> Result<()> {
    let mut asked = Asked::start()?;
    let mut listener = BufReader::new(UnixStream::connect(asked.socket())?);
    listener.get_mut().write_all(b"GET /api/v1/events?type=finding HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let (mut program, child) = unsafe_fork("kept-first")?;
    let mut line = String::new();
    while !(line.starts_with("data: ") && line.contains(&format!("\"pid\":{child},"))) {
        line.clear();
        ensure!(listener.read_line(&mut line)? > 0, "the stream has ended");
    }
    let pid = child.to_string();
    let shown = until("the finding to be kept", || {
        let output = asked.command(&["--pid", &pid, "--json"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout)?;
        Ok(list(&document, "/findings").first().cloned())
    })?;
    ensure!(text(&shown, "/state") == "suspected", "{shown}");
    // The child exits, and the finding is over.
    program.end(None)?;
    let id = text(&shown, "/id").to_owned();
    until("the end to be kept", || {
        let now = asked.get(&format!("/api/v1/findings/{id}"))?;
        Ok((text(&now, "/finding/state") == "resolved" && now.pointer("/finding/end").is_some())
            .then_some(()))
    })?;
    let (mut other, child) = unsafe_fork("kept-second")?;
    until("another finding", || Ok(asked.findings_about(child)?.first().cloned()))?;
    asked.daemon.signal(Signal::SIGKILL)?;
    asked.daemon.ended()?;

    let store = asked.folder.path().join("findings.redb");
    let read = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(binary::forkwatch()?);
        Ok(command.arg("findings").arg("--store").arg(&store).args(arguments).output()?)
    };
    let output = read(&["--json"])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Value = serde_json::from_slice(&output.stdout)?;
    let state = |of: &dyn Fn(&Value) -> bool| {
        list(&left, "/findings").iter().find(|one| of(one)).map(|one| text(one, "/state").to_owned())
    };
    ensure!(state(&|one| text(one, "/id") == id).as_deref() == Some("resolved"), "{left}");
    let about = |one: &Value| one.get("pid").and_then(Value::as_i64) == Some(child);
    ensure!(state(&about).as_deref() == Some("unwatched"), "{left}");
    let markdown = String::from_utf8(read(&["--markdown", "--pid", &child.to_string()])?.stdout)?;
    ensure!(markdown.contains("### multithreaded-fork\n") && markdown.contains("**Fix:** "), "{markdown}");
    let plain = String::from_utf8(read(&[])?.stdout)?;
    ensure!(plain.contains("multithreaded-fork in kept-first\n") && plain.contains(&id), "{plain}");
    other.end(None).map(drop)
}

/// The second of two that hang is told in a summary of repeats; a daemon that starts later finds both.
fn every_child_is_found_and_a_restart_finds_nothing_anew() -> Result<()> {
    const JUDGE: &str = "[judge]\nstuck_after = \"1s\"\nsummary_interval = \"2s\"\nsweep_interval = \"1s\"";
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("findings.redb");
    let start = || Asked::start_with("127.0.0.1", JUDGE, |_| store.clone());
    let hang = || -> Result<(Program, i64)> {
        let mut program = fixture::hold_as("orphan_mutex", "found-again", &[])?;
        program.release()?;
        let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
        Ok((program, child))
    };
    let open_about = |asked: &Asked, child: i64| -> Result<Option<Value>> {
        let path = format!("/api/v1/findings?hazard=orphaned-lock&state=open&pid={child}");
        Ok(list(&asked.get(&path)?, "/findings").first().cloned())
    };
    let ((mut first, one), (mut second, other)) = (hang()?, hang()?);
    let mut known = Vec::new();
    for _ in 0..2 {
        let asked = start()?;
        let found = until("both findings", || Ok(open_about(&asked, one)?.zip(open_about(&asked, other)?)))?;
        ensure!(
            [&found.0, &found.1].iter().all(|found| found.get("repeats") == Some(&json!(0))),
            "two programs that hang are no repeats: {found:?}"
        );
        let all = list(&asked.get("/api/v1/findings?hazard=orphaned-lock&program=found-again")?, "/findings");
        let ids: Vec<(String, String)> = all
            .iter()
            .map(|found| (text(found, "/id").to_owned(), text(found, "/first_seen").to_owned()))
            .collect();
        if known.is_empty() {
            known.clone_from(&ids);
        }
        ensure!(ids.len() == 2 && ids == known, "they were {known:?}, and are {all:?}");
        asked.daemon.stop()?;
    }
    let asked = start()?;
    until("both findings", || Ok(open_about(&asked, one)?.zip(open_about(&asked, other)?)))?;
    first.end(None)?;
    second.end(None)?;
    until("their end", || {
        Ok((open_about(&asked, one)?.is_none() && open_about(&asked, other)?.is_none()).then_some(()))
    })?;
    asked.daemon.stop().map(drop)
}

fn a_bundle_has_what_belongs_to_a_finding_and_nothing_of_people() -> Result<()> {
    const SECRET: &str = "--password=hunter2";
    let asked = Asked::start()?;
    let binary = fixture::fixture("mt_fork")?;
    let mut program = Program::hold(|_| Ok(Launch::new(&binary).args([SECRET])))?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    let found = until("the finding", || Ok(asked.findings_about(child)?.first().cloned()))?;
    let id = text(&found, "/id").to_owned();
    let file = |name: &str| asked.folder.path().join(name);
    let bundle = |name: &str, more: &[&std::ffi::OsStr]| -> Result<Output> {
        let mut command = Command::new(binary::forkwatch()?);
        command.args(["bundle", &id, "--output"]).arg(file(name)).args(more);
        Ok(command.stdin(Stdio::null()).output()?)
    };
    let socket = asked.socket();
    let of_daemon: [&std::ffi::OsStr; 2] = ["--socket".as_ref(), socket.as_os_str()];
    let output = bundle("one.tar", &of_daemon)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains("Left out, and marked where they stood"), "{said}");
    ensure!(fs::metadata(file("one.tar"))?.permissions().mode() & 0o777 == 0o600, "others may read it");
    let content = String::from_utf8_lossy(&fs::read(file("one.tar"))?).into_owned();
    for part in [
        format!("forkwatch-{id}/finding.json"),
        format!("forkwatch-{id}/child-{child}/maps"),
        format!("forkwatch-{id}/child-{child}/threads"),
        format!("forkwatch-{id}/doctor.json"),
        format!("forkwatch-{id}/health.json"),
        "[command line]".to_owned(),
    ] {
        ensure!(content.contains(&part), "no {part}");
    }
    ensure!(!content.contains("hunter2"), "a command line is in it");
    ensure!(!bundle("one.tar", &of_daemon)?.status.success(), "it was overwritten");
    let whole = bundle("whole.tar", &[&of_daemon[..], &["--personal".as_ref()]].concat())?;
    ensure!(
        whole.status.success() && fs::read(file("whole.tar"))?.windows(7).any(|part| part == b"hunter2"),
        "{whole:?}"
    );
    // When all is gone, it has what is left, and says so.
    program.end(None)?;
    let store = asked.folder.path().join("findings.redb");
    asked.daemon.stop()?;
    let output = Command::new(binary::forkwatch()?)
        .args(["bundle", &id, "--output"])
        .arg(asked.folder.path().join("left.tar"))
        .arg("--store")
        .arg(&store)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(
        output.status.success() && said.contains(&format!("child (pid {child}) does now: it has ended")),
        "{said}"
    );
    Ok(())
}

fn servers_are_told_with_their_workers_and_how_they_ended() -> Result<()> {
    let asked = Asked::start()?;
    let mut program = gunicorn_with_one_worker("wsgi")?;
    program.release()?;
    let master = i64::from(program.pid());
    let server = || -> Result<Option<Value>> {
        let servers = list(&asked.get("/api/v1/servers")?, "/servers");
        Ok(servers.into_iter().find(|one| one.get("master_pid").and_then(Value::as_i64) == Some(master)))
    };
    let pid = until("a worker that is ready", || {
        let workers = server()?.map(|server| list(&server, "/workers")).unwrap_or_default();
        let ready = workers.iter().find(|worker| text(worker, "/state") == "ready");
        Ok(ready.and_then(|worker| worker.get("pid")?.as_i64()))
    })?;
    let workers = list(&asked.get(&format!("/api/v1/workers?pid={pid}"))?, "/workers");
    ensure!(
        workers.iter().all(|one| text(one, "/server") == "gunicorn") && workers.len() == 1,
        "{workers:?}"
    );
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into()?), Signal::SIGKILL)?;
    let end = until("its end", || {
        let ends = server()?.map(|server| list(&server, "/ends")).unwrap_or_default();
        Ok(ends.into_iter().find(|end| end.get("pid").and_then(Value::as_i64) == Some(pid)))
    })?;
    ensure!(text(&end, "/how") == "SIGKILL", "{end}");
    let mut inspect = Command::new(binary::forkwatch()?);
    inspect.arg("inspect").arg(master.to_string()).env("FORKWATCH_SOCKET", asked.socket());
    let told = String::from_utf8(inspect.stdin(Stdio::null()).output()?.stdout)?;
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    ensure!(told.contains(&format!("pid {pid} was killed by SIGKILL, which")), "{told}");
    program.end(Some(Signal::SIGTERM))?;
    asked.daemon.stop().map(drop)
}

fn strangers_are_sent_away_from_the_local_socket() -> Result<()> {
    needs_root()?;
    let asked = Asked::start()?;
    // Whoever may not ask can reach it all the same, and is told so.
    let public = tempfile::tempdir()?;
    fs::set_permissions(public.path(), fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(asked.folder.path(), fs::Permissions::from_mode(0o755))?;
    let copy = public.path().join("forkwatch");
    copy_program(&binary::forkwatch()?, &copy)?;
    let stranger = |socket: &Path| -> Result<Output> {
        let mut command = Command::new(&copy);
        command.arg("findings").arg("--socket").arg(socket).uid(65_534).gid(65_534);
        Ok(command.stdin(Stdio::null()).output()?)
    };
    let output = stranger(&asked.socket())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.code() == Some(3) && said.contains("uid 65534 may not ask this forkwatch: root alone"),
        "{said}"
    );
    // However many they are, nobody else waits.
    let crowd: Vec<_> = (0..200).map(|_| UnixStream::connect(asked.socket())).collect::<Result<_, _>>()?;
    ensure!(asked.command(&[])?.status.success(), "root is kept out by clients that say nothing");
    drop(crowd);
    let mut nonsense = UnixStream::connect(asked.socket())?;
    nonsense.write_all(&[0; 4096])?;
    let mut answer = Vec::new();
    // It may be cut off in the middle.
    let _ = nonsense.read_to_end(&mut answer);
    ensure!(asked.command(&[])?.status.success(), "nonsense harms others");
    let socket = asked.socket();
    asked.daemon.stop()?;
    ensure!(!socket.exists(), "the socket stays behind");
    Ok(())
}

fn whoever_listens_too_slowly_is_dropped_and_the_others_are_not() -> Result<()> {
    /// Their events fill what lies between, the buffer of a local socket of some 200 kB and the queue, many times.
    const FORKS: usize = 2000;
    let asked = Asked::start()?;
    let listen = |kind: &str| -> Result<UnixStream> {
        let mut stream = UnixStream::connect(asked.socket())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        write!(stream, "GET /api/v1/events?type={kind} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut first = [0; 15];
        stream.read_exact(&mut first)?;
        ensure!(&first == b"HTTP/1.1 200 OK", "{}", String::from_utf8_lossy(&first));
        Ok(stream)
    };
    let mut slow = listen("all")?;
    let mut good = BufReader::new(listen("finding")?);
    for _ in 0..FORKS {
        Command::new("/bin/true").status()?;
    }
    let (mut program, child) = unsafe_fork("listened")?;
    let mut line = String::new();
    while !line.contains(&format!("\"pid\":{child},")) {
        line.clear();
        ensure!(good.read_line(&mut line)? > 0, "who listens well was dropped");
    }
    program.end(None)?;
    let mut rest = String::new();
    slow.read_to_string(&mut rest)?;
    ensure!(
        rest.contains("event: dropped\ndata: the watch has ended, or you read too slowly"),
        "no last word"
    );
    let health = asked.get("/api/v1/health")?;
    ensure!(health.get("watching") == Some(&Value::Bool(true)), "{health}");
    asked.daemon.stop().map(drop)
}

fn elsewhere_than_on_loopback_a_token_is_wanted() -> Result<()> {
    const TOKEN: &str = "c2VjcmV0LXRva2VuLW9mLXRlc3Rz";
    let ask = |asked: &Asked, path: &str, header: &str| -> Result<String> {
        let mut stream = TcpStream::connect(asked.address)?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n{header}\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let closed = Asked::start_with("0.0.0.0", "", |folder| folder.join("findings.redb"))?;
    ensure!(closed.daemon.stderr().contains("set web.token_file"), "{}", closed.daemon.stderr());
    for (path, status) in [
        ("/metrics", " 200 "),
        ("/-/healthy", " 200 "),
        ("/", " 200 "),
        ("/api/v1/findings", " 403 "),
        ("/page.js", " 403 "),
    ] {
        let answer = ask(&closed, path, "")?;
        ensure!(answer.lines().next().unwrap_or_default().contains(status), "{path}: {answer}");
    }
    closed.daemon.stop()?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("token");
    fs::write(&file, TOKEN)?;
    let web = format!("token_file = \"{}\"", file.display());
    let asked = Asked::start_with("0.0.0.0", &web, |folder| folder.join("findings.redb"))?;
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    for (path, header, status) in [
        ("/metrics", "", " 200 "),
        ("/", "", " 401 "),
        ("/api/v1/findings", "", " 401 "),
        ("/api/v1/findings", "Authorization: Bearer c2VjcmV0\r\n", " 401 "),
        ("/api/v1/findings", right.as_str(), " 200 "),
        ("/", right.as_str(), " 200 "),
    ] {
        let answer = ask(&asked, path, header)?;
        ensure!(answer.lines().next().unwrap_or_default().contains(status), "{path} {header}: {answer}");
    }
    // The local socket knows who asks.
    ensure!(asked.command(&[])?.status.success(), "the local socket wants a token");
    asked.daemon.stop().map(drop)
}

fn a_disk_that_cannot_be_written_stops_nothing_and_is_said() -> Result<()> {
    let asked = Asked::start_with("127.0.0.1", "", |_| "/proc/findings.redb".into())?;
    let (mut program, child) = unsafe_fork("unwritable")?;
    until("the finding, from memory", || Ok(asked.findings_about(child)?.first().cloned()))?;
    let health = asked.get("/api/v1/health")?;
    ensure!(text(&health, "/store/trouble").starts_with("kept in memory only: "), "{health}");
    ensure!(asked.daemon.stderr().contains("findings are kept in memory only"), "{}", asked.daemon.stderr());
    let scrape = Scrape::of(asked.address)?;
    ensure!(scrape.0.contains("forkwatch_findings_store_writable 0"), "{}", scrape.0);
    let plain = String::from_utf8(asked.command(&[])?.stdout)?;
    ensure!(plain.contains("NOT ALL ARE KEPT"), "{plain}");
    program.end(None)?;
    asked.daemon.stop().map(drop)
}

fn a_rescue_is_in_log_metrics_and_events() -> Result<()> {
    needs_root()?;
    let mut asked = Asked::start()?;
    let mut program = fixture::hold("orphan_mutex", &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    let socket = asked.socket();
    until("the rescue", || {
        let mut command = Command::new(binary::forkwatch()?);
        command.args(["rescue", "--yes"]).arg(child.to_string()).env("FORKWATCH_SOCKET", &socket);
        let output = command.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!said.contains("was not told"), "{said}");
        Ok(output.status.success().then_some(()))
    })?;
    let event = asked.daemon.wait_for("the event", |event| event.action() == "rescued")?;
    ensure!(event.pid() == Some(child), "{event:?}");
    until("the metric", || {
        let scrape = Scrape::of(asked.address)?;
        Ok((scrape.sum("forkwatch_rescues_total", "outcome=\"released\"") >= 1.0).then_some(()))
    })?;
    ensure!(
        asked.daemon.stderr().contains("forkwatch rescue has written to the lock"),
        "{}",
        asked.daemon.stderr()
    );
    program.end(None)?;
    asked.daemon.stop().map(drop)
}
