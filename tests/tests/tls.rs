//! TLS: for those who come to the daemon by the network, and for what hooks send.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    binary,
    certificates::{Authority, Pair, replace},
    forkwatch::Forkwatch,
    host::{needs_bpf, workspace},
    http,
    metrics::free_address,
    program::{Launch, Program},
    provided::provided,
    runner::Tests,
    tests,
    wait::until,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::hooks::{Hooked, documents, unsafe_fork};

const TOKEN: &str = "c2VjcmV0LXRva2VuLW9mLXRlc3Rz";

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        plain_http_is_refused_where_tls_is_spoken,
        a_token_is_asked_for_within_tls,
        a_certificate_of_a_client_is_enough,
        a_renewed_certificate_is_taken_on_by_a_reload,
        what_cannot_be_served_with_is_said_at_the_start,
        a_hook_posts_to_a_server_that_it_trusts,
        a_hook_posts_nothing_to_a_server_that_it_does_not_trust,
    ])
    .and(
        // An answer is to come within four seconds.
        Tests::alone(tests![clients_that_never_end_their_handshake_keep_no_scrape_out]),
    )
}

fn fixture(name: &str) -> String {
    workspace().join("tests/fixtures/python").join(name).display().to_string()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A daemon that serves with TLS on an address that others can reach.
struct Secured {
    daemon: Forkwatch,
    port: u16,
    _folder: TempDir,
}

impl Secured {
    /// With this certificate, and more in its section and in `[web]`.
    fn start(pair: &Pair, more: &str, web: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_address()?.port();
        let file = folder.path().join("forkwatch.toml");
        let socket = folder.path().join("api.sock");
        fs::write(
            &file,
            configuration(pair, more, &format!("listen_addresses = [\"0.0.0.0:{port}\"]\n{web}"), &socket),
        )?;
        let daemon = Forkwatch::daemon(["--config".as_ref(), file.as_os_str()])?;
        Ok(Self { daemon, port, _folder: folder })
    }

    fn connect(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect(("127.0.0.1", self.port))?)
    }

    /// What a client comes to that trusts this authority.
    fn ask(&self, authority: &Authority, path: &str, token: &str, own: Option<&Pair>) -> Result<Asked> {
        let mut command = Command::new(provided("python3")?);
        command.args([fixture("tls_client.py"), self.port.to_string(), path.to_owned()]);
        command.arg(authority.file()).arg(token);
        if let Some(Pair { cert, key }) = own {
            command.args([cert, key]);
        }
        let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output()?;
        let text = if status.success() { stdout } else { stderr };
        Ok(Asked { answered: status.success(), text: String::from_utf8(text)? })
    }
}

/// An answer, or why there is none.
#[derive(Debug)]
struct Asked {
    answered: bool,
    text: String,
}

impl Asked {
    fn begins(&self, with: &str) -> Result<()> {
        ensure!(self.answered && self.text.starts_with(with), "not {with}: {self:?}");
        Ok(())
    }

    fn failed(&self, with: &str) -> Result<()> {
        ensure!(!self.answered && self.text.to_lowercase().contains(with), "not {with}: {self:?}");
        Ok(())
    }
}

fn configuration(pair: &Pair, more: &str, web: &str, socket: &Path) -> String {
    format!(
        "[web]\n{web}\n[web.tls_server_config]\ncert_file = \"{}\"\nkey_file = \"{}\"\n{more}\n[socket]\npath = \"{}\"\n\
         group = \"\"\n[findings]\nstore = \"none\"\n",
        text(&pair.cert),
        text(&pair.key),
        text(socket)
    )
}

fn plain_http_is_refused_where_tls_is_spoken() -> Result<()> {
    let authority = Authority::new()?;
    let secured = Secured::start(&authority.sign("server")?, "", "")?;
    ensure!(secured.daemon.stderr().contains("metrics at https://"), "{}", secured.daemon.stderr());
    let metrics = secured.ask(&authority, "/metrics", "-", None)?;
    metrics.begins("200 server\n")?;
    ensure!(metrics.text.contains("forkwatch_forks_total"), "{}", metrics.text);
    let (status, body) = http::ask(secured.connect()?, "/metrics")?;
    ensure!(status.contains(" 400 ") && body.contains("This port speaks TLS"), "{status}: {body}");
    // Whoever sends what is neither is not waited for.
    let mut stream = secured.connect()?;
    stream.write_all(&[0x16, 3, 1, 0, 4, 0xff, 0, 0, 0])?;
    let mut answer = Vec::new();
    // The end may come as a reset.
    let _ = stream.read_to_end(&mut answer);
    ensure!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // Whoever trusts others asks nothing.
    let stranger = Authority::new()?;
    secured.ask(&stranger, "/metrics", "-", None)?.failed("certificate verify failed")?;
    secured.ask(&authority, "/-/healthy", "-", None)?.begins("200 ")?;
    secured.daemon.stop().map(drop)
}

fn a_token_is_asked_for_within_tls() -> Result<()> {
    let authority = Authority::new()?;
    let folder = tempfile::tempdir()?;
    let token = folder.path().join("token");
    fs::write(&token, TOKEN)?;
    let web = format!("token_file = \"{}\"", text(&token));
    let secured = Secured::start(&authority.sign("server")?, "", &web)?;
    ensure!(!secured.daemon.stderr().contains("can be read by"), "{}", secured.daemon.stderr());
    secured.ask(&authority, "/api/v1/findings", "-", None)?.begins("401 ")?;
    secured.ask(&authority, "/api/v1/findings", "another", None)?.begins("401 ")?;
    secured.ask(&authority, "/api/v1/findings", TOKEN, None)?.begins("200 ")?;
    secured.ask(&authority, "/", TOKEN, None)?.begins("200 ")?;
    secured.daemon.stop()?;
    // Without TLS the token is no secret for long.
    let address = free_address()?;
    let file = folder.path().join("forkwatch.toml");
    let plain = format!(
        "[web]\nlisten_addresses = [\"0.0.0.0:{}\"]\n{web}\n[socket]\npath = \"none\"\n",
        address.port()
    );
    fs::write(&file, plain)?;
    let daemon = Forkwatch::daemon(["--config".as_ref(), file.as_os_str()])?;
    ensure!(daemon.stderr().contains("can be read by whoever sees the network"), "{}", daemon.stderr());
    daemon.stop().map(drop)
}

fn a_certificate_of_a_client_is_enough() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let (server, client, other) =
        (authority.sign("server")?, authority.sign("client")?, stranger.sign("client")?);
    let asks = |kind: &str| {
        format!("client_auth_type = \"{kind}\"\nclient_ca_file = \"{}\"", text(&authority.file()))
    };
    let strict = Secured::start(&server, &asks("RequireAndVerifyClientCert"), "")?;
    ensure!(!strict.daemon.stderr().contains("set web.token_file"), "{}", strict.daemon.stderr());
    strict.ask(&authority, "/api/v1/findings", "-", Some(&client))?.begins("200 ")?;
    strict.ask(&authority, "/metrics", "-", Some(&client))?.begins("200 ")?;
    for own in [None, Some(&other)] {
        // Which error it is depends on who is quicker: the alert, or the end of the connection.
        let refused = strict.ask(&authority, "/metrics", "-", own)?;
        ensure!(!refused.answered && refused.text.contains("Error"), "{refused:?}");
    }
    strict.daemon.stop()?;
    let lenient = Secured::start(&server, &asks("VerifyClientCertIfGiven"), "")?;
    lenient.ask(&authority, "/metrics", "-", None)?.begins("200 ")?;
    lenient.ask(&authority, "/api/v1/findings", "-", None)?.begins("403 ")?;
    lenient.ask(&authority, "/api/v1/findings", "-", Some(&client))?.begins("200 ")?;
    lenient.daemon.stop().map(drop)
}

fn a_renewed_certificate_is_taken_on_by_a_reload() -> Result<()> {
    let authority = Authority::new()?;
    let pair = authority.sign("first")?;
    let secured = Secured::start(&pair, "", "")?;
    secured.ask(&authority, "/metrics", "-", None)?.begins("200 first\n")?;
    let said = |words: &str| secured.daemon.stderr().matches(words).count();
    replace(&pair, &authority.sign("second")?)?;
    secured.ask(&authority, "/metrics", "-", None)?.begins("200 first\n")?;
    secured.daemon.signal(Signal::SIGHUP)?;
    until("the reload", || Ok((said("the configuration was reloaded") == 1).then_some(())))?;
    secured.ask(&authority, "/metrics", "-", None)?.begins("200 second\n")?;
    // A key that does not fit changes nothing.
    let third = authority.sign("third")?;
    fs::rename(&third.cert, &pair.cert)?;
    secured.daemon.signal(Signal::SIGHUP)?;
    until("the refusal", || {
        let why = "the configuration stays as it was";
        Ok((said(why) == 1 && said("the certificate is for another key") == 1).then_some(()))
    })?;
    secured.ask(&authority, "/metrics", "-", None)?.begins("200 second\n")?;
    secured.daemon.stop().map(drop)
}

fn what_cannot_be_served_with_is_said_at_the_start() -> Result<()> {
    needs_bpf()?;
    let authority = Authority::new()?;
    let folder = tempfile::tempdir()?;
    let (pair, other) = (authority.sign("server")?, authority.sign("other")?);
    let missing = folder.path().join("none.pem");
    let refused = |cert: &Path, key: &Path, says: &str| -> Result<()> {
        let pair = Pair { cert: cert.to_owned(), key: key.to_owned() };
        let file = folder.path().join("forkwatch.toml");
        let web = format!("listen_addresses = [\"{}\"]", free_address()?);
        fs::write(&file, configuration(&pair, "", &web, &folder.path().join("api.sock")))?;
        let mut daemon = Command::new(binary::forkwatch()?);
        let output = daemon.args(["daemon", "--config"]).arg(&file).stdin(Stdio::null()).output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && why.contains(says), "{output:?}");
        Ok(())
    };
    refused(&missing, &pair.key, "cannot read web.tls_server_config.cert_file")?;
    refused(&pair.cert, &other.key, "the certificate is for another key")?;
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644))?;
    refused(&pair.cert, &pair.key, "may be read or written by everybody on this host: chmod o-rwx")
}

fn clients_that_never_end_their_handshake_keep_no_scrape_out() -> Result<()> {
    let authority = Authority::new()?;
    let secured = Secured::start(&authority.sign("server")?, "", "")?;
    let mut silent = Vec::new();
    for number in 0..600 {
        let mut client = secured.connect()?;
        if number % 2 == 0 {
            // The head of a record with a ClientHello, of which nothing comes.
            client.write_all(&[0x16, 3, 1, 1, 0, 1, 0, 0, 252])?;
        }
        silent.push(client);
    }
    // Before any of them is ended by its time.
    let began = Instant::now();
    secured.ask(&authority, "/metrics", "-", None)?.begins("200 ")?;
    ensure!(began.elapsed() < Duration::from_secs(4), "an answer took {:?}", began.elapsed());
    for client in &mut silent {
        client.set_read_timeout(Some(Duration::from_secs(20)))?;
        // Each ends: with nothing, or by a reset.
        let mut rest = Vec::new();
        if let Err(error) = client.read_to_end(&mut rest) {
            ensure!(error.kind() == std::io::ErrorKind::ConnectionReset, "one is held for long: {error}");
        }
    }
    secured.daemon.stop().map(drop)
}

/// A server of HTTPS with this certificate that is busy so often at first, and its port.
fn server(pair: &Pair, busy: u32) -> Result<(Program, i64)> {
    let arguments = [fixture("tls_server.py"), text(&pair.cert), text(&pair.key), busy.to_string()];
    let mut program = Program::hold(|_| Ok(Launch::new(provided("python3")?).args(&arguments)))?;
    program.release()?;
    let port = program.next_json()?.as_i64().context("no port")?;
    Ok((program, port))
}

fn hook(name: &str, comm: &str, more: &str) -> String {
    format!(
        "[[hook]]\nname = \"{name}\"\non = [\"finding\"]\nhazard = [\"multithreaded-fork\", \"held-locks\"]\ncomm = \"{comm}\"\n{more}\n"
    )
}

fn a_hook_posts_to_a_server_that_it_trusts() -> Result<()> {
    let authority = Authority::new()?;
    let (mut server, port) = server(&authority.sign("server")?, 1)?;
    let url = format!("url = \"https://127.0.0.1:{port}/x\"\nca_file = \"{}\"", text(&authority.file()));
    let hooked = Hooked::start(&hook("tell", "hooked-https", &url))?;
    let (mut program, child) = unsafe_fork("hooked-https")?;
    hooked.until_counted("tell", "good", 1)?;
    // It was busy the first time.
    let told = server.next_json()?;
    ensure!(told.pointer("/process/pid").and_then(Value::as_i64) == Some(child.into()), "{told}");
    program.end(None)?;
    hooked.end()?;
    server.end(Some(Signal::SIGTERM)).map(drop)
}

fn a_hook_posts_nothing_to_a_server_that_it_does_not_trust() -> Result<()> {
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let (mut server, port) = server(&authority.sign("server")?, 0)?;
    let url = |host: &str, authority: Option<&Authority>| {
        let ca = authority.map(|ca| format!("\nca_file = \"{}\"", text(&ca.file()))).unwrap_or_default();
        format!("url = \"https://{host}:{port}/x\"{ca}")
    };
    let missing = format!("url = \"https://127.0.0.1:{port}/\"\nca_file = \"/nonexistent/ca.pem\"");
    let hooks = [
        hook("host", "hooked-distrust", &url("127.0.0.1", None)),
        hook("stranger", "hooked-distrust", &url("127.0.0.1", Some(&stranger))),
        hook("name", "hooked-distrust", &url("localhost", Some(&authority))),
        hook("missing", "hooked-distrust", &missing),
        hook("seen", "hooked-distrust", "exec = [\"/bin/sh\", \"-c\", \"cat >> FOLDER/seen\"]\norder = 1"),
    ];
    let hooked = Hooked::start(&hooks.concat())?;
    let (mut program, _) = unsafe_fork("hooked-distrust")?;
    // Those that fail keep nothing from the next, and are not tried again.
    hooked.until_counted("seen", "good", 1)?;
    ensure!(documents(&hooked.path("seen"))?.len() == 1);
    let log = fs::read_to_string(hooked.path("log"))?;
    for (name, why) in [
        ("stranger", "is not trusted: it is signed by nobody whom this host, or ca_file, trusts"),
        ("name", "is not trusted: it is for another name"),
        ("missing", "cannot read ca_file: cannot open /nonexistent/ca.pem"),
    ] {
        ensure!(hooked.count(name, "failed")? == 1 && log.contains(why), "{name}: {log}");
    }
    // Where nobody is trusted at all, that is said instead.
    ensure!(hooked.count("host", "failed")? == 1, "{log}");
    let list = hooked.list()?;
    ensure!(list.get("connected") == Some(&Value::Bool(true)), "the watch is heard: {list}");
    ensure!(!server.output().contains('{'), "it was told something: {}", server.output());
    program.end(None)?;
    hooked.end()?;
    server.end(Some(Signal::SIGTERM)).map(drop)
}
