use std::os::fd::AsRawFd as _;

use super::*;
use crate::host::{forked::Forked, scan::find};

fn of(tree: &Tree, tgid: u32) -> &Member {
    tree.members.iter().find(|member| member.process.tgid == tgid).unwrap()
}

#[test]
fn a_forked_child_and_its_forker_are_of_one_tree() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let child = Forked::new();
    let own = std::process::id();
    let tree = tree(&find(child.tgid()).unwrap()).unwrap();
    let (parent, seen) = (of(&tree, own), of(&tree, child.tgid()));
    assert!(seen.forked && !parent.forked);
    assert_eq!(seen.parent, own);
    let place = |tgid| tree.members.iter().position(|member| member.process.tgid == tgid);
    assert!(place(own) < place(child.tgid()), "parents stand first");

    let details = seen.details.as_ref().unwrap();
    assert_eq!(details.thread_count, 1);
    assert!(details.memory.unwrap().resident > 0);
    let open = details.open.as_ref().unwrap();
    let fd = u32::try_from(listener.as_raw_fd()).unwrap();
    let inherited = open.listeners.iter().find(|socket| socket.fd == fd).unwrap();
    assert_eq!(inherited.peer, Peer::Tcp(address.to_string()));
    let parents = parent.details.as_ref().unwrap().open.as_ref().unwrap();
    assert!(parents.listeners.iter().any(|socket| socket.inode == inherited.inode), "both hold it");
    assert!(open.count > 3 && open.limit.is_some());
    assert_eq!(open.output, parents.output);
}

#[test]
fn what_a_thread_waits_for_is_told_by_its_descriptor() {
    let (read, write) = io::pipe().unwrap();
    let child = Forked::into(|| {
        let mut byte = [0_u8];
        // SAFETY: there is room for the byte.
        unsafe { libc::read(read.as_raw_fd(), byte.as_mut_ptr().cast(), 1) };
    });
    let fd = u32::try_from(read.as_raw_fd()).unwrap();
    loop {
        let tree = tree(&find(child.tgid()).unwrap()).unwrap();
        let details = of(&tree, child.tgid()).details.as_ref().unwrap();
        let [main] = details.threads.as_slice() else { panic!("{details:?}") };
        if let Some(Doing::Waits(wait)) = &main.doing
            && wait.call == "read"
        {
            assert_eq!(wait.on, [fd]);
            let (number, target) = details.open.as_ref().unwrap().awaited.first().unwrap();
            assert_eq!(*number, fd);
            assert!(target.link.starts_with("pipe:["), "{target:?}");
            break;
        }
    }
    drop(write);
}

#[test]
fn a_program_of_its_own_is_no_part_of_its_starters_tree() {
    let mut child = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // It may not have exec'd yet.
    let seen = loop {
        let found = tree(&find(child.id()).unwrap()).unwrap();
        if found.members.first().unwrap().process.tgid == child.id() {
            break found;
        }
    };
    assert_eq!(seen.members.len(), 1);
    let from_above = tree(&find(std::process::id()).unwrap()).unwrap();
    let member = of(&from_above, child.id());
    assert!(!member.forked && member.details.is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(tree(&Process { key: seen.members[0].process, ..find(std::process::id()).unwrap() }).is_err());
}

#[test]
fn a_worker_that_nobody_has_waited_for_is_told_as_ended() {
    // SAFETY: it ends at once, without a word.
    let child = Forked::into(|| unsafe { libc::_exit(3) });
    loop {
        let tree = tree(&find(std::process::id()).unwrap()).unwrap();
        let seen = of(&tree, child.tgid());
        assert!(seen.forked);
        if seen.state == State::Zombie {
            break;
        }
    }
}
