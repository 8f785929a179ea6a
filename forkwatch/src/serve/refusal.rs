//! What is said to those who are not let in, before anybody serves them.

use std::{io, time::Duration};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::tls::Stream;

/// Longest that somebody is listened to who is refused.
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// Bytes that he may send before.
const LONGEST_REFUSED: usize = 2048;

/// Says why, once the request is there: a client may not expect an answer before. What it says is thrown away, and it has
/// a second.
pub(super) async fn refuse(mut stream: impl Stream, status: &str, why: &str) {
    let length = why.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{why}"
    );
    let told = async {
        let mut asked = [0; LONGEST_REFUSED];
        let mut count = 0;
        while !asked.get(..count).is_some_and(|asked| asked.ends_with(b"\r\n\r\n")) {
            let Some(rest) = asked.get_mut(count..).filter(|rest| !rest.is_empty()) else { break };
            match stream.read(rest).await? {
                0 => break,
                more => count += more,
            }
        }
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // Closed with something unread, it would look broken at the other end.
        while stream.read(&mut asked).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(REFUSAL_TIME, told).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "whoever may not ask was not told so"),
        Err(_) => tracing::debug!("whoever may not ask was not told so in time"),
    }
}
