//! The page of a running daemon, in a real browser.

use anyhow::{Result, ensure};
use forkwatch_tests::{browser::Browser, daemon::Daemon, fixture, runner::Tests, tests};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![the_page_shows_findings_as_they_come_and_keeps_names_text])
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
