//! The JSON Schema of a document.

use schemars::{
    JsonSchema, Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform},
};
use serde_json::Value;

use super::document::Document;

/// The JSON Schema (draft 2020-12) of every line that is written.
pub fn schema() -> Value {
    schema_of::<Document>()
}

/// The same of another document of forkwatch's.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    RecursiveTransform(forbid_null).transform(&mut schema);
    schema.to_value()
}

/// schemars lets an optional field be null; here it is absent instead.
fn forbid_null(schema: &mut Schema) {
    let is_null = |value: &Value| value == "null" || value.get("type").is_some_and(|kind| kind == "null");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| !is_null(kind));
        if let [kind] = types.as_slice() {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(options)) = schema.get_mut("anyOf") {
        options.retain(|option| !is_null(option));
        if let [Value::Object(option)] = options.as_mut_slice() {
            let option = std::mem::take(option);
            schema.remove("anyOf");
            schema.ensure_object().extend(option);
        }
    }
}
