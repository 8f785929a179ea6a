//! `--report`: the reports of a run, and where they go.

use std::{
    fs::File,
    io::{self, Write as _},
    path::PathBuf,
};

use anyhow::{Context as _, Result};

use crate::{
    detect::CATALOGUE,
    output::report::{Introduced, Report, document, github, junit, sarif},
    output_file::{OutputFileError, Place},
};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Junit,
    Sarif,
    Json,
    Github,
}

/// A report that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    format: Format,
    /// Absent for stdout.
    file: Option<PathBuf>,
}

/// Reads `junit=FILE`, `sarif=FILE`, `json=FILE` or `github`.
pub(super) fn destination(text: &str) -> Result<Destination, String> {
    let (name, file) = text.split_once('=').map_or((text, None), |(name, file)| (name, Some(file)));
    let format = match name {
        "junit" => Format::Junit,
        "sarif" => Format::Sarif,
        "json" => Format::Json,
        "github" => Format::Github,
        _ => return Err(format!("there is no report {name:?}: take junit, sarif, json or github")),
    };
    let file = match (format, file) {
        (Format::Github, None) | (_, Some("-")) => None,
        (_, None | Some("")) => {
            return Err(format!("the report {name} needs a file: {name}=FILE, or {name}=- for stdout"));
        }
        (_, Some(file)) => Some(PathBuf::from(file)),
    };
    Ok(Destination { format, file })
}

/// Reports whose files are open.
pub(super) struct Reports(Vec<(Destination, Option<File>)>);

impl Reports {
    /// Opens the files, so that one that cannot be written shows before the command runs for an hour. Reports of earlier
    /// runs are emptied. To be called once capabilities have been given up.
    pub(super) fn create(destinations: &[Destination]) -> Result<Self> {
        let open = |destination: &Destination| -> Result<(Destination, Option<File>)> {
            let Some(path) = &destination.file else { return Ok((destination.clone(), None)) };
            let open = || -> Result<File, OutputFileError> {
                let file = Place::find(path)?.append()?;
                file.set_len(0)?;
                Ok(file)
            };
            let file = open().with_context(|| format!("cannot write a report to {}", path.display()))?;
            Ok((destination.clone(), Some(file)))
        };
        Ok(Self(destinations.iter().map(open).collect::<Result<_>>()?))
    }

    /// Writes all.
    pub(super) fn write(self, report: &Report<'_>) -> Result<()> {
        for (Destination { format, file: path }, file) in self.0 {
            let text = match format {
                Format::Junit => junit(report)?,
                Format::Sarif => serde_json::to_string_pretty(&sarif(report))? + "\n",
                Format::Json => serde_json::to_string_pretty(&document(report))? + "\n",
                Format::Github => github(report),
            };
            match file {
                Some(mut file) => file.write_all(text.as_bytes()),
                None => io::stdout().lock().write_all(text.as_bytes()),
            }
            .with_context(|| match path {
                Some(path) => format!("cannot write the report to {}", path.display()),
                None => "cannot write the report to stdout".to_owned(),
            })?;
        }
        Ok(())
    }
}

/// All hazards, as reports introduce them.
pub(super) fn introduced() -> Vec<Introduced> {
    let introduce = |hazard: &&'static crate::detect::Hazard| Introduced {
        id: hazard.id.name(),
        title: hazard.title,
        what: hazard.what,
        link: hazard.links.first().copied().unwrap_or(env!("CARGO_PKG_REPOSITORY")),
    };
    CATALOGUE.iter().map(introduce).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_its_format_and_its_file() {
        let read = |text: &str| destination(text).map(|seen| (seen.format, seen.file));
        assert_eq!(read("junit=a=b.xml"), Ok((Format::Junit, Some("a=b.xml".into()))));
        assert_eq!(read("json=-"), Ok((Format::Json, None)));
        assert_eq!(read("github"), Ok((Format::Github, None)));
        for wrong in ["", "html=x", "sarif", "sarif="] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains("junit") || error.contains("sarif=FILE"), "{wrong}: {error}");
        }
    }
}
