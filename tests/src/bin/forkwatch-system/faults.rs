//! What goes wrong: a configuration that cannot be used, a daemon that is stuck.

use anyhow::{Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    configuration::{Changed, DropIn, FILE},
    service::scrape,
    systemd::{UNIT, main_pid, property, run, systemctl, until, until_journal_has},
};

/// A grace is a duration.
const BROKEN: &str = "[judge]\ngrace = \"three bananas\"\n";

pub(crate) fn a_broken_reload_is_refused() -> Result<()> {
    let pid = main_pid()?;
    let succeeded = || Ok::<_, anyhow::Error>(scrape()?.sum("forkwatch_config_last_reload_successful", ""));
    ensure!(succeeded()? > 0.5, "the last reload is said to have failed");
    let configuration = Changed::configuration(BROKEN)?;
    // Whether systemctl takes a refused reload for a failure is not what this is about: the signal was sent.
    systemctl(&["reload", UNIT])?;
    until("the refusal in the metrics", || Ok((succeeded()? < 0.5).then_some(())))?;
    let journal = until_journal_has("the configuration stays as it was")?;
    ensure!(journal.contains(FILE) && journal.contains("grace"), "it does not say what is wrong: {journal}");
    ensure!(main_pid()? == pid && property("ActiveState")? == "active", "it did not stay");
    drop(configuration);
    systemctl(&["reload", UNIT])?;
    until("the next reload in the metrics", || Ok((succeeded()? > 0.5).then_some(())))
}

pub(crate) fn the_watchdog_is_fed_and_bites() -> Result<()> {
    let drop_in = DropIn::of(UNIT, "[Service]\nWatchdogSec=2s\n")?;
    systemctl(&["restart", UNIT])?;
    let fed = || property("WatchdogTimestampMonotonic");
    for _ in 0..2 {
        let last = fed()?;
        until("the watchdog to be fed", || Ok((fed()? != last).then_some(())))?;
    }
    ensure!(property("NRestarts")? == "0", "it was killed although it was fed");

    let stuck = main_pid()?;
    kill(Pid::from_raw(stuck.cast_signed()), Signal::SIGSTOP)?;
    until("the restart", || {
        let is_up = property("ActiveState")? == "active" && property("NRestarts")? == "1";
        Ok((is_up && main_pid()? != stuck).then_some(()))
    })?;
    let journal = run("journalctl", &["--no-pager", "--output=cat", "--unit", UNIT])?;
    ensure!(journal.contains("Watchdog timeout"), "systemd tells of no watchdog: {journal}");
    scrape()?;
    drop(drop_in);
    systemctl(&["restart", UNIT]).map(drop)
}

pub(crate) fn a_broken_start_is_not_repeated() -> Result<()> {
    let configuration = Changed::configuration(BROKEN)?;
    ensure!(systemctl(&["restart", UNIT]).is_err(), "it starts with a broken configuration");
    // One that is to be started again would be `activating`.
    let state = ["ActiveState", "Result", "ExecMainStatus", "NRestarts"].map(property);
    let state = state.into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(state == ["failed", "exit-code", "2", "0"], "the state is {state:?}");
    let journal = until_journal_has(FILE)?;
    ensure!(journal.contains("grace"), "it does not say what is wrong: {journal}");
    drop(configuration);
    // The tests before this one have started it as often as systemd lets a service start within 10 s.
    systemctl(&["reset-failed", UNIT])?;
    systemctl(&["start", UNIT])?;
    scrape().map(drop)
}
