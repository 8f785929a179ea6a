//! Programs of ours under watch, each of which forks in one known way.

use std::process::Command;

use std::ffi::OsString;

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::Event,
    expectation::{Expected, SILENCE, multithreaded},
    host::workspace,
    program::{Launch, Program},
    provided::{Provided, provided},
    runner::Tests,
    tests,
    watched::Watched,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_fork_beside_threads_is_found_with_their_names,
        an_exec_in_time_is_silent,
        a_late_exec_withdraws_the_finding,
        threads_joined_before_the_fork_are_silent,
        pending_and_blocked_signals_are_named,
        posix_spawn_among_signals_is_silent,
        a_storm_of_pthread_create_beside_short_forks_is_silent,
        sigterm_blocked_at_exec_is_found,
        a_signal_taken_in_through_a_signalfd_is_silent,
        a_daemon_that_forks_twice_is_silent,
        a_daemon_whose_threads_stayed_behind_is_found,
        a_daemon_that_forks_twice_beside_threads_is_found,
        io_uring_workers_are_no_threads,
        vfork_is_told_apart,
        a_child_that_shares_memory_is_told_apart,
        generations_are_counted,
        a_stopped_child_is_judged_only_once_it_runs,
        a_fork_storm_is_silent_and_every_fork_reported,
        a_thread_storm_is_silent,
        hostile_names_keep_events_well_formed,
        an_event_loop_that_runs_on_in_a_child_is_found,
        signals_that_go_to_the_loop_of_the_parent_are_found,
        event_loops_apart_are_silent,
        a_lock_that_a_child_keeps_is_found_among_its_look_alikes,
        files_that_two_processes_use_are_found_among_their_look_alikes,
        output_from_before_the_fork_is_found_among_its_look_alikes,
        a_child_that_runs_on_is_found_among_its_look_alikes,
        random_numbers_that_two_children_draw_are_found,
        random_numbers_that_differ_or_are_not_drawn_are_silent,
        random_numbers_of_php_are_found_among_their_look_alikes,
        random_numbers_of_ruby_are_found_among_their_look_alikes,
    ])
}

/// A number that the fixture told.
fn number(told: &Value, name: &str) -> Result<i64> {
    told.get(name).and_then(Value::as_i64).with_context(|| format!("the fixture told no {name}: {told}"))
}

/// Numbers that the fixture told, in order of size.
fn numbers(told: &Value, name: &str) -> Result<Vec<i64>> {
    let list = told.get(name).and_then(Value::as_array).with_context(|| format!("no {name} in {told}"))?;
    let mut numbers: Vec<i64> = list.iter().filter_map(Value::as_i64).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Runs a fixture that is safe; gives back what it told and the events about it.
fn safe(name: &str, arguments: &[&str]) -> Result<(Value, Vec<Event>)> {
    let mut watched = Watched::fixture(name, arguments)?;
    let told = watched.program.next_json()?;
    watched.expect(SILENCE)?;
    Ok((told, watched.stop()?))
}

/// The event of this action about this process.
fn event<'a>(events: &'a [Event], action: &str, pid: i64) -> Result<&'a Event> {
    let found = events.iter().find(|event| event.action() == action && event.pid() == Some(pid));
    found.with_context(|| format!("no {action} of {pid} in {events:#?}"))
}

fn a_fork_beside_threads_is_found_with_their_names() -> Result<()> {
    let expected = [multithreaded("mt_fork", &["metrics-push", "log-flush"])];
    let mut watched = Watched::fixture("mt_fork", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected[0])?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "child")?), "wrong child: {event:#?}");
    ensure!(finding.parent_pid() == Some(number(&told, "parent")?), "wrong parent: {event:#?}");
    let mut threads = finding.thread_ids();
    threads.sort_unstable();
    ensure!(threads == numbers(&told, "threads")?, "wrong threads: {event:#?}");
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn an_exec_in_time_is_silent() -> Result<()> {
    let (told, events) = safe("mt_fork_exec", &[])?;
    let child = number(&told, "child")?;
    ensure!(event(&events, "fork", child)?.threads() == Some(2), "wrong number of threads: {events:#?}");
    ensure!(event(&events, "exec", child)?.name() == "cat", "wrong program: {events:#?}");
    Ok(())
}

fn a_late_exec_withdraws_the_finding() -> Result<()> {
    let mut watched = Watched::fixture("mt_fork_exec_late", &[])?;
    watched.program.next_json()?;
    let found = watched.finding(&multithreaded("mt_fork_exec_late", &["metrics-push"]))?;
    let id = found.finding().context("it is a finding")?.id().clone();
    watched.program.step()?;
    watched.forkwatch.wait_for("the finding to be withdrawn", |event| {
        event.finding().is_some_and(|finding| finding.state() == "resolved" && *finding.id() == id)
    })?;
    watched.stop().map(drop)
}

fn threads_joined_before_the_fork_are_silent() -> Result<()> {
    let (told, events) = safe("join_before_fork", &[])?;
    ensure!(event(&events, "fork", number(&told, "child")?)?.threads() == Some(1), "{events:#?}");
    Ok(())
}

fn pending_and_blocked_signals_are_named() -> Result<()> {
    let expected = [Expected {
        hazard: "pending-signals",
        severity: "info",
        program: Some("pending_signals"),
        threads: &[],
        signals: &["SIGUSR1", "SIGUSR2"],
    }];
    let mut watched = Watched::fixture("pending_signals", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected[0])?;
    ensure!(event.pid() == Some(number(&told, "child")?), "wrong child: {event:#?}");
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn posix_spawn_among_signals_is_silent() -> Result<()> {
    let (told, events) = safe("posix_spawn_masked", &[])?;
    for child in numbers(&told, "children")? {
        ensure!(event(&events, "fork", child)?.kind() == "vfork", "posix_spawn is a vfork: {events:#?}");
    }
    Ok(())
}

fn a_storm_of_pthread_create_beside_short_forks_is_silent() -> Result<()> {
    let (told, events) = safe("pthread_create_storm", &[])?;
    let forks = events.iter().filter(|event| event.action() == "fork").count();
    ensure!(i64::try_from(forks)? == number(&told, "forks")?, "{forks} forks reported of {told}");
    Ok(())
}

fn sigterm_blocked_at_exec_is_found() -> Result<()> {
    let expected = [Expected {
        hazard: "blocked-signals",
        severity: "warning",
        program: None,
        threads: &[],
        signals: &["SIGTERM"],
    }];
    let mut watched = Watched::fixture("blocked_at_exec", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected[0])?;
    ensure!(event.pid() == Some(number(&told, "child")?), "wrong process: {event:#?}");
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn a_signal_taken_in_through_a_signalfd_is_silent() -> Result<()> {
    let mut watched = Watched::fixture("blocked_but_signalfd", &[])?;
    // Parent and child each tell that they are where they want to be, in either order.
    watched.program.next_json()?;
    watched.program.next_json()?;
    watched.expect(SILENCE)?;
    watched.stop().map(drop)
}

fn a_daemon_that_forks_twice_is_silent() -> Result<()> {
    let (told, events) = safe("daemonise", &[])?;
    let daemon = number(&told, "daemon")?;
    ensure!(event(&events, "fork", daemon)?.generation() == Some(2), "wrong generation: {events:#?}");
    Ok(())
}

fn a_daemon_whose_threads_stayed_behind_is_found() -> Result<()> {
    let expected = [multithreaded("daemon_threads", &[])];
    let mut watched = Watched::fixture("daemon_threads", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected[0])?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "daemon")?), "wrong child: {event:#?}");
    ensure!(finding.parent_pid() == Some(number(&told, "parent")?), "wrong parent: {event:#?}");
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn a_daemon_that_forks_twice_beside_threads_is_found() -> Result<()> {
    let expected = [multithreaded("daemon_threads", &[])];
    let mut watched = Watched::fixture("daemon_threads", &["twice"])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected[0])?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "daemon")?), "wrong child: {event:#?}");
    let forker = format!("(pid {}) forked", number(&told, "parent")?);
    ensure!(finding.summary().contains(&forker), "{}", finding.summary());
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn io_uring_workers_are_no_threads() -> Result<()> {
    let (told, events) = safe("io_uring_worker", &[])?;
    ensure!(number(&told, "tasks")? > 1, "the kernel made no worker: {told}");
    ensure!(event(&events, "fork", number(&told, "child")?)?.threads() == Some(1), "{events:#?}");
    Ok(())
}

fn vfork_is_told_apart() -> Result<()> {
    let (told, events) = safe("vfork_exec", &[])?;
    ensure!(event(&events, "fork", number(&told, "child")?)?.kind() == "vfork", "{events:#?}");
    Ok(())
}

fn a_child_that_shares_memory_is_told_apart() -> Result<()> {
    let (told, events) = safe("shared_memory", &[])?;
    ensure!(event(&events, "fork", number(&told, "child")?)?.kind() == "shared-memory", "{events:#?}");
    Ok(())
}

fn generations_are_counted() -> Result<()> {
    let (told, events) = safe("generations", &[])?;
    let children = told.get("children").and_then(Value::as_array).context("no children")?;
    for (child, generation) in children.iter().filter_map(Value::as_i64).zip(1..) {
        ensure!(event(&events, "fork", child)?.generation() == Some(generation), "{told}, {events:#?}");
    }
    Ok(())
}

fn a_stopped_child_is_judged_only_once_it_runs() -> Result<()> {
    let mut watched = Watched::fixture("stopped_child", &[])?;
    watched.program.next_json()?;
    watched.expect(SILENCE)?;
    watched.program.step()?;
    watched.finding(&multithreaded("stopped_child", &["metrics-push"]))?;
    watched.stop().map(drop)
}

fn a_fork_storm_is_silent_and_every_fork_reported() -> Result<()> {
    let (told, events) = safe("fork_storm", &["4", "500"])?;
    let count = |action: &str| events.iter().filter(|event| event.action() == action).count() as u64;
    let lost: u64 = events.iter().filter_map(Event::lost).sum();
    ensure!(lost == 0, "{lost} events lost at the defaults");
    let forks = u64::try_from(number(&told, "forks")?)?;
    ensure!(
        (count("fork"), count("exit")) == (forks, forks),
        "{} forks, {} exits",
        count("fork"),
        count("exit")
    );
    Ok(())
}

fn a_thread_storm_is_silent() -> Result<()> {
    let (_, events) = safe("thread_storm", &["2000"])?;
    ensure!(!events.iter().any(|event| event.action() == "fork"), "a thread is no fork: {events:#?}");
    Ok(())
}

fn hostile_names_keep_events_well_formed() -> Result<()> {
    let mut watched = Watched::fixture("hostile_comm", &[])?;
    let told = watched.program.next_json()?;
    // The schema is checked of every event as it is read.
    let event = watched.finding(&multithreaded("hostile_comm", &[]))?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.thread_ids() == numbers(&told, "threads")?, "wrong thread: {event:#?}");
    watched.stop().map(drop)
}

/// A fixture of ours in Python under watch.
fn python(script: &str, arguments: &[&str]) -> Result<Watched> {
    Watched::start(Program::hold(|_| {
        let python = Launch::new(provided("python")?.join("bin/python"));
        let script = workspace().join("tests/fixtures/python").join(script).into_os_string();
        let arguments = arguments.iter().map(|argument| OsString::from(*argument));
        let launch = python.args([script].into_iter().chain(arguments));
        Ok(launch.env("PYTHONDONTWRITEBYTECODE", "1"))
    })?)
}

/// `shared_loop.py` under watch, once it has told of this many children.
fn shared_loop(way: &str, children: usize) -> Result<(Value, Watched)> {
    let mut watched = python("shared_loop.py", &[way])?;
    let mut told = Value::Null;
    for _ in 0..children {
        told = watched.program.next_json()?;
    }
    Ok((told, watched))
}

fn an_event_loop_that_runs_on_in_a_child_is_found() -> Result<()> {
    // Way, children, severity, certainty, what is said of it, and what is to be changed.
    for (way, children, severity, certainty, said, change) in [
        ("asyncio", 1, "critical", "certain", "both run on in one asyncio loop", "asyncio.run"),
        ("workers", 2, "critical", "certain", "both run on in one asyncio loop", "asyncio.run"),
        ("closed", 1, "critical", "strong", "no longer watches its own wake-up", "asyncio.run"),
        ("emptied", 1, "critical", "strong", "an epoll instance that watches nothing", "EPOLL_CTL_DEL"),
        ("epoll", 1, "warning", "heuristic", "both wait in one epoll instance", "after the fork"),
    ] {
        let expected = [Expected {
            hazard: "shared-event-loop",
            severity,
            program: Some("shared_loop.py"),
            threads: &[],
            signals: &[],
        }];
        let (told, mut watched) = shared_loop(way, children)?;
        let event = watched.finding(&expected[0]).with_context(|| way.to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.parent_pid() == Some(number(&told, "parent")?), "{way}: wrong parent: {event:#?}");
        ensure!(
            children > 1 || finding.pid() == Some(number(&told, "child")?),
            "{way}: wrong child: {event:#?}"
        );
        let state = if certainty == "heuristic" { "suspected" } else { "confirmed" };
        ensure!(finding.certainty() == certainty && finding.state() == state, "{way}: {event:#?}");
        ensure!(finding.summary().contains(said), "{way}: {}", finding.summary());
        let remedy = event.text("/forkwatch/finding/remedy/text");
        ensure!(remedy.contains(change), "{way}: {remedy}");
        watched.expect(&expected).with_context(|| way.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

fn signals_that_go_to_the_loop_of_the_parent_are_found() -> Result<()> {
    let (told, mut watched) = shared_loop("signals", 1)?;
    let python = provided("python")?.join("bin/python");
    let version =
        Command::new(python).args(["-c", "import sys; print(sys.version_info >= (3, 12))"]).output()?;
    if version.stdout.starts_with(b"True") {
        // It takes them back itself.
        watched.expect(SILENCE)?;
        return watched.stop().map(drop);
    }
    let expected = [Expected {
        hazard: "shared-event-loop",
        severity: "warning",
        program: Some("shared_loop.py"),
        threads: &[],
        signals: &["SIGTERM"],
    }];
    let event = watched.finding(&expected[0])?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "child")?), "wrong child: {event:#?}");
    ensure!(finding.certainty() == "heuristic" && finding.state() == "suspected", "{event:#?}");
    ensure!(finding.summary().starts_with("SIGTERM to the forked child"), "{}", finding.summary());
    watched.expect(&expected)?;
    watched.stop().map(drop)
}

fn event_loops_apart_are_silent() -> Result<()> {
    for way in ["listeners", "unused", "own", "spawned", "gevent", "libev"] {
        let (_, mut watched) = shared_loop(way, 1)?;
        watched.expect(SILENCE).with_context(|| way.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

fn a_lock_that_a_child_keeps_is_found_among_its_look_alikes() -> Result<()> {
    // Each after what looks alike, which would be found first.
    for (way, severity, certainty, said) in [
        ("closed", "warning", "strong", "has closed the file"),
        ("ended", "warning", "strong", "has ended"),
        ("daemon", "info", "heuristic", "has ended"),
    ] {
        let expected = [Expected {
            hazard: "lock-left-behind",
            severity,
            program: Some("left_lock"),
            threads: &[],
            signals: &[],
        }];
        let mut watched = Watched::fixture("left_lock", &["held", "own", "posix", "nobody", way])?;
        let told = watched.program.next_json()?;
        let event = watched.finding(&expected[0]).with_context(|| way.to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.pid() == Some(number(&told, "child")?), "{way}: wrong child: {event:#?}");
        ensure!(finding.certainty() == certainty, "{way}: {event:#?}");
        ensure!(finding.summary().contains(said), "{way}: {}", finding.summary());
        ensure!(finding.summary().contains("left_lock (pid"), "{way}: {}", finding.summary());
        watched.expect(&expected).with_context(|| way.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

/// `duplicated_random` in this language under watch, once both of its children have told of themselves.
fn random_numbers(language: &str, way: &str) -> Result<(Value, Watched)> {
    let mut watched = Watched::start(Program::hold(|_| {
        let (launch, options, ending): (_, &[&str], _) = match language {
            "php" => (Provided::find("php")?.launch()?, &[], "php"),
            // What is unpacked lacks the library of its language where it looks for it.
            "ruby" => (Provided::find("ruby")?.launch()?, &["--disable=gems"], "rb"),
            _ => (Launch::new(provided("python")?.join("bin/python")), &["-B"], "py"),
        };
        let script = format!("tests/fixtures/{language}/duplicated_random.{ending}");
        Ok(launch.args(options).args([workspace().join(script).into_os_string(), way.into()]))
    })?)?;
    watched.program.next_json()?;
    Ok((watched.program.next_json()?, watched))
}

/// Ways to draw the same, with whose generator that is and a word of the change that is advised.
fn same_numbers_are_found(language: &str, ways: &[[&str; 3]]) -> Result<()> {
    for [way, said, change] in ways {
        let expected = [Expected {
            hazard: "duplicated-random",
            severity: "warning",
            program: None,
            threads: &[],
            signals: &[],
        }];
        let (told, mut watched) = random_numbers(language, way)?;
        let event = watched.finding(&expected[0]).with_context(|| (*way).to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.parent_pid() == Some(number(&told, "parent")?), "{way}: wrong parent: {event:#?}");
        ensure!(finding.certainty() == "strong" && finding.state() == "suspected", "{way}: {event:#?}");
        ensure!(finding.summary().contains("duplicated_random."), "{way}: {}", finding.summary());
        ensure!(finding.summary().contains(said), "{way}: {}", finding.summary());
        let remedy = event.text("/forkwatch/finding/remedy/text");
        ensure!(remedy.contains(change), "{way}: {remedy}");
        watched.expect(&expected).with_context(|| (*way).to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

fn other_numbers_are_silent(language: &str, ways: &[&str]) -> Result<()> {
    for way in ways {
        let (_, mut watched) = random_numbers(language, way)?;
        watched.expect(SILENCE).with_context(|| (*way).to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

fn random_numbers_that_two_children_draw_are_found() -> Result<()> {
    const WAYS: [[&str; 3]; 4] = [
        ["object", "a random.Random object", "register_at_fork"],
        ["seeded_before", "a random.Random object", "register_at_fork"],
        ["numpy", "NumPy's generator", "SeedSequence"],
        ["pool", "NumPy's generator", "SeedSequence"],
    ];
    same_numbers_are_found("python", &WAYS)
}

fn random_numbers_that_differ_or_are_not_drawn_are_silent() -> Result<()> {
    other_numbers_are_silent("python", &["module", "reseeded", "alone", "unused", "system"])
}

fn random_numbers_of_php_are_found_among_their_look_alikes() -> Result<()> {
    const WAYS: [[&str; 3]; 3] = [
        ["used", "PHP's generator", "mt_srand()"],
        ["seeded", "PHP's generator", "mt_srand()"],
        ["shuffle", "PHP's generator", "mt_srand()"],
    ];
    same_numbers_are_found("php", &WAYS)?;
    other_numbers_are_silent("php", &["reseeded", "system", "unused"])
}

fn random_numbers_of_ruby_are_found_among_their_look_alikes() -> Result<()> {
    same_numbers_are_found("ruby", &[["object", "a Random object", "after the fork"]])?;
    other_numbers_are_silent("ruby", &["kernel", "anew", "unused"])
}

fn files_that_two_processes_use_are_found_among_their_look_alikes() -> Result<()> {
    const ALIKE: [&str; 6] = ["one", "anew", "pread", "log", "unused", "own"];
    // Way, hazard, severity, certainty, and what is said of it.
    for (way, hazard, severity, certainty, said) in [
        ("archive", "shared-offset", "warning", "strong", "each moves the place"),
        ("both", "shared-offset", "warning", "strong", "and its forked child"),
        ("queue", "shared-offset", "info", "heuristic", "each gets only a part"),
        ("sqlite", "shared-database-file", "warning", "strong", "uses what it got of that"),
        ("closed", "shared-database-file", "critical", "strong", "has closed it, and the journal"),
        (
            "closed_at_once",
            "shared-database-file",
            "critical",
            "heuristic",
            "whose journal another process has deleted",
        ),
    ] {
        let of_program = |hazard, severity| Expected {
            hazard,
            severity,
            program: Some("shared_file.py"),
            threads: &[],
            signals: &[],
        };
        let sought = of_program(hazard, severity);
        let mut expected = vec![of_program(hazard, severity)];
        let mut ways = [&ALIKE[..], &[way]].concat();
        if way == "closed" {
            // Another one, of which it is told only at the second look at it: by then the child was seen to have the
            // database.
            ways.push("both");
            expected.push(of_program("shared-offset", "warning"));
        }
        let mut watched = python("shared_file.py", &ways)?;
        let told = watched.program.next_json()?;
        let child = told.pointer(&format!("/children/{}", ALIKE.len())).and_then(Value::as_i64);
        let child = child.with_context(|| format!("no child of {way}: {told}"))?;
        if let Some(other) = expected.get(1) {
            watched.finding(other).with_context(|| way.to_owned())?;
            watched.program.step()?;
        }
        let event = watched.finding(&sought).with_context(|| way.to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        // Of two children that read one file, either may be told of.
        let is_it = finding.pid() == Some(child) || matches!(way, "archive" | "queue");
        ensure!(is_it, "{way}: wrong child: {event:#?}");
        ensure!(finding.certainty() == certainty, "{way}: {event:#?}");
        ensure!(finding.summary().contains(said), "{way}: {}", finding.summary());
        watched.expect(&expected).with_context(|| way.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

/// After ufork's first pitfall, and main functions that ran several times.
fn a_child_that_runs_on_is_found_among_its_look_alikes() -> Result<()> {
    const SCRIPT: &str = "escaped_child.py";
    for (program, way, said) in [
        ("escaped_child", "all", "wait_for_all (escaped_child)"),
        ("escaped_child", "each", "do_job (escaped_child)"),
        (SCRIPT, "returns", "job (escaped_child.py:"),
        (SCRIPT, "raises", "failing_job (escaped_child.py:"),
    ] {
        let (mut watched, advice) = if program == SCRIPT {
            (python(SCRIPT, &["recursion", "workers", "nested", way])?, "os._exit(0)")
        } else {
            (Watched::fixture(program, &["recursion", "chain", "workers", way])?, "by _exit(2)")
        };
        let expected = [Expected {
            hazard: "escaped-child",
            severity: "warning",
            program: Some(program),
            threads: &[],
            signals: &[],
        }];
        watched.program.next_json()?;
        let event = watched.finding(&expected[0]).with_context(|| said.to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        ensure!((finding.certainty(), finding.state()) == ("strong", "suspected"), "{event:#?}");
        // Of several that run on, it is any one and the process that forked it.
        let (parent, child) = (finding.parent_pid().unwrap_or_default(), finding.pid().unwrap_or_default());
        let pair = format!("(pid {parent}) forked {child}");
        ensure!(finding.summary().contains(&pair), "{pair}: {}", finding.summary());
        ensure!(finding.summary().contains(said), "{}", finding.summary());
        ensure!(finding.remedy().contains(advice), "{}", finding.remedy());
        watched.expect(&expected).with_context(|| said.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}

fn output_from_before_the_fork_is_found_among_its_look_alikes() -> Result<()> {
    for (way, said) in
        [("unwritten", "which {} has not written yet either"), ("written", "which {} has written")]
    {
        let expected = [Expected {
            hazard: "unflushed-output",
            severity: "warning",
            program: Some("unflushed"),
            threads: &[],
            signals: &[],
        }];
        let mut watched = Watched::fixture("unflushed", &["flushed", "own", "unbuffered", way])?;
        let told = watched.program.next_json()?;
        let event = watched.finding(&expected[0]).with_context(|| way.to_owned())?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.pid() == Some(number(&told, "child")?), "{way}: wrong child: {event:#?}");
        let note = event.text("/forkwatch/finding/evidence/notes/0");
        let said = said.replace("{}", &number(&told, "parent")?.to_string());
        ensure!(note.ends_with(&said), "{way}: {note}");
        watched.expect(&expected).with_context(|| way.to_owned())?;
        watched.stop()?;
    }
    Ok(())
}
