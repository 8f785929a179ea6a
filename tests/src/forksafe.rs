//! What an application notes when `pyramid_forksafe` tells it of its server's forks (`tests/fixtures/python/forksafe_app.py`).

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    event::Event,
    program::{Launch, Program},
    scenario::{gunicorn_with_forksafe, uwsgi_with_forksafe},
};

/// A server that tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// gunicorn with workers of this class.
    Gunicorn(&'static str),
    /// uWSGI with a master.
    Uwsgi,
}

impl Teller {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Gunicorn("sync"), Self::Gunicorn("gthread"), Self::Gunicorn("gevent"), Self::Uwsgi];

    /// What it is called.
    pub fn name(self) -> String {
        match self {
            Self::Gunicorn(class) => format!("gunicorn, {class}"),
            Self::Uwsgi => "uWSGI".to_owned(),
        }
    }

    /// It, held before its exec, with two workers to come.
    pub fn hold(self) -> Result<Program> {
        Program::hold(|folder| -> Result<Launch> {
            match self {
                Self::Gunicorn(class) => gunicorn_with_forksafe(folder, class),
                Self::Uwsgi => uwsgi_with_forksafe(folder, true),
            }
        })
    }

    /// The last that it tells a worker before that waits for work: gunicorn alone tells one that it is set up.
    pub const fn last(self) -> &'static str {
        match self {
            Self::Gunicorn(_) => "init",
            Self::Uwsgi => "warm",
        }
    }
}

/// When a worker was told of its fork (`fork`), had done what it does then (`warm`), and was told that it is set up (`init`):
/// in nanoseconds since 1970.
pub struct Noted(BTreeMap<String, i64>);

impl Noted {
    /// What this worker of a server has noted.
    pub fn by(server: &Program, worker: i64) -> Result<Self> {
        let log = server.folder().join("forks");
        let text = fs::read_to_string(&log).with_context(|| format!("nothing at {}", log.display()))?;
        let mut noted = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line)?;
            let number =
                |name: &str| line.get(name).and_then(Value::as_i64).with_context(|| format!("{line}"));
            if number("pid")? == worker {
                let event = line.get("event").and_then(Value::as_str).context("no event")?;
                noted.insert(event.to_owned(), number("at")?);
            }
        }
        Ok(Self(noted))
    }

    /// When that was.
    pub fn at(&self, event: &str) -> Result<i64> {
        self.0.get(event).copied().with_context(|| format!("no {event} among {:?}", self.0))
    }
}

/// When something happened, in nanoseconds since 1970.
pub fn time(event: &Event) -> Result<i64> {
    let at: jiff::Timestamp = event.text("/@timestamp").parse().context("no time")?;
    i64::try_from(at.as_nanosecond()).context("a time long gone")
}
