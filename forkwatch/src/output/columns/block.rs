//! A finding as a block of lines: a heading, then labelled paragraphs.

use unicode_width::UnicodeWidthStr;

use super::{
    duration::humanly,
    proof,
    style::{Paint, Tone},
};
use crate::{
    model::{
        finding::{Finding, Severity, State},
        process::{Program, escape},
        resolution::Resolution,
        thread::{Occupation, occupation},
    },
    output::identity::identity,
};

/// Children of repeats that a terminal is shown; events bear all that are named.
const AGAIN: usize = 12;

/// Letters of a command line that a terminal is shown: most have less, and events bear up to 4096 bytes.
const LONGEST_COMMAND: usize = 300;

/// How a block is laid out.
pub(super) struct Block {
    /// Labels end in this column, under the times of the lines around.
    pub(super) label_width: usize,
    /// Columns of the terminal.
    pub(super) width: usize,
    /// Whether to colour.
    pub(super) paint: Paint,
}

impl Block {
    pub(super) fn finding(&self, time: &str, finding: &Finding) -> String {
        let mut lines = vec![String::new(), self.heading(time, finding)];
        if let State::Resolved(resolution) = finding.state {
            self.paragraph(&mut lines, "", resolved(resolution, finding));
        } else {
            self.paragraph(&mut lines, "", finding.summary.clone());
            // A summary of repeats has its evidence and remedy in the first report, and so has a later state.
            if finding.repeats > 0 && !finding.facts.again.is_empty() {
                self.paragraph(&mut lines, "children:", again(finding));
            }
            if finding.repeats == 0 && finding.state != State::Unknown {
                self.evidence(&mut lines, finding);
                self.paragraph(&mut lines, "fix:", finding.remedy.text.clone());
                self.paragraph(&mut lines, "see:", finding.remedy.link.clone());
            }
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// The evidence with the remedy, a line each at least.
    pub(super) fn whole_evidence(&self, finding: &Finding) -> String {
        let mut lines = Vec::new();
        self.evidence(&mut lines, finding);
        for (label, text) in [("fix:", &finding.remedy.text), ("see:", &finding.remedy.link)] {
            if !text.is_empty() {
                self.paragraph(&mut lines, label, text.clone());
            }
        }
        lines.join("\n") + "\n"
    }

    fn heading(&self, time: &str, finding: &Finding) -> String {
        let (word, tone) = match (finding.state, finding.severity) {
            (State::Resolved(_), _) => ("RESOLVED", Tone::Good),
            (State::Unknown, _) => ("UNKNOWN", Tone::Warning),
            (_, Severity::Info) => ("INFO", Tone::Plain),
            (_, Severity::Warning) => ("WARNING", Tone::Warning),
            (_, Severity::Critical) => ("CRITICAL", Tone::Critical),
        };
        let certainty = finding.certainty.name();
        let standing = match finding.state {
            State::Suspected => format!(", suspected, certainty: {certainty}"),
            State::Confirmed => format!(", confirmed, certainty: {certainty}"),
            State::Unknown | State::Resolved(_) => String::new(),
        };
        let label_width = self.label_width;
        let (hazard, number) = (finding.hazard.name(), finding.number);
        let text = format!("{time:>label_width$} {word} {hazard} #{number}{standing}");
        self.paint.apply(tone, &text)
    }

    fn evidence(&self, lines: &mut Vec<String>, finding: &Finding) {
        let facts = &finding.facts;
        self.paragraph(lines, "program:", program(finding));
        let age = facts.age.map(|age| format!(", {} after the fork", humanly(age))).unwrap_or_default();
        // Most children are their forker's user's.
        let uid = finding.child_uid.filter(|_| finding.child_uid != finding.program.uid);
        let uid = uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        let child = format!("{} (pid {}{uid}){age}", finding.child_comm, finding.child.tgid);
        self.paragraph(lines, "child:", child);
        if !facts.threads.is_empty() {
            let unnamed = facts
                .thread_count
                .and_then(|all| usize::try_from(all).ok()?.checked_sub(facts.threads.len()))
                .filter(|more| *more > 0)
                .map(|more| format!("{more} more"));
            let named = facts.threads.iter().map(|thread| {
                let place = occupation(thread.tid, &facts.occupations).and_then(Occupation::place);
                let place = place.map_or_else(String::new, |place| format!(": {place}"));
                format!("{} ({}){place}", thread.name(&facts.occupations), thread.tid)
            });
            self.paragraph(lines, "threads:", named.chain(unnamed).collect::<Vec<_>>().join(", "));
        }
        if !facts.signals.is_empty() {
            self.paragraph(lines, "signals:", facts.signals.to_string());
        }
        let proof = [
            facts.lock.as_deref().map(proof::lock),
            facts.connection.as_deref().map(proof::connection),
            facts.history.as_deref().map(proof::history),
            facts.leak.as_deref().map(proof::leak),
            Some(proof::held(&facts.held)),
        ];
        if let Some(end) = &facts.end {
            self.paragraph(lines, "ended:", format!("it {}", end.words()));
        }
        for (label, text) in proof.into_iter().flatten().flatten() {
            self.paragraph(lines, label, text);
        }
        for note in &facts.notes {
            self.paragraph(lines, "note:", note.clone());
        }
    }

    /// Wraps at blanks; a word that is longer than a line (a path, a link) is left whole, so that it can be copied.
    fn paragraph(&self, lines: &mut Vec<String>, label: &str, text: String) {
        let text = printable(text);
        let label_width = self.label_width;
        let room = self.width.saturating_sub(label_width + 1);
        let mut line = format!("{label:>label_width$}");
        let mut used = 0;
        for word in text.split_whitespace() {
            if used > 0 && used + 1 + word.width() > room {
                lines.push(std::mem::replace(&mut line, " ".repeat(label_width)));
                used = 0;
            }
            line.push(' ');
            line.push_str(word);
            used += word.width() + usize::from(used > 0);
        }
        lines.push(line);
    }
}

/// The children that a summary of repeats is about.
fn again(finding: &Finding) -> String {
    let named = finding.facts.again.iter().take(AGAIN).map(|repeat| repeat.child.tgid.to_string());
    let named: Vec<String> = named.collect();
    let more = finding.facts.again.len().saturating_sub(named.len()) as u64 + finding.facts.unnamed;
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    named.join(", ") + &more
}

fn resolved(resolution: Resolution, finding: &Finding) -> String {
    let (child, name) = (finding.child.tgid, &finding.program_name);
    let uid = finding.program.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
    let child = format!(
        "The child {} (pid {child}) of {name} (pid {}{uid})",
        finding.child_comm, finding.parent.tgid
    );
    let how = finding.facts.end.as_ref().map_or_else(|| resolution.words().to_owned(), |end| end.words());
    if finding.facts.unnamed > 0 {
        let mut told = finding.summary.clone();
        if let Some(first) = told.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        return format!("{told}.");
    }
    format!("{child} {how}.")
}

/// Who forked: by what it was started with, and where it runs.
fn program(finding: &Finding) -> String {
    let Program { comm, exe, cmdline, .. } = &finding.program;
    let arguments: Vec<String> = cmdline.iter().map(|argument| quoted(argument)).collect();
    let what = match (arguments.as_slice(), exe) {
        ([], Some(exe)) => escape(exe.as_os_str().as_encoded_bytes()),
        ([], None) => comm.to_string(),
        _ => shortened(&arguments.join(" "), LONGEST_COMMAND),
    };
    format!("{what} (pid {}, {})", finding.parent.tgid, identity(&finding.program).join(", "))
}

/// As many letters of a text; what is left out is marked and counted.
fn shortened(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let start: String = text.chars().take(most).collect();
    format!("{start}… and {} more letters", count - most)
}

/// An argument as it was given, in quotes where it could pass for what stands behind: `nginx (pid 1, uid 0)`.
fn quoted(argument: &str) -> String {
    let escaped = escape(argument.as_bytes());
    if escaped.contains(['(', ')', '"']) { format!("\"{}\"", escaped.replace('"', "'")) } else { escaped }
}

/// Text that was composed by forkwatch has its parts escaped already; whatever slipped through is escaped here, and
/// only then, so that no backslash is doubled.
fn printable(text: String) -> String {
    let escaped = escape(text.as_bytes());
    if escaped.replace("\\\\", "\\") == text { text } else { escaped }
}
