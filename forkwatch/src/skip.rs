//! Tests that find only at run time that they cannot run here. The test harness would count them as passed; `cargo
//! xtask test` reads the file that `FORKWATCH_SKIPS` names, and counts them as skipped.

use std::{fs::OpenOptions, io::Write as _, thread};

/// Says why the test that calls this, which then returns, cannot run here.
pub(crate) fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    let Some(path) = std::env::var_os("FORKWATCH_SKIPS") else { return };
    // The harness names its threads after the tests. One write, because tests run side by side.
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{test}: {reason}\n").as_bytes()));
    assert!(written.is_ok(), "cannot say that {test} was skipped: {written:?}");
}
