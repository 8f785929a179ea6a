//! What is measured: a file for each table.

pub(crate) mod children;
pub(crate) mod daemon;
pub(crate) mod held_locks;
pub(crate) mod idle;
pub(crate) mod inherited;
pub(crate) mod kernel;
pub(crate) mod load;
pub(crate) mod ready;
pub(crate) mod scan;
pub(crate) mod sends;
pub(crate) mod start;
