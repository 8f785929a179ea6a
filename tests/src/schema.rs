//! Whether an event is what `docs/events.schema.json` promises.

use std::{fs, sync::LazyLock};

use anyhow::{Context, Result, bail};
use jsonschema::Validator;
use serde_json::Value;

use crate::host::workspace;

/// The committed schema, compiled once; absent where there is none.
static SCHEMA: LazyLock<Option<Validator>> = LazyLock::new(|| {
    let text = fs::read(workspace().join("docs/events.schema.json")).ok()?;
    let schema: Value = serde_json::from_slice(&text).expect("docs/events.schema.json is JSON");
    Some(jsonschema::validator_for(&schema).expect("docs/events.schema.json is a JSON Schema"))
});

/// Reads a line as an event and checks it.
pub fn event(line: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
    if let Some(schema) = SCHEMA.as_ref()
        && let Some(error) = schema.iter_errors(&value).next()
    {
        bail!("breaks the schema at {}: {error}\nin {line}", error.instance_path());
    }
    Ok(value)
}
