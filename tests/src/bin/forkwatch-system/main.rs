//! The tests of package and unit in a Debian system of their own (`cargo xtask system-test`): systemd boots it and
//! starts this, which installs the package, uses the service as an administrator would, and purges it.
//!
//! The tests go on from each other, in their order.

use std::{env, fs::OpenOptions, io::Write as _, process::ExitCode};

use anyhow::Result;
use forkwatch_tests::guest::{
    runner::{self, Test},
    verdict,
};

mod configuration;
mod events;
mod examples;
mod faults;
mod local;
mod package;
mod proofs;
mod service;
mod shop;
mod systemd;
mod unsafe_fork;
mod upgrade;
mod web;

/// Those of the installed package, up to the hooks. The first one installs it.
const FIRST: [Test; 8] = [
    (INSTALLS, package::it_installs_and_starts),
    ("hardening takes no detector away", service::hardening_takes_no_detector_away),
    ("a reload takes effect", service::a_reload_takes_effect),
    ("a broken configuration is refused by a reload", faults::a_broken_reload_is_refused),
    ("the watchdog is fed, and ends one that is stuck", faults::the_watchdog_is_fed_and_bites),
    ("an unsafe fork of gunicorn names its unit", web::an_unsafe_fork_names_its_unit),
    ("the local socket is for those who may ask", local::the_local_socket_is_for_those_who_may_ask),
    ("hooks run without any privilege", local::hooks_run_without_any_privilege),
];
/// The others of it, up to its purge.
const THEN: [Test; 7] = [
    ("an orphaned lock is proven", proofs::an_orphaned_lock_is_proven),
    ("a shared connection is found", proofs::a_shared_connection_is_found),
    ("a stop ends the watch and its readers, stuck or not", service::a_stop_ends_all_its_processes),
    ("a restart keeps the files and counts anew", service::a_restart_keeps_files_and_counts_anew),
    ("exposure is at most 2.1", service::exposure_is_at_most_2_1),
    ("a broken configuration at the start ends it for good", faults::a_broken_start_is_not_repeated),
    ("a purge leaves nothing", package::a_purge_leaves_nothing),
];
/// Where it is not installed.
const LAST: Test = (
    "an upgrade from the first edition keeps its rules, and watches",
    upgrade::old_rules_do_not_end_the_watch,
);
const INSTALLS: &str = "the package installs and its service starts";

/// A test with what it needs beforehand.
type Prepared = Box<dyn FnOnce() -> Result<()>>;

/// All of them. One that is run without the first has the package installed beforehand.
fn tests() -> impl Iterator<Item = (&'static str, Prepared)> {
    let installed = FIRST.into_iter().chain(examples::tests()).chain(THEN);
    let installed = installed.map(|(name, test)| {
        let prepared = move || {
            if name != INSTALLS {
                package::is_there()?;
            }
            test()
        };
        (name, Box::new(prepared) as Prepared)
    });
    let (last, test) = LAST;
    installed.chain([(last, Box::new(test) as Prepared)])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => verdict::end(verdict::run_tests(&[])),
        ["tests"] => runner::run(tests(), show_the_journal),
        _ => ExitCode::from(2),
    }
}

/// Shows on the console what the units said, for whoever wants to know why a test failed.
fn show_the_journal() {
    let units = ["--unit", systemd::UNIT, "--unit", local::HOOKS_UNIT];
    let journal =
        systemd::run("journalctl", &[&["--no-pager", "--output=short-monotonic"][..], &units].concat());
    let journal = journal.unwrap_or_else(|error| format!("{error:#}"));
    if let Ok(mut console) = OpenOptions::new().write(true).open("/dev/console") {
        // Nothing more can be done about it.
        let _ = writeln!(console, "---\n{journal}---");
    }
}
