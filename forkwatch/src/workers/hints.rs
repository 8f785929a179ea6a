//! What is wrong with how a server is set up, as far as its command line and its workers show it.

use super::servers::Server;

/// Something about how a server is set up that will hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// uWSGI without a master process: no worker that ends is replaced.
    NoMaster,
    /// uWSGI without `enable-threads`, whose workers have threads of the application's own, which never run.
    ThreadsOff,
}

/// What is wrong with a server, of which a worker was seen to have so many threads of Python's beside its main one.
pub fn hints(server: &Server, python_threads: u32) -> Vec<Hint> {
    if !server.known || !server.name.ends_with("uWSGI") {
        return Vec::new();
    }
    let setting = |name: &str| server.settings.iter().find(|setting| setting.name == name);
    // Only a command line that names no file, and is no title, says that there is no master.
    let has_no_master = setting("master").is_some_and(|master| master.value.starts_with("no: "));
    // `threads` turns threads on, too (`uwsgi_python_init_apps`, plugins/python/python_plugin.c).
    let has_threads = ["threads", "enable-threads"].into_iter().any(|name| setting(name).is_some());
    let is_told_in_full = has_no_master || setting("master").is_some() && setting("configuration").is_none();
    let no_threads = is_told_in_full && !has_threads && python_threads > 0;
    let no_master = has_no_master.then_some(Hint::NoMaster);
    no_master.into_iter().chain(no_threads.then_some(Hint::ThreadsOff)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::process::Program,
        workers::servers::{Kin, recognise},
    };

    fn of(line: &str, python_threads: u32) -> Vec<Hint> {
        let program = Program {
            comm: "worker".into(),
            exe: line.split(' ').next().map(|name| format!("/usr/bin/{name}").into()),
            cmdline: line.split(' ').map(str::to_owned).collect(),
            ..Program::default()
        };
        let kin = |forked| Kin { program: &program, loaded: &[], forked, age: Duration::from_secs(5) };
        recognise(&[kin(false), kin(true)])
            .server
            .map(|server| hints(&server, python_threads))
            .unwrap_or_default()
    }

    #[test]
    fn what_a_command_line_lacks_is_told() {
        assert_eq!(of("uwsgi -p 2 --http :80 --wsgi-file a.py", 0), [Hint::NoMaster]);
        assert_eq!(of("uwsgi --master -p 2 --wsgi-file a.py", 2), [Hint::ThreadsOff]);
        assert_eq!(of("uwsgi -p 2 --wsgi-file a.py", 3), [Hint::NoMaster, Hint::ThreadsOff]);
    }

    #[test]
    fn what_a_file_may_set_is_not_missed() {
        for (line, threads) in [
            ("uwsgi --master -p 2 --wsgi-file a.py", 0),
            ("uwsgi --master --enable-threads -p 2", 5),
            ("uwsgi --master --threads 4 -p 2", 5),
            ("uwsgi --ini /etc/uwsgi.ini", 5),
            ("uwsgi /etc/uwsgi/app.ini -p 2", 5),
            ("uwsgi --master --ini x", 5),
            ("gunicorn -w 4 app:app", 5),
        ] {
            assert_eq!(of(line, threads), [], "{line}");
        }
    }
}
