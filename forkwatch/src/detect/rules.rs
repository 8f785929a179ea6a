//! Whether what the operator accepts can be found at all.

use super::{CATALOGUE, find};
use crate::core::allow::AllowRule;

/// A rule about what no finding is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// It names what is no hazard.
    #[error("`{0}` is no hazard; there are {names}", names = names(|_| true))]
    NoHazard(String),
    /// Few hazards know threads.
    #[error(
        "`thread` of an allow rule fits the hazards {names} alone, not `{0}`",
        names = names(|hazard| hazard.knows_threads)
    )]
    NoThreads(&'static str),
}

/// The hazards that something is true of, for a sentence.
fn names(wanted: fn(&super::Hazard) -> bool) -> String {
    let names = CATALOGUE.iter().copied().filter(|hazard| wanted(hazard));
    names.map(|hazard| format!("`{}`", hazard.id.name())).collect::<Vec<_>>().join(", ")
}

/// Checks the hazard of a rule.
pub fn check_rule(rule: &AllowRule) -> Result<(), RuleError> {
    let Some(id) = rule.hazard() else { return Ok(()) };
    let hazard = find(id).ok_or_else(|| RuleError::NoHazard(id.to_owned()))?;
    if rule.names_a_thread() && !hazard.knows_threads {
        return Err(RuleError::NoThreads(hazard.id.name()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(body: &str) -> Result<(), String> {
        let rule: AllowRule = toml::from_str(&format!("{body}\nreason = \"r\"")).unwrap();
        check_rule(&rule).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_is_about_a_hazard_that_there_is() {
        assert_eq!(checked("hazard = \"orphaned-lock\""), Ok(()));
        assert_eq!(checked("comm = \"x\""), Ok(()));
        let error = checked("hazard = \"forks\"").unwrap_err();
        assert!(error.starts_with("`forks` is no hazard; there are `multithreaded-fork`, "), "{error}");
    }

    #[test]
    fn only_some_hazards_know_threads() {
        assert_eq!(checked("thread = \"x\"\nhazard = \"lost-threads\""), Ok(()));
        let error = checked("thread = \"x\"\nhazard = \"pending-signals\"").unwrap_err();
        assert!(error.contains("`multithreaded-fork`, `lost-threads` alone"), "{error}");
        assert!(error.ends_with("not `pending-signals`"), "{error}");
    }
}
