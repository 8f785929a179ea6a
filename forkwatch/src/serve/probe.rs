//! Whether the server serves: a request of its own, by the same way as anybody's but for the network.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::mpsc,
};

use crate::health::{Part, Pulse};

/// Bytes on their way in each direction.
const BUFFER: usize = 1024;
/// The path that is asked for; it is served to these connections alone.
pub(super) const PATH: &str = "/-/heartbeat";
/// What begins the right answer.
const FINE: &[u8] = b"HTTP/1.1 200 ";

/// The end of a probe's connection that a server serves.
pub(super) type Probe = DuplexStream;

/// Sends a request through every acceptor whenever the pulse asks for it, and tells the pulse when all are answered.
/// It needs no descriptor and no place among the connections, so that no client can keep it waiting.
pub(super) async fn probe(pulse: Pulse, acceptors: Vec<mpsc::Sender<Probe>>) {
    loop {
        pulse.asked(Part::Http).await;
        let mut is_well = true;
        for acceptor in &acceptors {
            is_well &= is_served(acceptor).await;
        }
        if is_well {
            pulse.works(Part::Http);
        } else {
            pulse.is_unable(Part::Http, "it does not answer requests rightly");
        }
    }
}

/// Whether a request is answered rightly. Waits for as long as it is not answered at all.
async fn is_served(acceptor: &mpsc::Sender<Probe>) -> bool {
    let (mut client, server) = duplex(BUFFER);
    if acceptor.send(server).await.is_err() {
        return false;
    }
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut answer = Vec::new();
    client.write_all(request.as_bytes()).await.is_ok()
        && client.read_to_end(&mut answer).await.is_ok()
        && answer.starts_with(FINE)
}
