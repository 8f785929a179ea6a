//! How events, findings and answers are shown: options that commands share.

use std::io::{self, BufWriter};

use clap::ValueEnum;

use super::terminal::{ColorChoice, width};
use crate::output::{
    Context, Output,
    columns::{ColumnLines, Look, Times},
    json::JsonLines,
    selection::{Selected, Selection},
    summary::Summary,
};

/// Bytes that are written at once.
const BUFFER: usize = 64 << 10;

/// `--output`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A line an event, aligned
    #[default]
    Columns,
    /// A document of the schema `forkwatch.event/1` a line
    Json,
}

/// `--output` of a command that answers once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Reply {
    /// For a reader
    #[default]
    Text,
    /// A JSON document
    Json,
}

/// `--time`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TimeStyle {
    /// Seconds since the start
    #[default]
    Relative,
    /// The wall clock, in the local zone
    Wall,
}

/// On stdout what is selected, and a summary of it on stderr.
pub(super) fn shown(
    form: Form,
    time: TimeStyle,
    color: ColorChoice,
    selection: Selection,
    context: &Context,
) -> Box<dyn Output> {
    let out = BufWriter::with_capacity(BUFFER, io::stdout());
    let lines: Box<dyn Output> = match form {
        Form::Json => Box::new(JsonLines::new(context, out)),
        Form::Columns => Box::new(ColumnLines::new(out, look(time, color.is_on(), context), width)),
    };
    Box::new(Selected::new(selection, vec![lines, Box::new(Summary::new(io::stderr()))]))
}

/// How lines look, with or without colours.
pub(super) fn look(time: TimeStyle, color: bool, context: &Context) -> Look {
    let times = match time {
        TimeStyle::Relative => Times::Since(context.began),
        TimeStyle::Wall => Times::Wall { context: context.clone(), zone: jiff::tz::TimeZone::system() },
    };
    // The kernel's greatest pid_max (include/linux/threads.h) where it is not known.
    Look { times, pid_max: context.pid_max.unwrap_or(1 << 22), color }
}
