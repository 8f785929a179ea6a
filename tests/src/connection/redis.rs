//! Connections to Redis: redis-py.

use std::path::Path;

use anyhow::Result;

use super::{Case, Shares, free_loopback, run, script, used};
use crate::{
    program::Launch,
    scenario::redis::{SOCKET, STOP, running},
};

const SCRIPT: &str = "redis_clients.py";
const PORT: u16 = 6379;

pub(super) const ALL: &[Case] = &[
    Case {
        expected: Some(used(SCRIPT, &["Redis at 127.", ":6379", "taken out of the pool"])),
        outcome: "the child got what was meant for the parent",
        ..case("redis_connection_taken_from_its_pool_is_used_by_both", |_| over_tcp("connection_in_both"))
    },
    Case {
        expected: Some(used(SCRIPT, &["Redis at /", "redis.sock", "taken out of the pool"])),
        outcome: "the child got what was meant for the parent",
        ..case("redis_connection_to_a_unix_socket_is_used_by_both", |_| over_unix("connection_in_both"))
    },
    Case {
        expected: Some(used(SCRIPT, &["Redis at 127.", "both receive on it"])),
        outcome: "the parent heard first, the child heard second",
        ..case("redis_subscription_is_listened_to_by_both", |_| over_tcp("subscription_in_both"))
    },
    Case {
        outcome: "for the parent and for the child",
        ..case("redis_pool_connects_again_in_the_child", |_| over_tcp("pool_in_both"))
    },
];

/// A case of [`SCRIPT`] that is silent.
const fn case(name: &'static str, prepare: fn(&Path) -> Result<Launch>) -> Case {
    Case { name, expected: None, shares: Shares::One, prepare, work: script, outcome: "", stop: None }
}

fn over_tcp(case: &str) -> Result<Launch> {
    let address = free_loopback(PORT)?;
    Ok(run(SCRIPT, case)?.env("REDIS_HOST", address.to_string()).beside(running(Some(address))?, STOP))
}

fn over_unix(case: &str) -> Result<Launch> {
    let server = running(None)?;
    Ok(run(SCRIPT, case)?.env("REDIS_SOCKET", server.folder().join(SOCKET)).beside(server, STOP))
}
