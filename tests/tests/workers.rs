//! The lives of workers: what is told of real servers' workers, beside what `pyramid_forksafe` tells their application.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    event::Event,
    forksafe::{Noted, Teller, time},
    forkwatch::Forkwatch,
    host::workspace,
    process,
    program::{Launch, Program},
    runner::Tests,
    scenario::{
        Scenario, gunicorn_with_connection, gunicorn_with_connection_and_thread, plain_gunicorn, plain_uwsgi,
        uwsgi_with,
    },
    tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_sync_worker_of_gunicorn_is_ready_after_its_hooks,
        a_threaded_worker_of_gunicorn_is_ready_after_its_hooks,
        a_gevent_worker_of_gunicorn_is_ready_after_its_hooks,
        a_worker_of_uwsgi_is_ready_after_its_hook,
        a_worker_that_is_killed_is_told_with_its_killer_and_replaced,
        a_uwsgi_without_a_master_is_told_of_it,
        a_uwsgi_whose_threads_never_run_is_told_of_it,
        workers_that_have_renewed_nothing_are_told_and_others_are_not,
        what_was_found_about_a_fork_is_not_told_of_its_worker_again,
        the_control_thread_of_gunicorn_is_told_from_threads_of_the_application,
        the_jobs_of_a_shell_are_no_workers,
        workers_that_exec_are_not_followed,
    ])
}

fn is(event: &Event, action: &str) -> bool {
    event.action() == action
}

/// Every worker is ready after its own hooks have run, and not long after. How late it was told, a loaded host decides:
/// that is printed.
fn ready_after_the_hooks(teller: Teller) -> Result<()> {
    /// What no host takes that is not stuck.
    const MOST: i64 = 20_000_000_000;
    let mut program = teller.hold()?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
    let workers: Vec<i64> =
        process::descendants(program.pid()).iter().map(|process| i64::from(process.pid)).collect();
    for worker in workers {
        let of_it =
            |action: &'static str| move |event: &Event| is(event, action) && event.pid() == Some(worker);
        let ready = forkwatch.wait_for("a worker that is ready", of_it("worker_ready"))?;
        let forked = forkwatch.wait_for("its fork", of_it("worker_forked"))?;
        let noted = Noted::by(&program, worker).with_context(|| program.output())?;
        let (warm, last, told) = (noted.at("warm")?, noted.at(teller.last())?, time(&ready)?);
        ensure!(told >= warm, "ready {} ns before the hook of the fork is done: {ready:?}", warm - told);
        ensure!(time(&forked)? <= noted.at("fork")?, "forked after it was told of its fork: {forked:?}");
        eprintln!("{}: ready told {} us after `{}`", teller.name(), (told - last) / 1000, teller.last());
        ensure!(told - last < MOST, "{ready:?}");
        ensure!(forked.parent_pid() == Some(program.pid().into()), "{forked:?}");
    }
    program.end(Some(Signal::SIGTERM))?;
    let (events, _) = forkwatch.stop()?;
    let count = |action: &str| events.iter().filter(|event| is(event, action)).count();
    ensure!((count("worker_forked"), count("worker_ready")) == (2, 2), "{events:#?}");
    Ok(())
}

fn a_sync_worker_of_gunicorn_is_ready_after_its_hooks() -> Result<()> {
    ready_after_the_hooks(Teller::Gunicorn("sync"))
}

fn a_threaded_worker_of_gunicorn_is_ready_after_its_hooks() -> Result<()> {
    ready_after_the_hooks(Teller::Gunicorn("gthread"))
}

fn a_gevent_worker_of_gunicorn_is_ready_after_its_hooks() -> Result<()> {
    ready_after_the_hooks(Teller::Gunicorn("gevent"))
}

fn a_worker_of_uwsgi_is_ready_after_its_hook() -> Result<()> {
    ready_after_the_hooks(Teller::Uwsgi)
}

fn a_worker_that_is_killed_is_told_with_its_killer_and_replaced() -> Result<()> {
    let mut program = Program::hold(|folder| plain_uwsgi(folder, true))?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    let ready = forkwatch.wait_for("a worker that is ready", |event| is(event, "worker_ready"))?;
    let worker = ready.pid().context("no pid")?;
    ensure!(ready.text("/forkwatch/worker/server") == "uWSGI", "{ready:?}");
    kill(Pid::from_raw(i32::try_from(worker)?), Signal::SIGKILL)?;
    let ended =
        forkwatch.wait_for("its end", |event| is(event, "worker_exited") && event.pid() == Some(worker))?;
    ensure!(ended.text("/forkwatch/worker/end/signal") == "SIGKILL", "{ended:?}");
    ensure!(ended.text("/forkwatch/worker/end/sent_by") == "other", "{ended:?}");
    ensure!(ended.text("/forkwatch/worker/state") == "ready", "{ended:?}");
    let own = i64::from(std::process::id());
    let sender = ended.0.pointer("/forkwatch/worker/end/sender/pid").and_then(Value::as_i64);
    ensure!(sender == Some(own), "{ended:?}");
    let replaced = forkwatch.wait_for("another in its place", |event| is(event, "worker_replaced"))?;
    let before = replaced.0.pointer("/forkwatch/worker/replaces").and_then(Value::as_i64);
    ensure!(before == Some(worker), "{replaced:?}");
    // It is told of in one order: who is forked in another's place, and is ready then.
    let another = replaced.pid();
    forkwatch.wait_for("it to be ready", |event| is(event, "worker_ready") && event.pid() == another)?;
    program.end(Some(Signal::SIGTERM))?;
    let (events, _) = forkwatch.stop()?;
    let of_it = |event: &&Event| event.pid() == another && event.action().starts_with("worker_");
    let told: Vec<&str> = events.iter().filter(of_it).map(Event::action).collect();
    let (begin, _) = told.split_at(told.len().min(3));
    ensure!(begin == ["worker_forked", "worker_replaced", "worker_ready"], "{told:?}");
    Ok(())
}

fn the_control_thread_of_gunicorn_is_told_from_threads_of_the_application() -> Result<()> {
    for (name, advice) in [
        ("gunicorn_25_1_0_forks_beside_its_own_control_thread", "--no-control-socket"),
        ("gunicorn_preloads_an_application_with_a_thread", "post_fork"),
    ] {
        // On a busy host it is told before it is known what the thread does, and then the advice is the usual one.
        let remedy = until("a finding that says what the thread does", || remedy_of(name))?;
        ensure!(remedy.contains(advice), "{name}: {remedy}");
    }
    Ok(())
}

/// What to change in a program that forks beside a thread; nothing where it was not seen what the thread does.
fn remedy_of(name: &str) -> Result<Option<String>> {
    let mut program = Scenario::named(name)?.hold()?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    let is_it = |event: &Event| {
        event.finding().is_some_and(|finding| {
            ["multithreaded-fork", "held-locks"].contains(&finding.hazard()) && finding.state() == "suspected"
        })
    };
    let found = forkwatch.wait_for("the finding about the thread", is_it)?;
    let finding = found.finding().context("no finding")?;
    let is_known = finding.evidence("threads").any(|thread| thread.get("at").is_some());
    let remedy = is_known.then(|| finding.remedy().to_owned());
    program.end(Some(Signal::SIGTERM))?;
    forkwatch.stop()?;
    Ok(remedy)
}

fn a_uwsgi_without_a_master_is_told_of_it() -> Result<()> {
    let hold = |master: bool| Program::hold(|folder| plain_uwsgi(folder, master));
    let (mut with, mut without) = (hold(true)?, hold(false)?);
    let mut forkwatch = Forkwatch::tail_pids(&[with.pid(), without.pid()])?;
    with.release()?;
    without.release()?;
    let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.hazard() == "server-setup");
    let found = forkwatch.wait_for("the finding about the server", is_it)?;
    ensure!(found.pid() == Some(without.pid().into()), "{found:?}");
    with.end(Some(Signal::SIGTERM))?;
    let (events, _) = forkwatch.stop()?;
    ensure!(events.iter().filter(|event| is_it(event)).count() == 1, "{events:#?}");
    Ok(())
}

/// Threads of the server's own run, whether Python's do or not.
fn a_uwsgi_whose_threads_never_run_is_told_of_it() -> Result<()> {
    let hold = |application: &'static str, arguments: &[&str]| {
        let arguments = [&["--master", "--lazy-apps"], arguments].concat();
        Program::hold(|folder| uwsgi_with(folder, application, &arguments))
    };
    let mut other = hold("wsgi.py", &["--offload-threads", "2"])?;
    let mut program = hold("wsgi_with_thread.py", &[])?;
    let mut forkwatch = Forkwatch::tail_pids(&[other.pid(), program.pid()])?;
    other.release()?;
    let pid = Some(other.pid().into());
    let is_ready = |event: &Event| is(event, "worker_ready") && event.parent_pid() == pid;
    forkwatch.wait_for("a worker that is ready", is_ready)?;
    // Its workers are ready later, and looked at later.
    program.release()?;
    // It is about the master itself, which is nobody's child here.
    let is_of = |event: &Event, server: &Program| {
        event.finding().is_some_and(|finding| finding.hazard() == "server-setup")
            && event.pid() == Some(server.pid().into())
    };
    let found = forkwatch.wait_for("the finding about threads", |event| is_of(event, &program))?;
    let summary = found.finding().context("no finding")?.summary();
    ensure!(summary.contains("without enable-threads"), "{summary}");
    let (events, _) = forkwatch.stop()?;
    ensure!(!events.iter().any(|event| is_of(event, &other)), "{events:#?}");
    Ok(())
}

/// Nobody has to accept: connections wait in the backlog.
fn listener() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// Waits until workers of all these servers are ready, and then has another one started whose workers hold a connection.
/// Once it is told of that one, the others have been looked at.
fn until_all_are_looked_at(
    forkwatch: &mut Forkwatch,
    servers: &[&Program],
    last: &mut Program,
) -> Result<()> {
    for server in servers {
        let ready =
            |event: &Event| is(event, "worker_ready") && event.parent_pid() == Some(server.pid().into());
        forkwatch.wait_for("a worker that is ready", ready)?;
    }
    last.release()?;
    let found = forkwatch.wait_for("a worker that holds a connection", |event| is_setup_of(event, last))?;
    let summary = found.finding().context("no finding")?.summary();
    ensure!(summary.contains("it holds the master's connection"), "{summary}");
    ensure!(!summary.contains("threads"), "{summary}");
    Ok(())
}

fn is_setup_of(event: &Event, server: &Program) -> bool {
    let is_it = event.finding().is_some_and(|finding| finding.hazard() == "server-setup");
    is_it && event.parent_pid() == Some(server.pid().into())
}

/// Servers that had forked their workers before anybody watched: nothing is known of their forks.
fn workers_that_have_renewed_nothing_are_told_and_others_are_not() -> Result<()> {
    let (_listener, address) = listener()?;
    let gunicorn =
        |renews| Program::hold(|folder| gunicorn_with_connection_and_thread(folder, &address, renews));
    let plain = |arguments: &[&str]| Program::hold(|folder| plain_gunicorn(folder, arguments));
    let celery = Scenario::named("celery_forks_workers_beside_a_thread_started_at_import")?.hold()?;
    let mut servers = [
        gunicorn(false)?,
        celery,
        gunicorn(true)?,
        plain(&["wsgi_with_thread"])?,
        plain(&["--preload", "wsgi_with_numpy"])?,
    ];
    for program in &mut servers {
        program.release()?;
        program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
    }
    let mut last = Program::hold(|folder| gunicorn_with_connection(folder, &address, &[]))?;
    let pids: Vec<i32> = servers.iter().chain([&last]).map(Program::pid).collect();
    let mut forkwatch = Forkwatch::tail_pids(&pids)?;
    let (told, silent) = servers.split_at(2);
    for program in told {
        let found =
            forkwatch.wait_for("a worker that has renewed nothing", |event| is_setup_of(event, program))?;
        let summary = found.finding().context("no finding")?.summary();
        ensure!(summary.contains("metrics-push"), "{summary}");
        ensure!(summary.contains(&address) == summary.starts_with("gunicorn"), "{summary}");
    }
    let all: Vec<&Program> = servers.iter().collect();
    until_all_are_looked_at(&mut forkwatch, &all, &mut last)?;
    let found =
        |program: &Program| forkwatch.events().iter().filter(|event| is_setup_of(event, program)).count();
    ensure!(told.iter().all(|program| found(program) == 1), "{:#?}", forkwatch.events());
    ensure!(silent.iter().all(|program| found(program) == 0), "{:#?}", forkwatch.events());
    for program in servers.iter_mut().chain([&mut last]) {
        program.end(Some(Signal::SIGTERM))?;
    }
    forkwatch.ended().map(drop)
}

/// What was said of the fork itself is not said again.
fn what_was_found_about_a_fork_is_not_told_of_its_worker_again() -> Result<()> {
    let (_listener, address) = listener()?;
    let mut program = Program::hold(|folder| gunicorn_with_connection_and_thread(folder, &address, false))?;
    let mut last = Program::hold(|folder| gunicorn_with_connection(folder, &address, &[]))?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid(), last.pid()])?;
    program.release()?;
    let of_fork = |event: &Event| {
        event
            .finding()
            .is_some_and(|finding| ["multithreaded-fork", "held-locks"].contains(&finding.hazard()))
    };
    forkwatch.wait_for("the finding about the fork", of_fork)?;
    until_all_are_looked_at(&mut forkwatch, &[&program], &mut last)?;
    let events = forkwatch.events();
    ensure!(!events.iter().any(|event| is_setup_of(event, &program)), "{events:#?}");
    for program in [&mut program, &mut last] {
        program.end(Some(Signal::SIGTERM))?;
    }
    forkwatch.ended().map(drop)
}

/// Subshells, pipes and commands, each for a moment.
fn the_jobs_of_a_shell_are_no_workers() -> Result<()> {
    let script = "i=0; while [ $i -lt 60 ]; do (:) & (read -t 0.2 x < /dev/zero; :) | /bin/true; i=$((i+1)); done; wait";
    let mut program = Program::hold(|_| Ok(Launch::new("/bin/bash").args(["-c", script])))?;
    let forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    program.wait_for_success()?;
    let (events, _) = forkwatch.stop()?;
    let forks = events.iter().filter(|event| is(event, "fork")).count();
    ensure!(forks >= 60, "only {forks} forks");
    let workers: Vec<_> = events.iter().filter(|event| event.action().starts_with("worker_")).collect();
    ensure!(workers.is_empty(), "{workers:#?}");
    Ok(())
}

/// What has exec'd has nothing of its forker's that a fork could hurt.
fn workers_that_exec_are_not_followed() -> Result<()> {
    let preforker = |what: &str| {
        let script = workspace().join("tests/fixtures/python/preforker.py");
        Program::hold(|_| Ok(Launch::new("/usr/bin/python3").args([script.into_os_string(), what.into()])))
    };
    let (mut execs, mut stays) = (preforker("exec")?, preforker("stay")?);
    let mut forkwatch = Forkwatch::tail_pids(&[execs.pid(), stays.pid()])?;
    execs.release()?;
    forkwatch.wait_until("both workers to exec", |events| {
        let execs = |event: &&Event| is(event, "exec") && event.text("/process/name") == "sleep";
        events.iter().filter(execs).count() == 2
    })?;
    // These are forked later, so that the others would have been known for workers by the time that these are.
    stays.release()?;
    let of = |program: &Program| {
        let pid = i64::from(program.pid());
        move |event: &Event| is(event, "worker_ready") && event.parent_pid() == Some(pid)
    };
    forkwatch.wait_for("a worker that stays", of(&stays))?;
    let events = forkwatch.events();
    let wrong = |event: &&Event| {
        event.action().starts_with("worker_") && event.parent_pid() == Some(execs.pid().into())
    };
    ensure!(!events.iter().any(|event| wrong(&event)), "{events:#?}");
    for program in [&mut execs, &mut stays] {
        program.end(Some(Signal::SIGTERM))?;
    }
    forkwatch.ended().map(drop)
}
