//! The process that looks into other processes, so that the one that watches never does.
//!
//! Whoever reads another process's memory, or opens a file that it names, waits for whoever answers for that page or
//! file: a user's own file system (FUSE), or a server on the network. Such a wait may last for ever, and no signal need
//! end it. So it is a process of its own that waits: the *reader*. It has the capabilities for such looks, and is kept
//! by seccomp from doing anything else with them. One that does not answer in time is killed and replaced, and the
//! process that it looked into is set aside.
//!
//! Readers come from the *starter*, which was forked before the watch gave its capabilities up: they cannot be had
//! back. It has one thread, opens nothing and looks into nobody.
//!
//! What never waits (`stat` and `status` below `/proc`, the cgroup tree, mounts) anybody may read for themselves.

mod aside;
mod attention;
mod client;
mod confined;
mod ear;
mod frame;
mod may;
mod patience;
mod question;
mod seccomp;
mod shares;
mod starter;

pub use self::{
    aside::Unreadable,
    client::{Client, Unanswered},
    ear::Ear,
    question::{Answer, Answered, Question, unanswered},
    shares::{Account, Next, Shares},
    starter::{Ender, StartError, Starter},
};
