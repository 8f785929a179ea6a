//! The programs that say what they decide, in the object that logs.

/// A program, or programs that answer one question together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// Its bit in the setting `KERNEL_LOG`.
    pub bit: u32,
    /// Its name: the target of its lines.
    pub name: &'static str,
}

macro_rules! speakers {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Speaker = Speaker { bit: 1 << $bit, name: $text };)*

        /// All of them.
        pub const ALL: &[Speaker] = &[$($name),*];
    };
}

speakers! {
    /// `sched_process_fork`.
    FORK = 0, "fork";
    /// `sched_process_exec`.
    EXEC = 1, "exec";
    /// `sched_process_exit`.
    EXIT = 2, "exit";
    /// `task_newtask`.
    NEWTASK = 3, "newtask";
    /// Who sends signals.
    SIGNALS = 4, "signals";
    /// Who uses a socket that processes share.
    SOCKETS = 5, "sockets";
    /// Who holds one.
    SHARERS = 6, "sharers";
    /// Whose children are all followed.
    PARENTS = 7, "parents";
    /// The system calls of the clone family.
    CLONE_CALLS = 8, "clone-calls";
    /// Which children are born with connections.
    HEIRS = 9, "heirs";
}
