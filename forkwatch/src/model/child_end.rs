//! How a child ended, and who had a hand in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    event::{Exit, ExitStatus},
    exit_code,
    observation::Signal,
    resolution::Resolution,
    signals::signal_name,
    time::nanoseconds,
};

/// Who sent the signal that ended a child, or that it ended after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SentBy {
    /// The process that forked it.
    Parent,
    /// Another process.
    Other,
    /// The child itself, as abort(3) does.
    Itself,
    /// The kernel: a fault of its own, a timer, the out-of-memory killer.
    Kernel,
    /// It is not known: its signals were not watched.
    Unknown,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChildEnd {
    /// The code that it exited with; absent where a signal killed it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub exit_code: Option<u8>,
    /// What that code is known to mean.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub meaning: Option<String>,
    /// The signal that killed it, or the last that had asked it to end before it exited.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub signal: Option<String>,
    /// Whether a signal killed it and it left a core dump.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub core_dumped: bool,
    /// Who sent that signal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent_by: Option<SentBy>,
    /// The process that sent it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sender: Option<Sender>,
    /// Nanoseconds from that signal to the end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since_signal_ns: Option<u64>,
}

/// A process that sent a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sender {
    /// Its process id.
    pub pid: u32,
    /// Comm of the thread that sent it, safe for a terminal.
    pub name: String,
}

impl ChildEnd {
    /// From the end itself, and the signal that had to do with it, where one was seen.
    pub fn new(exit: &Exit, signal: Option<&Signal>) -> Self {
        let sent_by = signal.map(|signal| match signal.sender_tgid {
            0 => SentBy::Kernel,
            sender if sender == exit.process.tgid => SentBy::Itself,
            sender if sender == exit.parent_tgid => SentBy::Parent,
            _ => SentBy::Other,
        });
        let sender = signal
            .filter(|_| matches!(sent_by, Some(SentBy::Parent | SentBy::Other)))
            .map(|signal| Sender { pid: signal.sender_tgid, name: signal.comm.to_string() });
        let since_signal_ns = signal.map(|signal| nanoseconds(exit.at.since(signal.at)));
        let seen = Self {
            exit_code: None,
            meaning: None,
            signal: signal.map(|signal| signal_name(signal.number)),
            core_dumped: false,
            sent_by,
            sender,
            since_signal_ns,
        };
        match exit.status {
            ExitStatus::Code(code) => Self { exit_code: Some(code), ..seen },
            ExitStatus::Signal { number, core_dumped } => Self {
                signal: Some(signal_name(number.into())),
                core_dumped,
                sent_by: Some(sent_by.unwrap_or(SentBy::Unknown)),
                ..seen
            },
        }
    }

    /// With what its code means in this program.
    #[must_use]
    pub fn of_program(&self, program: &str) -> Self {
        let meaning = self.exit_code.and_then(|code| exit_code::meaning(code, program));
        Self { meaning, ..self.clone() }
    }

    /// The way to end that it is. `soon` tells whether the signal was so short a time before an exit that the child
    /// exited for it.
    pub fn resolution(&self, soon: bool) -> Resolution {
        // SIGABRT asks for nothing: its handler is the last that runs.
        let is_killed = self.exit_code.is_none() || self.signal.as_deref() == Some("SIGABRT");
        match (self.exit_code, self.sent_by) {
            (Some(_), _) if !soon => Resolution::Exited,
            (_, Some(SentBy::Parent)) if is_killed => Resolution::KilledByParent,
            (_, Some(SentBy::Other)) if is_killed => Resolution::KilledByOther,
            (Some(_), Some(SentBy::Parent)) => Resolution::AskedByParent,
            (Some(_), Some(SentBy::Other)) => Resolution::AskedByOther,
            (Some(_), _) => Resolution::Exited,
            (None, _) => Resolution::Killed,
        }
    }

    /// What has become of the child, after its name.
    pub fn words(&self) -> String {
        /// A handler that cleans up takes no longer.
        const AT_ONCE: u64 = 1_000_000_000;
        let Some(code) = self.exit_code else { return self.killed() };
        let meaning = self.meaning.as_ref().map(|meaning| format!(" ({meaning})")).unwrap_or_default();
        let exited = format!("exited with code {code}{meaning}");
        let (Some(signal), Some(sender)) = (&self.signal, self.sender()) else { return exited };
        let later = match self.since_signal_ns {
            Some(since @ AT_ONCE..) => format!(", {} s after", since / 1_000_000_000),
            _ => " after".to_owned(),
        };
        format!("{exited}{later} {sender} had sent it {signal}")
    }

    fn killed(&self) -> String {
        let signal = self.signal.as_deref().unwrap_or("a signal");
        let core = if self.core_dumped { ", leaving a core dump" } else { "" };
        match (self.sent_by, self.sender()) {
            (_, Some(sender)) => format!("was killed by {signal}, which {sender} sent{core}"),
            (Some(SentBy::Itself), _) => format!("was killed by {signal}, which it sent itself{core}"),
            (Some(SentBy::Kernel), _) => format!("was killed by {signal}, which the kernel sent{core}"),
            _ => format!("was killed by {signal}; who sent it was not seen{core}"),
        }
    }

    fn sender(&self) -> Option<String> {
        let Sender { pid, name } = self.sender.as_ref()?;
        let whose = if self.sent_by == Some(SentBy::Parent) { "its parent " } else { "" };
        Some(format!("{whose}{name} (pid {pid})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        event::{CloneKind, Origin},
        process::ProcessKey,
        time::BootTime,
    };

    const SECOND: u64 = 1_000_000_000;

    fn exit(status: ExitStatus) -> Exit {
        Exit {
            origin: Origin::default(),
            at: BootTime(100 * SECOND),
            process: ProcessKey { tgid: 8, start: BootTime(1) },
            parent_tgid: 7,
            kind: CloneKind::Copying,
            comm: "python".into(),
            status,
            lifetime: 5,
        }
    }

    fn signal(number: u32, sender_tgid: u32, seconds: u64) -> Signal {
        let target = ProcessKey { tgid: 8, start: BootTime(1) };
        let at = BootTime((100 - seconds) * SECOND);
        Signal { origin: Origin::default(), at, number, target, sender_tgid, comm: "gunicorn".into() }
    }

    #[test]
    fn an_end_is_told_with_code_signal_and_sender() {
        let code = ExitStatus::Code;
        let by = |number| ExitStatus::Signal { number, core_dumped: false };
        for (status, signal, words, how) in [
            (code(0), None, "exited with code 0", Resolution::Exited),
            (code(3), None, "exited with code 3 (gunicorn: a worker could not start)", Resolution::Exited),
            (
                code(1),
                Some(signal(6, 7, 0)),
                "exited with code 1 after its parent gunicorn (pid 7) had sent it SIGABRT",
                Resolution::KilledByParent,
            ),
            (
                code(0),
                Some(signal(15, 9, 3)),
                "exited with code 0, 3 s after gunicorn (pid 9) had sent it SIGTERM",
                Resolution::AskedByOther,
            ),
            (
                by(9),
                Some(signal(9, 7, 0)),
                "was killed by SIGKILL, which its parent gunicorn (pid 7) sent",
                Resolution::KilledByParent,
            ),
            (
                by(9),
                Some(signal(9, 0, 0)),
                "was killed by SIGKILL, which the kernel sent",
                Resolution::Killed,
            ),
            (by(6), Some(signal(6, 8, 0)), "was killed by SIGABRT, which it sent itself", Resolution::Killed),
            (by(9), None, "was killed by SIGKILL; who sent it was not seen", Resolution::Killed),
            (
                ExitStatus::Signal { number: 11, core_dumped: true },
                Some(signal(11, 0, 0)),
                "was killed by SIGSEGV, which the kernel sent, leaving a core dump",
                Resolution::Killed,
            ),
        ] {
            let end = ChildEnd::new(&exit(status), signal.as_ref()).of_program("gunicorn");
            assert_eq!((end.words().as_str(), end.resolution(true)), (words, how));
        }
    }

    #[test]
    fn what_exits_long_after_a_signal_has_not_been_killed_by_it() {
        let end = ChildEnd::new(&exit(ExitStatus::Code(0)), Some(&signal(15, 7, 40)));
        assert_eq!(end.resolution(false), Resolution::Exited);
        assert_eq!(
            end.words(),
            "exited with code 0, 40 s after its parent gunicorn (pid 7) had sent it SIGTERM"
        );
    }
}
