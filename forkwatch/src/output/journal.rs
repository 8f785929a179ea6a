//! Findings for systemd's journal, with fields: `journalctl -u forkwatch FORKWATCH_HAZARD=orphaned-lock`.
//!
//! The protocol is the journal's own (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>): a datagram a message, a field a line, and a field
//! with a line break in it by its length.

use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use super::{Context, columns::frame, identity::identity};
use crate::model::{
    finding::{Finding, Severity, State},
    process::escape,
};

/// Where the journal listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";
/// Names the sort of message: `journalctl MESSAGE_ID=…` has all findings.
const MESSAGE_ID: &str = "5f3d2b1c9a7e4c0d8b6a1e2f3c4d5b6a";
/// Longest value, so that a message fits into a datagram.
const LONGEST: usize = 4096;

/// Tells the journal.
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
    context: Context,
}

impl Journal {
    /// Of this host, at this socket. That nobody listens there is seen when it is told something.
    pub fn new(path: &Path, context: &Context) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // The watch waits for nobody.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, path: path.to_owned(), context: context.clone() })
    }

    /// Tells a finding, or what has become of one.
    pub fn tell(&self, finding: &Finding) -> io::Result<()> {
        self.socket.send_to(&message(finding, &self.context), &self.path).map(drop)
    }
}

/// The least severe first, as syslog(3) numbers them.
pub(super) const fn priority(finding: &Finding) -> u8 {
    match (finding.severity, finding.state) {
        (Severity::Info, _) | (_, State::Resolved(_)) => 6,
        (Severity::Warning, _) | (_, State::Unknown) => 4,
        (Severity::Critical, _) => 3,
    }
}

fn message(finding: &Finding, context: &Context) -> Vec<u8> {
    let (state, resolution) = match finding.state {
        State::Suspected => ("suspected", None),
        State::Confirmed => ("confirmed", None),
        State::Unknown => ("unknown", None),
        State::Resolved(how) => ("resolved", Some(how.name())),
    };
    let name = context.entity_id(finding.child);
    let lock = finding.facts.lock.as_deref();
    let script = lock.and_then(|lock| lock.script.as_ref()?.frames.first()).map(frame);
    let program = &finding.program;
    let mut out = Vec::new();
    let mut field = |key: &str, value: &str| write(&mut out, key, value);
    field("MESSAGE", &finding.summary);
    field("MESSAGE_ID", MESSAGE_ID);
    field("PRIORITY", &priority(finding).to_string());
    field("SYSLOG_IDENTIFIER", "forkwatch");
    field("FORKWATCH_HAZARD", finding.hazard.name());
    field("FORKWATCH_STATE", state);
    field("FORKWATCH_SEVERITY", finding.severity.name());
    field("FORKWATCH_CERTAINTY", finding.certainty.name());
    field("FORKWATCH_PROGRAM", &finding.program_name);
    field("FORKWATCH_WHO", &identity(program).join(", "));
    field("FORKWATCH_PID", &finding.child.tgid.to_string());
    field("FORKWATCH_REPEATS", &finding.repeats.to_string());
    field("FORKWATCH_REMEDY", &finding.remedy.text);
    if finding.parent != finding.child {
        field("FORKWATCH_PARENT_PID", &finding.parent.tgid.to_string());
    }
    let id = name.map(|name| format!("{}/{name}", finding.hazard.name()));
    let uid = program.uid.map(|uid| uid.to_string());
    let also = finding.facts.again.iter().map(|repeat| repeat.child).filter(|child| *child != finding.child);
    let also = also.map(|child| child.tgid.to_string()).collect::<Vec<_>>();
    for (key, value) in [
        ("FORKWATCH_ID", id.as_deref()),
        ("FORKWATCH_RESOLUTION", resolution),
        ("FORKWATCH_UNIT", program.unit.as_deref()),
        ("FORKWATCH_CONTAINER", program.container.as_deref()),
        ("FORKWATCH_UID", uid.as_deref()),
        ("FORKWATCH_PROOF", lock.map(|lock| lock.proof.name())),
        ("FORKWATCH_SCRIPT", script.as_deref()),
    ] {
        if let Some(value) = value {
            field(key, value);
        }
    }
    // A field may be there several times: each child can be asked for.
    for pid in also {
        field("FORKWATCH_PID", &pid);
    }
    out
}

fn write(out: &mut Vec<u8>, key: &str, value: &str) {
    // What comes from a process must not drive the terminal of whoever reads the journal.
    let value = if value.chars().any(char::is_control) { escape(value) } else { value.to_owned() };
    let end = value
        .char_indices()
        .map(|(at, letter)| at + letter.len_utf8())
        .take_while(|end| *end <= LONGEST)
        .last();
    let value = value.get(..end.unwrap_or(0)).unwrap_or_default();
    out.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{finding::Repeat, resolution::Resolution},
        output::samples::{at, context, finding, key},
    };

    fn lines(finding: &Finding) -> Vec<String> {
        let text = String::from_utf8(message(finding, &context())).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_finding_has_its_fields() {
        let told = lines(&finding());
        for line in [
            "PRIORITY=4",
            "FORKWATCH_HAZARD=multithreaded-fork",
            "FORKWATCH_STATE=suspected",
            "FORKWATCH_UNIT=gunicorn.service",
            "FORKWATCH_PID=4244",
            "FORKWATCH_PARENT_PID=4100",
            "FORKWATCH_UID=33",
        ] {
            assert!(told.iter().any(|told| told == line), "no {line} in {told:#?}");
        }
        assert!(told.first().unwrap().starts_with("MESSAGE=gunicorn forked 4244 "), "{told:#?}");
        let over = Finding { state: State::Resolved(Resolution::Killed), ..finding() };
        assert!(lines(&over).contains(&"FORKWATCH_RESOLUTION=killed".to_owned()));
        assert_eq!(priority(&over), 6);
    }

    #[test]
    fn every_child_of_a_summary_can_be_asked_for() {
        let mut summary = finding();
        let again = |pid| Repeat { child: key(pid, 1500), comm: "x".into(), at: at(1) };
        summary.facts.again = vec![again(4243), again(4244), again(4245)];
        let told = lines(&summary);
        let pids: Vec<_> = told.iter().filter_map(|line| line.strip_prefix("FORKWATCH_PID=")).collect();
        assert_eq!(pids, ["4244", "4243", "4245"]);
    }

    #[test]
    fn what_a_process_calls_itself_makes_no_field() {
        let hostile = Finding { program_name: "x\nPRIORITY=0\n\x1b[31m".to_owned(), ..finding() };
        let told = lines(&hostile);
        assert!(told.contains(&"FORKWATCH_PROGRAM=x\\x0aPRIORITY=0\\x0a\\x1b[31m".to_owned()), "{told:#?}");
        assert!(!told.contains(&"PRIORITY=0".to_owned()));
        let long = Finding { summary: "ä".repeat(90_000), ..finding() };
        assert!(message(&long, &context()).len() < 60_000);
    }

    #[test]
    fn it_is_sent_in_one_datagram_and_a_journal_that_is_gone_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = Journal::new(&path, &context()).unwrap();
        assert!(journal.tell(&finding()).is_err(), "nobody listens");
        let listener = UnixDatagram::bind(&path).unwrap();
        journal.tell(&finding()).unwrap();
        let mut bytes = vec![0; 65_536];
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(bytes.get(..length).unwrap(), message(&finding(), &context()));
    }
}
