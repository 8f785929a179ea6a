//! Connections to `PostgreSQL`: `SQLAlchemy`, psycopg2, psycopg 3.

use std::{net::Ipv4Addr, os::unix::net::UnixStream, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Case, Forked, Shares, closed, free_loopback, run, script, used};
use crate::{
    http, process,
    program::{Launch, Program},
    scenario::{
        python_fixtures,
        servers::{POSTGRES_STOP, running_postgres},
        web,
    },
    wait::until,
};

const PORT: u16 = 5432;
/// By which nobody knows it.
const OTHER_PORT: u16 = 25432;
const SCRIPT: &str = "databases.py";
const MIXED_UP: &str =
    "both workers answered, and every answer was right; asked at once they mix up the answers";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "gunicorn_preloads_an_engine_that_has_connected",
        expected: Some(used(
            "gunicorn",
            &[
                "opened a connection to PostgreSQL at 127.",
                ":5432",
                "sqlalchemy",
                "dispose(close=False)",
                "post_fork",
            ],
        )),
        shares: Shares::One,
        prepare: |folder| gunicorn(folder, Some((free_loopback(PORT)?, PORT)), &[]),
        work: ask_until_wrong,
        outcome: MIXED_UP,
        stop: Some(Signal::SIGTERM),
    },
    Case {
        name: "gunicorn_preloads_an_engine_that_has_connected_to_a_unix_socket",
        expected: Some(used(
            "gunicorn",
            &["PostgreSQL at /", ".s.PGSQL.5432", "dispose(close=False)", "post_fork"],
        )),
        shares: Shares::One,
        prepare: |folder| gunicorn(folder, None, &[]),
        work: ask_until_wrong,
        outcome: MIXED_UP,
        stop: Some(Signal::SIGTERM),
    },
    Case {
        name: "gunicorn_workers_forget_the_connections_of_an_engine",
        expected: None,
        shares: Shares::One,
        prepare: |folder| {
            let hooks = python_fixtures().join("gunicorn_forgets.py").display().to_string();
            gunicorn(folder, Some((free_loopback(PORT)?, PORT)), &["--config", &hooks])
        },
        work: ask_both,
        outcome: "both workers answered, and every answer was right",
        stop: Some(Signal::SIGTERM),
    },
    Case {
        expected: Some(closed(SCRIPT, &["PostgreSQL at 127.", "said goodbye", "dispose(close=False)"])),
        outcome: "the child got an answer, the parent got OperationalError",
        ..case("sqlalchemy_disposes_of_the_parents_connections_in_the_child", |_| {
            over_tcp("dispose_in_the_child")
        })
    },
    Case {
        outcome: "the child got an answer, the parent got an answer",
        ..case("sqlalchemy_forgets_the_parents_connections_in_the_child", |_| over_tcp("forget_in_the_child"))
    },
    Case {
        expected: Some(used(
            SCRIPT,
            &["PostgreSQL at 127.", "psycopg", "Connect, or open the pool, in the child"],
        )),
        outcome: "the child got what was meant for the parent",
        ..case("psycopg_connects_before_a_process_and_both_ask", |_| over_tcp("psycopg_in_both"))
    },
    Case {
        expected: Some(used(SCRIPT, &["PostgreSQL at /", ".s.PGSQL.5432", "psycopg2"])),
        outcome: "2 workers got one and other",
        ..case("psycopg2_connects_before_a_pool_and_the_workers_ask", |_| over_unix("psycopg2_in_a_pool"))
    },
    Case {
        expected: Some(used(
            SCRIPT,
            &[
                "PostgreSQL at 127.",
                ":25432",
                r#""function":"_ask""#,
                r#""libraries":["psycopg2","#,
                "Connect, or open the pool, in the child",
            ],
        )),
        outcome: "the parent got an answer, the child waits",
        ..case("psycopg2_waits_in_a_child_for_a_server_at_another_port", |_| {
            let address = (free_loopback(OTHER_PORT)?, OTHER_PORT);
            with_postgres(run(SCRIPT, "psycopg2_waits_in_the_child")?, Some(address))
        })
    },
    Case {
        outcome: "the child got what was meant for the child",
        ..case("psycopg_connects_and_hands_over_to_the_child", |_| over_tcp("psycopg_in_the_child"))
    },
    Case {
        expected: Some(closed(SCRIPT, &["PostgreSQL at 127.", "said goodbye", "os._exit()"])),
        outcome: "the parent got OperationalError",
        ..case("psycopg2_says_goodbye_as_the_child_leaves_the_block", |_| {
            over_tcp("exit_through_a_block_that_closes")
        })
    },
    Case {
        outcome: "the parent got an answer",
        ..case("psycopg2_says_nothing_as_the_interpreter_of_the_child_ends", |_| {
            over_tcp("exit_with_an_open_connection")
        })
    },
    Case {
        outcome: "the parent got an answer",
        ..case("psycopg2_says_nothing_as_the_child_leaves_by_exit", |_| over_unix("leave_without_a_word"))
    },
];

/// A script of ours that is silent.
const fn case(name: &'static str, prepare: fn(&Path) -> Result<Launch>) -> Case {
    Case { name, expected: None, shares: Shares::One, prepare, work: script, outcome: "", stop: None }
}

fn over_tcp(case: &str) -> Result<Launch> {
    with_postgres(run(SCRIPT, case)?, Some((free_loopback(PORT)?, PORT)))
}

fn over_unix(case: &str) -> Result<Launch> {
    with_postgres(run(SCRIPT, case)?, None)
}

fn gunicorn(folder: &Path, address: Option<(Ipv4Addr, u16)>, arguments: &[&str]) -> Result<Launch> {
    let launch = web::gunicorn("python", folder, arguments)?
        // A worker may wait for an answer that the other has taken.
        .args(["--graceful-timeout", "1", "--preload", "wsgi_with_engine"]);
    with_postgres(launch, address)
}

fn with_postgres(launch: Launch, address: Option<(Ipv4Addr, u16)>) -> Result<Launch> {
    let (server, environment) = running_postgres(address)?;
    Ok(environment
        .into_iter()
        .fold(launch, |launch, (name, value)| launch.env(name, value))
        .beside(server, POSTGRES_STOP))
}

/// Waits for both workers.
fn workers(program: &mut Program) -> Result<Vec<i64>> {
    program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    Ok(process::descendants(program.pid()).iter().map(|worker| i64::from(worker.pid)).collect())
}

/// Asks with a question of its own; gives the worker that answered, if the answer was right.
fn ask(socket: &Path, question: &str) -> Result<Option<i64>> {
    let stream = UnixStream::connect(socket).context("cannot connect to gunicorn")?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    // A worker that has lost its connection says 500, or nothing at all.
    let Ok((_, body)) = http::ask(stream, question) else { return Ok(None) };
    let Some((worker, answer)) = body.split_once(' ') else { return Ok(None) };
    Ok((answer == question).then(|| worker.parse()).transpose()?)
}

/// Asks one after another until both workers have answered, and then twice at once until an answer is wrong.
fn ask_until_wrong(program: &mut Program, forked: Forked<'_>) -> Result<String> {
    let first = ask_both(program, forked)?;
    let socket = program.folder().join("socket");
    let mut number = 0;
    until("a wrong answer", || {
        number += 1;
        let questions = [format!("/{number}/one"), format!("/{number}/other")];
        let answers = thread::scope(|scope| {
            let asked = questions.each_ref().map(|question| scope.spawn(|| ask(&socket, question)));
            asked.map(|asked| asked.join().expect("asking does not panic"))
        });
        let [one, other] = answers;
        Ok((one?.is_none() || other?.is_none()).then_some(()))
    })?;
    Ok(format!("{first}; asked at once they mix up the answers"))
}

/// Asks one after another until both workers have answered.
fn ask_both(program: &mut Program, forked: Forked<'_>) -> Result<String> {
    let workers = workers(program)?;
    forked(&workers)?;
    let socket = program.folder().join("socket");
    let mut left = workers;
    let mut right = true;
    until("both workers to answer", || {
        match ask(&socket, "/question")? {
            Some(worker) => left.retain(|other| *other != worker),
            None => right = false,
        }
        Ok((left.is_empty() || !right).then_some(()))
    })?;
    let answers = if right { "every answer was right" } else { "not every answer was right" };
    Ok(format!("both workers answered, and {answers}"))
}
