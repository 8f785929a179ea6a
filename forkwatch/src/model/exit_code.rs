//! What exit codes are known to mean: by the program that gives them, and by conventions that many keep.

use super::signals::signal_name;

/// Of `<sysexits.h>` from 64 on, with what sysexits(3) says of each.
const SYSEXITS: [&str; 15] = [
    "EX_USAGE: used in a wrong way",
    "EX_DATAERR: wrong input",
    "EX_NOINPUT: no input",
    "EX_NOUSER: no such user",
    "EX_NOHOST: no such host",
    "EX_UNAVAILABLE: a service is missing",
    "EX_SOFTWARE: an internal error",
    "EX_OSERR: an error of the system",
    "EX_OSFILE: a file of the system is wrong",
    "EX_CANTCREAT: cannot create a file",
    "EX_IOERR: input or output failed",
    "EX_TEMPFAIL: a failure for now",
    "EX_PROTOCOL: a protocol was broken",
    "EX_NOPERM: not permitted",
    "EX_CONFIG: a wrong configuration",
];
const FIRST_SYSEXIT: u8 = 64;

/// Signals that end what a shell runs: 128 and the number is the shell's code for them (POSIX, Shell Command Language,
/// 2.8.2).
const BY_SHELLS: [u8; 16] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 14, 15, 24, 25, 31];

/// Codes of one program: its name, the code, what it means.
const OF_PROGRAMS: [(&str, u8, &str); 14] = [
    // gunicorn/arbiter.py: WORKER_BOOT_ERROR and APP_LOAD_ERROR.
    ("gunicorn", 3, "gunicorn: a worker could not start"),
    ("gunicorn", 4, "gunicorn: the application could not be loaded"),
    // uwsgi.h: UWSGI_..._CODE.
    ("uwsgi", 5, "uWSGI: an exception was met that ends a worker"),
    ("uwsgi", 15, "uWSGI: a worker that is not needed now"),
    ("uwsgi", 17, "uWSGI: to be reloaded"),
    ("uwsgi", 22, "uWSGI: the application could not be loaded"),
    ("uwsgi", 26, "uWSGI: not to be started again"),
    ("uwsgi", 29, "uWSGI: ends, and says nothing"),
    ("uwsgi", 30, "uWSGI: was told to end"),
    ("uwsgi", 31, "uWSGI: to be reloaded at once"),
    // billiard/pool.py: EX_RECYCLE; uWSGI has no such code.
    ("celery", 155, "Celery: has done its share of tasks"),
    ("billiard", 155, "Celery: has done its share of tasks"),
    ("python", 120, "Python: its output could not be written at the end"),
    ("php-fpm", 255, "PHP: a fatal error"),
];

/// How a uWSGI worker ends in the course of its work: to be reloaded, sent to rest, or told to end.
pub const UWSGI_AT_WORK: [u8; 6] = [15, 17, 26, 29, 30, 31];

/// What this code means where this program, or a comm, gives it. A code that many give for many reasons has no meaning.
pub fn meaning(code: u8, program: &str) -> Option<String> {
    let of_program = OF_PROGRAMS.iter().find(|(name, of, _)| *of == code && is_of(program, name));
    if let Some((_, _, meaning)) = of_program {
        return Some((*meaning).to_owned());
    }
    if let Some(meaning) = code.checked_sub(FIRST_SYSEXIT).and_then(|index| SYSEXITS.get(usize::from(index)))
    {
        return Some((*meaning).to_owned());
    }
    let by_shell = code.checked_sub(128).filter(|number| BY_SHELLS.contains(number));
    match (code, by_shell) {
        (101, _) => Some("as after a panic in Rust".to_owned()),
        (126, _) => Some("as where a command cannot be executed".to_owned()),
        (127, _) => Some("as where a command is not found".to_owned()),
        (_, Some(number)) => {
            Some(format!("128 + {number}, as shells tell of {}", signal_name(number.into())))
        }
        _ => None,
    }
}

/// `python3.11` is `python`, `php-fpm8.2` is `php-fpm`.
fn is_of(program: &str, name: &str) -> bool {
    program
        .strip_prefix(name)
        .is_some_and(|rest| rest.chars().all(|character| character.is_ascii_digit() || character == '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_means_what_its_program_says_and_else_what_is_agreed() {
        for (code, program, part) in [
            (3, "gunicorn", Some("could not start")),
            (4, "gunicorn", Some("could not be loaded")),
            (3, "python3.11", None),
            (30, "uwsgi", Some("told to end")),
            (30, "gunicorn", None),
            (155, "celery", Some("share of tasks")),
            (155, "server", None),
            (70, "server", Some("EX_SOFTWARE")),
            (78, "x", Some("EX_CONFIG")),
            (79, "x", None),
            (63, "x", None),
            (120, "python3.11", Some("output")),
            (120, "pythonic", None),
            (255, "php-fpm8.2", Some("fatal")),
            (255, "perl", None),
            (126, "sh", Some("cannot be executed")),
            (127, "sh", Some("not found")),
            (137, "x", Some("SIGKILL")),
            (143, "x", Some("128 + 15, as shells tell of SIGTERM")),
            (138, "x", None),
            (0, "gunicorn", None),
            (1, "gunicorn", None),
        ] {
            let found = meaning(code, program);
            let fits = match (&found, part) {
                (None, None) => true,
                (Some(found), Some(part)) => found.contains(part),
                _ => false,
            };
            assert!(fits, "{code} of {program}: {found:?}");
        }
    }
}
