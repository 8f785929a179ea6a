//! Sockets of programs of ours: both use one, and all that looks like it and is right.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Case, Forked, Shares, closed, free_loopback, run, script, used, used_in_turn};
use crate::{
    fixture::fixture,
    process,
    program::{Launch, Program},
    scenario::{
        python, python_fixtures,
        redis::{STOP, running},
        web,
    },
};

const SCRIPT: &str = "sockets.py";

pub(super) const ALL: &[Case] = &[
    Case {
        expected: Some(used_in_turn(
            "shared_connection",
            &["127.0.0.1:", "so far each had its answer", "Open the connection after the fork"],
        )),
        outcome: "the child talked, the parent talked",
        ..case("a_program_and_its_child_talk_on_one_connection", |_| shared("talk"))
    },
    Case {
        expected: Some(used(
            SCRIPT,
            &[r#""waits":true"#, r#"ask","line""#, "sockets.py", "Open the connection after the fork"],
        )),
        outcome: "the child waits",
        ..case("a_child_waits_for_an_answer_on_the_connection_of_its_parent", |_| {
            run(SCRIPT, "wait_in_the_child")
        })
    },
    Case {
        expected: Some(closed("shared_connection", &["127.0.0.1:", "shut down the connection"])),
        outcome: "the child shut it down, the parent could not talk",
        ..case("a_child_shuts_down_the_connection_of_its_parent", |_| shared("shutdown"))
    },
    Case {
        outcome: "the child closed its copy, the parent talked",
        ..case("a_child_closes_its_copy_of_a_connection", |_| shared("close"))
    },
    server("a_server_accepts_and_then_forks", |_| Ok(Launch::new(fixture("accept_then_fork")?))),
    server("a_python_server_accepts_and_then_forks", |_| {
        Ok(python("python", "python")?.args([python_fixtures().join("forking_server.py")]))
    }),
    Case {
        shares: Shares::Nothing,
        work: |program, forked| {
            program.wait_for("two workers", |program| Ok(process::descendants(program.pid()).len() == 2))?;
            let workers = process::descendants(program.pid());
            forked(&workers.iter().map(|worker| i64::from(worker.pid)).collect::<Vec<_>>())?;
            Ok("two workers".to_owned())
        },
        outcome: "two workers",
        stop: Some(Signal::SIGTERM),
        ..case("workers_share_a_socket_that_listens", |folder| {
            web::gunicorn("python", folder, &["--preload", "wsgi"])
        })
    },
    Case {
        shares: Shares::Nothing,
        outcome: "4 datagrams",
        ..case("both_send_datagrams", |_| run(SCRIPT, "datagrams"))
    },
    Case {
        shares: Shares::Nothing,
        outcome: "pair, pair, pipe, queue",
        ..case("pairs_pipes_and_queues_are_between_parent_and_child", |_| run(SCRIPT, "pairs"))
    },
    Case {
        shares: Shares::Nothing,
        outcome: "+PONG and +PONG",
        ..case("a_connection_is_the_standard_output_of_both", |_| with_server("standard_streams"))
    },
    Case {
        shares: Shares::Execed,
        outcome: "+PONG and +PONG",
        ..case("a_child_that_has_execed_uses_a_connection", |_| with_server("exec_in_the_child"))
    },
];

/// A fixture that is silent.
const fn case(name: &'static str, prepare: fn(&Path) -> Result<Launch>) -> Case {
    Case { name, expected: None, shares: Shares::One, prepare, work: script, outcome: "", stop: None }
}

/// A server that forks for each connection.
const fn server(name: &'static str, prepare: fn(&Path) -> Result<Launch>) -> Case {
    Case {
        shares: Shares::Nothing,
        work: serve,
        outcome: "first, second",
        stop: Some(Signal::SIGTERM),
        ..case(name, prepare)
    }
}

fn shared(act: &str) -> Result<Launch> {
    Ok(Launch::new(fixture("shared_connection")?).args([act]))
}

fn with_server(case: &str) -> Result<Launch> {
    let address = free_loopback(6379)?;
    Ok(run(SCRIPT, case)?.env("REDIS_HOST", address.to_string()).beside(running(Some(address))?, STOP))
}

/// Has two messages come back on one connection.
fn serve(program: &mut Program, forked: Forked<'_>) -> Result<String> {
    let told = program.next_json()?;
    let port = told.get("port").and_then(Value::as_u64).context("it names no port")?;
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, u16::try_from(port)?))?;
    let mut answers = BufReader::new(connection.try_clone()?).lines();
    let mut ask = |question: &str| -> Result<String> {
        writeln!(connection, "{question}")?;
        answers.next().context("it hung up")?.context("no answer")
    };
    let first = ask("first")?;
    let children = process::descendants(program.pid());
    ensure!(children.len() == 1, "{} children for one connection", children.len());
    forked(&children.iter().map(|child| i64::from(child.pid)).collect::<Vec<_>>())?;
    Ok(format!("{first}, {}", ask("second")?))
}
