//! Which server a family of processes is, and what each of them is for.
//!
//! A server is known by its executable, its command line or its title, and by what it has loaded: all of it the
//! program's own words. So it is good for what is told about a process, and nothing is proven by it.

mod apache;
mod celery;
mod command_line;
mod gunicorn;
mod haproxy;
mod multiprocessing;
mod nginx;
mod node;
mod passenger;
mod php_fpm;
mod postgresql;
mod puma;
mod resque;
#[cfg(test)]
mod tests;
mod unicorn;
mod uwsgi;

use std::{borrow::Cow, time::Duration};

pub use command_line::Setting;

use crate::model::{
    loaded::Loaded,
    process::Program,
    program_name::{bare_name, program_name, stem},
};

/// How long a forked child has lived that counts as a worker of a program that is no known server.
pub const LONG: Duration = Duration::from_secs(10);
/// So many of these make a program a server.
const ENOUGH: usize = 2;

/// A process of a family.
#[derive(Clone, Copy, Debug)]
pub struct Kin<'a> {
    /// What runs in it.
    pub program: &'a Program,
    /// What tells more of that.
    pub loaded: &'a [Loaded],
    /// Whether it was forked by another one of the family and has not exec'd since.
    pub forked: bool,
    /// How long it has lived.
    pub age: Duration,
}

/// What a process does in a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It starts the others.
    Master,
    /// It does the work.
    Worker,
    /// It does something else for the server.
    Helper,
}

impl Role {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Worker => "worker",
            Self::Helper => "helper",
        }
    }
}

/// A process's part in a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it is for: master, worker or helper.
    pub role: Role,
    /// What its title says in addition: `worker 3`, `pool www`, `checkpointer`. Not safe for a terminal.
    pub title: Option<String>,
}

impl Part {
    fn of(role: Role) -> Self {
        Self { role, title: None }
    }

    fn titled(role: Role, title: &str) -> Self {
        let title = title.trim();
        Self { role, title: (!title.is_empty()).then(|| title.to_owned()) }
    }
}

/// What brings work to a server's workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Connections, at a socket that they have from their master.
    pub connections: bool,
    /// Jobs, from a pipe or socket that they have from their master.
    pub jobs: bool,
    /// Whether they take turns at it, by a lock that they share: who waits for its turn waits for work.
    pub turns: bool,
}

impl Work {
    /// Nothing that can be seen: each is forked for one job or one client, or listens itself.
    pub const NONE: Self = Self { connections: false, jobs: false, turns: false };
    const CONNECTIONS: Self = Self { connections: true, jobs: false, turns: false };
    const CONNECTIONS_IN_TURNS: Self = Self { turns: true, ..Self::CONNECTIONS };
    const JOBS: Self = Self { connections: false, jobs: true, turns: true };
    /// Whatever there is.
    pub const ANY: Self = Self { connections: true, jobs: true, turns: true };
}

/// A server, as its processes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name; of a program that is no known server, what its users know it by.
    pub name: Cow<'static, str>,
    /// Whether forkwatch knows its kind.
    pub known: bool,
    /// Its version, or that of what it runs in, where its title or its path tells.
    pub version: Option<String>,
    /// How it is set up, as far as its command line and what it has loaded tell.
    pub settings: Vec<Setting>,
    /// What brings work to its workers.
    pub work: Work,
    /// Whether such a program may fork for other reasons as well, so that not every child of its is a worker.
    pub by_workers: bool,
}

/// Which server a family is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recognised {
    /// The server; absent where the family is none.
    pub server: Option<Server>,
    /// The part of each process, in the order of the family; absent for one that does not belong to the server.
    pub parts: Vec<Option<Part>>,
}

/// How a server is recognised. Each has a file of its own.
struct Rule {
    name: &'static str,
    /// Whether a process is of this server.
    is: fn(&Signs<'_>) -> bool,
    /// What its title says that it does.
    part: fn(&Signs<'_>) -> Option<Part>,
    version: fn(&Signs<'_>) -> Option<String>,
    settings: fn(&Signs<'_>) -> Vec<Setting>,
    /// Whether a program is this server only where it has workers.
    by_workers: bool,
    /// Whether its workers exec.
    execs: bool,
    work: Work,
}

impl Rule {
    /// One of which nothing is known but how it is recognised, and that it forks its workers.
    const fn new(name: &'static str, is: fn(&Signs<'_>) -> bool) -> Self {
        Self {
            name,
            is,
            part: |_| None,
            version: |_| None,
            settings: |_| Vec::new(),
            by_workers: false,
            execs: false,
            work: Work::CONNECTIONS,
        }
    }
}

/// The first that fits is taken: the particular stand before the general.
static RULES: [&Rule; 14] = [
    &gunicorn::RULE,
    &uwsgi::RULE,
    &celery::RULE,
    &puma::RULE,
    &unicorn::RULE,
    &resque::RULE,
    &passenger::RULE,
    &php_fpm::RULE,
    &postgresql::RULE,
    &nginx::RULE,
    &apache::RULE,
    &haproxy::RULE,
    &node::RULE,
    &multiprocessing::RULE,
];

/// What a process shows of the server that it belongs to.
struct Signs<'a> {
    program: &'a Program,
    loaded: &'a [Loaded],
    /// The name that knows scripts, modules and titles.
    name: String,
    /// The command line as words, also where a title has taken its place.
    words: Cow<'a, [String]>,
}

impl<'a> Signs<'a> {
    fn new(program: &'a Program, loaded: &'a [Loaded]) -> Self {
        let words = match program.cmdline.as_slice() {
            [title] => {
                title.split_ascii_whitespace().map(|word| word.trim_matches(['(', ')']).to_owned()).collect()
            }
            words => Cow::Borrowed(words),
        };
        Self { program, loaded, name: bare_name(program), words }
    }

    fn named(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }

    /// The command line in one piece, as `ps` shows it: a title.
    fn title(&self) -> String {
        self.program.cmdline.join(" ")
    }

    /// What follows in the title.
    fn after(&self, start: &str) -> Option<String> {
        self.title().strip_prefix(start).map(str::to_owned)
    }

    /// Whether its executable has one of these names, with or without a version.
    fn runs(&self, stems: &[&str]) -> bool {
        self.executable().is_some_and(|name| stems.contains(&name) || stems.contains(&stem(name)))
    }

    fn executable(&self) -> Option<&str> {
        self.program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|name| name.to_str())
    }

    fn has_loaded(&self, object: Loaded) -> bool {
        self.loaded.contains(&object)
    }
}

/// Which server these processes are. The first of them is the one from which all others descend.
pub fn recognise(family: &[Kin<'_>]) -> Recognised {
    let Some((first, others)) = family.split_first() else {
        return Recognised { server: None, parts: Vec::new() };
    };
    let signs = Signs::new(first.program, first.loaded);
    for rule in RULES.iter().filter(|rule| (rule.is)(&signs)) {
        let others: Vec<Option<Part>> = others.iter().map(|kin| part(rule, kin)).collect();
        let works = |part: &Option<Part>| part.as_ref().is_some_and(|part| part.role == Role::Worker);
        if rule.by_workers && !others.iter().any(works) {
            continue;
        }
        let own = (rule.part)(&signs).unwrap_or(Part::of(Role::Master));
        // What a process has loaded once it works may tell what the first one does not.
        let of_worker = family.iter().skip(1).zip(&others).find(|(_, part)| works(part)).map(|(kin, _)| kin);
        let seen = of_worker.map_or_else(|| first.loaded.to_vec(), |kin| [first.loaded, kin.loaded].concat());
        let both = Signs::new(first.program, &seen);
        let server = Server {
            name: name(first.program, rule.name),
            known: true,
            version: (rule.version)(&signs),
            settings: (rule.settings)(&both),
            work: rule.work,
            by_workers: rule.by_workers,
        };
        return Recognised { server: Some(server), parts: [vec![Some(own)], others].concat() };
    }
    generic(first, others)
}

/// What a server is called: where that is a user's word, with the uid.
fn name(program: &Program, server: &'static str) -> Cow<'static, str> {
    match program.uid {
        Some(uid) if program_name(program) != bare_name(program) => format!("uid {uid}'s {server}").into(),
        _ => server.into(),
    }
}

/// The part of one that descends from the first.
fn part(rule: &Rule, kin: &Kin<'_>) -> Option<Part> {
    let signs = Signs::new(kin.program, kin.loaded);
    let is_of_server = kin.forked || rule.execs && (rule.is)(&signs);
    if !is_of_server {
        return None;
    }
    // What was forked is of the same program, whatever it calls itself.
    Some((rule.part)(&signs).unwrap_or(Part::of(Role::Worker)))
}

/// Any program that keeps forked children.
fn generic(first: &Kin<'_>, others: &[Kin<'_>]) -> Recognised {
    let forked = |kin: &Kin<'_>| kin.forked.then(|| Part::of(Role::Worker));
    let long = others.iter().filter(|kin| kin.forked && kin.age >= LONG).count();
    let server = (long >= ENOUGH).then(|| Server {
        name: program_name(first.program).into(),
        known: false,
        version: None,
        settings: Vec::new(),
        work: Work::ANY,
        by_workers: true,
    });
    let own = server.is_some().then(|| Part::of(Role::Master));
    let others = others.iter().map(|kin| forked(kin).filter(|_| server.is_some()));
    Recognised { parts: [own].into_iter().chain(others).collect(), server }
}
