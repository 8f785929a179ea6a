//! Python web servers that fork their workers: gunicorn and uWSGI.

use std::{
    os::unix::{fs::symlink, net::UnixStream},
    path::Path,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Scenario, python, python_fixtures};
use crate::{
    expectation::{Expected, SILENCE, multithreaded},
    http::get,
    process,
    program::{Launch, Program},
    provided::{Provided, provided},
};

/// Debian's uWSGI is the executable uwsgi-core with plugins.
const UWSGI_THREAD: &[Expected] = &[multithreaded("uwsgi-core", &["metrics-push"])];
const PAGE: &str = "/";
const GUNICORN_THREAD: &[Expected] = &[multithreaded("gunicorn", &["metrics-push"])];
/// CPython before 3.14 gives its threads no name of their own: the arbiter's bears the process's.
const GUNICORN_CONTROL_THREAD: &[Expected] = &[multithreaded("gunicorn", &["gunicorn"])];

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "gunicorn_preloads_an_application_with_a_thread",
        expected: GUNICORN_THREAD,
        prepare: |folder| gunicorn("python", folder, &["--preload", "wsgi_with_thread"]),
        work: serve_two,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "gunicorn_preloads_an_application_with_a_thread_for_threaded_workers",
        expected: GUNICORN_THREAD,
        prepare: |folder| {
            let threaded = ["--worker-class", "gthread", "--threads", "4", "--preload", "wsgi_with_thread"];
            gunicorn("python", folder, &threaded)
        },
        work: serve_two,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "gunicorn_loads_an_application_with_a_thread_in_each_worker",
        expected: SILENCE,
        prepare: |folder| gunicorn("python", folder, &["wsgi_with_thread"]),
        work: serve_two,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        // The arbiter has a control thread by the time of the third worker, but stops it around the fork.
        name: "gunicorn_preloads_an_application_without_threads_and_adds_a_worker",
        expected: SILENCE,
        prepare: |folder| gunicorn("python", folder, &["--preload", "wsgi"]),
        work: |program| {
            serve_two(program)?;
            program.said("Control socket listening")?;
            program.signal(Signal::SIGTTIN)?;
            program.wait_for("a third worker", |program| Ok(workers(program) == 3))
        },
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "gunicorn_25_1_0_forks_beside_its_own_control_thread",
        expected: GUNICORN_CONTROL_THREAD,
        prepare: |folder| gunicorn("gunicorn-25.1.0", folder, &["wsgi"]),
        work: serve_two,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "uwsgi_loads_an_application_with_a_thread_in_its_master",
        expected: UWSGI_THREAD,
        prepare: |folder| uwsgi(folder, "wsgi_with_thread.py", &[]),
        work: serve_two,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "uwsgi_with_lazy_apps_loads_it_in_each_worker",
        expected: SILENCE,
        prepare: |folder| uwsgi(folder, "wsgi_with_thread.py", &["--lazy-apps"]),
        // A worker that is asked to end while it loads its application does not end.
        work: |program| {
            serve_two(program)?;
            let loaded = |program: &Program| program.output().matches("WSGI app 0").count();
            program.wait_for("two applications", |program| Ok(loaded(program) == 2))
        },
        stop: Some(Signal::SIGTERM),
    },
];

pub(crate) fn gunicorn(environment: &str, folder: &Path, arguments: &[&str]) -> Result<Launch> {
    let socket = folder.join("socket").display().to_string();
    let control = folder.join("control").display().to_string();
    Ok(python(environment, "gunicorn")?
        .args(["--workers", "2", "--bind", &format!("unix:{socket}"), "--control-socket", &control])
        .args(arguments))
}

/// gunicorn with two workers and these arguments besides. It listens at `socket` in its folder.
pub fn plain_gunicorn(folder: &Path, arguments: &[&str]) -> Result<Launch> {
    gunicorn("python", folder, arguments)
}

/// The same, with an application that has a connection to this address before it forks.
pub fn gunicorn_with_connection(folder: &Path, address: &str, arguments: &[&str]) -> Result<Launch> {
    let arguments = [&["--preload", "wsgi_with_connection"], arguments].concat();
    Ok(plain_gunicorn(folder, &arguments)?.env("CONNECT", address))
}

/// The same, with a thread, too; `renews` has each worker get its own of both.
pub fn gunicorn_with_connection_and_thread(folder: &Path, address: &str, renews: bool) -> Result<Launch> {
    let configuration = python_fixtures().join("gunicorn_renews.py").display().to_string();
    let renewal: &[&str] = if renews { &["--config", &configuration] } else { &[] };
    Ok(gunicorn_with_connection(folder, address, renewal)?.env("WITH_THREAD", "1"))
}

/// A gunicorn, held before its exec, whose workers get stuck at their first request, and are killed for it after so
/// many seconds. It listens at `socket` in its folder.
pub fn gunicorn_with_a_stuck_worker(timeout: u32, application: &str) -> Result<Program> {
    let timeout = timeout.to_string();
    Program::hold(|folder| gunicorn("python", folder, &["--timeout", &timeout, "--preload", application]))
}

/// A gunicorn, held before its exec, with one worker and much patience. It listens at `socket` in its folder.
pub fn gunicorn_with_one_worker(application: &str) -> Result<Program> {
    let arguments = ["--workers", "1", "--timeout", "600", "--preload", application];
    Program::hold(|folder| gunicorn("python", folder, &arguments))
}

/// The same, whose master reads what its worker writes to standard output from a pipe. It is at `read` in its folder then.
pub fn gunicorn_with_pipes(application: &str) -> Result<Program> {
    let configuration = python_fixtures().join("gunicorn_pipes.py").display().to_string();
    let arguments =
        ["--workers", "1", "--timeout", "600", "--preload", "--config", &configuration, application];
    Program::hold(|folder| Ok(gunicorn("python", folder, &arguments)?.env("READ", folder.join("read"))))
}

/// gunicorn with workers of this class and the application that notes what `pyramid_forksafe` tells it, in `forks` in the
/// folder.
pub fn gunicorn_with_forksafe(folder: &Path, class: &str) -> Result<Launch> {
    let configuration = python_fixtures().join("forksafe_gunicorn.py").display().to_string();
    let arguments = ["--worker-class", class, "--preload", "--config", &configuration, "forksafe_app"];
    Ok(gunicorn("pyramid_forksafe", folder, &arguments)?.env("FORKSAFE_LOG", folder.join("forks")))
}

/// uWSGI with the same, with a master or without.
pub fn uwsgi_with_forksafe(folder: &Path, master: bool) -> Result<Launch> {
    let environment = provided("pyramid_forksafe")?.display().to_string();
    let master: &[&str] = if master { &["--master"] } else { &[] };
    let arguments = [master, &["--enable-threads", "--virtualenv", &environment]].concat();
    Ok(uwsgi_with(folder, "forksafe_app.py", &arguments)?.env("FORKSAFE_LOG", folder.join("forks")))
}

/// gunicorn whose workers have threads for requests, with an application of the fixtures that it loads before it forks.
pub fn gunicorn_with_stuck_threads(application: &str) -> Result<Program> {
    let threads = ["--worker-class", "gthread", "--threads", "4", "--preload", application];
    Program::hold(|folder| gunicorn("python", folder, &threads))
}

/// uWSGI with two workers for this application of the fixtures.
pub fn uwsgi(folder: &Path, application: &str, arguments: &[&str]) -> Result<Launch> {
    let arguments = [&["--master", "--enable-threads"], arguments].concat();
    uwsgi_with(folder, application, &arguments)
}

/// uWSGI with two workers for an application that does nothing but answer, with a master or without.
pub fn plain_uwsgi(folder: &Path, master: bool) -> Result<Launch> {
    uwsgi_with(folder, "wsgi.py", if master { &["--master"] } else { &[] })
}

/// uWSGI with two workers, this application and these arguments alone: without a master, and its threads off.
pub fn uwsgi_with(folder: &Path, application: &str, arguments: &[&str]) -> Result<Launch> {
    let plugin = Provided::find("uwsgi-python3")?;
    // Installed, its name has a link without the version, which is what the plugin itself goes by.
    let link = folder.join("python3_plugin.so");
    symlink(&plugin.path, &link).with_context(|| format!("cannot make {}", link.display()))?;
    let plugins = folder.display().to_string();
    let application = python_fixtures().join(application);
    Ok(Provided::find("uwsgi")?
        .launch()?
        .args(["--plugin-dir", &plugins, "--plugins", "python3", "--processes", "2", "--need-app"])
        .args(["--die-on-term", "--http-socket", &folder.join("socket").display().to_string()])
        .args(["--wsgi-file", &application.display().to_string()])
        .args(["--pythonpath", &python_fixtures().display().to_string()])
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1"))
}

fn workers(program: &Program) -> usize {
    process::descendants(program.pid()).len()
}

/// Waits for both workers and has one answer.
fn serve_two(program: &mut Program) -> Result<()> {
    program.wait_for("two workers", |program| Ok(workers(program) == 2))?;
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    get(UnixStream::connect(socket)?, PAGE).map(drop)
}
