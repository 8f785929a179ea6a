//! `forkwatch top` in a real terminal: a server and its workers, other sizes, a storm, and the end of what is shown.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use forkwatch_tests::{
    binary,
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
        top_needs_a_terminal,
        top_refuses_what_is_no_process,
    ])
}

fn top(arguments: &[&str]) -> Result<Terminal> {
    let arguments = [&["top"], arguments].concat();
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
