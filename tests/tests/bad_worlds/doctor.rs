//! The doctor, on a host that can be watched and where something is missing.

use std::process::Output;

use super::world::{can_run, forkwatch, output, with_capabilities};
use anyhow::Result;
use forkwatch_tests::{runner::Tests, tests};

pub(super) fn tests() -> Tests {
    Tests::side_by_side(tests![
        the_doctor_finds_a_host_that_can_be_watched,
        the_doctor_needs_no_privilege_to_say_that_it_has_none,
        the_doctor_says_what_stays_unseen_without_ptrace,
        the_doctor_says_what_stays_unseen_without_reading_what_is_others,
        the_doctor_tells_an_unsupported_kernel_from_a_missing_privilege,
    ])
}

fn doctor(words: &[&str], code: i32) -> serde_json::Value {
    let Output { status, stdout, stderr } = output(words);
    assert_eq!(status.code(), Some(code), "{}", String::from_utf8_lossy(&stderr));
    let report: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!(report["schema"], "forkwatch.doctor/1");
    assert_eq!(report["can_watch"], code == 0);
    report
}

/// The value of `field` of the entry of a list whose `key` is `name`.
fn entry<'a>(list: &'a serde_json::Value, key: &str, name: &str, field: &str) -> &'a str {
    let entry = list.as_array().unwrap().iter().find(|entry| entry[key] == name);
    entry.unwrap_or_else(|| panic!("no {name} in {list}"))[field].as_str().unwrap()
}

fn the_doctor_finds_a_host_that_can_be_watched() -> Result<()> {
    can_run()?;
    let report = doctor(&[forkwatch(), "doctor", "-o", "json"], 0);
    for check in ["type-information", "capabilities", "pid-namespace", "programs", "self-test"] {
        assert_eq!(entry(&report["checks"], "id", check, "status"), "ok", "{check}");
    }
    assert_eq!(entry(&report["detectors"], "name", "multithreaded-fork", "state"), "on");
    Ok(())
}

fn the_doctor_needs_no_privilege_to_say_that_it_has_none() -> Result<()> {
    can_run()?;
    let words = with_capabilities("-all", &["doctor", "-o", "json"]);
    let report = doctor(&words.iter().map(String::as_str).collect::<Vec<_>>(), 3);
    assert_eq!(entry(&report["checks"], "id", "type-information", "status"), "ok");
    assert_eq!(entry(&report["checks"], "id", "capabilities", "status"), "missing");
    assert_eq!(entry(&report["checks"], "id", "programs", "status"), "unknown");
    assert_eq!(entry(&report["detectors"], "name", "multithreaded-fork", "state"), "off");
    Ok(())
}

fn the_doctor_says_what_stays_unseen_without_ptrace() -> Result<()> {
    can_run()?;
    let words = with_capabilities("-all,+bpf,+perfmon", &["doctor", "-o", "json"]);
    let report = doctor(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    assert_eq!(entry(&report["checks"], "id", "ptrace", "status"), "limited");
    assert_eq!(entry(&report["detectors"], "name", "blocked-signals", "state"), "limited");
    Ok(())
}

fn the_doctor_says_what_stays_unseen_without_reading_what_is_others() -> Result<()> {
    can_run()?;
    let words = with_capabilities("-all,+bpf,+perfmon,+sys_ptrace", &["doctor", "-o", "json"]);
    let report = doctor(&words.iter().map(String::as_str).collect::<Vec<_>>(), 0);
    for (id, status) in [("ptrace", "ok"), ("read-search", "limited")] {
        assert_eq!(entry(&report["checks"], "id", id, "status"), status, "{id}");
    }
    for (name, state) in [("multithreaded-fork", "on"), ("orphaned-lock", "limited")] {
        assert_eq!(entry(&report["detectors"], "name", name, "state"), state, "{name}");
    }
    Ok(())
}

fn the_doctor_tells_an_unsupported_kernel_from_a_missing_privilege() -> Result<()> {
    can_run()?;
    let script = format!("mount -t tmpfs none /sys && exec {} doctor -o json", forkwatch());
    let report = doctor(&["unshare", "--mount", "sh", "-c", &script], 4);
    assert_eq!(entry(&report["checks"], "id", "type-information", "status"), "missing");
    Ok(())
}
