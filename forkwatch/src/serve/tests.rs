use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream as Client},
    thread,
    time::Instant,
};

use tokio::sync::oneshot;

use super::*;
use crate::health::{Failing, PATIENCE, Part};

/// A part that does as it is asked.
async fn works(pulse: Pulse, part: Part) {
    loop {
        pulse.asked(part).await;
        pulse.works(part);
    }
}

/// Metrics and health, and no interface.
fn offer(ready: Ready, pulse: Pulse) -> Offer {
    Offer {
        telemetry_path: "/metrics".to_owned(),
        hosts: Hosts::default(),
        access: Access::default(),
        secure: Secure::default(),
        ready,
        pulse,
        api: None,
    }
}

/// A server on a thread of its own, as in production on a current-thread runtime.
struct Server {
    address: SocketAddr,
    ready: Ready,
    pulse: Pulse,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(address: &str) -> Self {
        Self::start_with(address, &[Part::Ring, Part::Evidence])
    }

    /// Beside it only these parts work.
    fn start_with(address: &str, parts: &[Part]) -> Self {
        let listeners = bind(&[address.parse().unwrap()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let ready = Ready::default();
        let (stop, stopped) = oneshot::channel();
        let shared = ready.clone();
        let pulse = Pulse::default();
        let (heart, parts) = (pulse.clone(), parts.to_vec());
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let render: Render = Box::new(|| Ok("up 1\n".repeat(100_000)));
            let doors = listeners.into_iter().map(Door::Network).collect();
            let shutdown = async { stopped.await.unwrap_or_default() };
            runtime.block_on(async {
                for part in parts {
                    tokio::spawn(works(heart.clone(), part));
                }
                serve(doors, offer(shared, heart), render, shutdown).await.unwrap();
            });
        });
        Self { address, ready, pulse, stop: Some(stop), thread: Some(thread) }
    }

    fn ask(&self, request: &str) -> (String, String) {
        let mut client = Client::connect(self.address).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (String, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn metrics_have_the_content_type_that_prometheus_3_wants() {
    let (head, body) = Server::start("127.0.0.1:0").get("/metrics");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");
    assert_eq!(body.len(), 500_000);
}

#[test]
fn ready_is_503_until_the_watch_is_on() {
    let server = Server::start("127.0.0.1:0");
    assert!(server.get("/-/healthy").0.starts_with("http/1.1 200 "));
    assert!(server.get("/-/ready").0.starts_with("http/1.1 503 "));
    server.ready.set(true);
    assert!(server.get("/-/ready").0.starts_with("http/1.1 200 "));
    server.ready.set(false);
    assert!(server.get("/-/ready").0.starts_with("http/1.1 503 "));
}

#[test]
fn a_part_that_hangs_is_named_and_no_page_waits_for_it_twice() {
    for hung in [Part::Ring, Part::Evidence] {
        let works: Vec<Part> =
            [Part::Ring, Part::Evidence].into_iter().filter(|part| *part != hung).collect();
        let server = Server::start_with("127.0.0.1:0", &works);
        server.ready.set(true);
        let began = Instant::now();
        for path in ["/-/ready", "/-/healthy"] {
            let (head, body) = server.get(path);
            assert!(head.starts_with("http/1.1 503 "), "{path}: {head}");
            assert!(body.contains(&format!(": {} has not answered for ", hung.name())), "{path}: {body}");
        }
        // Metrics are served all the same: they are where it is told.
        assert!(server.get("/metrics").0.starts_with("http/1.1 200 "));
        let took = began.elapsed();
        assert!(took >= PATIENCE && took < 2 * PATIENCE, "{took:?}");
        assert!(server.get("/").0.starts_with("http/1.1 200 "));
    }
}

#[test]
fn the_server_answers_for_itself_though_clients_hold_every_place() {
    let server = Server::start("127.0.0.1:0");
    let _holders: Vec<_> =
        (0..2 * MAX_CONNECTIONS).map(|_| Client::connect(server.address).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let failing = runtime.block_on(server.pulse.round(Duration::from_secs(4)));
    assert_eq!(failing, [], "it would be restarted for the sake of its clients");
}

/// The tasks that make up a server.
struct Parts {
    acceptor: tokio::task::JoinHandle<()>,
    renderer: tokio::task::JoinHandle<()>,
    prober: tokio::task::JoinHandle<()>,
}

/// What a test does to the parts of a server, on their runtime.
fn with_parts(test: impl AsyncFnOnce(Pulse, Parts)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pulse = Pulse::default();
        for part in [Part::Ring, Part::Evidence] {
            tokio::spawn(works(pulse.clone(), part));
        }
        let (scrapes, renderer) = scrape::channel(Box::new(|| Ok(String::new())));
        let site = Arc::new(Site::new(offer(Ready::default(), pulse.clone()), scrapes));
        let (sender, receiver) = mpsc::channel(1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = OpenDoor::Network(listener, Via::Loopback, Secure::default());
        let acceptor = tokio::spawn(accept(listener, receiver, site, Places::new(MAX_CONNECTIONS)));
        let renderer = tokio::spawn(renderer);
        let prober = tokio::spawn(probe::probe(pulse.clone(), vec![sender]));
        test(pulse, Parts { acceptor, renderer, prober }).await;
    });
}

#[test]
fn a_server_of_which_a_task_has_ended_or_hangs_does_not_answer_for_itself() {
    let tasks: [fn(&Parts); 3] =
        [|parts| parts.acceptor.abort(), |parts| parts.renderer.abort(), |parts| parts.prober.abort()];
    for end in tasks {
        with_parts(async |pulse, parts| {
            assert_eq!(pulse.round(Duration::from_secs(60)).await, []);
            end(&parts);
            let failing = pulse.round(Duration::from_millis(100)).await;
            assert!(matches!(failing.as_slice(), [Failing { part: Part::Http, .. }]), "{failing:?}");
        });
    }
}

#[test]
fn a_server_of_which_a_task_ends_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let render: Render = Box::new(|| panic!("a defect"));
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let pulse = Pulse::default();
        for part in [Part::Ring, Part::Evidence] {
            tokio::spawn(works(pulse.clone(), part));
        }
        let client = thread::spawn(move || {
            let mut client = Client::connect(address).unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            client
        });
        let never = std::future::pending();
        let doors = listeners.into_iter().map(Door::Network).collect();
        let result = serve(doors, offer(Ready::default(), pulse), render, never).await;
        assert!(matches!(result, Err(ServeError::Ended)), "{result:?}");
        client.join().unwrap();
    });
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let server = Server::start("127.0.0.1:0");
    let (head, body) = server.ask("HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("content-length: 500000"), "{head}");
    assert_eq!(body, "");
}

#[test]
fn other_methods_are_told_what_is_allowed_and_other_paths_are_not_found() {
    let server = Server::start("127.0.0.1:0");
    let (head, _) = server.ask("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(head.starts_with("http/1.1 405 ") && head.contains("\r\nallow: get, head\r\n"), "{head}");
    assert!(server.get("/metrics/").0.starts_with("http/1.1 404 "));
    assert!(server.get("/favicon.ico").0.starts_with("http/1.1 404 "));
    assert!(server.get("/metrics?name=up").0.starts_with("http/1.1 200 "));
    assert!(server.get("/").1.contains("<a href=\"/metrics\">"));
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let server = Server::start("127.0.0.1:0");
    let (head, _) = server.ask("\x16\x03\x01 nonsense\r\n\r\n");
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert!(server.get("/").0.starts_with("http/1.1 200 "));
}

#[test]
fn slow_clients_do_not_keep_others_out() {
    let server = Server::start("127.0.0.1:0");
    let mut slow: Vec<_> =
        (0..MAX_CONNECTIONS / 2).map(|_| Client::connect(server.address).unwrap()).collect();
    // Half of the slow ones never end their request, the others never read the answer.
    for (index, client) in slow.iter_mut().enumerate() {
        let end = if index % 2 == 0 { "" } else { "\r\n" };
        write!(client, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{end}").unwrap();
    }
    assert_eq!(server.get("/metrics").1.len(), 500_000);
}

#[test]
fn clients_that_say_nothing_keep_nobody_out_however_many_they_are() {
    let server = Server::start("127.0.0.1:0");
    let silent: Vec<_> = (0..600)
        .map(|number| {
            let mut client = Client::connect(server.address).unwrap();
            // Half of them begin a request.
            if number % 2 == 0 {
                client.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            }
            client
        })
        .collect();
    let began = Instant::now();
    for _ in 0..3 {
        assert!(server.get("/metrics").0.starts_with("http/1.1 200 "));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The first of them were closed, the last have their places still.
    let mut silent = silent.into_iter();
    let mut byte = [0];
    assert_eq!(silent.next().unwrap().read(&mut byte).unwrap_or(0), 0);
    let mut last = silent.next_back().unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn clients_that_do_not_read_keep_nobody_out_for_long() {
    let server = Server::start("127.0.0.1:0");
    let _deaf: Vec<_> = (0..2 * MAX_CONNECTIONS)
        .map(|_| {
            let mut client = Client::connect(server.address).unwrap();
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            client
        })
        .collect();
    let began = Instant::now();
    assert!(server.get("/").0.starts_with("http/1.1 200 "));
    assert!(began.elapsed() < CONNECTION_TIME, "{:?}", began.elapsed());
}

#[test]
fn a_page_with_a_name_of_its_own_is_not_answered() {
    let server = Server::start("127.0.0.1:0");
    for host in ["evil.example", "evil.example:10047", "127.0.0.1.evil.example"] {
        for path in ["/metrics", "/", "/-/healthy", "/-/heartbeat", "/none"] {
            let (head, body) = server.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert!(head.starts_with("http/1.1 421 "), "{head}");
            assert!(
                body.contains(&format!("\"{host}\" is none")) && body.contains("web.allowed_hosts"),
                "{body}"
            );
        }
    }
    for host in ["localhost", "127.0.0.1:10047", "[::1]"] {
        let (head, _) = server.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(head.starts_with("http/1.1 200 "), "{host}: {head}");
    }
    assert!(server.ask("GET / HTTP/1.0\r\n\r\n").0.starts_with("http/1.0 200 "));
}

#[test]
fn a_request_under_way_is_answered_before_the_server_ends() {
    let mut server = Server::start("127.0.0.1:0");
    let mut client = Client::connect(server.address).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    // The first bytes of the answer: the connection has been accepted.
    let mut answer = vec![0; 8];
    client.read_exact(&mut answer).unwrap();
    drop(server.stop.take());
    client.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > 500_000);
    server.thread.take().unwrap().join().unwrap();
    assert!(Client::connect(server.address).is_err());
}

#[test]
fn ipv6_works_where_the_host_has_it() {
    if bind(&["[::1]:0".parse().unwrap()]).is_err() {
        crate::skip::skip("this host has no IPv6");
        return;
    }
    assert!(Server::start("[::1]:0").get("/-/healthy").0.starts_with("http/1.1 200 "));
}
