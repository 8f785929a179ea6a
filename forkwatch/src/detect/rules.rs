//! Whether what the operator accepts can be found at all.

use super::{CATALOGUE, find};
use crate::core::suppress::SuppressRule;

/// A rule about threads, where no finding names any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`thread` of a suppress rule fits the hazards {known} alone, not `{0}`",
    known = know_threads()
)]
pub struct NoThreads(&'static str);

/// The hazards whose findings name threads, for a sentence.
fn know_threads() -> String {
    let known = CATALOGUE.iter().filter(|hazard| hazard.knows_threads);
    known.map(|hazard| format!("`{}`", hazard.id.name())).collect::<Vec<_>>().join(" and ")
}

/// Checks that the hazard of a rule, where it has one, fits the rest of it.
pub fn check_rule(rule: &SuppressRule) -> Result<(), NoThreads> {
    match rule.hazard().and_then(find) {
        Some(hazard) if rule.names_a_thread() && !hazard.knows_threads => Err(NoThreads(hazard.id.name())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_some_hazards_know_threads() {
        let checked = |body: &str| {
            let rule: SuppressRule = toml::from_str(&format!("{body}\nreason = \"r\"")).unwrap();
            check_rule(&rule).map_err(|error| error.to_string())
        };
        assert_eq!(checked("hazard = \"orphaned-lock\""), Ok(()));
        assert_eq!(checked("thread = \"x\""), Ok(()));
        assert_eq!(checked("thread = \"x\"\nhazard = \"lost-threads\""), Ok(()));
        assert_eq!(
            checked("thread = \"x\"\nhazard = \"pending-signals\""),
            Err("`thread` of a suppress rule fits the hazards `multithreaded-fork` and `held-locks` and `lost-threads` \
                 and `server-setup` alone, not `pending-signals`"
                .to_owned())
        );
    }
}
