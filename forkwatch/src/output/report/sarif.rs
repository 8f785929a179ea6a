//! SARIF 2.1.0, which code scanning services and editors show beside the code.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use serde_json::{Value, json};

use super::{CommandEnd, Found, Introduced, Report, place, relative, text};
use crate::model::finding::{Finding, Severity};

/// The schema's own address.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The report as a document of SARIF 2.1.0.
pub fn sarif(report: &Report<'_>) -> Value {
    let code = match report.end {
        CommandEnd::Code(code) => json!({ "exitCode": code }),
        CommandEnd::Signal(number) => json!({ "exitSignalNumber": number }),
    };
    let mut invocation = json!({
        "commandLine": report.command.join(" "),
        // Whether the watch told all that happened.
        "executionSuccessful": report.seen.lost == 0,
    });
    merge(&mut invocation, code);
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "forkwatch",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": env!("CARGO_PKG_REPOSITORY"),
                "rules": report.hazards.iter().map(rule).collect::<Vec<_>>(),
            }},
            "invocations": [invocation],
            "results": report.seen.found.iter().map(|found| result(report, found)).collect::<Vec<_>>(),
        }],
    })
}

fn rule(hazard: &Introduced) -> Value {
    json!({
        "id": hazard.id,
        "shortDescription": { "text": hazard.title },
        "fullDescription": { "text": hazard.what },
        "helpUri": hazard.link,
    })
}

fn result(report: &Report<'_>, found: &Found) -> Value {
    let finding = &found.finding;
    let mut result = json!({
        "ruleId": finding.hazard.name(),
        "level": level(finding.severity),
        "message": { "text": text(found) },
        "locations": [location(finding)],
        "occurrenceCount": found.repeats + 1,
        "properties": {
            "program": finding.program_name,
            "certainty": finding.certainty,
            "fails": (report.fails)(found),
        },
    });
    // Two runs that find the same have the same fingerprint, so that a service knows it again.
    let line = place(finding).map(|(path, line)| format!("{path}:{line}")).unwrap_or_default();
    merge(
        &mut result,
        json!({ "partialFingerprints": {
            "forkwatch/1": format!("{}/{}/{line}", finding.hazard.name(), finding.program_name),
        }}),
    );
    if found.is_withdrawn() {
        merge(
            &mut result,
            json!({ "suppressions": [{
                "kind": "external",
                "justification": "the finding was withdrawn: the child went on, or replaced its program",
            }]}),
        );
    }
    result
}

/// Line of the script, where that is known, and always the program.
fn location(finding: &Finding) -> Value {
    let mut location = json!({
        "logicalLocations": [{ "name": finding.program_name, "kind": "process" }],
    });
    if let Some((path, line)) = place(finding) {
        merge(
            &mut location,
            json!({ "physicalLocation": {
                "artifactLocation": { "uri": uri(path) },
                "region": { "startLine": line.max(1) },
            }}),
        );
    }
    location
}

/// A path as a reference that a service can find in its checkout: relative where it lies below the working directory.
fn uri(path: &str) -> String {
    let path = relative(path);
    let mut uri = if path.starts_with('/') { "file://".to_owned() } else { String::new() };
    for byte in path.bytes() {
        // What may stand in a path as it is (RFC 3986, section 3.3), but for the colon, which could end a scheme.
        if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=@".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let digit =
                |half: u8| char::from_digit(u32::from(half), 16).map(|digit| digit.to_ascii_uppercase());
            uri.extend(['%'].into_iter().chain(digit(byte >> 4)).chain(digit(byte & 15)));
        }
    }
    uri
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Critical => "error",
    }
}

/// Adds the members of one object to another.
fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_valid_reference() {
        assert_eq!(uri("/srv/a b/ü.py"), "file:///srv/a%20b/%C3%BC.py");
        let here = std::env::current_dir().unwrap().join("tests/app.py");
        assert_eq!(uri(here.to_str().unwrap()), "tests/app.py");
        assert_eq!(uri("c:d.py"), "c%3Ad.py");
    }
}
