//! Against a child of this process, which holds what others wait for.

use std::{
    io::Read,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitStatus, waitpid},
    },
    unistd::{Pid, gettid},
};

use super::*;
use crate::host::forked::Forked;

fn key(pid: u32) -> ProcessKey {
    Stat::of_process(pid).unwrap().key()
}

/// A child that keeps all that this process holds now.
fn keeper() -> Pid {
    Forked::new().unguarded()
}

/// What is seen of the child once it shows this.
fn seen_when(child: Pid, holder: Option<u32>, shows: impl Fn(&Place) -> bool) -> Place {
    let child = key(child.as_raw().try_into().unwrap());
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let place =
            place(child, Some(key(std::process::id())), child.tgid, 4096, holder, Stacks::Light).unwrap();
        if shows(&place) {
            return place;
        }
        assert!(Instant::now() < patience, "never seen: {place:?}");
        thread::yield_now();
    }
}

#[test]
fn one_who_waits_for_the_child_to_end_is_named_with_its_call() {
    let child = keeper();
    let waiter = thread::spawn(move || waitpid(child, None).unwrap());
    let waits = |place: &Place| place.blocks.iter().any(|blocked| matches!(blocked, Blocked::Waiter { .. }));
    let place = seen_when(child, None, waits);
    let own = std::process::id();
    let name = Stat::of_process(own).unwrap().comm.to_string();
    let uid = Some(nix::unistd::getuid().as_raw());
    assert!(place.blocks.contains(&Blocked::Waiter { pid: own, name, uid, call: "wait4".to_owned() }));
    assert_eq!(place.program.exe, std::env::current_exe().ok());
    kill(child, Signal::SIGKILL).unwrap();
    assert!(matches!(waiter.join().unwrap(), WaitStatus::Signaled(..)));
}

#[test]
fn a_pipe_that_only_the_child_can_write_to_keeps_its_reader() {
    let (mut read, write) = std::io::pipe().unwrap();
    let child = keeper();
    let report = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        report.0.send(u32::try_from(gettid().as_raw()).unwrap()).unwrap();
        read.read(&mut [0]).unwrap()
    });
    let tid = report.1.recv().unwrap();
    let reads = |place: &Place| place.holder.as_ref().is_some_and(|doing| doing.call == "read");
    let kept = |place: &Place| place.blocks.iter().any(|blocked| matches!(blocked, Blocked::Pipe { .. }));
    // As long as this process can write to it too, the child is not to blame.
    assert!(!kept(&seen_when(child, Some(tid), reads)));
    drop(write);
    seen_when(child, Some(tid), kept);
    kill(child, Signal::SIGKILL).unwrap();
    waitpid(child, None).unwrap();
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn sockets_that_the_child_listens_on_are_told_by_their_address() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let child = keeper();
    drop(socket);
    seen_when(child, None, |place| place.blocks.contains(&Blocked::Listener { address: address.clone() }));
    kill(child, Signal::SIGKILL).unwrap();
    let gone = key(child.as_raw().try_into().unwrap());
    waitpid(child, None).unwrap();
    assert_eq!(place(gone, None, gone.tgid, 4096, None, Stacks::Light), None);
}
