//! The page of a running daemon, in a real browser.

use std::{
    path::Path,
    sync::mpsc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, anyhow, ensure};
use forkwatch::{
    api::{Brief, Filter},
    store::{Bounds, Change, Store},
};
use forkwatch_tests::{browser::Browser, daemon::Daemon, fixture, runner::Tests, tests};
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        the_page_shows_findings_as_they_come_and_keeps_names_text,
        ten_thousand_findings_are_listed_walked_and_searched,
    ])
}

/// A name that would be markup. The kernel keeps 15 bytes of it.
const HOSTILE: &str = "<b>&\"'x";

fn the_page_shows_findings_as_they_come_and_keeps_names_text() -> Result<()> {
    let browser = Browser::start()?;
    let daemon = Daemon::start("", &[])?;
    let url = |rest: &str| format!("http://{}/{rest}", daemon.address);
    browser.go(&url(""))?;
    browser.wait_for("document.getElementById('pulse').textContent === 'live'")?;
    browser.wait_for("/^Watching every fork/.test(document.querySelector('.verdict h2').textContent)")?;

    // What is found while it is open appears by itself.
    let mut program = fixture::hold_as("mt_fork", HOSTILE, &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).unwrap_or_default();
    browser.go(&url("#/findings"))?;
    let about = format!(
        "[...document.querySelectorAll('.row')].find((row) => row.textContent.includes('forked {child} '))"
    );
    browser.wait_for(&about)?;
    browser.run(&format!("{about}.focus(); {about}.click()"))?;
    browser.wait_for("document.querySelector('article .fix')")?;
    let shown = browser.run("return document.querySelector('article').innerText")?.to_string();
    ensure!(shown.contains("<b>&"), "the name is not there as it is: {shown}");
    let inside = browser
        .run("return document.querySelectorAll('article h1 b, article .summary *, article dd b').length")?;
    ensure!(inside == 0, "a name has become markup: {shown}");
    // The address leads to the same card.
    let address = browser.run("return location.href")?;
    browser.go(&url("#/hazards"))?;
    browser.wait_for("document.querySelectorAll('tbody tr').length > 10")?;
    browser.go(address.as_str().unwrap_or_default())?;
    browser.wait_for("document.querySelector('article .fix')")?;
    browser.go(&url(&format!("#/findings?q={child}+nothing-has-this-word")))?;
    browser.wait_for("/No finding matches/.test(document.querySelector('.list').textContent)")?;
    browser.go(&url("#/processes"))?;
    browser.wait_for(&format!(
        "[...document.querySelectorAll('.tree .mono')].some((one) => one.textContent === '{child}')"
    ))?;

    // Nothing hangs over the side of a phone, in either scheme.
    for scheme in ["light", "dark"] {
        browser.prefer(scheme)?;
        browser.resize(400, 900)?;
        for page in ["#/", "#/findings", "#/servers", "#/processes", "#/hazards", "#/hazards/orphaned-lock"] {
            browser.go(&url(page))?;
            browser.wait_for("document.querySelector('main h1')")?;
            let width = browser.run("return document.documentElement.scrollWidth")?;
            ensure!(width.as_u64().is_some_and(|width| width <= 400), "{page} is {width} wide");
        }
    }
    // Its policy forbids nothing that it does, and nothing is missing.
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    program.end(None)?;
    drop(browser);
    daemon.stop()
}

/// Nearly as many as the page shows: while it is looked at, this host may give a few more.
const MANY: u64 = 9_900;

/// Keeps so many findings in this file, of which each has its number in its summary.
fn keep_many(file: &Path) -> Result<()> {
    const TOLD_AT_ONCE: u64 = 900;
    let bounds = Bounds { count: MANY, bytes: 1 << 30, time: Duration::from_secs(7 * 24 * 60 * 60) };
    let store = Store::start(Some(file.to_owned()), "an-earlier-watch".to_owned(), bounds)?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
    for number in 1..=MANY {
        let at = now - (MANY - number) * 1_000_000_000;
        let brief: Brief = serde_json::from_value(json!({
            "id": "", "first_seen": "2026-11-29T20:00:00Z", "last_seen": "2026-11-29T21:00:00Z",
            "hazard": "orphaned-lock", "state": "confirmed", "certainty": "certain", "severity": "critical",
            "summary": format!("The child {number} of gunicorn (pid 6) waits in vain for a lock: number-{number}"),
            "program": "gunicorn", "pid": number, "name": "gunicorn", "parent_pid": 6, "repeats": 0,
        }))?;
        store.tell(Change { number, at, brief, members: Vec::new(), document: "null".to_owned() });
        if number % TOLD_AT_ONCE == 0 {
            // Once this is answered, all that was told before is written.
            let (reply, answer) = mpsc::channel();
            store.list(Filter::default(), Box::new(move |listed| drop(reply.send(listed))));
            answer.recv()?.map_err(|why| anyhow!(why))?;
        }
    }
    ensure!(store.health().lost == 0, "{:?}", store.health());
    store.close();
    Ok(())
}

/// Only what can be seen of them is in the page, however many there are.
fn ten_thousand_findings_are_listed_walked_and_searched() -> Result<()> {
    let browser = Browser::start()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("findings.redb");
    keep_many(&file)?;
    let daemon = Daemon::start(&format!("[findings]\nstore = \"{}\"\n", file.display()), &[])?;
    let url = |rest: &str| format!("http://{}/{rest}", daemon.address);
    let start = Instant::now();
    browser.go(&url("#/findings"))?;
    let status = "document.querySelector('main [role=status]')?.textContent";
    browser.wait_for(&format!("/^9,9\\d\\d findings$/.test({status})"))?;
    eprintln!("{MANY} findings are listed after {:?}", start.elapsed());
    let rows = "document.querySelectorAll('.row').length";
    let count = browser.run(&format!("return {rows}"))?;
    ensure!(count.as_u64().is_some_and(|count| (1..100).contains(&count)), "{count} rows are in the page");
    let start = Instant::now();
    browser.run("const list = document.querySelector('.list'); list.scrollTop = list.scrollHeight")?;
    browser.wait_for(
        "[...document.querySelectorAll('.row .text')].some((row) => /number-1$/.test(row.textContent))",
    )?;
    eprintln!("the last is shown after {:?}", start.elapsed());
    let start = Instant::now();
    browser.go(&url("#/findings?q=number-7777"))?;
    browser.wait_for(&format!("/^1 of 9,9/.test({status})"))?;
    eprintln!("one is found after {:?}", start.elapsed());
    ensure!(browser.run(&format!("return {rows}"))? == json!(1));
    let complaints = browser.complaints()?;
    ensure!(complaints.is_empty(), "{complaints:?}");
    drop(browser);
    daemon.stop()
}
