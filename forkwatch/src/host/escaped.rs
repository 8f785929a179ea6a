//! Whether a forked process waits for children of its own in the very call in which its forker waits for it.
//!
//! A child that does its work and ends is in calls that its forker is not in: those below the branch of the child. If it
//! forgets to end, it returns from them, and goes on with what its forker does next. Both then have the same calls, each in
//! its own copy of one stack. A program that forks in a recursion, or in a library for pools, is one call deeper in the
//! child.
//!
//! An interpreter keeps the place in its script elsewhere than on the stack, so that all waits of a script look alike there.
//! `CPython`'s calls are read from its own structures; of other interpreters nothing is concluded.

use std::io;

use super::{
    absence,
    call::{Activity, SystemCall},
    clock, place, program, stack,
    stat::Stat,
    status::Status,
};
use crate::model::{
    escaped::{EscapedSeen, SameCall},
    process::ProcessKey,
    program_name::stem,
    stack::{Frame, Stack, Stacks},
};

/// Children of one process that are looked at.
const MAX_CHILDREN: usize = 64;

/// See [`crate::model::evidence::Request::Escaped`].
pub(super) fn escaped(child: ProcessKey, forker: ProcessKey, forking_tid: Option<u32>) -> EscapedSeen {
    let seen = look(child, forker, forking_tid).unwrap_or_else(|error| {
        let why = absence::reason(child.tgid, "syscall", &error);
        why.map_or(EscapedSeen::Apart, EscapedSeen::Unreadable)
    });
    // What was read is another's where a pid has changed hands meanwhile.
    match seen {
        _ if !Stat::lives(child) => EscapedSeen::Gone,
        EscapedSeen::SameCall(_) if !Stat::lives(forker) => EscapedSeen::Apart,
        seen => seen,
    }
}

fn look(child: ProcessKey, forker: ProcessKey, forking_tid: Option<u32>) -> io::Result<EscapedSeen> {
    let living = |process| Stat::of(process).filter(|stat| !stat.process_has_ended());
    let Some(own) = living(child).filter(Stat::is_unexeced) else { return Ok(EscapedSeen::Gone) };
    // A program that was started since the fork has another stack.
    let is_same_program = |its: &Stat| its.stack == own.stack && own.stack != 0;
    if !living(forker).is_some_and(|its| is_same_program(&its)) {
        return Ok(EscapedSeen::Apart);
    }
    let forking_tid = forking_tid.unwrap_or(forker.tgid);
    let one = Wait::of(child.tgid, child.tgid)?;
    let other = Wait::of(forker.tgid, forking_tid)?;
    let (Some(one), Some(other)) = (one, other) else { return Ok(EscapedSeen::Apart) };
    let own_id = Status::of_process(child.tgid)?.own_id;
    if one.call.position != other.call.position || !other.is_for(&[own_id]) {
        return Ok(EscapedSeen::Apart);
    }
    if !one.is_for(&children(child.tgid)) {
        return Ok(EscapedSeen::Apart);
    }
    let calls = calls(child, child.tgid).filter(|calls| !calls.is_empty());
    let Some(frames) = calls.filter(|own| self::calls(forker, forking_tid).as_ref() == Some(own)) else {
        return Ok(EscapedSeen::Apart);
    };
    // All that was read belongs to two waits that lasted meanwhile.
    let lasts = Wait::of(child.tgid, child.tgid)?.as_ref() == Some(&one)
        && Wait::of(forker.tgid, forking_tid)?.as_ref() == Some(&other);
    if !lasts {
        return Ok(EscapedSeen::Apart);
    }
    Ok(EscapedSeen::SameCall(Box::new(SameCall {
        at: clock::now(),
        comm: own.comm,
        uid: Status::of_process(child.tgid).ok().map(|status| status.uid),
        program: program::read(child.tgid, &own),
        frames,
    })))
}

/// The children of a process that were forked and have not exec'd, by the ids that it has for them.
fn children(tgid: u32) -> Vec<u32> {
    let unexeced = |tgid: &u32| Stat::of_process(*tgid).is_ok_and(|stat| stat.is_unexeced());
    let children = place::children(tgid, MAX_CHILDREN).into_iter().filter(unexeced);
    children.filter_map(|tgid| Some(Status::of_process(tgid).ok()?.own_id)).collect()
}

/// A thread that sleeps until a child of its process ends.
#[derive(Debug, PartialEq, Eq)]
struct Wait {
    call: SystemCall,
    /// The child, by the id that the process has for it; absent where any will do.
    awaited: Option<u32>,
}

impl Wait {
    fn of(process: u32, thread: u32) -> io::Result<Option<Self>> {
        Ok(Activity::of_thread(process, thread)?.call().and_then(Self::parse))
    }

    /// wait4(2), and waitid(2) with what it is told to wait for (`P_PID`).
    fn parse(call: &SystemCall) -> Option<Self> {
        let awaited = match call.number {
            libc::SYS_wait4 => call.word(0).filter(|id| id.cast_signed() > 0),
            libc::SYS_waitid if call.word(0) == Some(libc::P_PID) => call.word(1),
            libc::SYS_waitid => None,
            _ => return None,
        };
        Some(Self { call: *call, awaited })
    }

    /// Whether one of these ends it.
    fn is_for(&self, ids: &[u32]) -> bool {
        self.awaited.map_or(!ids.is_empty(), |awaited| ids.contains(&awaited))
    }
}

/// The calls of a thread, innermost first; absent where two that are alike may be of different places in a program.
fn calls(process: ProcessKey, tid: u32) -> Option<Vec<Frame>> {
    if let Some(script) = stack::of_script(process, tid) {
        return Some(script).filter(|script| script.missing.is_none()).map(|script| script.frames);
    }
    let Stack { frames, .. } = stack::of_thread(process, tid, Stacks::Light);
    let is_compiled = frames.iter().all(|frame| frame.module.as_deref().is_some_and(is_compiled));
    let is_own =
        |frame: &Frame| frame.module.as_deref().is_some_and(|module| !stack::is_of_c_library(module));
    (is_compiled && frames.iter().any(is_own)).then_some(frames)
}

/// Programs and libraries that run scripts: shells, too. Their names without `lib` and without a version.
const INTERPRETERS: &[&str] = &[
    "R", "Rscript", "ash", "awk", "bash", "beam", "beam.smp", "busybox", "csh", "dash", "deno", "dotnet",
    "erl", "fish", "gawk", "guile", "java", "jvm", "ksh", "ksh93", "lua", "luajit", "make", "mawk", "mksh",
    "mono", "monosgen", "mozjs", "node", "octave", "perl", "php", "php-cgi", "php-fpm", "pypy", "python",
    "ruby", "sh", "tcl", "tclsh", "tcsh", "wish", "yash", "zsh",
];

/// Whether what runs in an object is its own code, as far as its name tells.
fn is_compiled(module: &str) -> bool {
    let file = module.rsplit('/').next().unwrap_or_default();
    let file = file.strip_suffix(" (deleted)").unwrap_or(file);
    let name = file.split(".so").next().unwrap_or_default();
    let name = name.strip_prefix("lib").unwrap_or(name);
    let name = stem(name);
    !INTERPRETERS.iter().any(|known| name == *known || name.strip_suffix('-') == Some(*known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn what_a_thread_waits_for_is_in_the_arguments() {
        let wait = |number, arguments: [u64; 6]| Wait::parse(&SystemCall::made_up(number, arguments));
        let awaited = |number, arguments| wait(number, arguments).map(|wait| wait.awaited);
        let any = u64::from(u32::MAX);
        assert_eq!(awaited(libc::SYS_wait4, [any, 0, 0, 0, 0, 0]), Some(None));
        assert_eq!(awaited(libc::SYS_wait4, [0, 0, 0, 0, 0, 0]), Some(None));
        assert_eq!(awaited(libc::SYS_wait4, [77, 0, 0, 0, 0, 0]), Some(Some(77)));
        assert_eq!(awaited(libc::SYS_waitid, [0, 77, 0, 0, 0, 0]), Some(None));
        assert_eq!(awaited(libc::SYS_waitid, [1, 77, 0, 0, 0, 0]), Some(Some(77)));
        assert_eq!(awaited(libc::SYS_read, [1, 77, 0, 0, 0, 0]), None);
        let for_one = wait(libc::SYS_wait4, [77, 0, 0, 0, 0, 0]).unwrap();
        assert!(for_one.is_for(&[1, 77]) && !for_one.is_for(&[78]));
        let for_any = wait(libc::SYS_wait4, [any, 0, 0, 0, 0, 0]).unwrap();
        assert!(for_any.is_for(&[78]) && !for_any.is_for(&[]));
    }

    #[test]
    fn an_interpreter_is_known_by_its_name() {
        for name in [
            "/usr/bin/perl",
            "/bin/bash",
            "/usr/lib/libruby-3.1.so.3.1",
            "/usr/bin/php8.2",
            "/usr/lib/libjvm.so",
        ] {
            assert!(!is_compiled(name), "{name}");
        }
        for name in ["/usr/sbin/worker", "/usr/lib/libc.so.6", "/srv/luanda", "/usr/lib/libpq.so.5"] {
            assert!(is_compiled(name), "{name}");
        }
    }

    /// Forks a child that does the same one call deeper, and waits for it.
    fn in_a_recursion(depth: u32) {
        // SAFETY: the child only forks, waits and sleeps.
        let child = unsafe { libc::fork() };
        if child == 0 && depth > 0 {
            in_a_recursion(depth - 1);
        }
        wait_for(child);
    }

    /// Forks a child, which goes on in the loop as its forker does, once it has waited for the child.
    fn in_a_loop(turns: u32) {
        for turn in 0..turns {
            // SAFETY: as above.
            let child = unsafe { libc::fork() };
            if child != 0 || turn + 1 == turns {
                wait_for(child);
            }
        }
    }

    fn wait_for(child: libc::pid_t) {
        if child == 0 {
            // SAFETY: it waits for a signal.
            unsafe { libc::pause() };
        } else {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        }
    }

    /// What is seen of a forked process and the one that forked that, once both wait.
    fn seen_of(act: fn()) -> EscapedSeen {
        let outer = Forked::into(act);
        let waits = |tgid| matches!(Wait::of(tgid, tgid), Ok(Some(_)));
        let inner = loop {
            if let [inner] = *place::children(outer.tgid(), MAX_CHILDREN)
                && waits(inner)
                && waits(outer.tgid())
            {
                break Stat::of_process(inner).unwrap().key();
            }
            std::thread::yield_now();
        };
        let seen = escaped(inner, outer.key(), None);
        let others = place::children(inner.tgid, MAX_CHILDREN);
        // First, for it would go on in the loop, and leave another child behind.
        drop(outer);
        for tgid in others.into_iter().chain([inner.tgid]) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(tgid.cast_signed()), nix::sys::signal::SIGKILL)
                .unwrap();
        }
        seen
    }

    #[test]
    fn a_loop_that_a_child_goes_on_with_is_one_call_and_a_recursion_is_not() {
        assert_eq!(seen_of(|| in_a_recursion(1)), EscapedSeen::Apart);
        let EscapedSeen::SameCall(call) = seen_of(|| in_a_loop(2)) else { panic!("another call") };
        let names: Vec<_> = call.frames.iter().filter_map(|frame| frame.function.as_deref()).collect();
        assert!(names.iter().any(|name| name.contains("in_a_loop")), "{names:?}");
    }
}
