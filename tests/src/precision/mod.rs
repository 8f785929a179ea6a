//! What forkwatch finds of what is there, and what it says that is not so: every fixture and real program whose faults
//! are known, each under a forkwatch of its own with the settings that it is shipped with.

mod cases;
mod run;
mod score;
mod table;

use anyhow::{Context, Result};

pub use self::{
    run::{Found, Run, run},
    score::{Score, score},
    table::{Measured, markdown},
};
use crate::{
    fixture,
    program::Program,
    scenario::{self, Scenario},
};

/// A program whose faults are known.
#[derive(Clone, Copy)]
pub struct Case {
    start: Start,
    /// The hazards that are there. Each has to be found, and no other.
    pub truth: &'static [&'static str],
    /// The hazards that it looks like and that are not there.
    pub look_alike: &'static [&'static str],
    step: Step,
}

/// What is run.
#[derive(Clone, Copy)]
enum Start {
    /// `tests/fixtures/c`, with these arguments.
    C(&'static str, &'static [&'static str]),
    /// `tests/fixtures/python`, with this argument.
    Python(&'static str, &'static str),
    Real(&'static Scenario),
    /// A server that is killed in the end, and what happens to it at its later step.
    Server(&'static Scenario, fn(&mut Program) -> Result<()>),
}

/// Whether a fixture takes a second step, and when.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    None,
    /// When its children have lived on for a while. What it does then is the fault.
    Later,
    /// When their forker is known to have stayed beside them for long.
    WhenOld,
    /// As soon as this has been found.
    Once(&'static str),
}

/// All cases, in the order of their kinds.
pub fn all() -> Vec<Case> {
    let real = scenario::all().map(|scenario| {
        let truth = cases::truth(scenario);
        Case { start: Start::Real(scenario), truth, look_alike: cases::look_alike(truth), step: Step::None }
    });
    cases::FIXTURES.iter().chain(cases::SERVERS).copied().chain(real).collect()
}

/// The runs that are to be made: each case so often, and more often where one of its hazards would otherwise be there in
/// fewer than `least` runs.
pub fn plan(cases: &[Case], runs: usize, least: usize) -> Vec<&Case> {
    let often = |case: &Case| {
        let having = |hazard: &str| cases.iter().filter(|case| case.has(hazard)).count();
        case.truth.iter().map(|hazard| least.div_ceil(having(hazard))).max().unwrap_or(0).max(runs)
    };
    let most = cases.iter().map(often).max().unwrap_or(0);
    (0..most).flat_map(|run| cases.iter().filter(move |case| run < often(case))).collect()
}

impl Case {
    /// What it is called.
    pub fn name(&self) -> String {
        match self.start {
            Start::C(name, arguments) => [&[name], arguments].concat().join(" "),
            Start::Python(name, argument) => format!("{name} {argument}"),
            Start::Real(scenario) | Start::Server(scenario, _) => scenario.name.to_owned(),
        }
    }

    /// Whether this hazard is there.
    pub fn has(&self, hazard: &str) -> bool {
        self.truth.contains(&hazard)
    }

    fn hold(&self) -> Result<Program> {
        match self.start {
            Start::C(name, arguments) => fixture::hold(name, arguments),
            Start::Python(name, argument) => Program::hold(|_| {
                let script = scenario::python_fixtures().join(name);
                Ok(scenario::python("python", "python")?.args([script]).args([argument]))
            }),
            Start::Real(scenario) | Start::Server(scenario, _) => scenario.hold(),
        }
        .with_context(|| format!("cannot start {}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hazard_that_few_cases_have_is_measured_more_often() {
        let cases = all();
        let plan = plan(&cases, 2, 6);
        let runs = |name: &str| plan.iter().filter(|case| case.name() == name).count();
        assert_eq!((runs("pending_signals"), runs("vfork_exec"), runs("mt_fork")), (6, 2, 2));
        for hazard in cases.iter().flat_map(|case| case.truth) {
            assert!(plan.iter().filter(|case| case.has(hazard)).count() >= 6, "{hazard}");
        }
    }
}
