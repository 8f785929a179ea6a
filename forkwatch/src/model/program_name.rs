//! The name that a program goes by in metrics and sentences: few different ones, and the same for every process
//! of a service.
//!
//! Command line, comm and script are the program's own words, and a user may call his programs what he likes. So what is
//! a user's bears his uid before its name everywhere, `uid 1000's gunicorn`: but for a name that the executable itself
//! has, where that lies where root alone puts files.

use crate::model::{
    process::{Program, escape},
    provenance::{Owner, short_container},
};

const LONGEST: usize = 64;
/// What the kernel puts after the path of a file that is no more.
const DELETED: &str = " (deleted)";

/// Servers that rewrite their command line, by how the title begins.
const TITLES: [(&str, &str); 14] = [
    ("gunicorn:", "gunicorn"),
    ("[celeryd:", "celery"),
    ("celeryd:", "celery"),
    ("uWSGI", "uwsgi"),
    ("puma:", "puma"),
    ("puma ", "puma"),
    ("resque-", "resque"),
    ("resque:", "resque"),
    ("unicorn_rails ", "unicorn_rails"),
    ("unicorn ", "unicorn"),
    ("pitchfork ", "pitchfork"),
    ("sidekiq ", "sidekiq"),
    ("Passenger ", "Passenger"),
    ("PassengerAgent", "PassengerAgent"),
];

/// Interpreters, and which of their options take the next argument as a value.
const INTERPRETERS: [(&str, &[&str]); 12] = [
    ("python", &["-W", "-X"]),
    ("pypy", &["-W", "-X"]),
    ("ruby", &["-I", "-r", "-C"]),
    ("node", &["-r", "--require", "--import"]),
    ("nodejs", &["-r", "--require", "--import"]),
    ("perl", &["-I"]),
    ("php", &["-d", "-f"]),
    ("java", &["-cp", "-classpath", "--class-path", "-p", "--module-path"]),
    ("sh", &["-o"]),
    ("dash", &["-o"]),
    ("bash", &["-o", "-O", "--rcfile"]),
    ("zsh", &["-o"]),
];

/// What metrics and events call a program: `bare_name`, with the uid of a user whose word for it that is.
pub fn program_name(program: &Program) -> String {
    let name = bare_name(program);
    match program.uid {
        Some(uid) if program.owner() == Owner::User && !is_of_executable(program, &name) => {
            format!("uid {uid}'s {name}")
        }
        _ => name,
    }
}

/// What sentences call it: the same, with the container that it is in.
pub fn called(program: &Program) -> String {
    let name = program_name(program);
    match &program.container {
        Some(container) if program.owner() == Owner::Container => {
            format!("{name} in container {}", escape(short_container(container)))
        }
        _ => name,
    }
}

/// Whether a name is that of the executable, or of the interpreter that it is, and root has put that there.
fn is_of_executable(program: &Program, name: &str) -> bool {
    let file = program.exe.as_deref().and_then(|exe| exe.file_name()).and_then(|file| file.to_str());
    program.runs_file_of_root()
        && file.is_some_and(|file| {
            let file = file.strip_suffix(DELETED).unwrap_or(file);
            file == name || stem(file) == name
        })
}

/// The program's name, whoever's word it is: for interpreters the script or module, for servers that rewrite their title
/// the server, else the executable, else the comm. At most 64 printable characters, never empty. Good for choosing
/// advice, and for nothing that is shown.
pub(crate) fn bare_name(program: &Program) -> String {
    let title = program.cmdline.first().map_or("", String::as_str);
    let exe = program.exe.as_deref().and_then(|exe| exe.file_name()).map(|name| name.to_string_lossy());
    let comm = program.comm.to_text();
    // The command line may be read where the executable may not.
    let binary = exe.as_deref().map_or_else(|| base(title), |exe| exe.strip_suffix(DELETED).unwrap_or(exe));

    let name = TITLES
        .iter()
        .find(|(start, _)| title.starts_with(start))
        .map(|(_, name)| *name)
        .or_else(|| interpreted(binary, &program.cmdline))
        .or_else(|| started_as(title, &comm))
        .unwrap_or(binary);
    [name, &comm, "unnamed"].into_iter().map(clean).find(|name| !name.is_empty()).unwrap_or_default()
}

/// An executable's name without its version: `python` for `python3.11`, and for `python3.14t`, which has no GIL.
pub(crate) fn stem(name: &str) -> &str {
    let is_numbered =
        |name: &&str| name.starts_with("python3.") && name.ends_with(|last: char| last.is_ascii_digit());
    let name = name.strip_suffix('t').filter(is_numbered).unwrap_or(name);
    name.trim_end_matches(|character: char| character.is_ascii_digit() || matches!(character, '.' | '-'))
}

/// The name that a program was started by, where command line and comm agree on it: one file can be many programs
/// (`redis-server` is a link to `redis-check-rdb` on Debian, `uwsgi` one to `uwsgi-core`).
fn started_as<'a>(title: &'a str, comm: &str) -> Option<&'a str> {
    title.split(' ').next().map(base).filter(|name| *name == comm)
}

/// What an interpreter runs: the script's file name, the module, or the first word of a rewritten title.
fn interpreted<'a>(binary: &'a str, cmdline: &'a [String]) -> Option<&'a str> {
    let (interpreter, with_value) = INTERPRETERS.iter().find(|(name, _)| *name == stem(binary))?;
    let mut arguments = cmdline.iter().map(String::as_str);
    let title = arguments.next()?;
    if cmdline.len() == 1 && title.contains([' ', ':']) && !title.starts_with(['/', '-']) {
        return title
            .split([' ', ':'])
            .find(|word| !word.is_empty())
            .map(|word| word.trim_matches(['[', ']']));
    }
    while let Some(argument) = arguments.next() {
        match argument {
            "-jar" => return arguments.next().map(base),
            "-f" if *interpreter == "php" => return arguments.next().map(base),
            "--" => {}
            _ if with_value.contains(&argument) => drop(arguments.next()),
            _ if runs(argument, 'm') => return arguments.next(),
            // A program on the command line has no name of its own.
            _ if runs(argument, 'c') || runs(argument, 'e') => return Some(interpreter),
            _ if argument.starts_with('-') => {}
            _ if *interpreter == "java" => return argument.rsplit('.').next(),
            // A descriptor is not a name.
            _ if argument.starts_with("/dev/fd/") || argument.starts_with("/proc/self/fd/") => {
                return Some(interpreter);
            }
            _ => return Some(base(argument)),
        }
    }
    Some(interpreter)
}

/// Whether these are short options (`-m`, `-Im`) that end in this one.
fn runs(argument: &str, option: char) -> bool {
    argument.strip_prefix('-').is_some_and(|letters| {
        letters.len() <= 4
            && letters.ends_with(option)
            && letters.bytes().all(|letter| letter.is_ascii_alphabetic())
    })
}

fn base(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}

fn clean(name: &str) -> String {
    escape(name.trim()).chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::provenance::{Executable, Namespace, Provenance};

    fn named(comm: &str, exe: Option<&str>, cmdline: &[&str]) -> String {
        program_name(&Program {
            comm: comm.into(),
            exe: exe.map(Into::into),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Program::default()
        })
    }

    #[test]
    fn a_script_that_comes_by_a_descriptor_has_no_name() {
        assert_eq!(named("bash", Some("/usr/bin/bash"), &["bash", "/dev/fd/3"]), "bash");
        assert_eq!(named("bash", Some("/usr/bin/bash"), &["bash", "/srv/fd/3"]), "3");
    }

    #[test]
    fn a_version_is_no_part_of_a_name() {
        let stems =
            ["python", "python3.11", "python3.14t", "ruby2.7", "print", "x3.1t", "python3.t"].map(stem);
        assert_eq!(stems, ["python", "python", "python", "ruby", "print", "x3.1t", "python3.t"]);
    }

    /// What a user runs, with nothing to vouch for it.
    fn users(exe: &str, cmdline: &[&str], executable: Executable) -> Program {
        Program {
            comm: "x".into(),
            exe: Some(exe.into()),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            cgroup: Some("/user.slice/user-1000.slice/session-3.scope".to_owned()),
            unit: Some("session-3.scope".to_owned()),
            uid: Some(1000),
            provenance: Some(Provenance { namespaces: Some(Vec::new()), executable, login: Some(1000) }),
            ..Program::default()
        }
    }

    #[test]
    fn a_name_that_is_a_users_word_bears_the_uid() {
        let (host, other) = (Executable::Host, Executable::Other);
        for (exe, cmdline, executable, name) in [
            ("/usr/bin/python3.11", &["python3", "/usr/sbin/nginx"][..], host, "uid 1000's nginx"),
            ("/usr/bin/python3.11", &["gunicorn: master [app]"], host, "uid 1000's gunicorn"),
            ("/home/u/nginx", &["/usr/sbin/nginx"], host, "uid 1000's nginx"),
            ("/usr/sbin/nginx", &["/usr/sbin/nginx"], other, "uid 1000's nginx"),
            ("/usr/local/bin/nginx", &["nginx"], host, "uid 1000's nginx"),
            ("/usr/sbin/nginx", &["uWSGI master"], host, "uid 1000's uwsgi"),
            // The executable is what it is, whoever starts it.
            ("/usr/sbin/nginx", &["/usr/sbin/nginx"], host, "nginx"),
            ("/usr/sbin/nginx (deleted)", &["/usr/sbin/nginx"], host, "nginx"),
            ("/usr/bin/python3.11", &["python3", "-c", "x"], host, "python"),
        ] {
            assert_eq!(program_name(&users(exe, cmdline, executable)), name, "{exe} {cmdline:?}");
        }
        let own = users("/usr/sbin/nginx", &["/usr/sbin/nginx"], host);
        let seen = Provenance { namespaces: Some(vec![Namespace::User]), ..own.provenance.clone().unwrap() };
        assert_eq!(program_name(&Program { provenance: Some(seen), ..own }), "uid 1000's nginx");
        let unseen = Program { comm: "nginx".into(), uid: Some(65534), ..Program::default() };
        assert_eq!(program_name(&unseen), "uid 65534's nginx");
    }

    #[test]
    fn a_container_is_named_in_sentences_and_not_in_metrics() {
        let id = "3f1c9a7d".repeat(8);
        let container = Program {
            unit: None,
            cgroup: Some(format!("/system.slice/docker-{id}.scope")),
            container: Some(id),
            ..users("/usr/sbin/nginx", &["nginx"], Executable::Other)
        };
        assert_eq!(program_name(&container), "nginx");
        assert_eq!(called(&container), "nginx in container 3f1c9a7d3f1c");
        let rootless = Program { unit: Some("user@1000.service".to_owned()), ..container };
        assert_eq!(called(&rootless), "uid 1000's nginx");
    }

    #[test]
    fn the_name_is_what_the_operator_calls_it() {
        let python = Some("/usr/bin/python3.11");
        for (exe, cmdline, name) in [
            (python, &["python3", "/srv/app/worker.py", "--queue", "a"][..], "worker.py"),
            (python, &["python3", "-u", "-W", "ignore", "-m", "uvicorn", "app:app"], "uvicorn"),
            (python, &["python3", "-Im", "http.server"], "http.server"),
            (python, &["python3", "-c", "import os"], "python"),
            (python, &["python3"], "python"),
            (python, &["/venv/bin/python", "/venv/bin/gunicorn", "app"], "gunicorn"),
            (python, &["gunicorn: worker [app]"], "gunicorn"),
            (python, &["ingest: idle 17"], "ingest"),
            (Some("/usr/bin/uwsgi-core"), &["uWSGI worker 1"], "uwsgi"),
            (Some("/usr/bin/ruby3.1"), &["puma: cluster worker 0: 17 [app]"], "puma"),
            (Some("/usr/bin/ruby3.1"), &["ruby", "-I", "lib", "bin/rake", "jobs"], "rake"),
            (Some("/usr/bin/node"), &["node", "--require", "./trace.js", "server.js"], "server.js"),
            (Some("/usr/bin/perl"), &["/usr/bin/perl", "-w", "/usr/sbin/munin-node"], "munin-node"),
            (Some("/usr/bin/php8.2"), &["php8.2", "artisan", "queue:work"], "artisan"),
            (Some("/usr/sbin/php-fpm8.2"), &["php-fpm: master process"], "php-fpm8.2"),
            (Some("/usr/lib/jvm/bin/java"), &["java", "-Xmx1g", "-cp", "a.jar", "org.acme.Main"], "Main"),
            (Some("/usr/lib/jvm/bin/java"), &["java", "-jar", "/opt/jenkins.war"], "jenkins.war"),
            (Some("/usr/bin/dash"), &["sh", "-c", "sleep 9"], "sh"),
            (Some("/usr/bin/bash"), &["bash", "/opt/run.sh"], "run.sh"),
            (Some("/opt/server (deleted)"), &["server"], "server"),
            (None, &["/usr/sbin/cron", "-f"], "cron"),
            (None, &[], "comm"),
            (None, &["python3", "app.py"], "app.py"),
        ] {
            let expected = if name == "sh" { "dash" } else { name };
            assert_eq!(named("comm", exe, cmdline), expected, "{cmdline:?}");
        }
    }

    #[test]
    fn one_file_that_is_many_programs_is_named_as_it_was_called() {
        let exe = Some("/usr/bin/redis-check-rdb");
        assert_eq!(named("redis-server", exe, &["/usr/bin/redis-server *:6379"]), "redis-server");
        assert_eq!(named("uwsgi", Some("/usr/bin/uwsgi-core"), &["uwsgi", "--http", ":80"]), "uwsgi");
        // A title that its own comm does not bear out names nothing.
        assert_eq!(named("x", exe, &["redis-server"]), "redis-check-rdb");
    }

    #[test]
    fn hostile_names_are_made_printable_and_short() {
        assert_eq!(named("x", Some("/tmp/\x1b[2Jevil\n"), &[]), "\\x1b[2Jevil");
        assert_eq!(named("x", None, &["/usr/bin/python3", &"a".repeat(4096)]).len(), LONGEST);
        assert_eq!(named("", None, &[""]), "unnamed");
    }

    proptest! {
        #[test]
        fn any_program_has_a_short_printable_name(
            comm in ".{0,15}", exe in proptest::option::of(".{0,40}"), cmdline in prop::collection::vec(".{0,80}", 0..5),
        ) {
            let cmdline: Vec<&str> = cmdline.iter().map(String::as_str).collect();
            let name = named(&comm, exe.as_deref(), &cmdline);
            prop_assert!(!name.is_empty() && name.chars().count() <= LONGEST);
            prop_assert!(!name.contains(char::is_control));
        }
    }
}
