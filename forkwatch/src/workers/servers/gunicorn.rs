//! gunicorn: `gunicorn: master [app]` and `gunicorn: worker [app]` with setproctitle, else the command line that started
//! it in all processes.

use super::{
    Part, Role, Rule, Signs,
    command_line::{Opt, Setting, settings as set},
};
use crate::model::loaded::Loaded;

pub(super) static RULE: Rule =
    Rule { part, settings, ..Rule::new("gunicorn", |signs| signs.name.starts_with("gunicorn")) };

const CLASS: Opt = Opt::value("worker class", &["-k", "--worker-class"]);
const THREADS: Opt = Opt::value("threads", &["--threads"]);
const OPTIONS: [Opt; 7] = [
    Opt::value("workers", &["-w", "--workers"]),
    THREADS,
    Opt::flag("preload", &["--preload"]),
    Opt::value("timeout", &["-t", "--timeout"]),
    Opt::value("max requests", &["--max-requests"]),
    Opt::value("bind", &["-b", "--bind"]),
    Opt::value("configuration", &["-c", "--config"]),
];

fn part(signs: &Signs<'_>) -> Option<Part> {
    let titled = |start, role| signs.after(start).map(|_| Part::of(role));
    titled("gunicorn: master ", Role::Master).or_else(|| titled("gunicorn: worker ", Role::Worker))
}

fn settings(signs: &Signs<'_>) -> Vec<Setting> {
    let class = class(signs).map(|value| Setting { name: CLASS.name, value });
    class.into_iter().chain(set(&signs.words, &OPTIONS)).collect()
}

/// The worker class, as far as it can be told: a file or the environment may set it, too.
fn class(signs: &Signs<'_>) -> Option<String> {
    let asked = CLASS.find(&signs.words);
    let threads = THREADS.find(&signs.words).is_some_and(|threads| threads != "1");
    match asked.as_deref() {
        // gunicorn itself takes gthread then (`Config.worker_class_str`, gunicorn/config.py).
        None | Some("sync") if threads => Some("gthread".to_owned()),
        Some(_) => asked,
        None if signs.has_loaded(Loaded::Gevent) => Some("gevent".to_owned()),
        None if signs.has_loaded(Loaded::Uvloop) => Some("one that uses uvloop".to_owned()),
        None => None,
    }
}
