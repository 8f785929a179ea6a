//! What becomes of children that were called stuck, and what else goes wrong with the children of a server.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::{fs::FileExt, net::UnixStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    crowd::{Crowd, impatient},
    daemon::Daemon,
    event::{Event, Finding},
    fixture,
    forkwatch::Forkwatch,
    process,
    program::Program,
    runner::Tests,
    scenario::{Scenario, gunicorn_with_a_stuck_worker, gunicorn_with_stuck_threads},
    tests, thread,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_worker_that_gunicorn_kills_was_stuck,
        threads_of_gunicorn_that_wait_for_a_lock_from_before_the_fork_are_found,
        a_worker_that_gunicorn_kills_waited_for_a_lost_thread,
        a_child_that_exits_for_a_signal_has_not_ended_by_itself,
        idle_workers_of_servers_are_silent,
    ])
    .and(
        // These count all stuck children of the host, or kill one and have its end told before a look finds it gone.
        Tests::alone(tests![
            a_stuck_child_that_another_kills_is_told_so,
            a_child_that_was_stuck_before_is_found,
            a_child_that_wakes_withdraws_its_finding,
            a_stuck_child_that_nobody_looks_at_is_unknown_and_not_gone,
        ]),
    )
    .and(Tests::long(tests![
        workers_that_keep_dying_are_a_crash_loop,
        jobs_of_which_some_fail_are_no_crash_loop,
        children_that_nobody_waits_for_are_found_and_cleared,
        lost_threads_are_found_where_the_child_works,
        a_thread_of_the_program_is_missed_where_a_request_waits_for_it,
    ]))
}

fn number(told: &Value, name: &str) -> Result<i64> {
    told.get(name).and_then(Value::as_i64).with_context(|| format!("the fixture told no {name}: {told}"))
}

fn is_finding(event: &Event, hazard: &str, is_it: impl Fn(Finding<'_>) -> bool) -> bool {
    event.finding().is_some_and(|finding| finding.hazard() == hazard && is_it(finding))
}

/// Waits for the resolution of a finding, which bears its number.
fn resolution(forkwatch: &mut Forkwatch, finding: &Event) -> Result<String> {
    let finding = finding.finding().context("it is a finding")?;
    let (hazard, number) = (finding.hazard(), finding.number());
    let resolved = forkwatch.wait_for("the resolution", |event| {
        is_finding(event, hazard, |other| other.state() == "resolved" && other.number() == number)
    })?;
    Ok(resolved.finding().context("it is a finding")?.resolution().to_owned())
}

/// Releases a mutex in a child from outside, as if its owner had.
fn release(child: i64, lock: &str) -> Result<()> {
    let address = u64::from_str_radix(lock.trim_start_matches("0x"), 16)?;
    let memory = OpenOptions::new().write(true).open(format!("/proc/{child}/mem"))?;
    // Lock, count and owner.
    memory.write_all_at(&[0; 12], address).context("cannot write the child's memory")?;
    // A stop interrupts the system call, which is begun again and finds the lock free.
    let child = Pid::from_raw(child.try_into()?);
    kill(child, Signal::SIGSTOP)?;
    until("the child to stop", || Ok(process::is_stopped(child.as_raw()).then_some(())))?;
    Ok(kill(child, Signal::SIGCONT)?)
}

fn a_child_that_wakes_withdraws_its_finding() -> Result<()> {
    let configuration = "[judge]\ngrace = \"100ms\"\nstuck_after = \"500ms\"\n";
    let mut daemon = Daemon::start(configuration, &["--events", "stdout"])?;
    let hazard = "hazard=\"orphaned-lock\"";
    let stuck = |daemon: &Daemon| daemon.metric("forkwatch_stuck_children", hazard);
    let woke = |daemon: &Daemon| {
        daemon.metric("forkwatch_findings_resolved_total", "hazard=\"orphaned-lock\",how=\"woke\"")
    };
    let mut program = fixture::hold_as("orphan_mutex", "fw-wakes", &[])?;
    program.release()?;
    let told = program.next_json()?;
    let child = number(&told, "child")?;
    let found = daemon.forkwatch.wait_for("the finding", |event| {
        event.pid() == Some(child) && is_finding(event, "orphaned-lock", |_| true)
    })?;
    // On a host of many tests others may be stuck as well.
    let before = stuck(&daemon)?;
    ensure!(before > 0.5, "{before} stuck children");
    until("the age of the oldest to grow", || {
        Ok((daemon.metric("forkwatch_stuck_children_oldest_seconds", hazard)? >= 1.0).then_some(()))
    })?;
    release(child, told.get("lock").and_then(Value::as_str).context("no lock")?)?;
    let how = resolution(&mut daemon.forkwatch, &found)?;
    ensure!(how == "woke", "resolved as {how}");
    until("the metrics to tell it", || {
        Ok((woke(&daemon)? > 0.5 && stuck(&daemon)? < before - 0.5).then_some(()))
    })?;
    program.end(None)?;
    daemon.stop()
}

fn a_stuck_child_that_nobody_looks_at_is_unknown_and_not_gone() -> Result<()> {
    let configuration = "[judge]\ngrace = \"100ms\"\nstuck_after = \"500ms\"\n";
    let mut daemon = Daemon::start(configuration, &["--events", "stdout"])?;
    let stuck = |daemon: &Daemon, state: &str| {
        let labels = format!("hazard=\"orphaned-lock\",state=\"{state}\"");
        Ok::<_, anyhow::Error>(daemon.metric("forkwatch_stuck_children", &labels)? > 0.5)
    };
    let mut program = fixture::hold_as("orphan_mutex", "fw-unseen", &[])?;
    program.release()?;
    let child = number(&program.next_json()?, "child")?;
    daemon.forkwatch.wait_for("the finding", |event| {
        event.pid() == Some(child) && is_finding(event, "orphaned-lock", |_| true)
    })?;
    ensure!(stuck(&daemon, "confirmed")?, "it is not counted");
    let held = thread::Held::new(thread::named(daemon.forkwatch.pid(), "evidence")?)?;
    until("it to be unknown", || {
        Ok((stuck(&daemon, "unknown")? && !stuck(&daemon, "confirmed")?).then_some(()))
    })?;
    drop(held);
    until("it to be seen again", || {
        Ok((stuck(&daemon, "confirmed")? && !stuck(&daemon, "unknown")?).then_some(()))
    })?;
    let events = daemon.forkwatch.events();
    let resolved = |event: &&Event| {
        event.pid() == Some(child) && is_finding(event, "orphaned-lock", |found| found.state() == "resolved")
    };
    ensure!(!events.iter().any(|event| resolved(&event)), "it was called over: {events:#?}");
    program.end(None)?;
    daemon.stop()
}

fn a_stuck_child_that_another_kills_is_told_so() -> Result<()> {
    let programs = vec![("orphan_mutex".to_owned(), fixture::hold("orphan_mutex", &[])?)];
    let mut crowd = Crowd::start(programs)?;
    let found = crowd.stuck_of(0)?;
    let child = crowd.member(0)?.child()?;
    kill(Pid::from_raw(child.try_into()?), Signal::SIGKILL)?;
    let how = resolution(&mut crowd.forkwatch, &found)?;
    ensure!(how == "killed-by-other", "resolved as {how}");
    let (events, _) = crowd.forkwatch.stop()?;
    let wrong = events.iter().find(|event| is_finding(event, "worker-killed-while-stuck", |_| true));
    ensure!(wrong.is_none(), "its parent did not kill it: {wrong:#?}");
    Ok(())
}

/// A request that is never answered.
fn ask(program: &mut Program) -> Result<UnixStream> {
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    Ok(stream)
}

fn a_worker_that_gunicorn_kills_was_stuck() -> Result<()> {
    let programs = vec![("gunicorn".to_owned(), gunicorn_with_a_stuck_worker(6, "wsgi_stuck")?)];
    let mut crowd = Crowd::start_with(programs, |_, program| {
        let request = ask(program)?;
        // Kept open: the worker must not find that nobody wants its answer any more.
        std::mem::forget(request);
        Ok(json!({}))
    })?;
    let master = i64::from(crowd.member(0)?.program.pid());
    let stuck = crowd.forkwatch.wait_for("a stuck worker", |event| {
        event.parent_pid() == Some(master) && is_finding(event, "orphaned-lock", |_| true)
    })?;
    let finding = stuck.finding().context("it is a finding")?;
    ensure!(finding.program() == "gunicorn" && finding.certainty() == "strong", "{stuck:#?}");
    ensure!(finding.remedy().contains("post_fork"), "{stuck:#?}");
    let script = finding.lock().pointer("/script/frames/0").context("no script frames")?;
    ensure!(
        script.get("function") == Some(&json!("application"))
            && script
                .get("module")
                .and_then(Value::as_str)
                .is_some_and(|file| file.ends_with("wsgi_stuck.py"))
            && script.get("line").is_some(),
        "wrong place in the script: {stuck:#?}"
    );
    let worker = stuck.pid();
    let killed = crowd.forkwatch.wait_for("gunicorn's time limit", |event| {
        event.pid() == worker && is_finding(event, "worker-killed-while-stuck", |_| true)
    })?;
    let summary = killed.finding().context("it is a finding")?.summary();
    let number = finding.number().context("no number")?;
    ensure!(summary.contains("gunicorn's worker timeout (--timeout)"), "{summary}");
    ensure!(summary.contains(&format!("finding #{number} ")), "{summary}");
    let how = resolution(&mut crowd.forkwatch, &stuck)?;
    ensure!(how == "killed-by-parent", "resolved as {how}");
    crowd.forkwatch.stop().map(drop)
}

/// Its main thread lives, so that gunicorn never kills it; it has handlers, and other threads.
fn threads_of_gunicorn_that_wait_for_a_lock_from_before_the_fork_are_found() -> Result<()> {
    let programs = vec![("gunicorn".to_owned(), gunicorn_with_stuck_threads("wsgi_stuck")?)];
    let mut crowd = Crowd::start_with(programs, |_, program| {
        for _ in 0..3 {
            std::mem::forget(ask(program)?);
        }
        Ok(json!({}))
    })?;
    let master = i64::from(crowd.member(0)?.program.pid());
    let stuck = crowd.forkwatch.wait_for("stuck threads", |event| {
        event.parent_pid() == Some(master) && is_finding(event, "orphaned-lock", |_| true)
    })?;
    let finding = stuck.finding().context("it is a finding")?;
    let proof = finding.lock().pointer("/proof").and_then(Value::as_str);
    let is = (proof, finding.certainty(), finding.state());
    ensure!(is == (Some("held-at-fork"), "strong", "confirmed"), "{stuck:#?}");
    let function = finding.lock().pointer("/script/frames/0/function");
    ensure!(function == Some(&json!("application")), "wrong place in the script: {stuck:#?}");
    ensure!(finding.summary().contains("was held right after the fork"), "{}", finding.summary());
    crowd.forkwatch.stop().map(drop)
}

fn a_worker_that_gunicorn_kills_waited_for_a_lost_thread() -> Result<()> {
    const LOST: &str = "waits-for-lost-thread";
    let programs = vec![("gunicorn".to_owned(), gunicorn_with_a_stuck_worker(8, "wsgi_executor")?)];
    let mut crowd = Crowd::start_with(programs, |_, program| {
        let request = ask(program)?;
        // Kept open: the worker must not find that nobody wants its answer any more.
        std::mem::forget(request);
        Ok(json!({}))
    })?;
    let master = i64::from(crowd.member(0)?.program.pid());
    let stuck = crowd.forkwatch.wait_for("a worker that waits", |event| {
        event.parent_pid() == Some(master) && is_finding(event, LOST, |_| true)
    })?;
    let finding = stuck.finding().context("it is a finding")?;
    let is = (finding.program(), finding.certainty(), finding.state());
    ensure!(is == ("gunicorn", "strong", "confirmed"), "{stuck:#?}");
    let parts = ["Future.result", "of the parent, now in ", "_worker (thread.py:"];
    ensure!(parts.iter().all(|part| finding.summary().contains(part)), "{}", finding.summary());
    ensure!(finding.remedy().contains("post_fork"), "{stuck:#?}");
    let (worker, number) = (stuck.pid(), finding.number().context("no number")?);
    let killed = crowd.forkwatch.wait_for("gunicorn's time limit", |event| {
        event.pid() == worker && is_finding(event, "worker-killed-while-stuck", |_| true)
    })?;
    let summary = killed.finding().context("it is a finding")?.summary();
    ensure!(summary.contains(&format!("finding #{number} ")), "{summary}");
    crowd.forkwatch.stop().map(drop)
}

fn a_thread_of_the_program_is_missed_where_a_request_waits_for_it() -> Result<()> {
    let programs = vec![("gunicorn".to_owned(), gunicorn_with_stuck_threads("wsgi_mailer")?)];
    let mut crowd = Crowd::start_with(programs, |_, program| {
        std::mem::forget(ask(program)?);
        Ok(json!({}))
    })?;
    let missed = crowd.forkwatch.wait_longer_for(Duration::from_secs(120), "a missing thread", |event| {
        is_finding(event, "lost-threads", |_| true)
    })?;
    let finding = missed.finding().context("it is a finding")?;
    ensure!((finding.certainty(), finding.state()) == ("heuristic", "suspected"), "{missed:#?}");
    let parts = ["lacks the thread mailer", "_mail (wsgi_mailer.py:", "application (wsgi_mailer.py:"];
    ensure!(parts.iter().all(|part| finding.summary().contains(part)), "{}", finding.summary());
    ensure!(finding.remedy().contains("post_fork"), "{missed:#?}");
    crowd.forkwatch.stop().map(drop)
}

fn a_child_that_exits_for_a_signal_has_not_ended_by_itself() -> Result<()> {
    const HAZARD: &str = "multithreaded-fork";
    let mut program = fixture::hold("told_to_end", &[])?;
    let configuration = "[judge]\ngrace = \"100ms\"\n";
    let mut daemon = Daemon::start(configuration, &["--events", "stdout"])?;
    program.release()?;
    let child = number(&program.next_json()?, "child")?;
    let found = daemon
        .forkwatch
        .wait_for("the finding", |event| event.pid() == Some(child) && is_finding(event, HAZARD, |_| true))?;
    let number = found.finding().context("it is a finding")?.number();
    program.step()?;
    let over = daemon.forkwatch.wait_for("the resolution", |event| {
        is_finding(event, HAZARD, |other| other.state() == "resolved" && other.number() == number)
    })?;
    let finding = over.finding().context("it is a finding")?;
    let told = format!(
        "exited with code 1 after its parent told_to_end (pid {}) had sent it SIGABRT",
        program.pid()
    );
    ensure!(finding.summary().ends_with(&told), "{}", finding.summary());
    ensure!(finding.resolution() == "killed-by-parent", "resolved as {}", finding.resolution());
    let end = over.0.pointer("/forkwatch/finding/evidence/end").context("no end")?;
    let sender = json!({ "pid": program.pid(), "name": "told_to_end" });
    ensure!(
        end.get("exit_code") == Some(&json!(1))
            && end.get("signal") == Some(&json!("SIGABRT"))
            && end.get("sent_by") == Some(&json!("parent"))
            && end.get("sender") == Some(&sender),
        "{end:#}"
    );
    until("the metrics to tell it", || {
        let labels = "hazard=\"multithreaded-fork\",how=\"killed-by-parent\"";
        Ok((daemon.metric("forkwatch_findings_resolved_total", labels)? > 0.5).then_some(()))
    })?;
    program.end(None)?;
    daemon.stop()
}

fn idle_workers_of_servers_are_silent() -> Result<()> {
    let scenarios = [
        "gunicorn_preloads_an_application_with_a_thread_for_threaded_workers",
        "celery_forks_workers_beside_a_thread_started_at_import",
        "uwsgi_loads_an_application_with_a_thread_in_its_master",
    ];
    let scenarios = scenarios.map(Scenario::named).into_iter().collect::<Result<Vec<_>>>()?;
    let hold = |scenario: &&Scenario| Ok((scenario.name.to_owned(), scenario.hold()?));
    let programs = scenarios.iter().map(hold).collect::<Result<_>>()?;
    let work = |index: usize, program: &mut Program| {
        scenarios.get(index).context("no such scenario")?.work(program)?;
        Ok(json!({}))
    };
    Crowd::start_with(programs, work)?.expect_silence(|_, _| false)
}

fn a_child_that_was_stuck_before_is_found() -> Result<()> {
    let mut program = fixture::hold("orphan_mutex", &[])?;
    program.release()?;
    let told = program.next_json()?;
    let mut arguments = impatient();
    arguments.extend(["--pid".to_owned(), program.pid().to_string()]);
    let mut forkwatch = Forkwatch::tail(arguments)?;
    let child = number(&told, "child")?;
    let found = forkwatch.wait_for("the finding about a child of before", |event| {
        event.pid() == Some(child) && is_finding(event, "orphaned-lock", |_| true)
    })?;
    let finding = found.finding().context("it is a finding")?;
    ensure!(finding.thread_names() == ["metrics-push"] && finding.certainty() == "certain", "{found:#?}");
    // Its end is reported although its fork was not: it is watched from the moment that it is suspect.
    kill(Pid::from_raw(child.try_into()?), Signal::SIGKILL)?;
    let how = resolution(&mut forkwatch, &found)?;
    ensure!(how == "killed-by-other", "resolved as {how}");
    forkwatch.stop().map(drop)
}

fn workers_that_keep_dying_are_a_crash_loop() -> Result<()> {
    let mut program = fixture::hold("segfault_loop", &[])?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    // They must have died for 20 s.
    let found = forkwatch.wait_longer_for(Duration::from_secs(50), "the crash loop", |event| {
        is_finding(event, "crash-loop", |_| true)
    })?;
    let finding = found.finding().context("it is a finding")?;
    ensure!(finding.parent_pid() == Some(program.pid().into()), "wrong parent: {found:#?}");
    ensure!(finding.program() == "segfault_loop" && finding.state() == "confirmed", "{found:#?}");
    ensure!(found.text("/forkwatch/finding/evidence/history/ends/0/how") == "SIGSEGV", "{found:#?}");
    ensure!(finding.summary().contains("killed by SIGSEGV"), "{}", finding.summary());
    program.end(None)?;
    let (events, _) = forkwatch.stop()?;
    let loops = events.iter().filter(|event| is_finding(event, "crash-loop", |_| true)).count();
    ensure!(loops == 1, "told {loops} times");
    Ok(())
}

fn jobs_of_which_some_fail_are_no_crash_loop() -> Result<()> {
    const FAILED: i64 = 8;
    let mut slow = fixture::hold_as("jobs", "fw-slow-jobs", &[])?;
    let mut fast = fixture::hold_as("jobs", "fw-fast-jobs", &["2000"])?;
    let mut server = fixture::hold_as("crash_loop", "fw-crashes", &[])?;
    let mut daemon = Daemon::start("", &["--events", "stdout"])?;
    for program in [&mut slow, &mut fast, &mut server] {
        program.release()?;
        program.next_json()?;
    }
    // What fails as often as the jobs and is replaced is found.
    daemon.forkwatch.wait_longer_for(Duration::from_secs(60), "the crash loop", |event| {
        is_finding(event, "crash-loop", |finding| finding.program() == "fw-crashes")
    })?;
    for program in [&mut fast, &mut slow] {
        while number(&program.next_json()?, "failed")? < FAILED {}
        // The next good ends come behind the failure in the ring.
    }
    for mut program in [slow, fast, server] {
        program.end(None)?;
    }
    let wrong = daemon
        .forkwatch
        .events()
        .into_iter()
        .find(|event| is_finding(event, "crash-loop", |finding| finding.program().ends_with("-jobs")));
    ensure!(wrong.is_none(), "jobs are no crash loop: {wrong:#?}");
    daemon.stop()
}

fn children_that_nobody_waits_for_are_found_and_cleared() -> Result<()> {
    let mut program = fixture::hold("unreaped", &["late"])?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    program.next_json()?;
    let found = forkwatch.wait_longer_for(Duration::from_secs(120), "the unreaped children", |event| {
        is_finding(event, "unreaped-children", |_| true)
    })?;
    let finding = found.finding().context("it is a finding")?;
    ensure!(finding.parent_pid() == Some(program.pid().into()), "wrong parent: {found:#?}");
    ensure!(finding.program() == "unreaped", "{found:#?}");
    ensure!(finding.summary().contains('6'), "{}", finding.summary());
    let number = finding.number();
    program.step()?;
    let cleared = forkwatch.wait_longer_for(Duration::from_secs(60), "the end of it", |event| {
        is_finding(event, "unreaped-children", |other| {
            other.state() == "resolved" && other.number() == number
        })
    })?;
    ensure!(cleared.finding().is_some_and(|finding| finding.resolution() == "cleared"), "{cleared:#?}");
    program.end(None)?;
    forkwatch.stop().map(drop)
}

fn lost_threads_are_found_where_the_child_works() -> Result<()> {
    let mut working = fixture::hold_as("lost_thread", "fw-working", &[])?;
    let mut idle = fixture::hold_as("lost_thread", "fw-idle", &["idle"])?;
    let mut forkwatch = Forkwatch::tail_pids(&[working.pid(), idle.pid()])?;
    idle.release()?;
    idle.next_json()?;
    working.release()?;
    let told = working.next_json()?;
    let child = number(&told, "child")?;
    let found = forkwatch.wait_longer_for(Duration::from_secs(150), "the lost thread", |event| {
        is_finding(event, "lost-threads", |_| true)
    })?;
    let finding = found.finding().context("it is a finding")?;
    ensure!(found.pid() == Some(child), "the wrong child: {found:#?}");
    ensure!(finding.thread_names() == ["OtelPeriodicExp"], "the wrong thread: {found:#?}");
    ensure!(finding.summary().contains("OpenTelemetry"), "{}", finding.summary());
    idle.end(None)?;
    working.end(None)?;
    let (events, _) = forkwatch.stop()?;
    let wrong =
        events.iter().find(|event| event.pid() != Some(child) && is_finding(event, "lost-threads", |_| true));
    ensure!(wrong.is_none(), "the idle child does not lack its thread: {wrong:#?}");
    Ok(())
}
