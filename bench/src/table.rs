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

    /// Its lines, without the title.
    pub(crate) fn body(&self) -> String {
        let align: Vec<_> = self
            .head
            .iter()
            .enumerate()
            .map(|(column, _)| if column == 0 { "---" } else { "---:" })
            .collect();
        let mut lines = vec![line(&self.head), line(&align)];
        lines.extend(self.rows.iter().map(|cells| line(cells)));
        lines.join("\n") + "\n"
    }
}

/// A line of a table.
pub(crate) fn line(cells: &[impl AsRef<str>]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |", cells.join(" | "))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "### {}\n\n{}", self.title, self.body())
    }
}
