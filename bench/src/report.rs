//! What was measured: printed, and written into the document between the marks that name it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::table::{self, Table};

/// The part of the document that says of each aim whether it is reached.
const AIMS: &str = "aims";

/// Where measurements go.
pub(crate) struct Report {
    /// Of what, when and where: stands below each table.
    provenance: String,
    /// The commit alone: stands beside each aim.
    commit: String,
    document: Option<PathBuf>,
}

impl Report {
    /// One that prints, and replaces in the document what is measured anew.
    pub(crate) fn new(provenance: String, commit: String, document: Option<PathBuf>) -> Self {
        Self { provenance, commit, document }
    }

    /// Takes in a table. `name` is that of its marks.
    pub(crate) fn table(&self, name: &str, table: &Table) -> Result<()> {
        println!("{table}\n{}\n", self.provenance);
        self.write(name, |_| format!("{}\n{}\n", table.body(), self.provenance))
    }

    /// Takes in what was measured of an aim.
    pub(crate) fn aim(&self, aim: &str, measured: &str) -> Result<()> {
        println!("To reach: {aim}.\nMeasured: {measured}.\n");
        let row = table::line(&[aim, measured, &self.commit]);
        self.write(AIMS, |before| with_row(before, &row))
    }

    fn write(&self, name: &str, change: impl Fn(&str) -> String) -> Result<()> {
        let Some(path) = &self.document else { return Ok(()) };
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let changed = replace(&text, name, change).with_context(|| {
            format!(
                "{} has no place for this table: no line `{}` before a line `{END}`",
                path.display(),
                mark(name)
            )
        })?;
        fs::write(path, changed).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The line behind what is measured.
const END: &str = "<!-- measured -->";

/// The line before it.
fn mark(name: &str) -> String {
    format!("<!-- measure {name} -->")
}

/// The document with another text between the marks of this name; none where they are missing.
fn replace(document: &str, name: &str, change: impl Fn(&str) -> String) -> Option<String> {
    let (before, rest) = document.split_once(&format!("{}\n", mark(name)))?;
    let (old, after) = rest.split_once(END)?;
    Some(format!("{before}{}\n{}{END}{after}", mark(name), change(old)))
}

/// A table with this row in place of the one that begins alike, or behind all others.
fn with_row(table: &str, row: &str) -> String {
    let first = |row: &str| row.split('|').nth(1).map(str::trim).map(str::to_owned);
    let mut lines: Vec<&str> = table.lines().collect();
    match lines.iter().position(|line| first(line) == first(row)) {
        Some(position) => lines.splice(position..=position, [row]).for_each(drop),
        None => lines.push(row),
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str =
        "# x\n<!-- measure one -->\nold\n<!-- measured -->\nkept\n<!-- measure two -->\n<!-- measured -->\n";

    #[test]
    fn what_is_measured_replaces_what_was_and_nothing_else() {
        let changed = replace(DOCUMENT, "one", |_| "new\n".to_owned()).unwrap();
        assert_eq!(changed, DOCUMENT.replace("old", "new"));
        let changed = replace(&changed, "two", |_| "2\n".to_owned()).unwrap();
        assert!(changed.contains("new\n<!-- measured -->\nkept\n<!-- measure two -->\n2\n<!-- measured -->"));
        assert_eq!(replace(DOCUMENT, "three", |_| String::new()), None);
    }

    #[test]
    fn an_aim_keeps_its_row() {
        let table = "| to reach | measured |\n| --- | --- |\n| a | 1 |\n| b | 2 |\n";
        assert_eq!(with_row(table, "| a | 3 |"), table.replace("| a | 1 |", "| a | 3 |"));
        assert_eq!(with_row(table, "| c | 3 |"), format!("{table}| c | 3 |\n"));
    }

    /// Whatever is measured has its place in the document.
    #[test]
    fn the_document_has_a_place_for_each_table() {
        let document = include_str!("../../docs/performance.md");
        for name in crate::TABLES.iter().chain([&AIMS]) {
            assert!(replace(document, name, str::to_owned).as_deref() == Some(document), "{name}");
        }
        assert_eq!(document.matches("<!-- measure ").count(), crate::TABLES.len() + 1);
    }
}
