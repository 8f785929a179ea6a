//! The end-to-end tests: forkwatch on the running kernel, and the programs that it watches.
//!
//! One program for all, so that they are linked once and can run side by side. A file of tests is a module here with a
//! function `tests` that lists them, and says which of them need the host for themselves.

mod aftermath;
mod api;
mod bad_worlds;
mod borrowed_names;
mod carried;
mod certainty;
mod check;
mod clone_calls;
mod coming_from;
mod connections;
mod daemon;
mod defaults;
mod dist;
mod dropping;
mod ended_connections;
mod event_file;
mod field_locks;
mod filters;
mod fixtures;
mod held_now;
mod hooks;
mod inspect;
mod judgement;
mod kernel_log;
mod killed_members;
mod leaks;
mod left_behind;
mod looks;
mod on_demand;
mod page;
mod pipes;
mod reader;
mod real_programs;
mod recording;
mod rescue;
mod run;
mod scan;
mod scenarios;
mod service;
mod strangers;
mod stuck;
mod tail;
mod thread_names;
mod tls;
mod top;
mod ufork;
mod whole_host;
mod without_ptrace;
mod worker_output;
mod workers;

use std::{env, fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    on_demand::{ARGUMENT, run as run_on_demand},
    runner::{self, Tests},
    tests,
};

/// The tests of modules, under their names.
macro_rules! tests_of {
    ($($file:ident),* $(,)?) => { [$((stringify!($file), $file::tests())),*] };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.as_slice() {
        [argument, name] if argument == ARGUMENT => run_on_demand(name),
        _ => runner::run(files()),
    }
}

fn files() -> Vec<(&'static str, Tests)> {
    // What takes longest is begun first.
    let files = tests_of![
        defaults,
        aftermath,
        api,
        bad_worlds,
        borrowed_names,
        carried,
        certainty,
        check,
        clone_calls,
        coming_from,
        connections,
        daemon,
        dist,
        event_file,
        field_locks,
        filters,
        fixtures,
        held_now,
        hooks,
        inspect,
        judgement,
        kernel_log,
        killed_members,
        leaks,
        left_behind,
        looks,
        on_demand,
        page,
        pipes,
        reader,
        real_programs,
        recording,
        rescue,
        run,
        scan,
        scenarios,
        service,
        dropping,
        ended_connections,
        strangers,
        stuck,
        tail,
        thread_names,
        tls,
        top,
        ufork,
        whole_host,
        without_ptrace,
        worker_output,
        workers,
    ];
    let own = Tests::side_by_side(tests![every_file_of_tests_is_a_module_here]);
    files.into_iter().chain([("main", own)]).collect()
}

/// A file that nobody names would be compiled by nobody, and its tests never run.
fn every_file_of_tests_is_a_module_here() -> Result<()> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"));
    for entry in fs::read_dir(folder).context("the sources are not there")? {
        let path = entry?.path();
        let name = path.file_stem().context("no name")?.display().to_string();
        ensure!(files().iter().any(|(file, _)| *file == name), "{} is not named in main.rs", path.display());
    }
    Ok(())
}
