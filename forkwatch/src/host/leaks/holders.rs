//! Everybody on the host who holds a pipe or a socket.

use std::{collections::HashSet, fs, io};

use super::{calls::Calls, elsewhere::Elsewhere, held, is_reparented, listeners::Tables, rest, wrote};
use crate::{
    host::{
        absence, clock,
        descriptors::{Descriptor, STANDARD},
        file, place,
        program::program,
        stat::Stat,
        status::Status,
    },
    model::{
        leak::{Held, Holder, Holders, MAX_HOLDERS, Object, Service},
        process::{ProcessKey, escape},
    },
};

/// On a host with more processes nothing is concluded.
const MAX_PROCESSES: usize = 65_536;
/// `PROC_PID_INIT_INO` (`include/linux/proc_ns.h`): from any other pid namespace not all processes are seen.
const ROOT_NAMESPACE: &str = "pid:[4026531836]";
/// A process's environment, as far as it is searched.
const MAX_ENVIRONMENT: u64 = 256 * 1024;
/// Entries of `/proc/PID/fdinfo` of an epoll set, as far as they are searched.
const MAX_EPOLL: u64 = 1 << 20;

/// See [`crate::model::evidence::Request::Holders`].
pub(crate) fn holders(process: ProcessKey, forker: Option<ProcessKey>, object: Object) -> Option<Holders> {
    let at = clock::now();
    let tables = match object {
        Object::Socket(_) => Tables::of_process(process.tgid).ok(),
        Object::Pipe(_) => None,
    };
    let listener = tables.as_ref().and_then(|tables| tables.listener(object.inode()));
    let (tables, elsewhere) = (tables.unwrap_or_default(), Elsewhere::default());
    let mut search = Search { process, forker, object, tables, elsewhere };
    let tgids = file::numbers("/proc", MAX_PROCESSES + 1).ok()?;
    // Pid 1 always lives: where it is not listed, /proc hides others' processes (hidepid).
    let mut complete = is_root_namespace() && tgids.contains(&1) && tgids.len() <= MAX_PROCESSES;
    let (mut found, mut hidden) = (Vec::new(), Vec::new());
    for tgid in tgids {
        match search.holder(tgid) {
            Ok(Some(_)) if found.len() >= MAX_HOLDERS => complete = false,
            Ok(Some(holder)) => found.push(holder),
            Ok(None) => {}
            Err(_) if hidden.len() >= MAX_HOLDERS => complete = false,
            Err(_) => hidden.push(tgid),
        }
    }
    found.sort_unstable_by_key(|holder| holder.process.tgid);
    let program = forker.and_then(program).or_else(|| program(process))?;
    let elsewhere = search.elsewhere.may_be();
    Some(Holders { at, complete, hidden, holders: found, elsewhere, listener, program })
}

/// Whether this process is in the root pid namespace, where every process has a pid.
fn is_root_namespace() -> bool {
    fs::read_link("/proc/self/ns/pid").is_ok_and(|namespace| namespace.as_os_str() == ROOT_NAMESPACE)
}

struct Search {
    process: ProcessKey,
    forker: Option<ProcessKey>,
    object: Object,
    tables: Tables,
    elsewhere: Elsewhere,
}

impl Search {
    /// What a process has to do with the object; an error where that cannot be seen.
    fn holder(&mut self, tgid: u32) -> io::Result<Option<Holder>> {
        let looked = self.look(tgid);
        match &looked {
            Err(_)
                if Stat::of_process(tgid)
                    .map_or_else(|error| absence::is_gone(&error), |stat| stat.process_has_ended()) =>
            {
                Ok(None)
            }
            _ => looked,
        }
    }

    fn look(&mut self, tgid: u32) -> io::Result<Option<Holder>> {
        let stat = Stat::of_process(tgid)?;
        if stat.is_kernel_thread() || stat.process_has_ended() {
            return Ok(None);
        }
        let all = held(&stat)?;
        if matches!(self.object, Object::Pipe(_)) {
            self.elsewhere.look(tgid, &all.descriptors);
        }
        let own = all.access(self.object)?;
        let held: Vec<Held> = own.into_iter().map(|(fd, access)| Held { fd, access }).collect();
        if held.is_empty() {
            return Ok(None);
        }
        let (calls, rest) = rest::of_process(&stat)?;
        let service = match self.object {
            Object::Socket(inode) => self.service(&stat, inode, &held, &all.descriptors, &calls)?,
            Object::Pipe(_) => None,
        };
        let is_pipe = matches!(self.object, Object::Pipe(_));
        let awaits = is_pipe && calls.read_any_of(&held, tgid, &all.descriptors);
        let awaited_by = self.forker.filter(|one| awaits && place::awaits_end_of(*one, stat.key()));
        let wrote = if is_pipe { wrote(tgid) } else { None };
        let parent = Stat::of_process(stat.parent).ok();
        let forker = self.forker.filter(|_| stat.is(self.process));
        let executable = fs::read_link(format!("/proc/{tgid}/exe")).ok();
        let holder = Holder {
            process: stat.key(),
            comm: stat.comm,
            uid: Status::of_process(tgid).ok().map(|status| status.uid),
            executable: executable
                .as_deref()
                .and_then(|exe| exe.file_name())
                .map(|name| escape(name.as_encoded_bytes())),
            parent: parent.as_ref().map(Stat::key),
            reparented: is_reparented(&stat, parent.as_ref(), forker),
            unexeced: stat.is_unexeced(),
            held,
            rest,
            service,
            awaits,
            awaited_by: awaited_by.map(|process| process.tgid),
            wrote,
        };
        if Stat::of_process(tgid)?.is(stat.key()) {
            Ok(Some(holder))
        } else {
            Err(io::Error::other("another process by now"))
        }
    }

    /// What speaks for a process's serving a listening socket.
    fn service(
        &self,
        stat: &Stat,
        inode: u64,
        held: &[Held],
        descriptors: &[Descriptor],
        calls: &Calls,
    ) -> io::Result<Option<Service>> {
        Ok(if held.iter().any(|held| held.fd <= STANDARD) {
            Some(Service::Standard)
        } else if calls.may_serve() {
            Some(Service::Waits)
        } else if is_activated(stat.id)? {
            Some(Service::Activated)
        } else if is_watched(stat.id, inode, held, descriptors)? {
            Some(Service::Watched)
        } else if descriptors
            .iter()
            .filter_map(Descriptor::socket)
            .any(|socket| self.tables.is_accepted(socket, inode))
        {
            Some(Service::Connected)
        } else {
            None
        })
    }
}

/// Whether a service manager passed sockets to a program: systemd's protocol, and those of Circus, Einhorn and nginx's
/// own upgrade.
fn is_activated(tgid: u32) -> io::Result<bool> {
    const SIGNS: [&[u8]; 4] = [b"LISTEN_FDS=", b"EINHORN_FD_COUNT=", b"CIRCUS_", b"NGINX="];
    let environment = file::read(format!("/proc/{tgid}/environ"), MAX_ENVIRONMENT)?;
    Ok(environment.split(|byte| *byte == 0).any(|line| SIGNS.iter().any(|sign| line.starts_with(sign))))
}

/// Whether a socket is in an epoll set of a process (`ep_show_fdinfo`, fs/eventpoll.c), or may be in an `io_uring`.
fn is_watched(tgid: u32, inode: u64, held: &[Held], descriptors: &[Descriptor]) -> io::Result<bool> {
    let numbers: HashSet<u32> = held.iter().map(|held| held.fd).collect();
    for descriptor in descriptors {
        match descriptor.link() {
            b"anon_inode:[io_uring]" => return Ok(true),
            b"anon_inode:[eventpoll]" => {
                let set = file::read(format!("/proc/{tgid}/fdinfo/{}", descriptor.number), MAX_EPOLL)?;
                if set.split(|byte| *byte == b'\n').any(|line| epoll_names(line, inode, &numbers)) {
                    return Ok(true);
                }
            }
            _ => {}
        }
    }
    Ok(false)
}

/// `tfd: 5 events: 19 data: 5  pos:0 ino:2a05 sdev:9`, before Linux 4.15 without what follows the data.
fn epoll_names(line: &[u8], inode: u64, numbers: &HashSet<u32>) -> bool {
    let Some(entry) = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("tfd:")) else {
        return false;
    };
    let mut fields = entry.split_ascii_whitespace();
    let number = fields.next().and_then(|number| number.parse().ok());
    match fields.find_map(|field| field.strip_prefix("ino:")) {
        Some(named) => u64::from_str_radix(named, 16) == Ok(inode),
        None => number.is_some_and(|number| numbers.contains(&number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoll_entry_names_a_socket_by_inode_else_by_number() {
        let numbers = HashSet::from([5]);
        let entry = b"tfd:        5 events:       19 data:                5  pos:0 ino:2a05 sdev:9";
        assert!(epoll_names(entry, 0x2a05, &numbers));
        assert!(!epoll_names(entry, 0x2a06, &numbers));
        assert!(epoll_names(b"tfd:        5 events:       19 data:                5", 1, &numbers));
        assert!(!epoll_names(b"tfd:        6 events:       19 data:                5", 1, &numbers));
        assert!(!epoll_names(b"flags:\t02", 1, &numbers));
    }
}
