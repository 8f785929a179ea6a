//! `forkwatch doctor`: what this host supports, and what is missing.

mod check;
mod clone_calls;
mod fix;
mod host;
mod kernel;

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Serialize;

use self::check::{Check, Status};
use super::{exit::Exit, kernel_log::KernelLog, shown::Reply};
use crate::{
    engine::{
        detectors::{Conditions, Detector, detectors},
        session,
    },
    paragraph, privilege,
    reader::{Client, Starter},
    resources,
};

/// The name of the document that `-o json` prints. It changes when a field changes its meaning or goes away, not when
/// one is added.
const SCHEMA: &str = "forkwatch.doctor/1";

/// Processes on which it is tried what this host lets be seen.
const MOST_TRIED: usize = 4096;

/// How it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the result is shown; JSON has the structure `forkwatch.doctor/1`
    #[arg(short, long, value_enum, default_value_t)]
    output: Reply,
    /// Print the commands that would mend what is lacking, as a script for a shell. Nothing is run
    #[arg(long, conflicts_with = "output")]
    fix: bool,
    #[command(flatten)]
    kernel_log: KernelLog,
}

/// All that was found: the document, in the order of its fields.
#[derive(Debug, Serialize)]
struct Report {
    /// [`SCHEMA`].
    schema: &'static str,
    /// forkwatch's.
    version: &'static str,
    kernel: Kernel,
    /// Whether forkwatch can watch here, as this user.
    can_watch: bool,
    /// Why not; absent where it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    obstacle: Option<String>,
    checks: Vec<Check>,
    detectors: Vec<Detector>,
}

/// Which kernel runs.
#[derive(Debug, Serialize)]
struct Kernel {
    /// As `uname -r` says.
    release: String,
    /// As `uname -m` says.
    architecture: String,
}

/// Looks at everything, and tries what can only be tried.
pub(super) fn run(options: &Options) -> Result<Exit> {
    // As whatever watches does.
    resources::raise_open_files();
    let missing = privilege::missing_for_others()?;
    let mut reader = Client::new(Starter::start()?);
    let kernel::Findings { mut checks, obstacle, requested, probes } =
        kernel::examine(options.kernel_log.speakers());
    checks.extend(host::examine());
    let sight = session::sight(&mut reader, MOST_TRIED)?;
    let (exit, obstacle) = obstacle.map_or((Exit::Fine, None), |(exit, why)| (exit, Some(why)));
    let stopped = obstacle.as_ref().map(|_| "nothing can be watched here".to_owned());
    let name = nix::sys::utsname::uname()?;
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        kernel: Kernel {
            release: name.release().to_string_lossy().into_owned(),
            architecture: name.machine().to_string_lossy().into_owned(),
        },
        can_watch: exit == Exit::Fine,
        obstacle,
        checks,
        detectors: detectors(&Conditions::here(stopped, requested, probes, &missing, sight)),
    };
    let text = match options.output {
        _ if options.fix => fix::script(&report.checks),
        Reply::Text => report.to_text(),
        Reply::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(exit)
}

impl Report {
    fn to_text(&self) -> String {
        let Kernel { release, architecture } = &self.kernel;
        let mut text = format!("forkwatch {} on Linux {release} ({architecture})\n\nHost\n", self.version);
        for Check { title, status, found, advice, id: _ } in &self.checks {
            line(&mut text, status.word(), &format!("{title}: {found}"));
            if let Some(advice) = advice {
                paragraph::add(&mut text, "            -> ", "               ", advice);
            }
        }
        text.push_str("\nDetectors\n");
        for Detector { name, state, reason, rests_on: _, on_request: _ } in &self.detectors {
            line(&mut text, state.name(), &format!("{name}: {reason}"));
        }
        text.push('\n');
        let verdict = match &self.obstacle {
            None if self.is_unlimited() => "forkwatch can watch this host.".to_owned(),
            None => "forkwatch can watch this host, with the limits above.".to_owned(),
            Some(why) => format!("forkwatch cannot watch this host: {why}."),
        };
        paragraph::add(&mut text, "", "", &verdict);
        if self.checks.iter().any(|check| matches!(check.status, Status::Limited | Status::Missing)) {
            text.push_str("`forkwatch doctor --fix` prints the commands that would mend this.\n");
        }
        text
    }

    fn is_unlimited(&self) -> bool {
        let limits = [Status::Limited, Status::Missing];
        !self.checks.iter().any(|check| limits.contains(&check.status))
            && self.detectors.iter().all(|detector| detector.state.works())
    }
}

fn line(text: &mut String, word: &str, content: &str) {
    paragraph::add(text, &format!("  {word:<9} "), "            ", content);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::detector::DetectorState, output::metrics::RestsOn};

    fn report(obstacle: Option<&str>, checks: Vec<Check>) -> Report {
        Report {
            schema: SCHEMA,
            version: "1.2.3",
            kernel: Kernel { release: "6.1.0-50-amd64".to_owned(), architecture: "x86_64".to_owned() },
            can_watch: obstacle.is_none(),
            obstacle: obstacle.map(str::to_owned),
            checks,
            detectors: vec![Detector {
                name: "clone-calls",
                state: DetectorState::Off,
                reason: "no".to_owned(),
                rests_on: RestsOn::default(),
                on_request: true,
            }],
        }
    }

    #[test]
    fn the_text_tells_status_finding_and_advice() {
        let checks = vec![
            Check::ok("kernel-release", "Kernel", "6.1"),
            Check::missing("capabilities", "Capabilities", "CAP_BPF is missing", "run it as root"),
        ];
        let text = report(Some("CAP_BPF is missing"), checks).to_text();
        assert_eq!(
            text,
            "forkwatch 1.2.3 on Linux 6.1.0-50-amd64 (x86_64)\n\nHost\n  \
             ok        Kernel: 6.1\n  \
             missing   Capabilities: CAP_BPF is missing\n            \
             -> run it as root\n\nDetectors\n  \
             off       clone-calls: no\n\n\
             forkwatch cannot watch this host: CAP_BPF is missing.\n\
             `forkwatch doctor --fix` prints the commands that would mend this.\n"
        );
    }

    #[test]
    fn limits_are_mentioned_in_the_last_line() {
        let limited = Check::limited("tracefs", "tracefs", "not mounted", "mount it");
        let text = report(None, vec![limited]).to_text();
        assert!(text.contains("can watch this host, with the limits above.\n"), "{text}");
        let mut whole = report(None, vec![Check::unknown("lockdown", "Lockdown", "it cannot be read")]);
        assert!(whole.to_text().ends_with("with the limits above.\n"), "a detector is off");
        whole.detectors.clear();
        assert!(whole.to_text().ends_with("can watch this host.\n"));
    }

    #[test]
    fn the_document_leaves_out_what_is_not_known() {
        let report = report(None, vec![Check::ok("kernel-release", "Kernel", "6.1")]);
        let document = serde_json::to_value(report).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "schema": "forkwatch.doctor/1",
                "version": "1.2.3",
                "kernel": { "release": "6.1.0-50-amd64", "architecture": "x86_64" },
                "can_watch": true,
                "checks": [{ "id": "kernel-release", "title": "Kernel", "status": "ok", "found": "6.1" }],
                "detectors": [{ "name": "clone-calls", "state": "off", "reason": "no" }],
            })
        );
    }
}
