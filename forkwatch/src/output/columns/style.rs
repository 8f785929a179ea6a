//! Colours. They only underline what the words say.

use anstyle::{AnsiColor, Style};

/// What a line is worth to the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As the terminal has it.
    Plain,
    /// In the background: what is harmless by nature.
    Faint,
    /// To be noticed.
    Warning,
    /// To be seen at once.
    Critical,
    /// Over.
    Good,
}

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    /// Puts a tone on text.
    pub(super) fn apply(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.0 => return text.to_owned(),
            Tone::Faint => Style::new().dimmed(),
            Tone::Warning => AnsiColor::Yellow.on_default(),
            Tone::Critical => AnsiColor::Red.on_default().bold(),
            Tone::Good => AnsiColor::Green.on_default(),
        };
        format!("{style}{text}{style:#}")
    }
}
