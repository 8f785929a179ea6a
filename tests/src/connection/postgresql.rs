//! Connections to PostgreSQL: SQLAlchemy, psycopg2, psycopg 3.

use std::{net::Ipv4Addr, os::unix::net::UnixStream, path::Path, thread, time::Duration};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{Case, Forked, Shares, closed, free_loopback, script, used};
use crate::{
    http, process,
    program::{Launch, Program},
    scenario::{
        python, python_fixtures,
        servers::{POSTGRES_STOP, running_postgres},
        web,
    },
    wait::until,
};

const PORT: u16 = 5432;
const SCRIPT: &str = "databases.py";
const MIXED_UP: &str =
    "both workers answered, and every answer was right; asked at once they mix up the answers";

pub(super) const ALL: &[Case] = &[
    Case {
        name: "gunicorn_preloads_an_engine_that_has_connected",
        expected: used(
            "gunicorn",
            &[
                "opened a connection to PostgreSQL at 127.",
                ":5432",
                "sqlalchemy",
                "dispose(close=False)",
                "post_fork",
            ],
        ),
        shares: Shares::One,
        prepare: |folder| gunicorn(folder, Some(free_loopback(PORT)?), &[]),
        work: ask_until_wrong,
        outcome: MIXED_UP,
        stop: Some(Signal::SIGTERM),
    },
    Case {
        name: "gunicorn_preloads_an_engine_that_has_connected_to_a_unix_socket",
        expected: used(
            "gunicorn",
            &["PostgreSQL at /", ".s.PGSQL.5432", "dispose(close=False)", "post_fork"],
        ),
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
            gunicorn(folder, Some(free_loopback(PORT)?), &["--config", &hooks])
        },
        work: ask_both,
        outcome: "both workers answered, and every answer was right",
        stop: Some(Signal::SIGTERM),
    },
    Case {
        name: "sqlalchemy_disposes_of_the_parents_connections_in_the_child",
        expected: used(SCRIPT, &["PostgreSQL at 127.", "A plain dispose() in the child says goodbye"]),
        outcome: "the child got an answer, the parent got OperationalError",
        ..over_tcp("dispose_in_the_child", |_| run("dispose_in_the_child", Some(free_loopback(PORT)?)))
    },
    Case {
        name: "sqlalchemy_forgets_the_parents_connections_in_the_child",
        outcome: "the child got an answer, the parent got an answer",
        ..over_tcp("forget_in_the_child", |_| run("forget_in_the_child", Some(free_loopback(PORT)?)))
    },
    Case {
        expected: used(SCRIPT, &["PostgreSQL at 127.", "psycopg", "Connect, or open the pool, in the child"]),
        outcome: "the child got what was meant for the parent",
        ..over_tcp("psycopg_connects_before_a_process_and_both_ask", |_| {
            run("psycopg_in_both", Some(free_loopback(PORT)?))
        })
    },
    Case {
        expected: used(SCRIPT, &["PostgreSQL at /", ".s.PGSQL.5432", "psycopg2"]),
        outcome: "2 workers got one and other",
        ..over_tcp("psycopg2_connects_before_a_pool_and_the_workers_ask", |_| run("psycopg2_in_a_pool", None))
    },
    Case {
        outcome: "the child got what was meant for the child",
        ..over_tcp("psycopg_connects_and_hands_over_to_the_child", |_| {
            run("psycopg_in_the_child", Some(free_loopback(PORT)?))
        })
    },
    Case {
        expected: closed(SCRIPT, &["PostgreSQL at 127.", "said goodbye", "os._exit()"]),
        outcome: "the parent got OperationalError",
        ..over_tcp("psycopg2_says_goodbye_as_the_child_leaves_the_block", |_| {
            run("exit_through_a_block_that_closes", Some(free_loopback(PORT)?))
        })
    },
    Case {
        outcome: "the parent got an answer",
        ..over_tcp("psycopg2_says_nothing_as_the_interpreter_of_the_child_ends", |_| {
            run("exit_with_an_open_connection", Some(free_loopback(PORT)?))
        })
    },
    Case {
        outcome: "the parent got an answer",
        ..over_tcp("psycopg2_says_nothing_as_the_child_leaves_by_exit", |_| run("leave_without_a_word", None))
    },
];

/// A script of [`SCRIPT`] that is silent.
const fn over_tcp(name: &'static str, prepare: fn(&Path) -> Result<Launch>) -> Case {
    Case { name, expected: None, shares: Shares::One, prepare, work: script, outcome: "", stop: None }
}

fn run(case: &str, address: Option<Ipv4Addr>) -> Result<Launch> {
    let launch = python("python", "python")?
        .args([python_fixtures().join(SCRIPT).into(), case.into()] as [std::ffi::OsString; 2]);
    with_postgres(launch, address)
}

fn gunicorn(folder: &Path, address: Option<Ipv4Addr>, arguments: &[&str]) -> Result<Launch> {
    let launch = web::gunicorn("python", folder, arguments)?
        // A worker may wait for an answer that the other has taken.
        .args(["--graceful-timeout", "1", "--preload", "wsgi_with_engine"]);
    with_postgres(launch, address)
}

fn with_postgres(launch: Launch, address: Option<Ipv4Addr>) -> Result<Launch> {
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
