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
    #[arg(value_name = "HAZARD", value_parser = PossibleValuesParser::new(detect::ids().map(HazardId::name)))]
    hazard: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<Exit> {
    let text = detect::explain(options.hazard.as_deref().and_then(detect::find));
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(Exit::Fine)
}
