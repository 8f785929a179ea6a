//! Machines with other trees of cgroups, and with nothing mounted but what must be.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch::release::Release;
use forkwatch_tests::{binary, event::Event, forkwatch::Forkwatch, kernel::lets_functions_be_watched};

use crate::{
    command::{document_of, end, ensure_has, list, run, said, text},
    doctor::is_on,
    proofs::SOON,
    role::{USER, command_as},
    runner::Test,
    tests::finding,
    work::Work,
    world::{put, take_away, within},
};

pub(crate) const ALL: &[Test] = &[
    ("it watches where cgroups are of version 1 alone", where_cgroups_are_of_version_1),
    ("it watches where cgroups are of both versions", where_cgroups_are_of_both_versions),
    ("it watches where nothing is mounted but /proc and /sys", where_little_is_mounted),
];

const ROOT: &str = "/sys/fs/cgroup";
/// A unit's cgroup, from the root of a tree.
const UNIT: &str = "system.slice/web.service";

/// As systemd mounts version 1.
fn version_1() -> Result<()> {
    take_away(ROOT)?;
    put("tmpfs", ROOT, "mode=755")?;
    for (name, options) in [("systemd", "none,name=systemd"), ("pids", "pids")] {
        let point = Path::new(ROOT).join(name);
        fs::create_dir(&point)?;
        put("cgroup", &point, options)?;
    }
    Ok(())
}

/// As systemd mounts both.
fn both_versions() -> Result<()> {
    version_1()?;
    let point = Path::new(ROOT).join("unified");
    fs::create_dir(&point)?;
    put("cgroup2", &point, "")
}

/// A unit's cgroup in one of the trees, which is removed when this is dropped: after all in it have ended.
struct Unit(PathBuf);

impl Unit {
    fn make(tree: &str) -> Result<Self> {
        let path = Path::new(ROOT).join(tree).join(UNIT);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn add(&self, work: &Work) -> Result<()> {
        fs::write(self.0.join("cgroup.procs"), work.pid().to_string()).context("cannot move the program")
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        // Fails only if somebody is left in it.
        let _ = fs::remove_dir(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// The finding of a program in these cgroups.
fn found_in(units: &[Unit]) -> Result<Event> {
    let mut work = Work::hold("threads")?;
    units.iter().try_for_each(|unit| unit.add(&work))?;
    let mut forkwatch = Forkwatch::tail(SOON)?;
    work.begin()?;
    let event = finding(&mut forkwatch, "multithreaded-fork", &work)?;
    work.end()?;
    forkwatch.stop()?;
    Ok(event)
}

/// Checks that doctor calls cgroups limited, in these words. Without capabilities it does not try to watch, which is
/// seen to work by then.
fn ensure_limited(words: &str) -> Result<()> {
    let mut doctor = command_as(USER, &[], binary::forkwatch()?);
    let (code, document) = document_of(&end(doctor.args(["doctor", "-o", "json"]))?)?;
    ensure!(code == Some(3), "doctor ended with {code:?}: {document:#}");
    let cgroups = list(&document, "/checks").find(|check| text(check, "/id") == "cgroups");
    let cgroups = cgroups.context("it says nothing of cgroups")?;
    ensure!(text(cgroups, "/status") == "limited", "{cgroups}");
    ensure_has(text(cgroups, "/found"), &[words])
}

/// Checks that `--cgroup` is refused for want of its tree.
fn ensure_no_filter() -> Result<()> {
    let output = run(&["-d", "1ms", "--cgroup", &format!("/{UNIT}")])?;
    ensure_has(&said(&output, 1)?, &["no cgroup version 2 tree is mounted here", "mount -t cgroup2"])
}

fn where_cgroups_are_of_version_1() -> Result<()> {
    within(version_1, || {
        let event = found_in(&[Unit::make("systemd")?])?;
        ensure!(event.text("/service/name") == "web.service", "another unit: {event:#?}");
        ensure_no_filter()?;
        ensure_limited("version 1 alone")
    })
}

fn where_cgroups_are_of_both_versions() -> Result<()> {
    within(both_versions, || {
        let units = [Unit::make("systemd")?, Unit::make("unified")?];
        let event = found_in(&units[..1])?;
        ensure!(event.text("/service/name") == "web.service", "another unit: {event:#?}");
        ensure_filtered(&units)?;
        let path = Path::new(ROOT).join("systemd").join(UNIT);
        let output = run(&["-d", "1ms", "--cgroup", &path.to_string_lossy()])?;
        ensure_has(&said(&output, 1)?, &["is no cgroup", "/sys/fs/cgroup/unified"])?;
        ensure_limited("versions 1 and 2 side by side")
    })
}

/// Checks that `--cgroup` tells the program in the unit, which is a cgroup of each of the trees, from those outside.
fn ensure_filtered(unit: &[Unit]) -> Result<()> {
    let [mut inside, outside] = [Work::hold("threads")?, Work::start("threads")?];
    unit.iter().try_for_each(|cgroup| cgroup.add(&inside))?;
    let filter = ["--cgroup", &format!("/{UNIT}")];
    let mut forkwatch = Forkwatch::tail(SOON.into_iter().chain(filter))?;
    let other = Work::start("threads")?;
    inside.begin()?;
    let event = finding(&mut forkwatch, "multithreaded-fork", &inside)?;
    ensure!(event.text("/service/name") == "web.service", "another unit: {event:#?}");
    let wanted = Some(i64::from(inside.pid()));
    for work in [inside, outside, other] {
        work.end()?;
    }
    ensure_together_from_5_15(&filter)?;
    let (events, _) = forkwatch.stop()?;
    let others: Vec<_> =
        events.iter().filter(|event| event.finding().is_some() && event.parent_pid() != wanted).collect();
    ensure!(others.is_empty(), "found outside of the cgroup: {others:#?}");
    Ok(())
}

/// Checks that the filter and clone calls go together, or that it is said that they do not.
fn ensure_together_from_5_15(filter: &[&str]) -> Result<()> {
    let output = run(&[&["-d", "1ms", "--clone-calls"], filter].concat())?;
    if Release::running() < Release(5, 15) {
        return ensure_has(&said(&output, 1)?, &["leave out --clone-calls or --cgroup"]);
    }
    if is_on("clone-calls")? { said(&output, 0).map(drop) } else { Ok(()) }
}

fn where_little_is_mounted() -> Result<()> {
    const NOT_NEEDED: [&str; 4] = [ROOT, "/sys/kernel/tracing", "/sys/fs/bpf", "/sys/kernel/security"];
    within(
        || NOT_NEEDED.into_iter().try_for_each(take_away),
        || {
            let event = found_in(&[])?;
            ensure!(event.text("/service/name").is_empty(), "a unit: {event:#?}");
            ensure_no_filter()?;
            ensure_limited("none mounted here")?;
            let output = run(&["-d", "1ms", "--clone-calls"])?;
            if lets_functions_be_watched()? {
                ensure_has(&said(&output, 0)?, &["fexit on kernel_clone", "ready"])
            } else {
                ensure_has(&said(&output, 1)?, &["refuses fentry", "mount -t tracefs"])
            }
        },
    )
}
