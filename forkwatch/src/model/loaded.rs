//! Loaded objects that tell which server runs in a process, or how it is set up.

use serde::{Deserialize, Serialize};

/// A shared object that a process has mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loaded {
    /// gevent's event loop.
    Gevent,
    /// The event loop of most ASGI workers.
    Uvloop,
    /// The C part of Python's `multiprocessing`.
    Multiprocessing,
    /// The C part of Celery's copy of it.
    Billiard,
    /// Apache with threads that wait for events.
    ApacheEvent,
    /// Apache with threads.
    ApacheWorker,
    /// Apache with processes of one thread.
    ApachePrefork,
    /// PHP inside of Apache.
    ModPhp,
    /// Python inside of Apache.
    ModWsgi,
}

impl Loaded {
    /// All of them.
    const ALL: [Self; 9] = [
        Self::Gevent,
        Self::Uvloop,
        Self::Multiprocessing,
        Self::Billiard,
        Self::ApacheEvent,
        Self::ApacheWorker,
        Self::ApachePrefork,
        Self::ModPhp,
        Self::ModWsgi,
    ];

    /// What the path of such an object holds.
    const fn part(self) -> &'static str {
        match self {
            Self::Gevent => "/gevent/",
            Self::Uvloop => "/uvloop/",
            Self::Multiprocessing => "/_multiprocessing.",
            Self::Billiard => "/_billiard.",
            Self::ApacheEvent => "/mod_mpm_event.",
            Self::ApacheWorker => "/mod_mpm_worker.",
            Self::ApachePrefork => "/mod_mpm_prefork.",
            Self::ModPhp => "/libphp",
            Self::ModWsgi => "/mod_wsgi",
        }
    }

    /// Those among the files that a process has mapped.
    pub fn among<'a>(files: impl Iterator<Item = &'a [u8]>) -> Vec<Self> {
        let paths: Vec<_> = files.map(String::from_utf8_lossy).collect();
        let has = |object: &Self| paths.iter().any(|path| path.contains(object.part()));
        Self::ALL.into_iter().filter(has).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_known_by_their_paths() {
        let files = [
            "/usr/lib/python3.11/lib-dynload/_multiprocessing.cpython-311-x86_64-linux-gnu.so",
            "/venv/lib/python3.11/site-packages/gevent/libev/corecext.cpython-311-x86_64-linux-gnu.so",
            "/usr/lib/apache2/modules/mod_mpm_event.so",
        ];
        let found = Loaded::among(files.into_iter().map(str::as_bytes));
        assert_eq!(found, [Loaded::Gevent, Loaded::Multiprocessing, Loaded::ApacheEvent]);
    }
}
