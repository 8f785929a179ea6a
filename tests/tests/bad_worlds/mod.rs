//! The command in worlds that are not as it wants them: what it says, and how it ends.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what a test's helper does not find is for the test to fail on"
)]

mod demo;
mod doctor;
mod world;

use std::{
    fs::{self, File},
    io::Read,
    process::Command,
    sync::mpsc,
    thread,
};

use anyhow::Result;
use forkwatch_tests::{binary, runner::Tests, tests};
use nix::{errno::Errno, sys::signal::Signal, unistd::Pid};

use world::{Running, assert_has, can_run, eventually, forkwatch, said, said_with_capabilities};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        without_capabilities_they_are_named_with_the_remedy,
        of_two_capabilities_the_missing_one_is_named,
        two_capabilities_are_enough_to_watch,
        in_a_user_namespace_root_is_told_that_it_is_none,
        in_a_pid_namespace_the_way_out_is_told,
        without_type_information_the_kernel_is_called_unsupported,
        no_locked_memory_is_no_obstacle,
        a_start_that_cannot_open_enough_files_says_so_once,
        nonsense_on_the_command_line_is_wrong_usage,
        what_is_to_be_watched_and_is_not_there_is_named,
        an_unknown_cgroup_is_named,
        a_closed_pipe_is_an_end_and_no_error,
        a_full_disk_is_an_error_that_says_what_could_not_be_written,
        two_at_once_do_not_disturb_each_other,
        killed_it_leaves_nothing_attached,
    ])
    .and(demo::tests())
    .and(doctor::tests())
}

fn without_capabilities_they_are_named_with_the_remedy() -> Result<()> {
    can_run()?;
    for command in [&["-d", "1ms"][..], &["demo"]] {
        let text = said_with_capabilities("-all", command, 3);
        assert_has(&text, &["without CAP_BPF and CAP_PERFMON", "as root", "setcap"]);
    }
    Ok(())
}

fn of_two_capabilities_the_missing_one_is_named() -> Result<()> {
    can_run()?;
    assert_has(&said_with_capabilities("-all,+bpf", &["-d", "1ms"], 3), &["without CAP_PERFMON."]);
    assert_has(&said_with_capabilities("-all,+perfmon", &["-d", "1ms"], 3), &["without CAP_BPF."]);
    Ok(())
}

fn two_capabilities_are_enough_to_watch() -> Result<()> {
    can_run()?;
    assert_has(&said_with_capabilities("-all,+bpf,+perfmon", &["-d", "1ms"], 0), &["ready", "nothing lost"]);
    Ok(())
}

fn in_a_user_namespace_root_is_told_that_it_is_none() -> Result<()> {
    can_run()?;
    let text = said(&["unshare", "--user", "--map-root-user", forkwatch(), "-d", "1ms"], 3);
    assert_has(&text, &["Operation not permitted", "host's user namespace"]);
    Ok(())
}

fn in_a_pid_namespace_the_way_out_is_told() -> Result<()> {
    can_run()?;
    let text = said(&["unshare", "--pid", "--fork", "--mount-proc", forkwatch(), "-d", "1ms"], 3);
    assert_has(&text, &["not the host's pid namespace", "--pid=host"]);
    Ok(())
}

fn without_type_information_the_kernel_is_called_unsupported() -> Result<()> {
    can_run()?;
    for hidden in ["/sys", "/sys/kernel/btf"] {
        let script = format!("mount -t tmpfs none {hidden} && exec {} -d 1ms", forkwatch());
        let text = said(&["unshare", "--mount", "sh", "-c", &script], 4);
        assert_has(&text, &["(BTF)", "/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"]);
        assert_eq!(text.matches("os error 2").count(), 1, "{text}");
    }
    Ok(())
}

fn no_locked_memory_is_no_obstacle() -> Result<()> {
    can_run()?;
    assert_has(&said(&["prlimit", "--memlock=0", forkwatch(), "-d", "1ms"], 0), &["ready"]);
    Ok(())
}

fn a_start_that_cannot_open_enough_files_says_so_once() -> Result<()> {
    can_run()?;
    let text = said(&["prlimit", "--nofile=8", forkwatch(), "-d", "1ms"], 1);
    assert_eq!(text.matches("Too many open files").count(), 1, "{text}");
    Ok(())
}

fn nonsense_on_the_command_line_is_wrong_usage() -> Result<()> {
    binary::forkwatch()?;
    for (arguments, complaint) in [
        (&["--pid", "0"][..], "0 is not in 1.."),
        (&["--pid", "-1"], "-1 is not in 1.."),
        (&["--pid", "abc"], "invalid digit"),
        (&["--pid", "99999999999"], "is not in 1.."),
        (&["--uid", "-5"], "'-5'"),
        (&["--ring-bytes", "100000"], "not a power of two"),
        (&["--grace", "0s"], "out of range"),
        (&["--duration", "5x"], "not a duration"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["explain", "no-such-hazard"], "multithreaded-fork"),
    ] {
        let words: Vec<&str> = [forkwatch()].into_iter().chain(arguments.iter().copied()).collect();
        assert_has(&said(&words, 2), &[complaint, "--help"]);
    }
    Ok(())
}

fn what_is_to_be_watched_and_is_not_there_is_named() -> Result<()> {
    binary::forkwatch()?;
    // A test may run in the main thread.
    let (done, wait) = mpsc::channel::<()>();
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(nix::unistd::gettid().to_string()).unwrap();
        wait.recv().unwrap_err();
    });
    let tid = told.recv().unwrap();
    assert_has(&said(&[forkwatch(), "--pid", "999999999"], 1), &["there is no process 999999999"]);
    let text = said(&[forkwatch(), "--pid", &tid], 1);
    assert_has(&text, &[&format!("{tid} is a thread of process {}", std::process::id())]);
    drop(done);
    thread.join().unwrap();
    Ok(())
}

fn an_unknown_cgroup_is_named() -> Result<()> {
    binary::forkwatch()?;
    for path in ["/no/such.service", "../etc"] {
        assert_has(&said(&[forkwatch(), "--cgroup", path], 1), &["cgroup"]);
    }
    Ok(())
}

fn a_closed_pipe_is_an_end_and_no_error() -> Result<()> {
    can_run()?;
    for arguments in [&[][..], &["demo"], &["doctor"]] {
        let mut running = Running::start(arguments);
        drop(running.0.stdout.take());
        let mut stderr = String::new();
        running.0.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert!(running.end().success(), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("pipe") && !stderr.contains("panicked"), "{stderr}");
    }
    Ok(())
}

fn a_full_disk_is_an_error_that_says_what_could_not_be_written() -> Result<()> {
    can_run()?;
    for arguments in [&[][..], &["demo"], &["doctor"], &["explain"]] {
        let mut command = Command::new(forkwatch());
        let output = command.args(arguments).stdout(File::create("/dev/full").unwrap()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert_has(&text, &["cannot write the output: No space left on device"]);
    }
    let text = said(&[forkwatch(), "--record", "/dev/full"], 1);
    assert_has(&text, &["cannot write a recording to /dev/full: No space left"]);
    Ok(())
}

fn two_at_once_do_not_disturb_each_other() -> Result<()> {
    can_run()?;
    let mut first = Running::watch();
    assert_has(&said(&[forkwatch(), "-d", "1ms"], 0), &["ready", "nothing lost"]);
    first.signal(Signal::SIGINT);
    assert!(first.end().success());
    Ok(())
}

fn killed_it_leaves_nothing_attached() -> Result<()> {
    can_run()?;
    let mut running = Running::watch();
    let programs = programs_of(running.pid());
    assert!(programs.len() >= 4, "{programs:?}");
    assert!(programs.iter().all(|id| is_loaded(*id)));
    running.signal(Signal::SIGKILL);
    running.end();
    eventually("unloaded", || !programs.iter().any(|id| is_loaded(*id)));
    Ok(())
}

/// The ids of the programs that a process holds.
fn programs_of(pid: Pid) -> Vec<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap();
    let mut ids: Vec<u32> = descriptors
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Whether the kernel knows a program by that id: `BPF_PROG_GET_FD_BY_ID`, bpf(2).
fn is_loaded(id: u32) -> bool {
    const BPF_PROG_GET_FD_BY_ID: i32 = 13;
    let attributes = [id, 0, 0];
    let size = size_of_val(&attributes);
    // SAFETY: the attributes of this command are three words, which live through the call.
    let descriptor =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attributes.as_ptr(), size) };
    if descriptor < 0 {
        assert_eq!(Errno::last(), Errno::ENOENT);
        return false;
    }
    // SAFETY: a descriptor that was just opened, and that nobody else owns.
    unsafe { libc::close(descriptor.try_into().unwrap()) };
    true
}
