//! Golden documents; `FORKWATCH_BLESS=1` writes them anew.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::*;
use crate::{model::written::Unshown, output::samples};

fn documents() -> Vec<Document> {
    let context = samples::context();
    let names = Particulars::ThreadNames(vec!["grpc_global_tim".into(), "pymongo_server_".into()]);
    let limit = Particulars::Limit(samples::limit());
    let particulars = |seen: &Event| if matches!(seen, Event::Fork(_)) { &names } else { &limit };
    let mut documents: Vec<Document> = (0..)
        .zip(samples::events())
        .map(|(sequence, seen)| event(&context, sequence, &seen, particulars(&seen)))
        .collect();
    documents.push(finding(&context, 7, &samples::finding()));
    documents.push(finding(&context, 8, &samples::resolved()));
    let lives = samples::lives_of_workers();
    documents.extend((9..).zip(&lives).filter_map(|(sequence, event)| worker(&context, sequence, event)));
    let lacks = Unshown { lines: 1500, passed_over: 91_000, taken: 6 };
    documents.push(unshown(&context, 15, &lacks, lives[0].at, lives[1].at));
    documents
}

fn line(document: &Document) -> String {
    serde_json::to_string(document).unwrap() + "\n"
}

#[test]
fn documents_are_as_they_were() {
    let lines: String = documents().iter().map(line).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/output/json/golden.jsonl");
    if std::env::var_os("FORKWATCH_BLESS").is_some() {
        fs::write(&path, &lines).unwrap();
    }
    assert_eq!(lines, fs::read_to_string(path).unwrap());
}

#[test]
fn every_document_fits_the_schema() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for document in documents() {
        let value = serde_json::to_value(&document).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?} in {value}");
    }
}

#[test]
fn the_schema_refuses_what_is_never_written() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    let good = serde_json::to_value(&documents()[0]).unwrap();
    assert!(validator.is_valid(&good));
    for (pointer, value) in [
        ("/schema", json!("forkwatch.event/2")),
        ("/process", Value::Null),
        ("/process/entity_id", Value::Null),
        ("/process/parent", Value::Null),
        ("/event/action", json!("spoon")),
        ("/forkwatch/fork/threads", json!("4")),
        ("/forkwatch/fork", json!({"surprise": 1})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    let mut unknown = good;
    unknown["surprise"] = json!(1);
    assert!(!validator.is_valid(&unknown));
}

#[test]
fn the_schema_knows_no_null() {
    assert!(!schema().to_string().contains(r#""null""#));
}

#[test]
fn what_is_unknown_is_absent() {
    let mut bare = samples::finding();
    bare.program = Program::default();
    bare.child_comm = Comm::default();
    let value = serde_json::to_value(finding(&Context::default(), 0, &bare)).unwrap();
    assert_eq!(value["host"], json!({}));
    assert_eq!(value["process"]["parent"], json!({"pid": 4100, "start": "1970-01-01T00:01:40.000000000Z"}));
    for absent in ["container", "service", "error"] {
        assert!(value.get(absent).is_none(), "{absent}");
    }
    assert!(value["process"].get("name").is_none());
    assert!(value["forkwatch"]["finding"].get("id").is_none());
}

#[test]
fn a_name_that_is_not_text_is_kept_in_hexadecimal() {
    let value = serde_json::to_value(event(
        &samples::context(),
        0,
        &Event::CloneFailure(samples::clone_failure()),
        &Particulars::None,
    ))
    .unwrap();
    assert_eq!(value["process"]["name"], "b\u{fffd}mb");
    assert!(value["forkwatch"].get("clone_failure").is_none());
    assert_eq!(value["forkwatch"]["raw_name"], "62ff6d62");
    assert_eq!(value["error"]["code"], "EAGAIN");
}
