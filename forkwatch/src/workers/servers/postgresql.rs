//! PostgreSQL: titles such as `postgres: checkpointer`, `postgres: 15/main: app shop 10.0.0.7(5000) idle`
//! (`init_ps_display`, `src/backend/utils/misc/ps_status.c`). The part after the first colon may be a cluster's name.

use super::{
    Part, Role, Rule, Signs, Work,
    command_line::{Opt, number, settings},
};

pub(super) static RULE: Rule = Rule {
    part,
    version,
    settings: |signs| settings(&signs.words, &OPTIONS),
    work: Work::NONE,
    ..Rule::new("PostgreSQL", |signs| signs.runs(&["postgres", "postmaster"]))
};

const OPTIONS: [Opt; 3] = [
    Opt::value("data", &["-D"]),
    Opt::value("port", &["-p"]),
    // `-c config_file=...`: the only one of many that Debian sets.
    Opt::value("configuration", &["config_file", "--config-file"]),
];

/// Processes that serve no client, by how their titles begin.
const HELPERS: [&str; 18] = [
    "archiver",
    "autovacuum launcher",
    "autovacuum worker",
    "background worker",
    "background writer",
    "checkpointer",
    "io worker",
    "logger",
    "logical replication",
    "slotsync worker",
    "startup",
    "stats collector",
    "syslogger",
    "walreceiver",
    "walsender",
    "walsummarizer",
    "walwriter",
    "wal writer",
];

fn part(signs: &Signs<'_>) -> Option<Part> {
    let title = signs.after("postgres: ")?;
    let whole = title.trim();
    let without_cluster = whole.split_once(": ").map_or(whole, |(_, rest)| rest);
    let is_helper = |text: &str| HELPERS.iter().any(|helper| text.starts_with(helper));
    let shown = if is_helper(whole) { whole } else { without_cluster };
    let role = if is_helper(shown) { Role::Helper } else { Role::Worker };
    Some(Part::titled(role, shown))
}

/// From `/usr/lib/postgresql/15/bin/postgres`.
fn version(signs: &Signs<'_>) -> Option<String> {
    let folder = signs.program.exe.as_deref()?.parent()?.parent()?;
    let name = folder.file_name()?.to_str()?;
    number(name.trim_start_matches("pgsql-").trim_start_matches("postgresql-"))
}
