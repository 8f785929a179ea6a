//! The catalogue as text: for the terminal, and for the documentation.

use std::fmt::Write;

use super::{CATALOGUE, Hazard};
use crate::{
    model::finding::{Certainty, Severity},
    paragraph,
};

/// What `cargo xtask precision` has measured and written.
const PRECISION: &str = include_str!("precision.md");

/// What a hazard is, how it is detected, how sure that is, what looks alike and what to change; without a hazard,
/// which there are. Plain text in 80 columns.
pub fn explain(hazard: Option<&Hazard>) -> String {
    match hazard {
        Some(hazard) => explained(hazard),
        None => listed(),
    }
}

fn listed() -> String {
    let mut out = "The hazards that forkwatch judges:\n\n".to_owned();
    for hazard in CATALOGUE {
        paragraph::add(&mut out, &format!("{:<27}", hazard.id.name()), &" ".repeat(27), hazard.title);
    }
    out.push_str("\n`forkwatch explain HAZARD` tells what it is, how it is found, what to change.\n");
    out
}

fn explained(hazard: &Hazard) -> String {
    let mut out = format!("{}\n", hazard.id.name());
    paragraph::add(&mut out, "", "", hazard.title);
    for (heading, text) in [
        ("What goes wrong", hazard.what.to_owned()),
        ("How it is detected", hazard.detection.to_owned()),
        ("How sure a finding is", assurance(hazard)),
    ] {
        heading_line(&mut out, heading);
        paragraph::add(&mut out, "  ", "  ", &text);
    }
    heading_line(&mut out, "What looks alike and is not reported as such");
    for look_alike in hazard.look_alikes {
        paragraph::add(&mut out, "  - ", "    ", look_alike);
    }
    heading_line(&mut out, "What to change");
    for (whom, remedy) in (hazard.remedies)() {
        paragraph::add(&mut out, "  - ", "    ", &format!("{whom}: {}", remedy.text));
        paragraph::add(&mut out, "    ", "    ", &remedy.link);
    }
    heading_line(&mut out, "Further reading");
    for link in hazard.links {
        paragraph::add(&mut out, "  ", "  ", link);
    }
    out
}

fn heading_line(out: &mut String, heading: &str) {
    out.push('\n');
    out.push_str(heading);
    out.push('\n');
}

fn assurance(hazard: &Hazard) -> String {
    let certainty = match hazard.certainty {
        Certainty::Heuristic => "Heuristic",
        Certainty::Strong => "Strong",
        Certainty::Certain => "Certain",
    };
    let severity = match hazard.severity {
        Severity::Info => "information",
        Severity::Warning => "a warning",
        Severity::Critical => "critical",
    };
    format!("{certainty}, and by default {severity}. {}", hazard.certainty_reason)
}

/// The catalogue as the page `docs/hazards.md`.
pub fn markdown() -> String {
    let mut out =
        "# Hazards\n\nWhat forkwatch judges, how, and what to change. `forkwatch explain HAZARD` prints \
                   the same.\n\n| Hazard | What | Certainty | Severity |\n| --- | --- | --- | --- |\n"
            .to_owned();
    for hazard in CATALOGUE {
        let (name, title) = (hazard.id.name(), hazard.title);
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| [`{name}`](#{name}) | {title} | {:?} | {:?} |",
            hazard.certainty, hazard.severity
        );
    }
    out.push('\n');
    out.push_str(PRECISION);
    for hazard in CATALOGUE {
        let _ = write!(
            out,
            "\n## {}\n\n{}.\n\n{}\n\n### How it is detected\n\n{}\n\n### How sure a finding is\n\n{}\n\n\
             ### What looks alike\n\n",
            hazard.id.name(),
            hazard.title,
            hazard.what,
            hazard.detection,
            assurance(hazard)
        );
        for look_alike in hazard.look_alikes {
            let _ = writeln!(out, "- {look_alike}");
        }
        out.push_str("\n### What to change\n\n");
        for (whom, remedy) in (hazard.remedies)() {
            let _ = writeln!(out, "- **{whom}**: {} ([more]({}))", remedy.text, remedy.link);
        }
        out.push_str("\n### Further reading\n\n");
        for link in hazard.links {
            let _ = writeln!(out, "- <{link}>");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hazard_is_explained_within_eighty_columns() {
        for hazard in CATALOGUE.iter().copied().map(Some).chain([None]) {
            let text = explain(hazard);
            for line in text.lines().filter(|line| !line.contains("https://")) {
                assert!(line.len() <= 80, "{line}");
            }
            assert!(!text.contains("  \n") && text.ends_with('\n'));
        }
        assert!(explain(None).contains("blocked-signals"));
        assert!(explain(Some(CATALOGUE[0])).contains("gunicorn: Start threads"));
    }

    #[test]
    fn the_page_has_every_remedy_and_link() {
        let page = markdown();
        assert!(page.contains("\n\n## How precise it is\n\n"));
        for hazard in CATALOGUE {
            assert!(page.contains(&format!("\n## {}\n", hazard.id.name())));
            for (_, remedy) in (hazard.remedies)() {
                assert!(page.contains(&remedy.text) && page.contains(&remedy.link));
            }
            assert!(hazard.links.iter().all(|link| page.contains(link)));
        }
    }
}
