//! A document as text. A storm of forks makes thousands of them a second.

use std::io::{self, Write};

use serde::Serialize;

/// Bytes that nearly every document has room in.
const USUAL: usize = 1 << 10;

/// A document as JSON, without a line break.
pub(super) fn text(document: &impl Serialize) -> io::Result<String> {
    let mut text = Text(Vec::with_capacity(USUAL));
    serde_json::to_writer(&mut text, document)?;
    String::from_utf8(text.0).map_err(io::Error::other)
}

/// Takes in what a serializer writes: of each key and value a quotation mark, a colon and a comma one by one, for which a
/// call that copies is too much.
struct Text(Vec<u8>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            [byte] => self.0.push(*byte),
            bytes => self.0.extend_from_slice(bytes),
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_that_of_serde_json() {
        let long = "x".repeat(3 * USUAL);
        let document =
            serde_json::json!({ "a": ["\"", "\u{e4}\n", ""], "b": { "c": -1.5, "d": null }, "e": long });
        assert_eq!(text(&document).unwrap(), document.to_string());
    }
}
