//! What epoll instances watch, and who can set it off: `/proc/PID/fdinfo` (`ep_show_fdinfo`, fs/eventpoll.c).

use std::{cell::OnceCell, collections::HashSet};

use super::pairs::Pairs;
use crate::{
    host::{
        budget,
        descriptors::{Descriptor, Table},
        file,
    },
    model::{
        event_loop::Watched,
        inventory::{Instance, MAX_ENTRIES},
        leak::{Access, Object},
    },
};

/// Some 7000 watched descriptors; of an instance with more, the rest counts for nothing.
const MAX_TEXT: u64 = 512 * 1024;
/// What a process wakes itself with, or the kernel by its order.
const OWN: [&[u8]; 3] = [b"anon_inode:[eventfd]", b"anon_inode:[timerfd]", b"anon_inode:[signalfd]"];

/// The instances among the descriptors; those that cannot be looked into are left out.
pub(super) fn instances(tgid: u32, descriptors: &[Descriptor]) -> Vec<Instance> {
    let ends = Ends::new(tgid, descriptors);
    let instance = |descriptor: &Descriptor| {
        let text = file::read(format!("/proc/{tgid}/fdinfo/{}", descriptor.number), MAX_TEXT).ok()?;
        let watched: Vec<Watched> = watched(&text).collect();
        let outside = watched.iter().filter(|watched| !ends.are_own(**watched)).count();
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Instance { fd: descriptor.number, watched: count(watched.len()), outside: count(outside) })
    };
    let epolls = descriptors.iter().filter(|descriptor| descriptor.link() == b"anon_inode:[eventpoll]");
    epolls.filter_map(instance).take(MAX_ENTRIES).collect()
}

/// What one instance watches.
pub(super) struct Contents {
    /// As far as the process has it open under the number by which it was entered.
    pub(super) open: Vec<Watched>,
    /// Whether that is all.
    pub(super) is_all: bool,
}

/// What one instance watches; absent where that cannot be seen, or is too much.
pub(super) fn watched_in(tgid: u32, epoll: u32, descriptors: &[Descriptor]) -> Option<Contents> {
    let text = file::read(format!("/proc/{tgid}/fdinfo/{epoll}"), MAX_TEXT).ok()?;
    let is_open = |watched: &Watched| {
        let descriptor = descriptors.iter().find(|descriptor| descriptor.number == watched.number);
        descriptor.is_some_and(|descriptor| match descriptor.object() {
            Some(Object::Pipe(inode) | Object::Socket(inode)) => watched.inode.is_none_or(|is| is == inode),
            None => true,
        })
    };
    let all: Vec<Watched> = watched(&text).take(MAX_ENTRIES + 1).collect();
    if all.len() > MAX_ENTRIES {
        return None;
    }
    let open: Vec<Watched> = all.iter().filter(|watched| is_open(watched)).copied().collect();
    Some(Contents { is_all: open.len() == all.len(), open })
}

/// Whether an instance has anything in it that only the process itself sets off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wakes {
    /// It has, or may have.
    Perhaps,
    /// It has nothing of the kind.
    None,
}

/// Whether any of this is a wake-up of the process's own. It stays open of a socket whose other end cannot be found out, and
/// where something is watched that the process does not have under that number.
pub(super) fn wakes(tgid: u32, contents: &Contents, descriptors: &[Descriptor]) -> Wakes {
    let ends = Ends::new(tgid, descriptors);
    let knows_pairs = Pairs::of_process(tgid).is_ok();
    let may_be_own = |watched: &Watched| {
        let object = descriptors.iter().find(|one| one.number == watched.number).map(Descriptor::object);
        let is_untold = matches!(object, None | Some(Some(Object::Socket(_)))) && !knows_pairs;
        is_untold || ends.are_own(*watched)
    };
    if !contents.is_all || contents.open.iter().any(may_be_own) { Wakes::Perhaps } else { Wakes::None }
}

/// `tfd:        8 events:       19 data:                8  pos:0 ino:a120 sdev:9`
fn watched(text: &[u8]) -> impl Iterator<Item = Watched> {
    let parse = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?.strip_prefix("tfd:")?;
        let mut fields = line.split_ascii_whitespace();
        let number = fields.next()?.parse().ok()?;
        let inode = fields.find_map(|field| u64::from_str_radix(field.strip_prefix("ino:")?, 16).ok());
        Some(Watched { number, inode })
    };
    text.split(|byte| *byte == b'\n').filter_map(parse)
}

/// A pair of sockets of which the process has both ends, and one of its instances watches one.
pub(super) struct OwnPair {
    /// The instance.
    pub(super) epoll: u32,
    /// The inode number of the end that is not watched.
    pub(super) written: u64,
}

/// The pairs by which a process wakes itself.
pub(super) fn own_pairs(tgid: u32, descriptors: &[Descriptor]) -> Vec<OwnPair> {
    let Ok(pairs) = Pairs::of_process(tgid) else { return Vec::new() };
    let sockets: HashSet<u64> = descriptors.iter().filter_map(Descriptor::socket).collect();
    let mut found = Vec::new();
    for instance in descriptors.iter().filter(|descriptor| descriptor.link() == b"anon_inode:[eventpoll]") {
        let number = instance.number;
        let contents = watched_in(tgid, number, descriptors);
        for Watched { inode, .. } in contents.map(|contents| contents.open).unwrap_or_default() {
            let socket = inode.filter(|inode| sockets.contains(inode));
            let peer = socket.and_then(|socket| pairs.peer(socket)).filter(|peer| sockets.contains(peer));
            found.extend(peer.map(|written| OwnPair { epoll: number, written }));
            if found.len() >= MAX_ENTRIES || budget::steps(1).is_err() {
                return found;
            }
        }
    }
    found
}

/// The descriptors of a process, to find both ends of something among them.
struct Ends<'a> {
    tgid: u32,
    descriptors: &'a [Descriptor],
    /// The inode numbers of its sockets.
    sockets: HashSet<u64>,
    /// Opened when it is first needed.
    pairs: OnceCell<Option<Pairs>>,
}

impl<'a> Ends<'a> {
    fn new(tgid: u32, descriptors: &'a [Descriptor]) -> Self {
        let sockets = descriptors.iter().filter_map(Descriptor::socket).collect();
        Self { tgid, descriptors, sockets, pairs: OnceCell::new() }
    }

    /// Whether nobody but the process can set off what is watched. What cannot be told counts as no.
    fn are_own(&self, watched: Watched) -> bool {
        let descriptor = self.descriptors.iter().find(|descriptor| descriptor.number == watched.number);
        let Some(descriptor) = descriptor else { return false };
        match descriptor.object() {
            None => OWN.contains(&descriptor.link()),
            Some(Object::Pipe(inode) | Object::Socket(inode))
                if watched.inode.is_some_and(|is| is != inode) =>
            {
                false
            }
            Some(Object::Pipe(inode)) => self.holds_both_ends(inode),
            Some(Object::Socket(inode)) => {
                let pairs = self.pairs.get_or_init(|| Pairs::of_process(self.tgid).ok());
                let peer = pairs.as_ref().and_then(|pairs| pairs.peer(inode));
                peer.is_some_and(|peer| self.sockets.contains(&peer))
            }
        }
    }

    fn holds_both_ends(&self, pipe: u64) -> bool {
        let table = Table::of_process(self.tgid);
        let ends = self.descriptors.iter().filter(|one| one.object() == Some(Object::Pipe(pipe)));
        let (mut reads, mut writes) = (false, false);
        for end in ends {
            match table.access(end.number) {
                Ok(Some(Access::Read)) => reads = true,
                Ok(Some(Access::Write)) => writes = true,
                Ok(Some(Access::Both)) => (reads, writes) = (true, true),
                Ok(None) | Err(_) => {}
            }
        }
        reads && writes
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        os::{
            fd::{AsRawFd, FromRawFd as _, OwnedFd},
            unix::net::UnixStream,
        },
    };

    use proptest::prelude::*;

    use super::*;

    /// A new instance that watches these.
    fn watching(watched: &[&dyn AsRawFd]) -> OwnedFd {
        // SAFETY: a system call on a number.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0);
        for one in watched {
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
            // SAFETY: the event outlives the call.
            let added =
                unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, one.as_raw_fd(), &raw mut event) };
            assert_eq!(added, 0);
        }
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(epoll) }
    }

    fn looked_into(epoll: &OwnedFd) -> (u32, u32) {
        let own = std::process::id();
        let descriptors = Table::of_process(own).list(usize::MAX).unwrap();
        let fd: u32 = epoll.as_raw_fd().try_into().unwrap();
        let found = instances(own, &descriptors);
        let instance = found.iter().find(|instance| instance.fd == fd).unwrap();
        (instance.watched, instance.outside)
    }

    #[test]
    fn wake_ups_of_ones_own_are_told_from_what_others_send() {
        // SAFETY: a system call on numbers.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(eventfd) };
        let (read, write) = io::pipe().unwrap();
        assert_eq!(looked_into(&watching(&[&eventfd, &read])), (2, 0));
        drop(write);
        assert_eq!(looked_into(&watching(&[&eventfd, &read])), (2, 1), "the other end may be anybody's");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(looked_into(&watching(&[&listener])), (1, 1));
        assert_eq!(looked_into(&watching(&[])), (0, 0));
    }

    #[test]
    fn a_pair_of_sockets_is_own_while_both_are_held() {
        if Pairs::of_process(std::process::id()).is_err() {
            eprintln!("not tested, netlink is refused here");
            return;
        }
        let (one, other) = UnixStream::pair().unwrap();
        let epoll = watching(&[&one]);
        assert_eq!(looked_into(&epoll), (1, 0));
        drop(other);
        assert_eq!(looked_into(&epoll), (1, 1));
    }

    #[test]
    fn a_line_names_a_descriptor_and_its_inode() {
        let text = b"pos:\t0\nflags:\t02\ntfd:        8 events:       19 data:                8  pos:0 ino:a120 sdev:9\n\
            tfd:        9 events:       19 data:                9\n";
        let expected = [Watched { number: 8, inode: Some(0xa120) }, Watched { number: 9, inode: None }];
        assert_eq!(watched(text).collect::<Vec<_>>(), expected);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            watched(&text).count();
        }
    }
}
