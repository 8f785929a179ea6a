//! What a reader gets.

use jiff::tz::TimeZone;

use super::{Child, Outcome, Proven};
use crate::{
    action::rescue::Word,
    cli::terminal::{ColorChoice, width},
    engine::session,
    host::clock,
    model::{finding::Finding, time::nanoseconds},
    output::columns::{Columns, Times, humanly},
    paragraph,
};

/// What may go wrong after a release.
pub(super) const RISK: &str = "what the lock guards may be half changed: the thread that held it was in the midst of that when the \
                               process forked. Nobody can see from outside whether it was";
/// What to do instead, or afterwards.
pub(super) const ADVICE: &str = "drain this process and restart it, and mend the fork that left the lock behind. Release the lock to \
                                 let it finish or hand over what it has begun";

/// As wide as the labels of a finding.
const FIRST: [&str; 4] = ["  before: ", "   after: ", "    risk: ", "  better: "];
const FURTHER: &str = "          ";

/// What is known, and what is to be done.
pub(super) fn plan(child: &Child, proven: &Proven) -> String {
    let release = &proven.rescue.release;
    let mut text = known(&proven.finding) + "\n";
    let what = format!(
        "The lock is {}. To release it in process {}, all its threads are stopped for less than a millisecond, and these \
         words are written:",
        release.kind.name(),
        child.key.tgid
    );
    paragraph::add(&mut text, "", "", &what);
    let words = |of: &dyn Fn(&Word) -> u32| {
        let words: Vec<String> =
            release.words.iter().map(|word| format!("{} {:#x}", word.name, of(word))).collect();
        words.join(", ")
    };
    let lines = [words(&|word| word.before), words(&|word| word.after), RISK.to_owned(), ADVICE.to_owned()];
    for (first, line) in FIRST.into_iter().zip(lines) {
        paragraph::add(&mut text, first, FURTHER, &line);
    }
    text + "\n"
}

/// What has become of it; of what was to be released, what comes after [`plan`].
pub(super) fn outcome(child: &Child, outcome: &Outcome) -> String {
    let (pid, name) = (child.key.tgid, &child.owner.comm);
    let mut text = String::new();
    let said = match outcome {
        Outcome::Refused { reason, finding } => {
            if let Some(finding) = finding {
                text = known(finding) + "\n";
            }
            format!("Nothing was released in {name} (pid {pid}): {reason}.")
        }
        Outcome::WouldRelease(proven) => {
            text = plan(child, proven);
            "Nothing was written, as you asked: without --dry-run it would be.".to_owned()
        }
        Outcome::Declined(_) => "Nothing was written.".to_owned(),
        Outcome::Released(_, released) => {
            let stopped = humanly(nanoseconds(released.stopped));
            let went_on = if released.went_on {
                "and the thread that waited for it goes on".to_owned()
            } else {
                format!(
                    "but the thread that waited for it was not seen to go on: look with `forkwatch rescue --dry-run {pid}`"
                )
            };
            format!(
                "The lock was released in {name} (pid {pid}), which stood still for {stopped}, {went_on}."
            )
        }
        Outcome::Failed(_, error) => {
            format!("Nothing may have been released in {name} (pid {pid}): {error}.")
        }
    };
    paragraph::add(&mut text, "", "", &said);
    text
}

/// A finding, as a scan shows it.
fn known(finding: &Finding) -> String {
    let times = Times::Wall { context: session::context(), zone: TimeZone::system() };
    let pid_max = clock::pid_max().unwrap_or(1 << 22);
    Columns::new(times, width(), pid_max, ColorChoice::Auto.is_on()).finding(finding)
}
