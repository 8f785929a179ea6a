//! The daemon's local socket, the findings that it keeps, and the service that runs hooks.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    systemd::{UNIT, property_of, run, systemctl, until},
    unsafe_fork,
};

pub(crate) const HOOKS_UNIT: &str = "forkwatch-hooks.service";
pub(crate) const HOOKS: &str = "/etc/forkwatch/hooks.toml";
const HOOK: &str = r#"[[hook]]
name = "told"
on = ["finding"]
hazard = ["multithreaded-fork"]
exec = ["/usr/bin/tee", "/run/forkwatch-hooks/told"]
"#;
const TOLD: &str = "/run/forkwatch-hooks/told";

/// What the daemon has found, as somebody sees it who is in these groups.
fn findings_as(uid: &str, groups: &[&str]) -> Result<String> {
    let who = ["--reuid", uid, "--regid", uid];
    let what = ["/usr/bin/forkwatch", "findings", "--hazard", "multithreaded-fork"];
    run("setpriv", &[&who[..], groups, &what].concat())
}

pub(crate) fn the_local_socket_is_for_those_who_may_ask() -> Result<()> {
    unsafe_fork::start("local")?;
    until("the finding at the local socket", || {
        let told = run("/usr/bin/forkwatch", &["findings", "--unit", "local.service"])?;
        Ok(told.contains("multithreaded-fork").then_some(()))
    })?;
    let of_group = findings_as("33", &["--groups", "adm"])?;
    ensure!(of_group.contains("multithreaded-fork"), "a member of adm sees nothing: {of_group}");
    let refused = findings_as("33", &["--clear-groups"]);
    ensure!(refused.is_err(), "somebody who may not ask was told: {refused:?}");

    systemctl(&["restart", UNIT])?;
    let kept = run("/usr/bin/forkwatch", &["findings", "--unit", "local.service"])?;
    ensure!(kept.contains("multithreaded-fork"), "a restart has lost what was found: {kept}");
    systemctl(&["stop", "local.service"]).map(drop)
}

/// The service of hooks is ready before it hears the watch, which may not be there yet.
pub(crate) fn until_the_watch_is_heard() -> Result<()> {
    until("the hooks to hear the watch", || {
        let status = property_of(HOOKS_UNIT, "StatusText")?;
        Ok((status == "running hooks for what the watch tells").then_some(()))
    })
}

pub(crate) fn hooks_run_without_any_privilege() -> Result<()> {
    let before = fs::read_to_string(HOOKS).with_context(|| format!("cannot read {HOOKS}"))?;
    ensure!(
        property_of(HOOKS_UNIT, "ActiveState")? == "inactive",
        "hooks run although nobody has asked for it"
    );
    fs::write(HOOKS, HOOK).with_context(|| format!("cannot write {HOOKS}"))?;
    systemctl(&["start", HOOKS_UNIT])?;
    let pid = property_of(HOOKS_UNIT, "MainPID")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("the hooks' process is gone")?;
    for wanted in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        ensure!(status.contains(wanted), "no {wanted:?} in {status}");
    }
    until_the_watch_is_heard()?;
    unsafe_fork::start("hooked")?;
    let text = until("the hook to run", || {
        Ok(fs::read_to_string(TOLD).ok().filter(|text| text.contains("hooked.service")))
    })?;
    let told: Value = serde_json::from_str(&text).with_context(|| format!("it was told {text}"))?;
    let hazard = told.pointer("/forkwatch/finding/hazard").and_then(Value::as_str);
    ensure!(hazard == Some("multithreaded-fork"), "it was told {told:#}");
    systemctl(&["stop", "hooked.service", HOOKS_UNIT])?;
    ensure!(!Path::new(TOLD).exists(), "what the hooks have written is left behind");
    fs::write(HOOKS, before).with_context(|| format!("cannot restore {HOOKS}"))
}
