//! Running forkwatch to its end, and reading what it printed.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::binary;
use serde_json::Value;

/// Runs forkwatch to its end.
pub(crate) fn run(arguments: &[&str]) -> Result<Output> {
    end(Command::new(binary::forkwatch()?).args(arguments))
}

/// Runs a command to its end.
pub(crate) fn end(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))
}

/// Checks its exit code; gives what it said on stderr.
pub(crate) fn said(output: &Output, code: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "it ended with {}, not {code}: {said}", output.status);
    ensure!(!said.contains("panicked"), "{said}");
    Ok(said)
}

/// Checks that each of these parts is in a text.
pub(crate) fn ensure_has(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    Ok(())
}

/// Runs forkwatch to its end; gives its exit code and the document that it printed.
pub(crate) fn document(arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    document_of(&run(arguments)?)
}

/// The exit code, and the document that was printed.
pub(crate) fn document_of(output: &Output) -> Result<(Option<i32>, Value)> {
    let document = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no document, but said {}", String::from_utf8_lossy(&output.stderr)))?;
    Ok((output.status.code(), document))
}

/// What stands in a list of a document.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// A text of a document; empty where there is none.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
