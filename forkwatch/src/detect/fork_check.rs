//! Whether a fork of a process would be safe now, if its child lives on without exec.

mod event_loop;
mod loops;
mod reasons;
mod threads;
mod words;

use serde::Serialize;

use crate::model::{
    finding::Remedy,
    inventory::{Inventory, Subject},
    program_name::bare_name,
};
pub use loops::{RunningLoop, running_loops};

/// What came of judging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Safe,
    /// It can go well, if the child minds the warnings.
    Risky,
    /// It may leave a child that hangs or misses something, whatever the child does.
    Unsafe,
    /// Nothing unsafe was seen, but not all could be looked at.
    Undecided,
}

impl Verdict {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Risky => "risky",
            Self::Unsafe => "unsafe",
            Self::Undecided => "undecided",
        }
    }
}

/// How much a reason weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It makes the fork unsafe.
    Unsafe,
    /// It makes it risky.
    Warning,
    /// Worth knowing.
    Info,
}

impl Weight {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Something that speaks against a fork, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Names the sort of reason; does not change.
    pub id: &'static str,
    /// How much it weighs.
    pub weight: Weight,
    /// What was seen.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to change.
    pub remedy: Remedy,
}

/// The verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assessment {
    /// The verdict.
    pub verdict: Verdict,
    /// The reasons, the weightiest first.
    pub reasons: Vec<Reason>,
}

/// Judges what was seen of a process.
pub fn assess(inventory: &Inventory) -> Assessment {
    let name = bare_name(&inventory.program);
    let mut reasons = reasons::all(inventory, &name);
    // A stable sort: among equals the order above stays.
    reasons.sort_by_key(|reason| reason.weight);
    let weightiest = reasons.first().map(|reason| reason.weight);
    let verdict = match weightiest {
        Some(Weight::Unsafe) => Verdict::Unsafe,
        _ if inventory.unknown.iter().any(|unknown| bears_on_safety(unknown.what, inventory, &name)) => {
            Verdict::Undecided
        }
        Some(Weight::Warning) => Verdict::Risky,
        Some(Weight::Info) | None => Verdict::Safe,
    };
    Assessment { verdict, reasons }
}

/// Whether what makes a fork unsafe could hide there.
fn bears_on_safety(subject: Subject, inventory: &Inventory, name: &str) -> bool {
    match subject {
        // Where the threads are matters for a loop that may run, and nothing else has told whether it does.
        Subject::Stacks if event_loop::is_known(inventory, name) => false,
        Subject::Signals | Subject::Descriptors | Subject::Calls | Subject::Stacks => true,
        Subject::Sockets | Subject::FileLocks | Subject::Memory => false,
    }
}

#[cfg(test)]
mod tests;
