//! The description of the interface for machines, in the language of <https://spec.openapis.org/oas/v3.1.0>.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{FindingDocument, Findings, Hazards, Health, PREFIX, Processes, RescueReport, Servers, Workers};

/// What the answer to a path is.
struct Path {
    below: &'static str,
    summary: &'static str,
    parameters: &'static [(&'static str, &'static str, &'static str)],
    /// Media type, and the schema's name.
    answer: (&'static str, Option<Value>),
}

/// The filters of findings: name, type, and what they ask for.
const FILTERS: &[(&str, &str, &str)] = &[
    (
        "since",
        "string",
        "Something was said of it since then: how long ago, such as 12h or 7d, or a time in RFC 3339.",
    ),
    ("until", "string", "It was reported before then."),
    ("hazard", "string", "The id of the hazard."),
    ("severity", "string", "At least this severity: info, warning or critical."),
    ("certainty", "string", "At least this sure: heuristic, strong or certain."),
    ("state", "string", "open, suspected, confirmed, unknown, resolved or unwatched."),
    ("unit", "string", "The unit or container of the forker, with * and ?."),
    ("program", "string", "The program to blame, with * and ?."),
    ("pid", "integer", "The pid of the child or of the forker."),
    ("q", "string", "Words that stand in summary, program, unit, hazard or name."),
    ("before", "string", "The `next` of the answer before: goes on from there."),
    ("limit", "integer", "How many at most: 1 to 1000; 100 where nothing is said."),
];

/// The filters of what happens.
const EVENTS: &[(&str, &str, &str)] = &[
    (
        "type",
        "string",
        "`finding` for findings alone; `notable` for these, the lives of workers, rescues and losses; `all`, where nothing is \
         said, for everything that is told one by one.",
    ),
    (
        "each",
        "string",
        "`own`, over the local socket alone: while this is listened to, findings about your own programs are told one by one \
         (16 of a program and hazard in each interval of summaries), and not summed up.",
    ),
];

/// The document.
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let json_of = |schema: schemars::Schema| ("application/json", Some(schema.to_value()));
    let paths = [
        Path {
            below: "/findings",
            summary: "Findings of this host, the latest first",
            parameters: FILTERS,
            answer: json_of(generator.subschema_for::<Findings>()),
        },
        Path {
            below: "/findings/{id}",
            summary: "One finding with its evidence",
            parameters: &[],
            answer: json_of(generator.subschema_for::<FindingDocument>()),
        },
        Path {
            below: "/findings/{id}/markdown",
            summary: "The same as Markdown, for an issue",
            parameters: &[],
            answer: ("text/markdown", None),
        },
        Path {
            below: "/processes",
            summary: "The forked children that have not exec'd and live on",
            parameters: &[("pid", "integer", "The pid of the child or of its forker.")],
            answer: json_of(generator.subschema_for::<Processes>()),
        },
        Path {
            below: "/servers",
            summary: "Servers that fork their workers: who lives, and how the last ones ended",
            parameters: &[("limit", "integer", "How many at most: those that changed last.")],
            answer: json_of(generator.subschema_for::<Servers>()),
        },
        Path {
            below: "/workers",
            summary: "The living workers of all servers",
            parameters: &[("pid", "integer", "The pid of the worker or of its master.")],
            answer: json_of(generator.subschema_for::<Workers>()),
        },
        Path {
            below: "/hazards",
            summary: "What there is to be found, explained",
            parameters: &[],
            answer: json_of(generator.subschema_for::<Hazards>()),
        },
        Path {
            below: "/health",
            summary: "Whether forkwatch watches, and whether its silence can be trusted",
            parameters: &[],
            answer: json_of(generator.subschema_for::<Health>()),
        },
        Path {
            below: "/events",
            summary: "What happens from now on, as server-sent events: each data line is a document of forkwatch.event/1",
            parameters: EVENTS,
            answer: ("text/event-stream", None),
        },
    ];
    let mut described: Map<String, Value> =
        paths.into_iter().map(|path| (format!("{PREFIX}{}", path.below), describe(path))).collect();
    let report = generator.subschema_for::<RescueReport>().to_value();
    described.insert(
        format!("{PREFIX}/rescues"),
        json!({ "post": {
            "summary": "Tells the watch that `forkwatch rescue` has released a lock. Over the local socket only, and of root only",
            "requestBody": { "required": true, "content": { "application/json": { "schema": report } } },
            "responses": { "204": { "description": "It is in the log, the metrics and the event file." }, "default": problem() },
        } }),
    );
    let schemas = Value::Object(generator.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "forkwatch",
            "description": "What a running `forkwatch daemon` answers, over HTTP and over its local socket. Names are added, never changed. Every answer may have further fields.",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:10047" }],
        "paths": described,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "Only on addresses that are not loopback: the token of web.token_file." } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn describe(path: Path) -> Value {
    let Path { below, summary, parameters, answer: (media, schema) } = path;
    let mut all: Vec<Value> = parameters
        .iter()
        .map(|(name, kind, what)| {
            json!({ "name": name, "in": "query", "description": what, "schema": { "type": kind } })
        })
        .collect();
    if below.contains("{id}") {
        all.push(json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    let content = json!({ media: schema.map_or_else(|| json!({}), |schema| json!({ "schema": schema })) });
    json!({ "get": {
        "summary": summary,
        "parameters": all,
        "responses": { "200": { "description": summary, "content": content }, "default": problem() },
    } })
}

fn problem() -> Value {
    json!({ "description": "What is wrong, in a sentence", "content": { "text/plain": { "schema": { "type": "string" } } } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, all: &Value, count: &mut usize) {
            match value {
                Value::Object(fields) => {
                    if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                        let target = reference.strip_prefix('#').and_then(|pointer| all.pointer(pointer));
                        assert!(target.is_some(), "{reference} leads nowhere");
                        *count += 1;
                    }
                    fields.values().for_each(|value| walk(value, all, count));
                }
                Value::Array(values) => values.iter().for_each(|value| walk(value, all, count)),
                _ => {}
            }
        }
        let document = openapi();
        let mut count = 0;
        walk(&document, &document, &mut count);
        assert!(count > 10, "{count}");
    }
}
