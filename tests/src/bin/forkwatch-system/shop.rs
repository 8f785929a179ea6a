//! gunicorn as `shop.service`, the unit of the examples, with a worker that goes wrong.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use forkwatch_tests::{event::Event, http};

use crate::{
    configuration::Changed,
    events::finding_that,
    systemd::{property_of, run, systemctl},
};

/// The unit.
pub(crate) const SHOP: &str = "shop.service";
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8000);
/// How long a worker may take to begin and to answer.
const PATIENCE: Duration = Duration::from_secs(120);

/// gunicorn itself would end a worker that says nothing for half a minute. What hangs ends with the unit.
const UNIT: &str = "[Service]
User=www-data
ExecStart=/usr/bin/gunicorn --config /run/shop/gunicorn.conf.py --preload --workers 1 --timeout 600 \
--bind 127.0.0.1:8000 --chdir /run/shop shop:application
KillSignal=SIGKILL
SuccessExitStatus=SIGKILL
";
/// The last part of every application.
const APPLICATION: &str = "

def application(environ, start_response):
    start_response('200 OK', [])
    return [b'served']
";
/// A thread of the arbiter holds a mutex that each worker takes. It lets go once the first worker has ended.
const HANGING: [&str; 2] = [
    "import ctypes, threading
libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(64)
held, enough = threading.Event(), threading.Event()


def hold():
    libc.pthread_mutex_lock(mutex)
    held.set()
    enough.wait()
    libc.pthread_mutex_unlock(mutex)


holder = threading.Thread(target=hold, daemon=True)
holder.start()
held.wait()
",
    "def post_fork(server, worker):
    import shop
    shop.libc.pthread_mutex_lock(shop.mutex)
    shop.libc.pthread_mutex_unlock(shop.mutex)


def child_exit(server, worker):
    import shop
    shop.enough.set()
    shop.holder.join()
",
];
/// Two workers write to a connection of the arbiter's.
const SHARING: [&str; 2] = [
    "import socket, threading, time
server = socket.create_server(('127.0.0.1', 8001))
shared = socket.create_connection(('127.0.0.1', 8001))


def talk():
    while True:
        shared.sendall(b'x')
        time.sleep(0.05)
",
    "workers = 2


def post_fork(server, worker):
    import shop
    shop.threading.Thread(target=shop.talk, daemon=True).start()
",
];

/// The unit, until it is dropped.
pub(crate) struct Shop {
    /// When it was started, as the journal understands it.
    since: String,
    _files: [Changed; 3],
}

impl Shop {
    /// Starts it with one worker, which waits for a lock that only its parent could release.
    pub(crate) fn hanging() -> Result<Self> {
        Self::start(HANGING, UNIT)
    }

    /// Starts it with two workers that use one connection.
    pub(crate) fn sharing() -> Result<Self> {
        // The command line would win over the file.
        Self::start(SHARING, &UNIT.replace("--workers 1 ", ""))
    }

    fn start([application, configuration]: [&str; 2], unit: &str) -> Result<Self> {
        let files = [
            Changed::to("/run/shop/shop.py", &[application, APPLICATION].concat())?,
            Changed::to("/run/shop/gunicorn.conf.py", configuration)?,
            Changed::to("/run/systemd/system/shop.service", unit)?,
        ];
        let since = run("date", &["+@%s.%N"])?.trim().to_owned();
        let shop = Self { since, _files: files };
        systemctl(&["daemon-reload"])?;
        systemctl(&["start", SHOP])?;
        Ok(shop)
    }

    /// Waits for a finding about one of its workers.
    pub(crate) fn finding(&self, hazard: &str, state: &str) -> Result<Event> {
        let arbiter: i64 = property_of(SHOP, "MainPID")?.parse()?;
        finding_that(&format!("{hazard}, {state}, of {SHOP}"), |event, found| {
            found.hazard() == hazard && found.state() == state && event.parent_pid() == Some(arbiter)
        })
        .with_context(|| format!("{SHOP} says {:?}", self.journal()))
    }

    /// What a worker answers.
    pub(crate) fn answer(&self) -> Result<String> {
        let stream = TcpStream::connect(ADDRESS).context("the arbiter does not listen")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        http::get(stream, "/").with_context(|| format!("{SHOP} says {:?}", self.journal()))
    }

    /// What it has said since its start.
    pub(crate) fn journal(&self) -> Result<String> {
        run("journalctl", &["--no-pager", "--output=cat", "--unit", SHOP, "--since", &self.since])
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Together with its files it is gone.
        if let Err(error) = systemctl(&["stop", SHOP]) {
            eprintln!("{SHOP} goes on: {error:#}");
        }
    }
}
