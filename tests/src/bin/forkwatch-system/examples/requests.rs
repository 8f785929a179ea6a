//! Examples that send something. Who gets it stands in for the pager, the proxy and GitHub.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    certificates::{Authority, Pair},
    hooks_page::Example,
    host::skip,
    receiver::{Letter, Receiver, Speaks},
};
use serde_json::Value;

use super::{Installed, SOON, about, hook, shown, until_run};
use crate::{
    configuration::Changed,
    events::{Events, found},
    shop::Shop,
    systemd::until,
};

/// Where everybody on the system looks for whom to trust.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
const HOSTS: &str = "/etc/hosts";
/// The folder that the service has for the time that it runs.
const FOLDER: &str = "/run/forkwatch-hooks";
const TOKEN: &str = "token-of-a-test";
/// What GitHub answers to the two questions that `gh issue create` has: what repository it is, and the new issue.
const REPOSITORY: &str = r#"{"data": {"repository": {"id": "R_shop", "name": "shop", "owner": {"login": "example"},
"hasIssuesEnabled": true, "description": "", "hasWikiEnabled": false, "viewerPermission": "WRITE",
"defaultBranchRef": {"name": "main"}, "parent": null, "mergeCommitAllowed": true, "rebaseMergeAllowed": true,
"squashMergeAllowed": true}}}"#;
const ISSUE: &str = r#"{"data": {"createIssue": {"issue": {"id": "I_1", "url": "https://github.com/example/shop/issues/1"}}}}"#;
const CREATES: &str = "createIssue";

const fn here(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// While it lives, a server's name leads here, and the system trusts its certificate.
struct Known {
    pair: Pair,
    _authority: Authority,
    _files: [Changed; 2],
}

impl Known {
    /// The server with this name. `called` are the names that lead here.
    fn as_server(name: &str, called: &str) -> Result<Self> {
        if !Path::new(TRUSTED).exists() {
            return skip("no authorities are trusted here (ca-certificates)");
        }
        let authority = Authority::new()?;
        let pair = authority.sign_for_server(name)?;
        let certificate = fs::read_to_string(authority.file())?;
        let files =
            [Changed::with(TRUSTED, &certificate)?, Changed::with(HOSTS, &format!("127.0.0.1 {called}\n"))?];
        Ok(Self { pair, _authority: authority, _files: files })
    }
}

fn needs(program: &str) -> Result<()> {
    if Path::new(program).exists() { Ok(()) } else { skip(format!("there is no {program}")) }
}

/// Waits for a letter of which this is true.
fn letter(receiver: &Receiver, name: &str, fits: impl Fn(&Letter) -> bool) -> Result<Letter> {
    until("a letter", || Ok(receiver.letters().into_iter().find(&fits))).with_context(|| {
        format!("{:?} {:?}, {:#}", receiver.letters(), receiver.faults(), hook(name).unwrap_or_default())
    })
}

/// What is told must be proven and grave, whichever example tells it.
fn is_proven(text: &str, shop: &Shop) -> Result<()> {
    let told = about(text, &shop.finding("orphaned-lock", "confirmed")?)?;
    let finding = found(&told)?;
    let [certainty, severity, state] = [finding.certainty(), finding.severity(), finding.state()];
    ensure!([certainty, severity, state] == ["certain", "critical", "confirmed"], "told was {}", told.0);
    Ok(())
}

pub(super) fn somebody_is_paged() -> Result<()> {
    let example = shown("Page somebody")?;
    ensure!(example.drop_in.is_empty(), "it needs {}", example.drop_in);
    let receiver = Receiver::start(here(9000), &Speaks::Plain, |_| "")?;
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&example])?;
    let shop = Shop::hanging()?;
    let letter = letter(&receiver, "page", |_| true)?;
    ensure!(letter.request == "POST /forkwatch HTTP/1.1", "it was {}", letter.request);
    ensure!(letter.header("content-type") == "application/json", "the headers are {:?}", letter.headers);
    is_proven(&letter.body, &shop)?;
    until_run("page")?;
    drop((shop, installed));
    events.end()
}

pub(super) fn a_program_is_run() -> Result<()> {
    // The page leaves the program to the reader. This one notes what it was told.
    const PAGER: &str =
        "#!/bin/sh\necho \"$@\" >\"$RUNTIME_DIRECTORY/arguments\"\ncat >\"$RUNTIME_DIRECTORY/event\"\n";
    let example = shown("Keys")?;
    let _pager = Changed::program("/usr/local/bin/page", PAGER)?;
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&example])?;
    let shop = Shop::hanging()?;
    until_run("page")?;
    let read =
        |name: &str| fs::read_to_string(format!("{FOLDER}/{name}")).with_context(|| format!("no {name}"));
    is_proven(&read("event")?, &shop)?;
    let pid = shop.finding("orphaned-lock", "confirmed")?.pid().context("no pid")?;
    let arguments = read("arguments")?;
    ensure!(arguments.trim() == format!("--hazard orphaned-lock --pid {pid}"), "it was run with {arguments}");
    drop((shop, installed));
    events.end()
}

pub(super) fn curl_tells_it() -> Result<()> {
    needs("/usr/bin/curl")?;
    let example = with_the_header(shown("https")?)?;
    let known = Known::as_server("alerts.example.org", "proxy.example.org")?;
    let _token = Changed::to("/etc/forkwatch/hooks.token", &format!("Authorization: Bearer {TOKEN}\n"))?;
    let receiver = Receiver::start(here(3128), &Speaks::Proxy(&known.pair), |_| "")?;
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&example])?;
    let shop = Shop::hanging()?;
    let letter = letter(&receiver, "tell", |_| true)?;
    ensure!(letter.by_way_of == "alerts.example.org:443", "the proxy was asked for {}", letter.by_way_of);
    ensure!(letter.request == "POST /forkwatch HTTP/1.1", "it was {}", letter.request);
    let headers = ["authorization", "content-type"].map(|name| letter.header(name).to_owned());
    ensure!(headers == [format!("Bearer {TOKEN}"), "application/json".to_owned()], "{:?}", letter.headers);
    is_proven(&letter.body, &shop)?;
    until_run("tell")?;
    drop((shop, installed));
    events.end()
}

/// Adds the arguments by which curl reads a header from a file, as the page says below the example.
fn with_the_header(example: Example) -> Result<Example> {
    let is_it = |code: &&String| code.starts_with("\"--header\", \"@");
    let header = example.code.iter().find(is_it).context("the page does not say how curl reads a header")?;
    let data = "\"--data-binary\"";
    let hooks = example.hooks.replacen(data, &format!("{header}, {data}"), 1);
    ensure!(hooks != example.hooks, "the example sends no data: {hooks}");
    Ok(Example { hooks, ..example })
}

pub(super) fn gh_opens_an_issue() -> Result<()> {
    needs("/usr/bin/gh")?;
    let example = shown("Open an issue on GitHub")?;
    let known = Known::as_server("api.github.com", "api.github.com")?;
    let _token = Changed::to("/etc/forkwatch/github.token", &format!("{TOKEN}\n"))?;
    let receiver = Receiver::start(here(443), &Speaks::Tls(&known.pair), |letter| {
        if letter.body.contains(CREATES) { ISSUE } else { REPOSITORY }
    })?;
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&example])?;
    let shop = Shop::hanging()?;
    let letter = letter(&receiver, "issue", |letter| letter.body.contains(CREATES))?;
    ensure!(letter.header("authorization") == format!("token {TOKEN}"), "{:?}", letter.headers);
    let asked: Value = serde_json::from_str(&letter.body)?;
    let input = |name: &str| {
        let text = asked.pointer(&format!("/variables/input/{name}")).and_then(Value::as_str);
        text.with_context(|| format!("no {name}: {asked:#}"))
    };
    ensure!(input("repositoryId")? == "R_shop", "it is another repository: {asked:#}");
    ensure!(input("title")? == "forkwatch: a worker hangs", "the title is {}", input("title")?);
    let pid = shop.finding("orphaned-lock", "confirmed")?.pid().context("no pid")?;
    let body = input("body")?;
    for part in ["### orphaned-lock", &format!("(pid {pid})"), "| unit | shop.service |"] {
        ensure!(body.contains(part), "no {part:?} in {body}");
    }
    until_run("issue")?;
    drop((shop, installed));
    events.end()
}
