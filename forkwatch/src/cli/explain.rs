//! `forkwatch explain`: the catalogue, for a reader.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use clap::{Args, builder::PossibleValuesParser};

use super::exit::Exit;
use crate::{detect, model::finding::HazardId};

/// What to explain.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The hazard; all of them if none is named
    #[arg(value_name = "HAZARD", value_parser = PossibleValuesParser::new(HazardId::ALL.map(HazardId::name)))]
    hazard: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let named = |name: &String| HazardId::ALL.into_iter().find(|hazard| hazard.name() == name);
    let text = detect::explain(options.hazard.as_ref().and_then(named));
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(Exit::Fine)
}
