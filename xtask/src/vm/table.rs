//! The sum of many boots, kernels side by side.

use std::{collections::BTreeMap, fmt};

use super::report::{Outcome, Report};

/// Columns of kernels before the next block begins.
const WIDTH: usize = 110;

/// One boot: what its column is called, and what the guest said.
pub(crate) struct Column<'a> {
    pub(crate) name: &'a str,
    pub(crate) report: &'a Report,
}

/// Boots of one kind.
pub(crate) struct Table<'a> {
    pub(crate) title: &'a str,
    pub(crate) columns: Vec<Column<'a>>,
}

impl Table<'_> {
    /// A row for each fact: its name, and how it stands in each column.
    fn rows(&self) -> Vec<(String, Vec<String>)> {
        let row = |name: &str, cell: &dyn Fn(&Report) -> String| {
            (name.to_owned(), self.columns.iter().map(|column| cell(column.report)).collect())
        };
        let mut rows = vec![
            row("boot", &|report| {
                report.boot.map_or_else(|| "-".to_owned(), |boot| format!("{:.1} s", boot.as_secs_f64()))
            }),
            row("passed", &|report| report.count(Outcome::Passed).to_string()),
            row("failed", &|report| report.count(Outcome::Failed).to_string()),
            row("skipped", &|report| report.count(Outcome::Skipped).to_string()),
        ];
        if self.columns.iter().any(|column| column.report.deaths > 0) {
            rows.push(row("guests that died", &|report| report.deaths.to_string()));
        }
        for name in self.capabilities() {
            rows.push(row(name, &|report| {
                let found = report.capabilities.iter().find(|(capability, _)| capability == name);
                found.map_or_else(|| "-".to_owned(), |(_, state)| state.clone())
            }));
        }
        rows
    }

    /// All that any guest names, each once, in the order of the first that does.
    fn capabilities(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.columns.iter().flat_map(|column| &column.report.capabilities) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }

    /// What did not pass, with the kernels where it did not.
    fn exceptions(&self, outcome: Outcome) -> BTreeMap<(&str, &str), Vec<&str>> {
        let mut found: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for column in &self.columns {
            for test in column.report.tests.iter().filter(|test| test.outcome == outcome) {
                found.entry((test.name.as_str(), test.remark.as_str())).or_default().push(column.name);
            }
        }
        found
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let first = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0).max(self.title.len());
        let cells = rows.iter().flat_map(|(_, cells)| cells.iter().map(String::len));
        let other = cells.chain(self.columns.iter().map(|column| column.name.len())).max().unwrap_or(0);
        let columns = (WIDTH.saturating_sub(first) / (other + 2)).max(1);
        let header: Vec<String> = self.columns.iter().map(|column| column.name.to_owned()).collect();
        for start in (0..header.len()).step_by(columns) {
            let mut line = |name: &str, cells: &[String]| {
                write!(f, "{name:first$}")?;
                cells.iter().skip(start).take(columns).try_for_each(|cell| write!(f, "  {cell:>other$}"))?;
                writeln!(f)
            };
            line(self.title, &header)?;
            rows.iter().try_for_each(|(name, cells)| line(name, cells))?;
            writeln!(f)?;
        }
        for (word, outcome) in [("skipped", Outcome::Skipped), ("failed", Outcome::Failed)] {
            for ((test, why), kernels) in self.exceptions(outcome) {
                writeln!(f, "{word} on {}: {test}: {why}", kernels.join(", "))?;
            }
        }
        for column in &self.columns {
            if let Some(complaint) = column.report.complaint() {
                writeln!(f, "failed on {}: {complaint}", column.name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn kernels_stand_side_by_side() {
        let old = "capability fork: on\ncapability sockets: off\ntest a: passed (1.0 s)\ntest b: skipped: no hook\nverdict: 0";
        let new = "capability fork: on\ncapability sockets: on\ntest a: passed (1.0 s)\ntest b: failed: lost\nverdict: 1";
        let old = Report::parse(old, 0, Some(Duration::from_millis(1540)));
        let new = Report::parse(new, 1, None);
        let dead = Report::parse("", 2, None);
        let columns = [("5.10", &old), ("7.2", &new), ("6.1", &dead)];
        let table =
            Table { title: "plain", columns: columns.map(|(name, report)| Column { name, report }).into() };
        let expected = "\
plain              5.10    7.2    6.1
boot              1.5 s      -      -
passed                1      1      0
failed                0      1      0
skipped               1      0      0
guests that died      0      1      2
fork                 on     on      -
sockets             off     on      -

skipped on 5.10: b: no hook
failed on 7.2: b: lost
failed on 6.1: the guest died
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn too_many_kernels_make_another_block() {
        let report = Report::parse("test a: passed\nverdict: 0", 0, None);
        let name = "6.12.107+deb13";
        let columns = (0..7).map(|_| Column { name, report: &report }).collect();
        let text = Table { title: "plain", columns }.to_string();
        assert_eq!(text.lines().filter(|line| line.starts_with("plain")).count(), 2);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
    }
}
