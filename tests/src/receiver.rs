//! An HTTP server that stands in for one of the network, and keeps what it was sent.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::certificates::Pair;

/// How long a client may say nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest body that is taken.
const MOST_BYTES: usize = 4 << 20;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// Its first line: `POST /path HTTP/1.1`.
    pub request: String,
    /// `name: value`, the name in small letters.
    pub headers: Vec<String>,
    /// What follows.
    pub body: String,
    /// Where a proxy was asked to bring it: `host:port`. Empty where nobody was asked.
    pub by_way_of: String,
}

impl Letter {
    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let value = |header: &'_ String| header.split_once(": ").is_some_and(|(found, _)| found == name);
        let header = self.headers.iter().find(|header| value(header));
        header.and_then(|header| header.split_once(": ")).map_or("", |(_, value)| value)
    }
}

/// What a server speaks.
pub enum Speaks<'a> {
    /// HTTP as it is.
    Plain,
    /// HTTP within TLS.
    Tls(&'a Pair),
    /// It is asked to connect to another server (`CONNECT`), and then is that one: HTTP within TLS.
    Proxy(&'a Pair),
}

/// The body of the answer to a request.
pub type Answer = fn(&Letter) -> &'static str;

/// The server. It ends when it is dropped.
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    has_ended: Arc<AtomicBool>,
    serves: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Kept {
    letters: Vec<Letter>,
    /// What went wrong with clients.
    faults: Vec<String>,
}

/// What one connection needs.
#[derive(Clone)]
struct Served {
    tls: Option<Arc<ServerConfig>>,
    is_proxy: bool,
    answer: Answer,
}

impl Receiver {
    /// Listens at an address, and answers every request with 200.
    pub fn start(address: SocketAddr, speaks: &Speaks<'_>, answer: Answer) -> Result<Self> {
        let (pair, is_proxy) = match speaks {
            Speaks::Plain => (None, false),
            Speaks::Tls(pair) => (Some(pair), false),
            Speaks::Proxy(pair) => (Some(pair), true),
        };
        let served = Served { tls: pair.map(|pair| secured(pair)).transpose()?, is_proxy, answer };
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
        let address = listener.local_addr()?;
        let (kept, has_ended) = (Arc::<Mutex<Kept>>::default(), Arc::<AtomicBool>::default());
        let (of_thread, is_over) = (Arc::clone(&kept), Arc::clone(&has_ended));
        let serve = move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (kept, served) = (Arc::clone(&of_thread), served.clone());
                // One that says nothing keeps no other waiting.
                thread::spawn(move || {
                    let came = stream.context("nobody came").and_then(|stream| served.serve(stream, &kept));
                    if let Err(error) = came {
                        lock(&kept).faults.push(format!("{error:#}"));
                    }
                });
            }
        };
        Ok(Self { address, kept, has_ended, serves: Some(thread::spawn(serve)) })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What came so far.
    pub fn letters(&self) -> Vec<Letter> {
        lock(&self.kept).letters.clone()
    }

    /// What went wrong so far: a client that did not trust the certificate, say.
    pub fn faults(&self) -> Vec<String> {
        lock(&self.kept).faults.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::SeqCst);
        // Wakes it.
        let woken = TcpStream::connect(self.address);
        if let Some(serves) = self.serves.take().filter(|_| woken.is_ok()) {
            // A thread that has failed has ended.
            let _ = serves.join();
        }
    }
}

impl Served {
    fn serve(&self, stream: TcpStream, kept: &Mutex<Kept>) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(tls) = &self.tls else { return self.exchange(stream, String::new(), kept) };
        let (mut stream, mut by_way_of) = (stream, String::new());
        if self.is_proxy {
            let mut reader = BufReader::new(stream);
            let asked = read_letter(&mut reader)?;
            let target = asked.request.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
            target
                .with_context(|| format!("a proxy was asked {:?}", asked.request))?
                .clone_into(&mut by_way_of);
            // A client says nothing more until it is answered, so that nothing has been read too far.
            stream = reader.into_inner();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        }
        self.exchange(StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, stream), by_way_of, kept)
    }

    fn exchange(&self, stream: impl Read + Write, by_way_of: String, kept: &Mutex<Kept>) -> Result<()> {
        let mut reader = BufReader::new(stream);
        let letter = Letter { by_way_of, ..read_letter(&mut reader)? };
        let body = (self.answer)(&letter);
        // Noted before it is answered: whoever has the answer may look for it.
        lock(kept).letters.push(letter);
        write!(
            reader.get_mut(),
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        reader.get_mut().flush()?;
        Ok(())
    }
}

fn read_letter(reader: &mut impl BufRead) -> Result<Letter> {
    let mut line = || -> Result<String> {
        let mut line = String::new();
        reader.read_line(&mut line).context("cannot read a request")?;
        Ok(line.trim_end().to_owned())
    };
    let mut letter = Letter { request: line()?, ..Letter::default() };
    ensure!(!letter.request.is_empty(), "nothing was asked");
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').with_context(|| format!("no header: {header}"))?;
        letter.headers.push(format!("{}: {}", name.to_ascii_lowercase(), value.trim()));
    }
    let length = letter.header("content-length").parse().unwrap_or(0);
    ensure!(length <= MOST_BYTES, "a body of {length} bytes");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).context("cannot read a body")?;
    letter.body = String::from_utf8(body).context("a body is no text")?;
    Ok(letter)
}

fn secured(pair: &Pair) -> Result<Arc<ServerConfig>> {
    let chain = vec![CertificateDer::from_pem_file(&pair.cert)?];
    let key = PrivateKeyDer::from_pem_file(&pair.key)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(chain, key)?))
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn what_is_sent_is_kept_and_answered() {
        let receiver = Receiver::start(HERE, &Speaks::Plain, |letter| {
            if letter.body.contains("two") { "second" } else { "first" }
        })
        .unwrap();
        for (body, wanted) in [("one", "first"), ("two", "second")] {
            let mut stream = TcpStream::connect(receiver.address()).unwrap();
            write!(stream, "POST /x HTTP/1.1\r\nX-Name:  v: w \r\nContent-Length: 3\r\n\r\n{body}").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(wanted), "{answer}");
        }
        let letters = receiver.letters();
        let bodies: Vec<_> = letters.iter().map(|letter| letter.body.as_str()).collect();
        assert_eq!(bodies, ["one", "two"]);
        assert_eq!((letters[0].request.as_str(), letters[0].header("x-name")), ("POST /x HTTP/1.1", "v: w"));
        assert_eq!(letters[0].header("x-other"), "");
    }
}
