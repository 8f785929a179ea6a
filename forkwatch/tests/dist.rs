//! The files in `dist/` that other programs read are checked by those programs, where they are installed.

mod skip;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use skip::skip;

fn dist(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist").join(file)
}

/// Runs a checker that must succeed; `None`, and the test is skipped, where it is not installed.
fn check(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output = match Command::new(program).args(arguments).arg(file).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("{program} cannot be run: {error}"));
            return None;
        }
    };
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program} {arguments:?}:\n{text}");
    Some(text)
}

#[test]
fn systemd_understands_the_unit() {
    // systemd-analyze wants the program to be there.
    let unit = fs::read_to_string(dist("forkwatch.service")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forkwatch.service");
    fs::write(&path, unit.replace("/usr/bin/forkwatch", "/bin/true")).unwrap();
    if let Some(complaints) = check("systemd-analyze", &["verify", "--man=no"], &path) {
        assert_eq!(complaints, "");
    }
}

#[test]
fn the_unit_exposes_at_most_2_1() {
    check("systemd-analyze", &["security", "--offline=true", "--threshold=21"], &dist("forkwatch.service"));
}

#[test]
fn prometheus_understands_the_alerts_and_they_fire_when_they_should() {
    // `cargo xtask test` says where it is.
    let promtool = std::env::var("FORKWATCH_PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    check(&promtool, &["check", "rules"], &dist("forkwatch.rules.yml"));
    check(&promtool, &["test", "rules"], &dist("forkwatch.rules.test.yml"));
}

#[test]
fn every_metric_in_the_alerts_exists_and_every_alert_is_tested() {
    let rules = fs::read_to_string(dist("forkwatch.rules.yml")).unwrap();
    let table = forkwatch::output::metrics::markdown().unwrap();
    let metrics: BTreeSet<&str> = rules
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("forkwatch_"))
        .collect();
    assert!(metrics.len() >= 9, "{metrics:?}");
    for metric in metrics {
        assert!(table.contains(&format!("| `{metric}` |")), "{metric} does not exist");
    }
    let tests = fs::read_to_string(dist("forkwatch.rules.test.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} is not tested");
    }
}
