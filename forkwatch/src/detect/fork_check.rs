//! Whether a fork of a process would be safe now, if its child lives on without exec.

mod event_loop;
mod locks;
mod loops;
mod reasons;
mod threads;
mod words;

use serde::Serialize;

pub use crate::model::standing::{Verdict, Weight};
use crate::model::{
    finding::Remedy,
    inventory::{Inventory, Subject},
    program_name::bare_name,
};
pub use locks::share;
pub use loops::{RunningLoop, running_loops};
pub(super) use threads::is_missed;

/// Something that speaks against a fork, or that its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// Names the sort of reason; does not change.
    pub id: &'static str,
    /// How much it weighs.
    pub weight: Weight,
    /// What was seen, in words.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to change.
    pub remedy: Remedy,
}

/// The verdict, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Assessment {
    /// What the weightiest reason comes to.
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
        Subject::Sockets | Subject::FileLocks | Subject::Memory | Subject::HeldLocks => false,
    }
}

#[cfg(test)]
mod tests;
