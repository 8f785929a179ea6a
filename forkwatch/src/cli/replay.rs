//! `forkwatch replay`: a recording through the same core and outputs.

use std::{io::BufReader, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    exit::Exit,
    shown::{Form, TimeStyle, shown},
    terminal::ColorChoice,
};
use crate::{
    engine::replay::{replay, settings},
    input_file,
    output::{recording::Reader, selection::Selection},
};

/// What to replay, and how to show it.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The recording, as --record wrote it
    #[arg(value_name = "FILE")]
    recording: PathBuf,
    /// Only findings
    #[arg(long = "unsafe")]
    findings_only: bool,
    /// How events are shown
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
    /// How times are shown in columns
    #[arg(long, value_enum, default_value = "wall", value_name = "STYLE")]
    time: TimeStyle,
    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

/// Shows what the core says of the recording. One that is cut off is replayed as far as it goes, and then fails.
pub(super) fn run(options: &Options) -> Result<Exit> {
    let name = options.recording.display();
    let file = input_file::open(&options.recording).with_context(|| format!("cannot replay {name}"))?;
    let reader = Reader::new(BufReader::new(file)).with_context(|| format!("cannot replay {name}"))?;
    let header = reader.header();
    let settings = settings(header.settings.clone()).with_context(|| {
        format!("cannot replay {name}: it was recorded by forkwatch {}: try that version", header.version)
    })?;
    // What the recorded watch followed, it told.
    let workers = settings.workers && !options.findings_only;
    let selection = Selection { findings_only: options.findings_only, workers, ..Selection::default() };
    let shown = shown(options.output, options.time, options.color, selection, &header.context());
    replay(reader, settings, vec![shown])?.with_context(|| format!("cannot replay all of {name}"))?;
    Ok(Exit::Fine)
}
