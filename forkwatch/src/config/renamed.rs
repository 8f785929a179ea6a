//! What was called otherwise in the first edition: the one table from which old configurations are understood and the
//! documentation of the change is made. A name that stands here as new never changes again.

use toml::{Table, Value};

/// A name that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// What is called so.
    pub what: Named,
    /// Its name in the first edition.
    pub old: &'static str,
    /// Its name now.
    pub new: &'static str,
}

/// What names belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A table of the configuration. The old name is still understood, with a warning.
    Table,
    /// A metric. The old name is gone.
    Metric,
    /// An alert of `dist/forkwatch.rules.yml`. The old name is gone.
    Alert,
    /// The value of a label, in every metric that has it.
    LabelValue,
}

impl Named {
    /// What it is, for a table of names.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Table => "configuration",
            Self::Metric => "metric",
            Self::Alert => "alert",
            Self::LabelValue => "label",
        }
    }
}

const fn table(old: &'static str, new: &'static str) -> Renamed {
    Renamed { what: Named::Table, old, new }
}

const fn metric(old: &'static str, new: &'static str) -> Renamed {
    Renamed { what: Named::Metric, old, new }
}

const fn label(old: &'static str, new: &'static str) -> Renamed {
    Renamed { what: Named::LabelValue, old, new }
}

/// Every name that changed since the first edition.
pub static RENAMED: &[Renamed] = &[
    table("[[allow]]", "[[suppress]]"),
    metric("forkwatch_findings_allowed_total", "forkwatch_findings_suppressed_total"),
    metric("forkwatch_events_shed_total", "forkwatch_events_dropped_total"),
    metric("forkwatch_event_file_lost_total", "forkwatch_event_file_dropped_total"),
    metric("forkwatch_untracked_children_total", "forkwatch_tracking_dropped_total"),
    metric("forkwatch_exec_latency_seconds", "forkwatch_fork_to_exec_duration_seconds"),
    metric("forkwatch_clone_call_seconds", "forkwatch_clone_call_duration_seconds"),
    Renamed { what: Named::Alert, old: "ForkwatchEventsShed", new: "ForkwatchEventsDropped" },
    label(r#"kind="copying""#, r#"kind="fork""#),
    label(r#"class="copying""#, r#"class="fork""#),
];

impl Renamed {
    /// Whether a configuration has the old name.
    fn is_in(&self, config: &Table) -> bool {
        let name = self.old.trim_matches(['[', ']']);
        self.what == Named::Table && matches!(config.get(name), Some(Value::Array(_) | Value::Table(_)))
    }

    /// What to tell whoever still uses the old name.
    pub fn warning(&self) -> String {
        format!(
            "`{}` is called `{}` now: the old name still works, please write the new one",
            self.old, self.new
        )
    }
}

/// The old names that a configuration has. Of what is no TOML nothing is said here.
pub(super) fn used(text: &str) -> Vec<Renamed> {
    let Ok(config) = text.parse::<Table>() else { return Vec::new() };
    RENAMED.iter().copied().filter(|renamed| renamed.is_in(&config)).collect()
}

/// The table of names, as Markdown.
pub fn markdown() -> String {
    const HEAD: &str = "# Renamed since the first edition\n\nThese names changed after the first edition. An old name in the \
                        configuration still works: the daemon's log and `forkwatch check-config` say the new one. Old \
                        names of metrics, labels and alerts do not work any more. From now on, names are added and never changed.\n\n";
    let rows = RENAMED
        .iter()
        .map(|Renamed { what, old, new }| format!("| {} | `{old}` | `{new}` |\n", what.words()));
    format!("{HEAD}| What | First edition | Now |\n| --- | --- | --- |\n{}", rows.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{super::Config, *};

    #[test]
    fn an_old_table_means_the_same_and_is_told() {
        let body = "\ncomm = \"x\"\nreason = \"y\"\n";
        for Renamed { old, new, .. } in RENAMED.iter().filter(|renamed| renamed.what == Named::Table) {
            let parsed = |name: &str| Config::parse("test", &format!("{name}{body}")).unwrap();
            assert_eq!(parsed(old).suppress, parsed(new).suppress);
            assert!(!parsed(old).suppress.is_empty());
            assert_eq!(parsed(old).old_names.len(), 1);
            assert!(parsed(old).old_names[0].warning().contains(new));
            assert!(parsed(new).old_names.is_empty());
        }
    }

    #[test]
    fn no_name_is_old_and_new_and_none_stands_twice() {
        for one in RENAMED {
            assert!(RENAMED.iter().all(|other| other.new != one.old), "{one:?}");
            assert_eq!(RENAMED.iter().filter(|other| other.old == one.old).count(), 1, "{one:?}");
        }
    }

    #[test]
    fn both_names_at_once_are_refused() {
        let rule = "comm = \"x\"\nreason = \"y\"\n";
        let text = format!("[[suppress]]\n{rule}[[allow]]\n{rule}");
        let message = Config::parse("test.toml", &text).unwrap_err().to_string();
        assert!(message.contains("duplicate field `suppress`"), "{message}");
    }
}
