//! Which client libraries for databases and brokers a process has loaded, and others that decide what a fork does.

use super::maps::Maps;
use crate::model::client_library::CLIENT_LIBRARIES;

/// The client libraries that a process has mapped; none where its mappings may not be read.
pub(super) fn client_libraries(tgid: u32) -> Vec<String> {
    Maps::of_process(tgid).map(|maps| libraries(maps.files())).unwrap_or_default()
}

/// Whether a process has mapped `SQLite`, or Python's binding to it.
pub(super) fn has_sqlite(tgid: u32) -> bool {
    Maps::of_process(tgid).is_ok_and(|maps| {
        maps.files()
            .map(String::from_utf8_lossy)
            .any(|path| path.contains("/libsqlite3.") || path.contains("/_sqlite3."))
    })
}

/// Whether a process has loaded gevent, whose event loop is one of these two.
pub(super) fn has_gevent(tgid: u32) -> bool {
    Maps::of_process(tgid).is_ok_and(|maps| {
        maps.files()
            .map(String::from_utf8_lossy)
            .any(|path| path.contains("/gevent/libev/") || path.contains("/gevent/libuv/"))
    })
}

fn libraries<'a>(files: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut files: Vec<_> = files.map(String::from_utf8_lossy).collect();
    files.dedup();
    let loaded = CLIENT_LIBRARIES.iter().filter(|library| files.iter().any(|path| library.owns(path)));
    loaded.map(|library| library.name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_and_what_they_are_bound_to_are_named_once() {
        let files = [
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/venv/lib/python3.11/site-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so",
            "/venv/lib/python3.11/site-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so",
            "/venv/lib/python3.11/site-packages/psycopg2_binary.libs/libpq-9b38f5e3.so.5.17",
            "/venv/lib/python3.11/site-packages/sqlalchemy/cyextension/util.cpython-311-x86_64-linux-gnu.so",
        ];
        let found = libraries(files.into_iter().map(str::as_bytes));
        assert_eq!(found, ["sqlalchemy", "psycopg2", "libpq"]);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(client_libraries(u32::MAX), Vec::<String>::new());
    }
}
