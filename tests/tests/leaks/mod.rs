//! The core and the host together, without the kernel side, against processes that fork in a known way: what is left
//! behind is found, and what looks like it is not.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

mod fixture;
mod watched;

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};
use fixture::Fixture;
use forkwatch::{
    core::Judgement,
    detect::leaks::{holders::ListenerCase, pinned_listener},
    host::find,
    model::{
        finding::{Certainty, HazardId, Severity, State},
        leak::{End, Object, PipeWait, Service},
        resolution::Resolution,
    },
};
use forkwatch_tests::{runner::Tests, tests};
use watched::{Watched, descriptors, holders, key};

/// While they run, orphans of all descendants come to this process.
pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        a_reader_that_kept_the_write_end_is_found,
        readers_that_wait_for_each_other_are_found,
        a_writer_that_kept_the_read_end_is_found,
        a_program_that_got_the_write_end_too_shows_the_same,
        an_idle_worker_is_silent_until_its_parent_closes_the_pipe,
        a_pipe_that_a_signal_handler_writes_to_is_silent,
        a_listener_is_found_once_its_server_has_ended,
        clients_that_nobody_answers_make_it_critical,
        a_listener_with_a_path_is_found_too,
        an_orphan_that_serves_is_silent,
        a_program_that_cannot_accept_is_known_without_any_history,
        a_process_that_does_something_else_sleeps_on_no_pipe,
    ])
}

/// So many searches of the whole host have to find nothing.
const SEARCHES: usize = 4;

fn a_reader_that_kept_the_write_end_is_found() -> Result<()> {
    let fixture = Fixture::start("leaked_pipe", &[])?;
    let child = fixture.number("child");
    let mut watched = Watched::child(fixture.number("parent"), child);
    let finding = watched.finding();
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("leaked-pipe"), Certainty::Strong));
    assert_eq!((finding.parent.tgid, finding.child.tgid), (fixture.number("parent"), child));
    assert_eq!(finding.program_name, "leaked_pipe");
    let leak = finding.facts.leak.unwrap();
    assert_eq!(leak.holders.len(), 1);
    assert_eq!((leak.holders[0].pid, leak.holders[0].doing.as_str()), (child, "read"));
    // Its end resolves the finding, though no event tells of it.
    drop(fixture);
    watched::until("the child is killed with its parent", || find(child).is_err().then_some(()));
    assert_eq!(watched.finding().state, State::Resolved(Resolution::Ended));
    Ok(())
}

fn readers_that_wait_for_each_other_are_found() -> Result<()> {
    let fixture = Fixture::start("leaked_pipe", &["two"])?;
    let finding = Watched::child(fixture.number("parent"), fixture.number("child")).finding();
    let mut holders: Vec<u32> = finding.facts.leak.unwrap().holders.iter().map(|holder| holder.pid).collect();
    let mut children = [fixture.number("child"), fixture.number("other")];
    holders.sort_unstable();
    children.sort_unstable();
    assert_eq!(holders, children);
    Ok(())
}

fn a_writer_that_kept_the_read_end_is_found() -> Result<()> {
    let fixture = Fixture::start("leaked_pipe", &["write"])?;
    let finding = Watched::child(fixture.number("parent"), fixture.number("child")).finding();
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("leaked-pipe"), Certainty::Strong));
    assert!(finding.summary.contains("writes to a full pipe"), "{}", finding.summary);
    Ok(())
}

fn a_program_that_got_the_write_end_too_shows_the_same() -> Result<()> {
    let fixture = Fixture::start("leaked_pipe", &["exec"])?;
    let child = key(fixture.number("child"));
    let seen = watched::until("cat sleeps in read", || {
        descriptors(child, None).filter(|seen| seen.rest.pipe.is_some())
    });
    assert!(seen.holds_other_end);
    let wait = seen.rest.pipe.unwrap();
    assert_eq!(wait.end, End::Read);
    let found = holders(child, None, Object::Pipe(wait.inode));
    assert!(found.are_all(), "{found:?}");
    let holder = found.of(child).unwrap();
    assert_eq!((found.holders.len(), holder.unexeced, holder.held.len()), (1, false, 3));
    assert_eq!(holder.executable.as_deref(), Some("cat"));
    Ok(())
}

fn an_idle_worker_is_silent_until_its_parent_closes_the_pipe() -> Result<()> {
    let mut fixture = Fixture::start("pool_pipe", &[])?;
    let mut watched = Watched::child(fixture.number("parent"), fixture.number("child"));
    watched.silent_for(SEARCHES);
    fixture.step();
    assert_eq!(watched.finding().hazard, HazardId::new("leaked-pipe"));
    Ok(())
}

fn a_pipe_that_a_signal_handler_writes_to_is_silent() -> Result<()> {
    for how in ["", "opened"] {
        let fixture = Fixture::start("self_pipe", &[how])?;
        Watched::child(fixture.number("parent"), fixture.number("child")).silent_for(SEARCHES);
    }
    Ok(())
}

fn a_listener_is_found_once_its_server_has_ended() -> Result<()> {
    let mut server = Fixture::start("pinned_listener", &["pause"])?;
    let child = server.adopted();
    let (parent, port) = (server.number("parent"), server.number("port"));
    let mut watched = Watched::child(parent, child);
    // Beside its server it is nobody's business.
    watched.silent_looks(4);
    server.end();
    let finding = watched.finding();
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("pinned-listener"), Certainty::Strong));
    let leak = finding.facts.leak.unwrap();
    assert_eq!(leak.address, Some(format!("127.0.0.1:{port}")));
    assert_eq!((leak.holders.len(), leak.holders[0].pid), (1, child));
    let port = u16::try_from(port).unwrap();
    assert!(TcpListener::bind(("127.0.0.1", port)).is_err(), "the port is not taken after all");
    Ok(())
}

fn clients_that_nobody_answers_make_it_critical() -> Result<()> {
    let mut server = Fixture::start("pinned_listener", &["pause"])?;
    let child = server.adopted();
    let mut watched = Watched::child(server.number("parent"), child);
    watched.silent_looks(4);
    server.end();
    let port = u16::try_from(server.number("port")).unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.set_nonblocking(true).unwrap();
    let finding = watched.finding();
    // It may sleep before it accepts.
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Critical));
    assert!(finding.summary.ends_with("a connection waits there for an answer"), "{}", finding.summary);
    assert!(client.read(&mut [0]).is_err(), "somebody answered");
    Ok(())
}

fn a_listener_with_a_path_is_found_too() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a socket");
    let path = path.to_str().unwrap();
    let mut server = Fixture::start("pinned_listener", &["unix", path])?;
    let child = server.adopted();
    let mut watched = Watched::child(server.number("parent"), child);
    watched.silent_looks(4);
    server.end();
    assert_eq!(watched.finding().facts.leak.unwrap().address.as_deref(), Some(path));
    Ok(())
}

fn an_orphan_that_serves_is_silent() -> Result<()> {
    for (how, service) in
        [("accept", Service::Waits), ("serve", Service::Connected), ("watch", Service::Watched)]
    {
        let mut server = Fixture::start("pinned_listener", &[how])?;
        let child = server.adopted();
        let parent = server.number("parent");
        let mut watched = Watched::child(parent, child);
        watched.silent_looks(4);
        server.end();
        // What it does is seen by whoever asks, and clears it.
        let inode = Fixture::listener(child);
        watched::until(how, || {
            let found = holders(key(child), None, Object::Socket(inode));
            (found.of(key(child)).unwrap().service == Some(service)).then_some(())
        });
        watched.silent_looks(8);
    }
    Ok(())
}

fn a_program_that_cannot_accept_is_known_without_any_history() -> Result<()> {
    let mut server = Fixture::start("pinned_listener", &["sleep"])?;
    let child = server.adopted();
    let forker = key(server.number("parent"));
    let inode = Fixture::listener(child);
    watched::until("sleep has been started and sleeps", || {
        descriptors(key(child), None).filter(|seen| seen.rest.doing == "clock_nanosleep")
    });
    let judge = || {
        let first = holders(key(child), Some(forker), Object::Socket(inode));
        let second = holders(key(child), Some(forker), Object::Socket(inode));
        pinned_listener::judge(&ListenerCase {
            process: key(child),
            forker: Some(forker),
            forker_stayed: false,
            inode,
            first: &first,
            second: &second,
            stuck: &[],
            program_name: "pinned_listener",
        })
    };
    assert_eq!(judge(), Judgement::Clean, "its server lives");
    server.end();
    // A table of /proc/net that changes while it is read may leave a line out: then nothing is said.
    let verdict = watched::until("nobody is left who could accept", || match judge() {
        Judgement::Unsafe(verdict) => Some(verdict),
        Judgement::Clean | Judgement::Undecided => None,
    });
    assert_eq!(verdict.certainty, Certainty::Certain);
    Ok(())
}

fn a_process_that_does_something_else_sleeps_on_no_pipe() -> Result<()> {
    let own = key(std::process::id());
    let seen = descriptors(own, None).context("it cannot be looked at")?;
    // One of its threads runs: this one.
    assert_eq!(seen.rest.pipe, None::<PipeWait>);
    assert!(!seen.rest.stopped && seen.rest.threads >= 1);
    Ok(())
}
