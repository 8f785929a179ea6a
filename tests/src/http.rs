//! As much HTTP as the tests need.

use std::io::{Read, Write};

use anyhow::{Context, Result, ensure};

/// Asks for a page and gives back its body; another answer than 200 is an error.
pub fn get(mut stream: impl Read + Write, path: &str) -> Result<String> {
    let (status, body) = ask(&mut stream, path)?;
    ensure!(status.contains(" 200 "), "{path} was answered with {status}: {body}");
    Ok(body)
}

/// Asks for a page and gives back status line and body.
pub fn ask(mut stream: impl Read + Write, path: &str) -> Result<(String, String)> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").context("cannot send a request")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("cannot read the answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of its head")?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}
