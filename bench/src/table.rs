//! Tables in Markdown.

use std::fmt;

/// A table: a title, a head and rows of as many cells.
pub(crate) struct Table {
    title: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(title: &'static str, head: &[&str]) -> Self {
        Self { title, head: head.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, head, rows } = self;
        let align =
            head.iter().enumerate().map(|(column, _)| if column == 0 { "---" } else { "---:" }.to_owned());
        writeln!(f, "### {title}\n")?;
        for cells in [head, &align.collect()].into_iter().chain(rows) {
            writeln!(f, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }
}
