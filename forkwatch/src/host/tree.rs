//! A server's processes, and what each of them does and holds.

use std::{collections::VecDeque, io};

use super::{
    absence,
    awaited::awaited,
    budget,
    call::Activity,
    clock,
    descriptors::{Descriptor, Table},
    file,
    futex::EndlessWait,
    maps::Maps,
    occupation::occupations,
    place::children,
    program, rollup,
    scan::{Process, ScanError},
    slept::slept,
    socket::{self, Sockets},
    stat::Stat,
    task,
};
use crate::model::{
    connection::Peer,
    loaded::Loaded,
    process::ProcessKey,
    server::{
        Details, Doing, Futex, Hidden, MAX_DETAILED, MAX_THREADS, Member, Open, Socket, State, Target,
        Thread, Tree, Wait,
    },
    stack::Stacks,
    thread::{SeenThread, occupation},
};

/// Generations above and below.
const MAX_DEPTH: usize = 16;
/// Processes that are listed, and children of one that are looked at.
const MAX_MEMBERS: usize = 256;
const MAX_CHILDREN: usize = 512;
/// Descriptors of a process that are looked at, from the lowest, and sockets that are told.
const MAX_DESCRIPTORS: usize = 8192;
const MAX_SOCKETS: usize = 256;
/// What Python starts the workers of `multiprocessing` with that it does not fork (`get_command_line`, multiprocessing/spawn.py).
const SPAWNED: &str = "--multiprocessing-fork";
/// Descriptors of one wait that are told.
const MAX_AWAITED: usize = 64;

/// A process with those that it is forked from, and all that descend from these.
pub fn tree(process: &Process) -> Result<Tree, ScanError> {
    let gone = || ScanError::NoSuchProcess(process.key.tgid);
    let asked = Stat::of(process.key).ok_or_else(gone)?;
    let tree = budget::question(budget::LARGE, || gather(asked));
    if Stat::lives(process.key) { Ok(tree) } else { Err(gone()) }
}

fn gather(asked: Stat) -> Tree {
    let root = root(asked);
    let mut tree = Tree { at: clock::now(), members: Vec::new(), whole: true };
    let mut open = VecDeque::from([(root, 0)]);
    let mut detailed = 0;
    while let Some((stat, depth)) = open.pop_front() {
        if tree.members.len() >= MAX_MEMBERS || budget::steps(1).is_err() {
            tree.whole = false;
            break;
        }
        let Some(mut member) = member(&stat, &root, &tree.members) else { continue };
        let is_of_program = member.process == root.key() || member.forked || is_same_program(&stat, &root);
        if is_of_program && detailed < MAX_DETAILED {
            detailed += 1;
            member.details = Some(Box::new(details(&stat)));
        } else {
            tree.whole &= !is_of_program;
        }
        tree.members.push(member);
        let below = if depth < MAX_DEPTH { children(stat.id, MAX_CHILDREN) } else { Vec::new() };
        tree.whole &= below.len() < MAX_CHILDREN;
        let mut below: Vec<Stat> =
            below.into_iter().filter_map(|child| Stat::of_process(child).ok()).collect();
        below.retain(|child| child.parent == stat.id);
        below.sort_unstable_by_key(|child| (child.start, child.id));
        open.extend(below.into_iter().map(|child| (child, depth + 1)));
    }
    tree
}

/// The process from which one was forked, and that one, and so on: as far as they run the same program.
fn root(asked: Stat) -> Stat {
    let mut root = asked;
    for _ in 0..MAX_DEPTH {
        let Ok(parent) = Stat::of_process(root.parent) else { break };
        let is_younger = parent.start > root.start;
        if parent.is_kernel_thread()
            || is_younger
            || !is_forked_from(&root, &parent) && !runs_again(&root, &parent)
        {
            break;
        }
        root = parent;
    }
    root
}

/// Whether a process runs the program of another one as it was forked: where the stack began is the same only there.
fn is_forked_from(child: &Stat, other: &Stat) -> bool {
    // Without the privilege to see where it began, all that is known is that the child was forked: by its parent, or by
    // one that has ended, whose children are given to a process of another program.
    child.is_unexeced()
        && (child.stack != 0 && child.stack == other.stack
            || child.stack == 0 && is_same_program(child, other))
}

/// Whether a process has ended that never exec'd: its program is not to be seen any more, and it was its parent's.
const fn has_ended_forked(stat: &Stat) -> bool {
    stat.is_unexeced() && stat.process_has_ended()
}

/// Whether two processes run the same file.
fn is_same_program(one: &Stat, other: &Stat) -> bool {
    let file = |stat: &Stat| program::executable(stat.id).ok();
    match (file(one), file(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one.comm == other.comm,
    }
}

/// Whether a process was started anew with the program and the script of another one, as workers of Node.js are.
fn runs_again(child: &Stat, parent: &Stat) -> bool {
    if child.is_unexeced() || !is_same_program(child, parent) {
        return false;
    }
    let words = |stat: &Stat| program::read(stat.id, stat).cmdline;
    let (own, parents) = (words(child), words(parent));
    let script = own.get(1).filter(|word| !word.starts_with('-'));
    script.is_some() && script == parents.get(1) || own.iter().any(|word| word == SPAWNED)
}

/// One process; absent where it has ended meanwhile.
fn member(stat: &Stat, root: &Stat, known: &[Member]) -> Option<Member> {
    let process = stat.key();
    let is_root = process == root.key();
    let parent = known.iter().find(|member| member.process.tgid == stat.parent);
    let of_program = parent.is_some_and(|parent| parent.forked || parent.process == root.key());
    let member = Member {
        process,
        parent: stat.parent,
        program: program::read(stat.id, stat),
        loaded: Maps::of_process(stat.id).map(|maps| Loaded::among(maps.files())).unwrap_or_default(),
        forked: !is_root && of_program && (is_forked_from(stat, root) || has_ended_forked(stat)),
        state: state(stat),
        details: None,
    };
    // One that has ended is told as long as its parent has not asked how.
    Stat::of(process).map(|_| member)
}

const fn state(stat: &Stat) -> State {
    match stat.state {
        b'R' => State::Running,
        b'T' | b't' => State::Stopped,
        b'Z' | b'X' | b'x' => State::Zombie,
        b'D' => State::Uninterruptible,
        _ => State::Sleeping,
    }
}

/// Notes why something could not be seen.
struct Notes(Option<Hidden>);

impl Notes {
    fn unless<T>(&mut self, found: io::Result<T>) -> Option<T> {
        let error = match found {
            Ok(found) => return Some(found),
            Err(error) => error,
        };
        if self.0.is_none() && !absence::is_gone(&error) {
            let denied = error.kind() == io::ErrorKind::PermissionDenied;
            self.0 = Some(Hidden { why: error.to_string(), denied });
        }
        None
    }
}

fn details(stat: &Stat) -> Details {
    if stat.process_has_ended() {
        return Details::default();
    }
    let process = stat.key();
    let mut notes = Notes(None);
    let mut threads = notes.unless(task::user_threads(stat.id)).unwrap_or_default();
    threads.sort_by_key(|thread| (thread.id != stat.id, thread.start, thread.id));
    let thread_count = u32::try_from(threads.len()).unwrap_or(u32::MAX);
    threads.truncate(MAX_THREADS);
    let threads = doings(process, &threads, &mut notes);
    let open = open(process, &threads, &mut notes);
    let memory = notes.unless(rollup::memory(stat.id));
    Details { threads, thread_count, open, memory, hidden: notes.0 }
}

/// What each thread is called and does.
fn doings(process: ProcessKey, threads: &[Stat], notes: &mut Notes) -> Vec<Thread> {
    let occupations = occupations(process, threads, Stacks::Light);
    let thread = |thread: &Stat| {
        let known = occupation(thread.id, &occupations);
        // Read before the call: a thread that runs in between is told to have waited for a shorter time.
        let since = slept(process.tgid, thread.id);
        let doing =
            notes.unless(Activity::of_thread(process.tgid, thread.id)).map(|activity| match &activity {
                Activity::Running => Doing::Runs,
                Activity::Elsewhere(_) => Doing::Elsewhere,
                Activity::Call(call) => {
                    let waits = awaited(process.tgid, call);
                    let on = waits.input.into_iter().chain(waits.output).take(MAX_AWAITED).collect();
                    let futex = EndlessWait::of(call)
                        .map(|wait| Futex { address: wait.address, is_mutex: wait.is_for_mutex() });
                    Doing::Waits(Wait { call: call.name(), on, futex })
                }
            });
        Thread {
            thread: SeenThread { tid: thread.id, comm: thread.comm },
            name: known.and_then(|known| known.name.clone()),
            at: known.and_then(|known| known.at.clone()),
            since: since.filter(|_| doing != Some(Doing::Runs)),
            doing,
        }
    };
    threads.iter().map(thread).collect()
}

fn open(process: ProcessKey, threads: &[Thread], notes: &mut Notes) -> Option<Open> {
    let tgid = process.tgid;
    let descriptors = notes.unless(Table::of_process(tgid).list(MAX_DESCRIPTORS))?;
    let mut sockets = Sockets::of(process)?;
    let mut open = Open {
        count: u32::try_from(descriptors.len()).unwrap_or(u32::MAX),
        limit: limit(tgid),
        ..Open::default()
    };
    for descriptor in descriptors.iter().filter(|descriptor| descriptor.number > 2) {
        if open.connections.len() + open.listeners.len() >= MAX_SOCKETS {
            break;
        }
        let Some(inode) = descriptor.socket() else { continue };
        let fd = descriptor.number;
        match sockets.look(fd, inode) {
            Some(socket::Socket::Connected { peer, local }) => {
                let own = local.as_ref().and_then(Peer::port);
                let accepted =
                    own.is_some() && open.listeners.iter().any(|listener| listener.peer.port() == own);
                open.connections.push(Socket { fd, inode, peer, accepted });
            }
            Some(socket::Socket::Listening(peer)) => {
                open.listeners.push(Socket { fd, inode, peer, accepted: false });
            }
            Some(socket::Socket::Other) | None => {}
        }
    }
    let mut target = |number: u32| {
        let descriptor = descriptors.iter().find(|descriptor| descriptor.number == number)?;
        Some(target(descriptor, &mut sockets))
    };
    (open.output, open.errors) = (target(1), target(2));
    let waits = threads.iter().filter_map(|thread| match &thread.doing {
        Some(Doing::Waits(wait)) => Some(&wait.on),
        _ => None,
    });
    let mut awaited: Vec<u32> = waits.flatten().copied().collect();
    awaited.sort_unstable();
    awaited.dedup();
    open.awaited =
        awaited.into_iter().filter_map(|number| Some((number, target(number)?))).take(MAX_SOCKETS).collect();
    Some(open)
}

fn target(descriptor: &Descriptor, sockets: &mut Sockets) -> Target {
    let looked = descriptor.socket().and_then(|inode| sockets.look(descriptor.number, inode));
    let peer = match looked {
        Some(socket::Socket::Connected { peer, .. } | socket::Socket::Listening(peer)) => Some(peer),
        Some(socket::Socket::Other) | None => None,
    };
    Target { link: String::from_utf8_lossy(descriptor.link()).into_owned(), peer }
}

/// The soft limit of open descriptors: `Max open files            1024                 1048576              files`.
fn limit(tgid: u32) -> Option<u64> {
    let text = file::read_small(format!("/proc/{tgid}/limits")).ok()?;
    file::field(&text, "Max open files")?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests;
