//! A real server in a unit of its own: gunicorn, whose application starts a thread before the workers are forked.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::{
    events::{Events, finding, found},
    service::scrape,
    systemd::{property_of, systemctl, until, until_journal_has},
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

pub(crate) fn an_unsafe_fork_names_its_unit() -> Result<()> {
    let events = Events::begin("")?;
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
    let journal = until_journal_has("while another thread ran")?;
    ensure!(journal.contains("gunicorn"), "the journal does not name the program: {journal}");
    let event = finding("multithreaded-fork", SHOP)?;
    let arbiter = found(&event)?.parent_pid();
    let pid: i64 = property_of(SHOP, "MainPID")?.parse()?;
    ensure!(arbiter == Some(pid), "the arbiter is {pid}, and the forker {arbiter:?}");

    systemctl(&["stop", SHOP])?;
    for path in paths {
        fs::remove_file(path)?;
    }
    systemctl(&["daemon-reload"])?;
    events.end()
}
