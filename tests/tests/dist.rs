//! The files in `dist/` that other programs read are checked by those programs, where they are installed.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use forkwatch_tests::{
    binary,
    host::{skip, workspace},
    provided::Provided,
    runner::Tests,
    tests,
};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        systemd_understands_the_units,
        the_unit_of_hooks_exposes_less_than_that_of_the_watch,
        the_unit_exposes_at_most_2_1,
        prometheus_understands_the_alerts_and_they_fire_when_they_should,
        every_metric_in_the_alerts_exists_and_every_alert_is_tested,
        the_program_writes_a_page_of_each_command_and_its_completions,
    ])
}

/// The units that the package brings.
const UNITS: [&str; 2] = ["forkwatch.service", "forkwatch-hooks.service"];

fn dist(file: &str) -> PathBuf {
    workspace().join("dist").join(file)
}

/// Runs a checker that must succeed, and gives what it said; the test is skipped where it is not installed.
fn check(checker: &mut Command, arguments: &[&str], file: &Path) -> Result<String> {
    let output = match checker.args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) => return skip(format!("{} cannot be run: {error}", checker.get_program().display())),
    };
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    ensure!(output.status.success(), "{checker:?}:\n{text}");
    Ok(text)
}

fn systemd_understands_the_units() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in UNITS {
        // systemd-analyze wants the program to be there.
        let unit = fs::read_to_string(dist(name))?;
        fs::write(folder.path().join(name), unit.replace("/usr/bin/forkwatch", "/bin/true"))?;
    }
    for name in UNITS {
        let path = folder.path().join(name);
        let complaints = check(&mut Command::new("systemd-analyze"), &["verify", "--man=no"], &path)?;
        ensure!(complaints.is_empty(), "{complaints}");
    }
    Ok(())
}

fn the_unit_of_hooks_exposes_less_than_that_of_the_watch() -> Result<()> {
    let arguments = ["security", "--offline=true", "--threshold=20"];
    check(&mut Command::new("systemd-analyze"), &arguments, &dist("forkwatch-hooks.service")).map(drop)
}

fn the_unit_exposes_at_most_2_1() -> Result<()> {
    let arguments = ["security", "--offline=true", "--threshold=21"];
    check(&mut Command::new("systemd-analyze"), &arguments, &dist("forkwatch.service")).map(drop)
}

fn prometheus_understands_the_alerts_and_they_fire_when_they_should() -> Result<()> {
    let promtool = Provided::find("promtool")?;
    check(&mut promtool.command()?, &["check", "rules"], &dist("forkwatch.rules.yml"))?;
    check(&mut promtool.command()?, &["test", "rules"], &dist("forkwatch.rules.test.yml")).map(drop)
}

fn every_metric_in_the_alerts_exists_and_every_alert_is_tested() -> Result<()> {
    let rules = fs::read_to_string(dist("forkwatch.rules.yml"))?;
    let table = forkwatch::output::metrics::markdown().context("no table")?;
    let metrics: BTreeSet<&str> = rules
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("forkwatch_"))
        .collect();
    ensure!(metrics.len() >= 9, "{metrics:?}");
    for metric in metrics {
        ensure!(table.contains(&format!("| `{metric}` |")), "{metric} does not exist");
    }
    let tests = fs::read_to_string(dist("forkwatch.rules.test.yml"))?;
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        if !tests.contains(&format!("alertname: {alert}\n")) {
            bail!("{alert} is not tested");
        }
    }
    Ok(())
}

/// What the package takes from it, and what others print with `forkwatch man` and `forkwatch completions`.
fn the_program_writes_a_page_of_each_command_and_its_completions() -> Result<()> {
    let said = |arguments: &[&str]| -> Result<String> {
        let output = Command::new(binary::forkwatch()?).args(arguments).output()?;
        ensure!(output.status.success(), "{arguments:?}: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    let folder = tempfile::tempdir()?;
    forkwatch::cli::generate(folder.path())?;
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).with_context(|| name.to_owned());
    for page in [read("man/forkwatch.1")?, said(&["man"])?] {
        ensure!(page.contains(".TH forkwatch 1"), "{page}");
    }
    for command in ["check", "check-config", "daemon", "doctor", "explain", "replay", "scan", "tail"] {
        let page = read(&format!("man/forkwatch-{command}.1"))?;
        for page in [page, said(&["man", command])?] {
            ensure!(page.contains(&format!(".TH forkwatch-{command} 1")), "{page}");
        }
    }
    for (shell, file) in [("bash", "forkwatch.bash"), ("fish", "forkwatch.fish"), ("zsh", "_forkwatch")] {
        let script = read(&format!("completions/{file}"))?;
        ensure!(script.contains("check-config"), "{script}");
        ensure!(
            script == said(&["completions", shell])?,
            "forkwatch completions {shell} says something else"
        );
    }
    Ok(())
}
