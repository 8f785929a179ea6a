//! What a line of the log looks like. Control characters of whatever stands in it are escaped.

use std::fmt::{self, Write};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format},
    registry::LookupSpan,
};

use crate::model::{kernel_log, process::escape};

/// What a line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// With time; with colour, if so said.
    Text { colour: bool },
    /// With the priority in front that journald reads (sd-daemon(3)), and without time, which it keeps itself.
    Journal,
    /// A JSON object.
    Json,
}

impl Style {
    /// The line that says how many lines are missing before it.
    pub(super) fn of_lost(self, lost: u64) -> String {
        let words = format!("lines of this log that nobody read: {lost} are missing here");
        let time = jiff::Timestamp::now();
        match self {
            Self::Journal => format!("<{}>{words}\n", priority(Level::WARN)),
            Self::Text { .. } => format!("{time:.3}  WARN {words}\n"),
            Self::Json => {
                format!("{{\"timestamp\":\"{time:.6}\",\"level\":\"WARN\",\"message\":\"{words}\"}}\n")
            }
        }
    }
}

/// One line an event: `2026-09-10T12:00:00.123Z  INFO ready listeners=1`.
pub(super) struct Line(pub(super) Style);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (level, target) = (*event.metadata().level(), event.metadata().target());
        match self.0 {
            Style::Journal => write!(writer, "<{}>", priority(level))?,
            Style::Text { colour: true } => {
                let (time, code) = (jiff::Timestamp::now(), colour_code(level));
                write!(writer, "\x1b[2m{time:.3}\x1b[0m \x1b[{code}m{level:>5}\x1b[0m ")?;
            }
            Style::Text { .. } | Style::Json => write!(writer, "{:.3} {level:>5} ", jiff::Timestamp::now())?,
        }
        if target == kernel_log::TARGET {
            writer.write_str("kernel log: ")?;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        writeln!(writer, "{}{}", fields.message, fields.others)
    }
}

/// The priorities of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

const fn colour_code(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// The message, and the other fields as ` name=value`; escaped.
#[derive(Default)]
struct Fields {
    message: String,
    others: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let value = escape(value.as_bytes());
        if field.name() == "message" {
            self.message.push_str(&value);
            return;
        }
        // Writing to a string cannot fail.
        let _ = if value.is_empty() || value.contains([' ', '=', '"']) {
            write!(self.others, " {}=\"{}\"", field.name(), value.replace('"', "\\\""))
        } else {
            write!(self.others, " {}={value}", field.name())
        };
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.record_str(field, &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
