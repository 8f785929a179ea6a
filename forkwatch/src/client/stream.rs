//! Listens to what a watch tells as it happens.

use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::{Method, StatusCode, body::Bytes};
use tokio::time::timeout;

use super::{AskError, Watch};

/// A watch says every 15 s that it is there. So one that says nothing for so long is not.
const SILENCE: Duration = Duration::from_secs(60);
/// Longest wait for the beginning of the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest line that is kept. What is longer is passed over, and told.
const LONGEST: usize = 4 << 20;
/// Longest refusal that is read.
const LONGEST_REFUSAL: usize = 64 << 10;

/// What a listener hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The watch listens to us: what happens from now on is told.
    Begun,
    /// A JSON document, on one line.
    Document(&'a str),
    /// A document that is longer than anybody would write.
    TooLong,
}

impl Watch {
    /// Hears what happens, as long as the watch tells. Gives why that has ended.
    pub async fn follow(&self, path: &str, mut hear: impl FnMut(Heard<'_>)) -> AskError {
        match self.listen(path, &mut hear).await {
            Ok(why) => self.broken(&why),
            Err(error) => error,
        }
    }

    async fn listen(&self, path: &str, hear: &mut impl FnMut(Heard<'_>)) -> Result<&'static str, AskError> {
        let (mut sender, connection) = self.connect().await?;
        // Ends with the answer, or with what is asked here.
        let connection = tokio::spawn(connection);
        let _end = Ends(connection.abort_handle());
        let request = self.request(Method::GET, path, Bytes::new())?;
        let answer = timeout(PATIENCE, sender.send_request(request)).await;
        let answer = answer.map_err(|_| self.broken(&"it does not answer"))?;
        let answer = answer.map_err(|error| self.broken(&error))?;
        let status = answer.status();
        if !status.is_success() {
            let body = timeout(PATIENCE, Limited::new(answer.into_body(), LONGEST_REFUSAL).collect()).await;
            let said =
                body.ok().and_then(Result::ok).map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let said = String::from_utf8_lossy(&said).trim_end().to_owned();
            return Err(match status {
                StatusCode::FORBIDDEN => AskError::Forbidden(said),
                _ => AskError::Refused(self.whom, said),
            });
        }
        hear(Heard::Begun);
        let mut body = answer.into_body();
        let mut lines = Lines::default();
        loop {
            let Ok(frame) = timeout(SILENCE, body.frame()).await else {
                return Ok("it has said nothing for a minute");
            };
            let Some(frame) = frame else { return Ok("it has ended") };
            let frame = frame.map_err(|error| self.broken(&error))?;
            let Ok(bytes) = frame.into_data() else { continue };
            if lines.take(&bytes, hear) {
                return Ok("it has ended, or was not listened to fast enough");
            }
        }
    }
}

/// Ends a task when it goes out of scope.
struct Ends(tokio::task::AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Makes lines of pieces (<https://html.spec.whatwg.org/multipage/server-sent-events.html>, as far as a watch writes it).
#[derive(Default)]
struct Lines {
    begun: Vec<u8>,
    is_too_long: bool,
}

impl Lines {
    /// Takes a piece, and tells the documents that it ends. Whether these were the last words.
    fn take(&mut self, bytes: &[u8], hear: &mut impl FnMut(Heard<'_>)) -> bool {
        let mut rest = bytes;
        while let Some(place) = rest.iter().position(|byte| *byte == b'\n') {
            let (piece, after) = rest.split_at(place);
            rest = after.get(1..).unwrap_or_default();
            self.add(piece);
            let line = std::mem::take(&mut self.begun);
            if std::mem::take(&mut self.is_too_long) {
                hear(Heard::TooLong);
                continue;
            }
            let line = String::from_utf8_lossy(&line);
            if line.trim_end() == "event: dropped" {
                return true;
            }
            if let Some(document) = line.strip_prefix("data: ") {
                hear(Heard::Document(document.trim_end()));
            }
        }
        self.add(rest);
        false
    }

    fn add(&mut self, piece: &[u8]) {
        if self.begun.len() + piece.len() > LONGEST {
            self.is_too_long = true;
            self.begun.clear();
        } else if !self.is_too_long {
            self.begun.extend_from_slice(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &mut Lines, bytes: &[u8]) -> (Vec<String>, bool) {
        let mut all = Vec::new();
        let is_over = lines.take(bytes, &mut |heard| {
            all.push(match heard {
                Heard::Document(document) => document.to_owned(),
                other => format!("{other:?}"),
            });
        });
        (all, is_over)
    }

    #[test]
    fn documents_are_put_together_whatever_pieces_they_come_in() {
        let text = b": hello\n\ndata: {\"a\": 1}\n\n: still here\n\ndata: {\"b\": \"\xc3\xa4\"}\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let told: Vec<String> = text.chunks(size).flat_map(|piece| heard(&mut lines, piece).0).collect();
            assert_eq!(told, ["{\"a\": 1}", "{\"b\": \"\u{e4}\"}"], "pieces of {size}");
        }
    }

    #[test]
    fn the_last_words_end_it() {
        assert_eq!(heard(&mut Lines::default(), b"event: dropped\ndata: x\n\n"), (Vec::new(), true));
    }

    #[test]
    fn what_nobody_would_write_is_passed_over_and_told() {
        let mut lines = Lines::default();
        for _ in 0..9 {
            assert_eq!(heard(&mut lines, &vec![b'x'; 1 << 20]), (Vec::new(), false));
        }
        assert!(lines.begun.len() <= LONGEST);
        assert_eq!(heard(&mut lines, b"\ndata: y\n").0, ["TooLong", "y"]);
    }
}
