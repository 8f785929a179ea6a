//! Whether an event is what `docs/events.schema.json` promises, and a rescue what `docs/rescue.schema.json` does.

use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use jsonschema::Validator;
use serde_json::Value;

/// The committed schema, compiled once.
static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| validator(&schema()));

/// That of what `forkwatch rescue -o json` prints.
static OF_RESCUE: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../docs/rescue.schema.json"));
    validator(&schema.expect("the schema is JSON"))
});

fn schema() -> Value {
    // Built in: in a virtual machine there is no tree to read it from.
    serde_json::from_str(include_str!("../../docs/events.schema.json")).expect("the schema is JSON")
}

fn validator(schema: &Value) -> Validator {
    // JSON Schema leaves it to the reader whether `format` binds; here it does.
    let options = jsonschema::options().should_validate_formats(true);
    options.build(schema).expect("it is a JSON Schema")
}

/// Reads the document of a rescue and checks it.
pub fn rescue(text: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(text).with_context(|| format!("not JSON: {text}"))?;
    check(&OF_RESCUE, &value)?;
    Ok(value)
}

/// Reads a line as an event and checks it.
pub fn event(line: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    check(&VALIDATOR, &value)?;
    Ok(value)
}

fn check(validator: &Validator, event: &Value) -> Result<()> {
    if let Some(error) = validator.iter_errors(event).next() {
        bail!("breaks the schema at {}: {error}\nin {event}", error.instance_path());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn example() -> Value {
        json!({
            "schema": "forkwatch.event/1",
            "@timestamp": "2026-01-02T03:04:05.000000006Z",
            "event": {
                "kind": "event", "category": ["process"], "type": ["info"], "action": "events_lost", "sequence": 0,
            },
            "host": {"name": "here"},
            "forkwatch": {"lost": {"count": 1, "since": "2026-01-02T03:04:04.000000006Z", "reason": "ring-full"}},
        })
    }

    #[test]
    fn an_event_with_a_field_too_few_or_too_many_or_of_another_form_is_refused() {
        assert!(check(&VALIDATOR, &example()).is_ok());
        for (pointer, value) in [
            ("/event/action", json!("no_such_action")),
            ("/schema", json!("forkwatch.event/2")),
            ("/@timestamp", json!("yesterday")),
            ("/forkwatch/lost/count", json!(-1)),
            ("/forkwatch/lost", json!({"count": 1, "reason": "ring-full"})),
            ("/host", json!({"nickname": "here"})),
        ] {
            let mut wrong = example();
            *wrong.pointer_mut(pointer).unwrap() = value;
            assert!(check(&VALIDATOR, &wrong).is_err(), "{pointer}");
        }
    }

    #[test]
    fn a_schema_that_lacks_a_field_refuses_the_event_that_has_it() {
        for (holder, field) in [("", "host"), ("/$defs/Forkwatch", "lost"), ("/$defs/Lost", "since")] {
            let mut lacking = schema();
            let properties = lacking.pointer_mut(&format!("{holder}/properties")).unwrap();
            assert!(properties.as_object_mut().unwrap().remove(field).is_some(), "{field}");
            assert!(check(&validator(&lacking), &example()).is_err(), "{field}");
        }
    }
}
