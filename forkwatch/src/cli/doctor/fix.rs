//! The commands that would mend what `doctor` found lacking. They are shown and never run.

use std::fmt::Write as _;

use super::check::{Check, Status};

/// What mends a check, by its id. What stands in no command (a kernel to boot, a container to leave) has the check's advice
/// alone.
const FIXES: [(&str, &str); 8] = [
    ("capabilities", CAPABILITIES),
    ("ptrace", CAPABILITIES),
    ("read-search", CAPABILITIES),
    ("clone-calls", "mount -t tracefs tracefs /sys/kernel/tracing"),
    ("unprivileged-bpf", "sysctl -w kernel.unprivileged_bpf_disabled=2"),
    ("bpf-jit", "sysctl -w net.core.bpf_jit_enable=1"),
    ("locked-memory", "systemctl edit forkwatch   # add: [Service], LimitMEMLOCK=infinity"),
    ("hidepid", CAPABILITIES),
];

const CAPABILITIES: &str = "setcap cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search,cap_sys_resource=ep \
                            \"$(command -v forkwatch)\"   # or run it as root";

/// A script for a shell, as comments and commands. Each command stands once.
pub(super) fn script(checks: &[Check]) -> String {
    let mut text = "# What would mend the gaps that `forkwatch doctor` has found. Nothing was run:\n\
         # read, then run what you agree with, as root.\n"
        .to_owned();
    let mut told: Vec<&str> = Vec::new();
    let lacking = |check: &&Check| matches!(check.status, Status::Limited | Status::Missing);
    for check in checks.iter().filter(lacking) {
        text.push('\n');
        comment(&mut text, &format!("{}: {}", check.title, check.found));
        match FIXES.iter().find(|(id, _)| *id == check.id) {
            Some((_, command)) if told.contains(command) => text.push_str("# (the command above)\n"),
            Some((_, command)) => {
                told.push(command);
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{command}");
            }
            None => comment(&mut text, check.advice.as_deref().unwrap_or("no command mends this")),
        }
    }
    if !checks.iter().any(|check| lacking(&check)) {
        text.push_str("\n# There are none.\n");
    }
    text
}

fn comment(text: &mut String, what: &str) {
    crate::paragraph::add(text, "# ", "#   ", what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_once_and_the_rest_is_comment() {
        let checks = [
            Check::ok("kernel-release", "Kernel", "6.1"),
            Check::limited("ptrace", "CAP_SYS_PTRACE", "lacking here", "grant it"),
            Check::missing(
                "capabilities",
                "Capabilities for eBPF",
                "forkwatch lacks\nCAP_BPF",
                "run it as root",
            ),
            Check::limited("cgroups", "Cgroups", "version 1 alone", "mount version 2"),
            Check::limited("bpf-jit", "net.core.bpf_jit_enable", "0", "sysctl"),
        ];
        let text = script(&checks);
        let commands: Vec<&str> =
            text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        assert_eq!(commands, [CAPABILITIES, "sysctl -w net.core.bpf_jit_enable=1"]);
        assert!(text.contains("# mount version 2") && text.contains("# (the command above)"), "{text}");
        assert!(script(&[]).contains("There are none"));
        assert!(text.lines().filter(|line| line.starts_with('#')).all(|line| line.len() <= 80), "{text}");
    }
}
