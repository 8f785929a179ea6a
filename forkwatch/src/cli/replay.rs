//! `forkwatch replay`: a recording through the same core.

use std::{io::BufReader, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::{
    exit::Exit,
    tail_sink::{Output, Selection, TailSink, TimeStyle},
    terminal::ColorChoice,
};
use crate::{
    core::{self, Core, Settings},
    detect,
    engine::pipeline::Sink,
    input_file,
    model::time::BootTime,
    output::recording::{Input, Reader, RecordingError},
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
    output: Output,
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
    let header = reader.header().clone();
    let settings = settings(header.settings.clone()).with_context(|| {
        format!("cannot replay {name}: it was recorded by forkwatch {}: try that version", header.version)
    })?;
    let mut core = Core::new(settings, detect::all());
    let selection = Selection { findings_only: options.findings_only, ..Selection::default() };
    let mut sink =
        TailSink::new(options.output, options.time, options.color, selection, &header.context(), None);
    sink.ready()?;
    let ended = feed(&mut core, reader, &mut sink);
    sink.summary()?;
    ended.with_context(|| format!("cannot replay all of {name}"))?;
    Ok(Exit::Fine)
}

/// The settings that a recording tells, as long as a watch can have had them.
fn settings(told: serde_json::Value) -> Result<Settings> {
    let settings: Settings = serde_json::from_value(told).context("its settings are not this version's")?;
    settings.check().context("its settings were damaged or edited")?;
    Ok(settings)
}

fn feed(
    core: &mut Core,
    inputs: impl Iterator<Item = Result<Input, RecordingError>>,
    sink: &mut TailSink,
) -> Result<()> {
    let mut outputs = Vec::new();
    let mut last = BootTime::default();
    let mut broken = Ok(());
    for input in inputs {
        let input = match input {
            Ok(input) => input,
            Err(error) => {
                broken = Err(error);
                break;
            }
        };
        last = input.at().map_or(last, |at| last.max(at));
        match input {
            Input::Event(event) => {
                sink.event(&event)?;
                core.event(&event, &mut outputs);
            }
            Input::Evidence { at, evidence } => core.evidence(at, &evidence, &mut outputs),
            Input::Advance(to) => core.advance(to, &mut outputs),
            Input::Settings(changed) => core.configure(settings(changed)?),
        }
        pass_on(&mut outputs, sink)?;
    }
    core.close(last, &mut outputs);
    pass_on(&mut outputs, sink)?;
    Ok(broken?)
}

/// What the core asks was answered when it was recorded.
fn pass_on(outputs: &mut Vec<core::Output>, sink: &mut TailSink) -> Result<()> {
    for output in
        outputs.drain(..).filter(|output| !matches!(output, core::Output::Ask(_) | core::Output::Order(_)))
    {
        sink.output(&output)?;
    }
    Ok(())
}
