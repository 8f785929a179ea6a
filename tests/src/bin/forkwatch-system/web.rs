//! A real server in a unit of its own: gunicorn, whose application starts a thread before the workers are forked.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::event::{Event, Finding};

use crate::{
    configuration::Configuration,
    service::scrape,
    systemd::{UNIT, property_of, systemctl, until, until_journal_has},
};

const SHOP: &str = "shop.service";
const SHOP_UNIT: &str = "[Service]
User=www-data
ExecStart=/usr/bin/gunicorn --preload --workers 1 --bind 127.0.0.1:8000 --chdir /run/shop shop:application
";
const APPLICATION: &str = "import threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()


def application(environ, start_response):
    start_response('200 OK', [])
    return [b'']
";
const EVENTS: &str = "/var/log/forkwatch/events.json";

pub(crate) fn an_unsafe_fork_names_its_unit() -> Result<()> {
    let configuration = Configuration::of(&format!("[events]\noutput = \"{EVENTS}\"\n"))?;
    systemctl(&["restart", UNIT])?;
    let paths = ["/run/shop/shop.py", "/run/systemd/system/shop.service"];
    fs::create_dir_all("/run/shop")?;
    for (path, text) in paths.into_iter().zip([APPLICATION, SHOP_UNIT]) {
        fs::write(path, text).with_context(|| format!("cannot write {path}"))?;
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["start", SHOP])?;

    let labels = format!("hazard=\"multithreaded-fork\",program=\"gunicorn\",unit=\"{SHOP}\"");
    until("the unsafe fork in the metrics", || {
        let state = property_of(SHOP, "ActiveState")?;
        ensure!(state == "active", "gunicorn is {state}");
        Ok((scrape()?.sum("forkwatch_unsafe_forks_total", &labels) > 0.5).then_some(()))
    })?;
    let journal = until_journal_has("multithreaded-fork")?;
    ensure!(journal.contains("gunicorn"), "the journal does not name the program: {journal}");
    let event = until("the finding among the events", finding)?;
    let (unit, arbiter) = (event.text("/service/name"), event.finding().and_then(Finding::parent_pid));
    ensure!(unit == SHOP, "the unit is {unit:?} in {}", event.0);
    let pid: i64 = property_of(SHOP, "MainPID")?.parse()?;
    ensure!(arbiter == Some(pid), "the arbiter is {pid}, and the forker {arbiter:?}");

    systemctl(&["stop", SHOP])?;
    for path in paths {
        fs::remove_file(path)?;
    }
    systemctl(&["daemon-reload"])?;
    drop(configuration);
    systemctl(&["restart", UNIT]).map(drop)
}

/// The first finding of the hazard in the file of events.
fn finding() -> Result<Option<Event>> {
    let text = fs::read_to_string(EVENTS).with_context(|| format!("cannot read {EVENTS}"))?;
    // The last line may not be whole yet.
    let events = text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Event);
    let is_wanted =
        |event: &Event| event.finding().is_some_and(|found| found.hazard() == "multithreaded-fork");
    Ok(events.into_iter().find(is_wanted))
}
