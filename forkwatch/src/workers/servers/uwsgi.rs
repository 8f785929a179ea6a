//! uWSGI: titles with `auto-procname`, else the command line that started it in all processes.

use super::{
    Part, Role, Rule, Signs, Work,
    command_line::{Opt, Setting, settings as set},
};

pub(super) static RULE: Rule = Rule {
    part,
    settings,
    work: Work::CONNECTIONS_IN_TURNS,
    ..Rule::new("uWSGI", |signs| signs.name.starts_with("uwsgi"))
};

const MASTER: Opt = Opt::flag("master", &["-M", "--master", "master"]);
const FILE: Opt = Opt::value("configuration", &["--ini", "--yaml", "--yml", "--xml", "--json", "-x", "-y"]);
const OPTIONS: [Opt; 8] = [
    MASTER,
    Opt::value("processes", &["-p", "--processes", "--workers"]),
    Opt::value("threads", &["--threads"]),
    Opt::flag("enable-threads", &["-T", "--enable-threads"]),
    Opt::flag("lazy-apps", &["--lazy-apps"]),
    Opt::value("harakiri", &["-t", "--harakiri"]),
    Opt::value("socket", &["-s", "--socket", "--http-socket", "--http"]),
    FILE,
];

fn part(signs: &Signs<'_>) -> Option<Part> {
    if let Some(title) = signs.after("uWSGI ") {
        let role = match title.split(' ').next() {
            Some("master") => Role::Master,
            Some("worker") => Role::Worker,
            _ => Role::Helper,
        };
        return Some(Part::titled(role, &title));
    }
    None
}

fn settings(signs: &Signs<'_>) -> Vec<Setting> {
    // A title has taken the place of the options.
    if signs.program.cmdline.len() == 1 {
        return Vec::new();
    }
    let mut all = set(&signs.words, &OPTIONS);
    // They may stand in a file, too. Only a command line that names no file has them all.
    let has_file = signs.words.iter().skip(1).any(|word| {
        FILE.forms.contains(&word.as_str())
            || [".ini", ".yaml", ".yml", ".xml", ".json"].iter().any(|end| word.ends_with(end))
    });
    if !has_file && MASTER.find(&signs.words).is_none() {
        let none = "no: the first worker starts the others, and none that ends is replaced".to_owned();
        all.insert(0, Setting { name: MASTER.name, value: none });
    }
    all
}
