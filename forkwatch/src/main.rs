//! The `forkwatch` command.

fn main() {}
