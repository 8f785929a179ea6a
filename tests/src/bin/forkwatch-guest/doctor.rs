//! What `forkwatch doctor` says, and whether that is the truth about this kernel: everything that it has is on, and
//! nothing else.

use std::{fs, sync::OnceLock};

use anyhow::{Context as _, Result, ensure};
use forkwatch::release::Release;
use forkwatch_tests::{
    host::{is_confidential, lockdown},
    kernel::{has_tracepoint, lets_functions_be_watched, tells_tracepoint_ids},
};
use nix::sys::utsname::uname;
use serde_json::Value;

use crate::{
    command::{document, list, text},
    runner::Test,
};

pub(crate) const ALL: &[Test] = &[
    ("doctor tells what this kernel has", detectors_are_as_this_kernel_has_them),
    ("doctor finds nothing else amiss", checks_are_as_this_machine_is),
];

/// A name, and `on`, `limited`, `undecided` or `off`; or a check, and `ok`, `limited`, `missing` or `unknown`.
type State = (String, String);

fn states(document: &Value, list_of: &str, name: &str, state: &str) -> Vec<State> {
    list(document, list_of)
        .map(|entry| (text(entry, name).to_owned(), text(entry, state).to_owned()))
        .collect()
}

/// What a document says of the detectors.
pub(crate) fn detectors_of(document: &Value) -> Vec<State> {
    states(document, "/detectors", "/name", "/state")
}

/// What a document says of the checks.
pub(crate) fn checks_of(document: &Value) -> Vec<State> {
    states(document, "/checks", "/id", "/status")
}

/// What it says here. It is asked once: the answer takes two starts of the kernel side.
pub(crate) fn examine() -> Result<&'static Value> {
    static FOUND: OnceLock<Value> = OnceLock::new();
    if let Some(document) = FOUND.get() {
        return Ok(document);
    }
    let (code, document) = document(&["doctor", "-o", "json"])?;
    ensure!(code == Some(0) && document.pointer("/can_watch") == Some(&Value::Bool(true)), "{document:#}");
    Ok(FOUND.get_or_init(|| document))
}

/// Whether it says that a detector works here. That it speaks the truth is a test of its own.
pub(crate) fn is_on(detector: &str) -> Result<bool> {
    Ok(detectors_of(examine()?).contains(&(detector.to_owned(), "on".to_owned())))
}

/// A line for the kernel and one for each detector, which the host reads.
pub(crate) fn announce() -> Result<()> {
    let name = uname()?;
    println!("kernel {} {}", name.release().display(), name.machine().display());
    for (detector, state) in detectors_of(examine()?) {
        println!("capability {detector}: {state}");
    }
    Ok(())
}

/// What the kernel has of that which detectors rest on, by its own lists.
pub(crate) struct Kernel {
    /// Functions can be watched.
    pub(crate) functions: bool,
    /// Uses of sockets have tracepoints: since Linux 6.3.
    socket_tracepoints: bool,
    /// The tracepoints of system calls can be attached to.
    call_tracepoints: bool,
}

impl Kernel {
    pub(crate) fn running() -> Result<Self> {
        Ok(Self {
            functions: lets_functions_be_watched()?,
            socket_tracepoints: has_tracepoint("sock_send_length")? && has_tracepoint("sock_recv_length")?,
            call_tracepoints: tells_tracepoint_ids(),
        })
    }

    /// How far a detector can work here.
    pub(crate) fn state(&self, detector: &str) -> &'static str {
        let sockets = self.socket_tracepoints || self.functions;
        let works = match detector {
            // The shutdown of a Unix stream is a function's alone, and not looked for where no other function is needed.
            "shared-connection-closed" if self.socket_tracepoints => return "limited",
            "shared-connection" | "shared-connection-closed" => sockets,
            "worker-killed-while-stuck" => are_senders_told(),
            "clone-calls" => self.functions || self.call_tracepoints,
            _ => true,
        };
        if works { "on" } else { "off" }
    }

    /// How a check must come out.
    fn status(&self, check: &str) -> Result<&'static str> {
        let limited = match check {
            "on-demand" => !(self.socket_tracepoints || self.functions) || !are_senders_told(),
            "clone-calls" => !self.functions,
            "unprivileged-bpf" => setting("kernel/unprivileged_bpf_disabled")? == "0",
            "bpf-jit" => setting("net/core/bpf_jit_enable")? == "0",
            _ => false,
        };
        Ok(if limited { "limited" } else { "ok" })
    }
}

fn setting(name: &str) -> Result<String> {
    let path = format!("/proc/sys/{name}");
    let value = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    Ok(value.trim().to_owned())
}

/// Where `lockdown=confidentiality` forbids to copy what the kernel says of a signal, it must be read in place, which
/// Linux 6.13 has forbidden too (commit 838a10bd2ebf), and 6.12 in its stable releases.
pub(crate) fn are_senders_told() -> bool {
    !is_confidential() || Release::running() < Release(6, 12)
}

fn detectors_are_as_this_kernel_has_them() -> Result<()> {
    let (kernel, document) = (Kernel::running()?, examine()?);
    let detectors = detectors_of(document);
    ensure!(detectors.len() > 10, "{detectors:?}");
    for (name, state) in &detectors {
        let expected = kernel.state(name);
        ensure!(
            state == expected,
            "{name} is not {expected}: {:#}",
            document.pointer("/detectors").unwrap_or(&Value::Null)
        );
    }
    Ok(())
}

fn checks_are_as_this_machine_is() -> Result<()> {
    /// Without these the others could be right for want of anything said.
    const ALWAYS: [&str; 9] = [
        "type-information",
        "capabilities",
        "ptrace",
        "pid-namespace",
        "programs",
        "self-test",
        "lockdown",
        "cgroups",
        "hidepid",
    ];
    let (kernel, document) = (Kernel::running()?, examine()?);
    let checks = checks_of(document);
    for name in ALWAYS {
        ensure!(checks.iter().any(|(check, _)| check == name), "nothing is said of {name}: {checks:?}");
    }
    for (name, status) in &checks {
        let expected = kernel.status(name)?;
        ensure!(
            status == expected,
            "{name} is not {expected}: {:#}",
            document.pointer("/checks").unwrap_or(&Value::Null)
        );
    }
    let mode = lockdown();
    let told = list(document, "/checks").find(|check| text(check, "/id") == "lockdown");
    ensure!(told.is_some_and(|check| text(check, "/found").starts_with(&mode)), "not {mode}: {told:?}");
    ensure!(
        text(document, "/kernel/release") == uname()?.release().to_string_lossy(),
        "another kernel: {document:#}"
    );
    Ok(())
}
