//! `forkwatch top` in a real terminal: a server and its workers, other sizes, a storm, and the end of what is shown.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use forkwatch_tests::{
    binary,
    daemon::Daemon,
    fixture,
    host::needs_root,
    program::{Launch, Program},
    runner::Tests,
    scenario::gunicorn_with_stuck_threads,
    terminal::{Terminal, words},
    tests,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        top_follows_a_server_until_it_has_ended,
        top_answers_in_a_storm_and_leaves_the_terminal_as_it_was,
        top_asks_a_daemon_that_runs_and_says_when_it_does_not_answer,
        top_needs_a_terminal,
        top_refuses_what_is_no_process,
    ])
}

fn top(arguments: &[&str]) -> Result<Terminal> {
    let arguments = [&["top", "--own"], arguments].concat();
    Terminal::run(&words(&binary::forkwatch()?, &arguments), 100, 30)
}

fn lines(screen: &str, word: &str) -> usize {
    screen.lines().filter(|line| line.contains(word)).count()
}

fn top_follows_a_server_until_it_has_ended() -> Result<()> {
    needs_root()?;
    let mut server = gunicorn_with_stuck_threads("wsgi_with_thread")?;
    server.release()?;
    let master = server.pid().to_string();
    let terminal = top(&["--pid", &master])?;
    let is_whole = |screen: &str| lines(screen, " ready ") == 2 && lines(screen, "awaits connections") == 2;
    let screen = terminal.until("two workers that wait for connections", is_whole)?;
    ensure!(screen.contains(&format!("-{master}")) && screen.contains("gunicorn gthread"), "{screen}");
    ensure!(screen.contains("1 server, 2 workers"), "{screen}");
    terminal.press("Down")?;
    terminal.press("Enter")?;
    let screen = terminal.until("more about a worker", |screen| screen.contains("EpollSelector.select"))?;
    ensure!(screen.contains("lacks") && screen.contains("copied or new since"), "{screen}");
    terminal.press("Enter")?;
    terminal.resize(60, 14)?;
    let is_narrow =
        |screen: &str| is_workers(screen) && screen.lines().all(|line| line.chars().count() <= 60);
    terminal.until("the same in 60 columns", is_narrow)?;
    kill(Pid::from_raw(server.pid()), Signal::SIGTERM)?;
    terminal.until("the end of the server", |screen| screen.contains("has ended"))?;
    terminal.press("q")?;
    terminal.until("its end", |screen| screen.contains("ended with 0")).map(drop)
}

/// No second set of programs is in the kernel, and what is shown is what the daemon knows.
fn top_asks_a_daemon_that_runs_and_says_when_it_does_not_answer() -> Result<()> {
    needs_root()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("api.sock");
    let configuration = format!("[socket]\npath = \"{}\"\ngroup = \"\"\n", socket.display());
    let daemon = Daemon::start(&configuration, &[])?;
    let mut server = gunicorn_with_stuck_threads("wsgi_with_thread")?;
    server.release()?;
    let master = server.pid().to_string();
    let at = socket.display().to_string();
    let top = |pid: &str| -> Result<Terminal> {
        Terminal::run(&words(&binary::forkwatch()?, &["top", "--socket", &at, "--pid", pid]), 100, 30)
    };
    let terminal = top(&master)?;
    let is_whole = |screen: &str| {
        screen.contains("by the daemon") && is_workers(screen) && lines(screen, "awaits connections") == 2
    };
    let screen = terminal.until("two workers that wait for connections", is_whole)?;
    ensure!(screen.contains("1 server, 2 workers") && screen.contains(&format!("-{master}")), "{screen}");
    let tops = processes_with(&at)?;
    ensure!(!tops.is_empty(), "the process is not found");
    for top in tops {
        for entry in fs::read_dir(format!("/proc/{top}/fd"))? {
            let open = fs::read_link(entry?.path()).unwrap_or_default();
            ensure!(!open.to_string_lossy().contains("bpf"), "it has {} open", open.display());
        }
    }
    let mut hangs = fixture::hold("orphan_mutex", &[])?;
    hangs.release()?;
    let other = top(&hangs.pid().to_string())?;
    other.until("its finding", |screen| screen.contains("critical orphaned-lock"))?;
    other.press("Tab")?;
    other.press("Enter")?;
    let is_whole = |screen: &str| screen.contains("proof: ") && screen.contains("fix: ");
    other.until("the evidence of the finding", is_whole)?;
    hangs.end(None)?;
    daemon.stop()?;
    let screen = terminal.until("that nobody answers", |screen| screen.contains("NO ANSWER"))?;
    ensure!(is_workers(&screen), "what was known is shown still: {screen}");
    terminal.press("q")?;
    terminal.until("its end", |screen| screen.contains("ended with 0"))?;
    server.end(Some(Signal::SIGTERM)).map(drop)
}

/// Processes of forkwatch's with this argument.
fn processes_with(argument: &str) -> Result<Vec<u32>> {
    let binary = binary::forkwatch()?;
    let is_it = |pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.next() == Some(binary.as_os_str().as_encoded_bytes())
            && arguments.any(|given| given == argument.as_bytes())
    };
    let all = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(all.filter(is_it).collect())
}

fn is_workers(screen: &str) -> bool {
    lines(screen, " ready ") == 2
}

fn top_answers_in_a_storm_and_leaves_the_terminal_as_it_was() -> Result<()> {
    needs_root()?;
    let terminal = top(&[])?;
    terminal.until("a first screen", |screen| screen.contains("forkwatch: "))?;
    let mut storm = Program::hold(|_| Ok(Launch::new("/bin/sh").args(["-c", "while :; do (:); done"])))?;
    storm.release()?;
    let forks = |screen: &str| -> u64 {
        let counted = screen.lines().next().and_then(|head| head.split(" forks").next()?.rsplit(' ').next());
        counted.and_then(|count| count.parse().ok()).unwrap_or(0)
    };
    terminal.until("a storm", |screen| forks(screen) > 500)?;
    terminal.press("?")?;
    terminal.until("what the keys do", |screen| screen.contains("fold the workers of a server"))?;
    terminal.press("q")?;
    let screen = terminal.until("its end", |screen| screen.contains("ended with 0"))?;
    ensure!(!screen.contains("forks"), "the screen that was there before comes back: {screen}");
    Ok(())
}

fn top_needs_a_terminal() -> Result<()> {
    let output = Command::new(binary::forkwatch()?).arg("top").stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1) && said.contains("forkwatch tail"), "{output:?}");
    Ok(())
}

fn top_refuses_what_is_no_process() -> Result<()> {
    let arguments = ["top", "--pid", "4194303"];
    let terminal = Terminal::run(&words(&binary::forkwatch()?, &arguments), 80, 24)?;
    let screen = terminal.until("its end", |screen| screen.contains("ended with "))?;
    ensure!(screen.contains("4194303"), "{screen}");
    Ok(())
}
