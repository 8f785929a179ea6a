//! Sends a document to an address, by TLS where that is `https`, and tries again for a while.

use std::{
    collections::BTreeMap,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use http_body_util::Full;
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use nix::poll::PollTimeout;
use tokio::net::{TcpStream, unix::pipe};

use super::{How, Ran, stop::Stop};
use crate::{
    config::hook::Url,
    tls::{self, Stream, Trust},
};

/// The first wait before another attempt; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Says that an event was made up.
pub(super) const TEST: &str = "x-forkwatch-test";

/// What is to be sent, and where to.
pub(super) struct Letter<'a> {
    pub(super) url: &'a Url,
    /// Whom to trust where TLS is spoken.
    pub(super) trust: Trust<'a>,
    pub(super) headers: &'a BTreeMap<String, String>,
    pub(super) document: &'a str,
    pub(super) is_test: bool,
    /// How long one attempt may take.
    pub(super) timeout: Duration,
    pub(super) retries: u32,
}

/// What came of an attempt.
enum Attempt {
    Taken,
    /// It may be taken another time.
    Later(String),
    Refused(String),
    Stopped,
}

/// Sends it.
pub(super) fn send(letter: &Letter<'_>, stop: &Stop) -> Ran {
    let began = Instant::now();
    let ran = |how| Ran { how, took: began.elapsed(), output: String::new(), written: 0 };
    // Anew for each letter: whom a host trusts changes, and a program that waits for months is to notice.
    let secure = match letter.url.is_secure.then(|| tls::Client::new(letter.trust)).transpose() {
        Ok(secure) => secure,
        Err(error) => return ran(How::Failed(error.to_string())),
    };
    let mut wait = FIRST_WAIT;
    let mut attempts = 1;
    let how = loop {
        match attempt(letter, secure.as_ref(), stop) {
            Attempt::Taken => break How::Good,
            Attempt::Refused(why) => break How::Failed(why),
            Attempt::Stopped => break How::Stopped,
            Attempt::Later(why) if attempts > letter.retries => {
                break How::Failed(if attempts > 1 { format!("{why} ({attempts} attempts)") } else { why });
            }
            Attempt::Later(why) => {
                tracing::debug!(%why, "a POST is tried again");
                if stop.is_asked_within(PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)) {
                    break How::Stopped;
                }
                attempts += 1;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
        }
    };
    ran(how)
}

fn attempt(letter: &Letter<'_>, secure: Option<&tls::Client>, stop: &Stop) -> Attempt {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Attempt::Later(format!("there are no means to send it: {error}")),
    };
    let done = runtime.block_on(async {
        let stopped = async {
            let end = stop.as_fd().try_clone_to_owned().and_then(pipe::Receiver::from_owned_fd);
            match end {
                Ok(end) => drop(end.readable().await),
                // Then the time ends it.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stopped => Attempt::Stopped,
            answered = tokio::time::timeout(letter.timeout, exchange(letter, secure)) => match answered {
                Ok(attempt) => attempt,
                Err(_) => Attempt::Later(format!("{} did not answer in time", letter.url.authority)),
            },
        }
    });
    // A look-up of a name cannot be ended, and is not waited for.
    runtime.shutdown_background();
    done
}

/// A connection to the server, which is the one that it is to be where that can be asked.
async fn reach(url: &Url, secure: Option<&tls::Client>) -> Result<Box<dyn Stream>, Attempt> {
    let later = |error| Attempt::Later(format!("{} cannot be reached: {error}", url.authority));
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(later)?;
    let Some(secure) = secure else { return Ok(Box::new(stream)) };
    let name = tls::Client::name(&url.host)
        .map_err(|error| Attempt::Refused(format!("{} is no name of a server: {error}", url.host)))?;
    match secure.connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match tls::why(&error) {
            // What is trusted does not change within seconds.
            Some(why) => {
                Attempt::Refused(format!("the certificate of {} is not trusted: {why}", url.authority))
            }
            None => Attempt::Later(format!("{} does not speak TLS: {error}", url.authority)),
        }),
    }
}

async fn exchange(letter: &Letter<'_>, secure: Option<&tls::Client>) -> Attempt {
    let url = letter.url;
    let later = |what: &str, error: &dyn std::fmt::Display| {
        Attempt::Later(format!("{} {what}: {error}", url.authority))
    };
    let stream = match reach(url, secure).await {
        Ok(stream) => stream,
        Err(attempt) => return attempt,
    };
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(connected) => connected,
        Err(error) => return later("does not speak HTTP", &error),
    };
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(letter.document.as_bytes())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = match url.path.parse() {
        Ok(path) => path,
        Err(error) => return Attempt::Refused(format!("{:?} is no path: {error}", url.path)),
    };
    let agent = concat!("forkwatch/", env!("CARGO_PKG_VERSION"));
    let own = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (USER_AGENT, HeaderValue::from_static(agent)),
    ];
    request.headers_mut().extend(own);
    for (name, value) in letter.headers {
        // They were looked at when the file was read.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            request.headers_mut().insert(name, value);
        }
    }
    if let Ok(host) = HeaderValue::try_from(&url.authority) {
        request.headers_mut().insert(HOST, host);
    }
    if letter.is_test {
        request.headers_mut().insert(HeaderName::from_static(TEST), HeaderValue::from_static("1"));
    }
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // The connection may end right after the answer.
        _ = connection => answer.await,
    };
    let status = match answer {
        Ok(answer) => answer.status(),
        Err(error) => return later("did not answer", &error),
    };
    let said = format!("{} answered {status}", url.authority);
    match status {
        status if status.is_success() => Attempt::Taken,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Attempt::Later(said),
        status if status.is_server_error() => Attempt::Later(said),
        _ => Attempt::Refused(said),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::{SocketAddr, TcpListener},
        thread::{self, JoinHandle},
    };

    use super::*;

    /// Answers so many requests with these status lines, and gives what came.
    fn server(answers: &'static [&'static str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = move || {
            let serve = |status: &&str| {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    let lower = line.to_ascii_lowercase();
                    if let Some(value) = lower.strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head.push_str(&lower);
                    if line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
                head + &String::from_utf8(body).unwrap()
            };
            answers.iter().map(serve).collect()
        };
        (address, thread::spawn(served))
    }

    fn send_to(address: SocketAddr, retries: u32, stop: &Stop) -> Ran {
        let url = Url {
            is_secure: false,
            host: address.ip().to_string(),
            port: address.port(),
            authority: address.to_string(),
            path: "/x?y=1".to_owned(),
        };
        let headers = BTreeMap::from([("Authorization".to_owned(), "Bearer abc".to_owned())]);
        let letter = Letter {
            url: &url,
            trust: Trust::Host,
            headers: &headers,
            document: "{\"a\": 1}",
            is_test: true,
            timeout: Duration::from_secs(60),
            retries,
        };
        send(&letter, stop)
    }

    #[test]
    fn a_document_is_posted_with_its_headers() {
        let (address, served) = server(&["204 No Content"]);
        assert_eq!(send_to(address, 0, &Stop::new().unwrap()).how, How::Good);
        let [request] = <[String; 1]>::try_from(served.join().unwrap()).unwrap();
        assert!(request.starts_with("post /x?y=1 http/1.1\r\n"), "{request}");
        for part in [
            "content-type: application/json\r\n",
            "authorization: bearer abc\r\n",
            "x-forkwatch-test: 1\r\n",
            &format!("host: {address}\r\n"),
        ] {
            assert!(request.contains(part), "{part} is not in {request}");
        }
        assert!(request.ends_with("\r\n\r\n{\"a\": 1}"), "{request}");
    }

    #[test]
    fn a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
        let (address, served) = server(&["503 Service Unavailable", "200 OK"]);
        assert_eq!(send_to(address, 1, &Stop::new().unwrap()).how, How::Good);
        assert_eq!(served.join().unwrap().len(), 2);
        let (address, served) = server(&["400 Bad Request"]);
        let how = send_to(address, 5, &Stop::new().unwrap()).how;
        assert_eq!(how, How::Failed(format!("{address} answered 400 Bad Request")));
        assert_eq!(served.join().unwrap().len(), 1);
    }

    #[test]
    fn nobody_there_is_said_and_when_everything_ends_nothing_is_waited_for() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let How::Failed(why) = send_to(address, 0, &Stop::new().unwrap()).how else { panic!() };
        assert!(why.contains("cannot be reached: Connection refused"), "{why}");
        let stop = Stop::new().unwrap();
        stop.ask();
        // It listens, and never accepts.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(send_to(listener.local_addr().unwrap(), 9, &stop).how, How::Stopped);
    }
}
