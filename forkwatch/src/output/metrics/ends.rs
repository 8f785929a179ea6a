//! In which ways children end, told in few words: a label must not take many values.

use crate::model::event::{CloneKind, Exit, ExitStatus};

/// Every way that is counted: the signals that end programs in practice have their names.
pub(super) const WAYS: [&str; 16] = [
    "code",
    "SIGKILL",
    "SIGSEGV",
    "SIGABRT",
    "SIGBUS",
    "SIGTERM",
    "SIGINT",
    "SIGILL",
    "SIGFPE",
    "SIGQUIT",
    "SIGHUP",
    "SIGPIPE",
    "SIGALRM",
    "SIGSYS",
    "SIGXCPU",
    "other signal",
];

/// How a forked child ended, if that was by a signal or with another code than 0.
pub(super) const fn way(exit: &Exit) -> Option<&'static str> {
    if !matches!(exit.kind, CloneKind::Copying) {
        return None;
    }
    Some(match exit.status {
        ExitStatus::Code(0) => return None,
        ExitStatus::Code(_) => "code",
        ExitStatus::Signal { number, .. } => match number {
            9 => "SIGKILL",
            11 => "SIGSEGV",
            6 => "SIGABRT",
            7 => "SIGBUS",
            15 => "SIGTERM",
            2 => "SIGINT",
            4 => "SIGILL",
            8 => "SIGFPE",
            3 => "SIGQUIT",
            1 => "SIGHUP",
            13 => "SIGPIPE",
            14 => "SIGALRM",
            31 => "SIGSYS",
            24 => "SIGXCPU",
            _ => "other signal",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::signals::signal_name, output::samples};

    #[test]
    fn each_end_is_counted_under_the_name_of_its_signal() {
        let way = |status| way(&samples::exit(1, 2, 0, "x", status));
        assert_eq!((way(ExitStatus::Code(0)), way(ExitStatus::Code(3))), (None, Some("code")));
        for number in 1..=64 {
            let told = way(ExitStatus::Signal { number, core_dumped: false }).unwrap();
            assert!(
                WAYS.contains(&told) && (told == "other signal" || told == signal_name(number.into())),
                "{told}"
            );
        }
        let shared = Exit { kind: CloneKind::Vfork, ..samples::exit(1, 2, 0, "x", ExitStatus::Code(1)) };
        assert_eq!(super::way(&shared), None);
    }
}
