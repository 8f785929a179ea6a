//! What to change where a connection is carried over a fork.

mod advice;

use self::advice::{ADVICE, Advice, Ecosystems, FAREWELL, GENERAL};
use super::{
    client, ecosystem, remedy as as_remedy, service as service_of_peer,
    service::{Kind, kind},
};
use crate::model::{connection::Peer, finding::Remedy, process::Program};

/// Where each server has its users put what must happen in the child.
static HOOKS: [(&str, &str); 7] = [
    ("gunicorn", "In gunicorn, the place for that is the server hook post_fork."),
    ("uWSGI", "In uWSGI, the place for that is a function marked @postfork; lazy-apps = true does without."),
    ("Celery", "In Celery, the place for that is a function connected to worker_process_init."),
    (
        "Puma",
        "In Puma, disconnect in before_fork and connect in before_worker_boot (on_worker_boot before Puma 7).",
    ),
    ("Resque", "In Resque, disconnect in Resque.before_fork and connect in Resque.after_fork."),
    ("Unicorn and Pitchfork", "In Unicorn, disconnect in before_fork and connect in after_fork."),
    (
        "Passenger",
        "In Passenger, connect in PhusionPassenger.on_event(:starting_worker_process) where it says forked.",
    ),
];

/// A connection, and what is known of who uses it.
pub(crate) struct Connection<'a> {
    peer: &'a Peer,
    used: Vec<&'a str>,
    loaded: Vec<String>,
    program: &'a Program,
}

impl<'a> Connection<'a> {
    /// A connection to that peer, with the client libraries whose calls were seen on it, those that are loaded, and what
    /// runs in the process that had it first.
    pub(crate) fn new(
        peer: &'a Peer,
        mut used: Vec<&'a str>,
        loaded: Vec<String>,
        program: &'a Program,
    ) -> Self {
        if let Some(binding) = client::binding(&used, &loaded) {
            used.insert(0, binding);
        }
        Self { peer, used, loaded, program }
    }

    /// The same, where these libraries have threads of their own in that process: they keep connections there.
    pub(crate) fn with_threads_left(mut self, libraries: impl Iterator<Item = &'a str>) -> Self {
        for library in libraries {
            let is_akin =
                |used: &&str| client::kinds(used).iter().any(|kind| client::kinds(library).contains(kind));
            let is_new = !self.used.contains(&library) && !self.loaded.iter().any(|loaded| loaded == library);
            if is_new && self.used.iter().any(is_akin) {
                self.used.push(library);
            } else if is_new {
                self.loaded.push(library.to_owned());
            }
        }
        self
    }

    /// Whether that library may be what uses it.
    pub(crate) fn concerns(&self, library: &str) -> bool {
        self.used.contains(&library)
            || self.service().and_then(kind).is_none_or(|kind| client::kinds(library).contains(&kind))
    }

    /// What is at the other end, as people call it: by the libraries that use it, else by its address.
    pub(crate) fn service(&self) -> Option<&'static str> {
        client::service(&self.used).or_else(|| service_of_peer(self.peer))
    }

    /// The libraries that use it: those that were seen to, else those that are loaded and speak to such a service.
    pub(crate) fn libraries(&self) -> Vec<String> {
        if !self.used.is_empty() {
            return self.used.iter().map(|library| (*library).to_owned()).collect();
        }
        let Some(kind) = self.service().and_then(kind) else { return Vec::new() };
        self.loaded.iter().filter(|library| client::kinds(library).contains(&kind)).cloned().collect()
    }

    /// What to change so that no two processes use it.
    pub(crate) fn remedy(&self) -> Remedy {
        self.told(GENERAL, |advice| Some(advice.text))
    }

    /// What to change so that no child says goodbye on it.
    pub(crate) fn farewell(&self) -> Remedy {
        self.told(FAREWELL, |advice| advice.farewell)
    }

    fn told(
        &self,
        general: (&'static str, &'static str),
        text: fn(&Advice) -> Option<&'static str>,
    ) -> Remedy {
        let ecosystem = ecosystem::recognise(self.program, &[]).name;
        let hook = HOOKS.iter().find(|(name, _)| *name == ecosystem).map(|(_, hook)| *hook);
        let (sentences, link) = match self.advice(ecosystem) {
            Known::Surely(advice) => text(advice)
                .map_or((vec![general.0.to_owned()], general.1), |told| (vec![told.to_owned()], advice.link)),
            // What is loaded may have nothing to do with this connection.
            Known::Perhaps(advice) => match text(advice) {
                Some(told) => (
                    vec![general.0.to_owned(), format!("If it is a connection of {}: {told}", advice.whom)],
                    advice.link,
                ),
                None => (vec![general.0.to_owned()], general.1),
            },
            Known::Nothing => match self.agreed(text) {
                Some((told, link)) => (vec![told.to_owned()], link),
                None => (vec![general.0.to_owned()], general.1),
            },
        };
        as_remedy(&sentences.into_iter().chain(hook.map(str::to_owned)).collect::<Vec<_>>().join(" "), link)
    }

    /// What all libraries that are loaded, and may be what uses it, want to be told alike.
    fn agreed(&self, text: fn(&Advice) -> Option<&'static str>) -> Option<(&'static str, &'static str)> {
        let loaded = self.loaded.iter().filter(|library| !client::is_bound(library));
        let mut told = loaded.map(|library| {
            let of_it = |advice: &&Advice| advice.libraries.contains(&library.as_str());
            let advice = ADVICE.iter().find(of_it)?;
            Some((text(advice)?, advice.link))
        });
        let first = told.next()??;
        told.all(|other| other.is_some_and(|(text, _)| text == first.0)).then_some(first)
    }

    fn advice(&self, ecosystem: &str) -> Known {
        let in_use = |advice: &&Advice| self.used.iter().any(|library| advice.libraries.contains(library));
        if let Some(advice) = ADVICE.iter().find(in_use) {
            return Known::Surely(advice);
        }
        let is_loaded =
            |advice: &Advice| self.loaded.iter().any(|library| advice.libraries.contains(&library.as_str()));
        let fits = |advice: &&Advice, kind: Kind| {
            let by_ecosystem = match advice.ecosystems {
                Ecosystems::Named(names) => names.contains(&ecosystem),
                Ecosystems::All => true,
            };
            advice.kinds.contains(&kind) && (by_ecosystem || is_loaded(advice))
        };
        if let Some(kind) = self.service().and_then(kind) {
            return ADVICE.iter().find(|advice| fits(advice, kind)).map_or(Known::Nothing, Known::Surely);
        }
        let only = client::only_kind(self.loaded.iter().map(String::as_str));
        let likely = only
            .and_then(|kind| ADVICE.iter().find(|advice| advice.kinds.contains(&kind) && is_loaded(advice)));
        likely.map_or(Known::Nothing, Known::Perhaps)
    }
}

/// Whether an advice is about this connection.
enum Known {
    Surely(&'static Advice),
    Perhaps(&'static Advice),
    Nothing,
}

/// All the advice about connections that two processes use, with whom it is for.
pub(crate) fn remedies() -> Vec<(&'static str, Remedy)> {
    let general = ("any program", as_remedy(GENERAL.0, GENERAL.1));
    ADVICE.iter().map(|advice| (advice.whom, as_remedy(advice.text, advice.link))).chain([general]).collect()
}

/// All the advice about goodbyes on connections of the parent's, with whom it is for.
pub(crate) fn farewells() -> Vec<(&'static str, Remedy)> {
    let general = ("any program", as_remedy(FAREWELL.0, FAREWELL.1));
    let known =
        ADVICE.iter().filter_map(|advice| Some((advice.whom, as_remedy(advice.farewell?, advice.link))));
    known.chain([general]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::client_library::CLIENT_LIBRARIES;

    fn program(exe: &str, cmdline: &[&str]) -> Program {
        Program {
            exe: Some(exe.into()),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Program::default()
        }
    }

    /// What is said of a connection to that port.
    fn with<T>(
        port: u16,
        used: &[&str],
        loaded: &[&str],
        program: &Program,
        of: impl FnOnce(&Connection<'_>) -> T,
    ) -> T {
        let loaded: Vec<String> = loaded.iter().map(|name| (*name).to_owned()).collect();
        let peer = Peer::Tcp(format!("10.0.0.7:{port}"));
        of(&Connection::new(&peer, used.to_vec(), loaded, program))
    }

    fn told(port: u16, loaded: &[&str], program: &Program) -> String {
        with(port, &[], loaded, program, |connection| connection.remedy().text)
    }

    fn python() -> Program {
        program("/usr/bin/python3", &["python3", "app.py"])
    }

    #[test]
    fn the_library_that_uses_it_decides_whatever_the_port() {
        let loaded = ["sqlalchemy", "psycopg2", "libpq", "hiredis", "grpc"];
        for port in [25432, 6379, 8080] {
            let used = ["sqlalchemy", "psycopg2"];
            let (service, text, libraries) = with(port, &used, &loaded, &python(), |connection| {
                (connection.service(), connection.remedy().text, connection.libraries())
            });
            assert_eq!(service, Some("PostgreSQL"));
            assert!(text.contains("dispose(close=False)"), "{text}");
            assert_eq!(libraries, used);
        }
        for (library, part) in [
            ("django", "close_all()"),
            ("psycopg-pool", "pool.open()"),
            ("pymemcache", "pymemcache does not notice"),
            ("requests", "requests.Session"),
            ("httpx", "httpx.Client"),
            ("urllib3", "urllib3.PoolManager"),
            ("phpredis", "pconnect"),
            ("DBD-MariaDB", "DBD::MariaDB ignores it"),
            ("ruby-mysql2", "ActiveRecord leaves"),
        ] {
            let text = with(4711, &[library], &loaded, &python(), |connection| connection.remedy().text);
            assert!(text.contains(part), "{library}: {text}");
        }
    }

    #[test]
    fn what_is_loaded_decides_by_the_service() {
        let loaded = ["sqlalchemy", "psycopg2", "libpq"];
        assert!(told(5432, &loaded, &python()).contains("dispose(close=False)"));
        assert!(told(5432, &loaded[1..], &python()).contains("close_all()"));
        assert!(told(6379, &loaded, &python()).contains("redis-py"));
        assert!(told(9092, &loaded, &python()).contains("librdkafka"));
        let libraries = with(5432, &[], &["psycopg2", "hiredis", "libpq"], &python(), |connection| {
            connection.libraries()
        });
        assert_eq!(libraries, ["psycopg2", "libpq"]);
    }

    #[test]
    fn of_a_connection_to_something_unknown_what_is_loaded_is_only_likely() {
        let general = "Open the connection after the fork";
        let text = told(25432, &["sqlalchemy", "psycopg2", "libpq"], &python());
        assert!(
            text.starts_with(general) && text.contains("If it is a connection of SQLAlchemy: Call"),
            "{text}"
        );
        let text = told(25432, &["sqlalchemy", "psycopg2", "libpq", "grpc"], &python());
        assert!(text.starts_with(general) && !text.contains("If it is"), "{text}");
        let is_silent = with(25432, &[], &["psycopg2", "libpq"], &python(), |connection| {
            connection.libraries().is_empty()
        });
        assert!(is_silent);
    }

    #[test]
    fn a_pool_whose_threads_stayed_behind_is_told_of() {
        let (peer, program) = (Peer::Tcp("10.0.0.7:25432".to_owned()), python());
        let of = |used: &[&'static str]| {
            Connection::new(&peer, used.to_vec(), Vec::new(), &program)
                .with_threads_left(["psycopg-pool", "librdkafka"].into_iter())
        };
        let connection = of(&["psycopg"]);
        assert_eq!(connection.libraries(), ["psycopg", "psycopg-pool"]);
        assert!(connection.remedy().text.starts_with("Open the pool in the child"));
        assert!(connection.concerns("psycopg-pool") && !connection.concerns("librdkafka"));
        // Where nobody was seen at it, either may be.
        assert!(of(&[]).concerns("librdkafka"));
    }

    #[test]
    fn a_goodbye_has_advice_of_its_own() {
        let farewell = |port, loaded: &[&str], program: &Program| {
            with(port, &[], loaded, program, |connection| connection.farewell().text)
        };
        let perl = program("/usr/bin/perl", &["perl", "a.pl"]);
        let text = farewell(3306, &["DBD-MariaDB", "perl-DBI", "libmariadb"], &perl);
        assert!(text.contains("POSIX::_exit") && text.contains("ignores it"), "{text}");
        let text = farewell(5432, &["DBD-Pg", "perl-DBI", "libpq"], &perl);
        assert!(text.starts_with("Set AutoInactiveDestroy"), "{text}");
        let php = program("/usr/bin/php8.2", &["php", "a.php"]);
        let text = farewell(5432, &["php-pgsql", "libpq"], &php);
        assert!(text.contains("posix_kill") && !text.contains("os._exit"), "{text}");
        // PHP loads all that is installed, and any of them may be what uses it: each ends in the same way.
        let all = ["php-pgsql", "php-mysql", "phpredis", "libpq", "libldap"];
        assert!(farewell(4711, &all, &php).contains("posix_kill"));
        let text = farewell(4711, &["psycopg2", "redis-py"], &php);
        assert!(text.starts_with("Close the connection before the fork"), "{text}");
        let (peer, loaded) = (Peer::Tcp("10.0.0.7:25432".to_owned()), ["php-pgsql", "php-mysql", "libpq"]);
        let loaded = loaded.map(str::to_owned).to_vec();
        let connection = Connection::new(&peer, vec!["libpq"], loaded, &php);
        assert!(connection.remedy().text.contains("pcntl_fork()"), "{}", connection.remedy().text);
        assert_eq!(connection.libraries(), ["php-pgsql", "libpq"]);
        let text = farewell(4711, &[], &program("/srv/a.out", &["./a.out"]));
        assert!(text.starts_with("Close the connection before the fork"), "{text}");
    }

    #[test]
    fn without_a_library_the_language_decides_and_the_server_says_where() {
        let puma = program("/usr/bin/ruby3.1", &["puma 6.4.2 (tcp://0.0.0.0:80) [app]"]);
        let told_puma = told(5432, &["ruby-pg", "libpq"], &puma);
        assert!(told_puma.contains("ActiveRecord") && told_puma.contains("before_worker_boot"));
        let gunicorn = program("/usr/bin/python3.11", &["gunicorn: master [app]"]);
        assert!(told(27017, &["pymongo"], &gunicorn).ends_with("the server hook post_fork."));
        let other = program("/srv/a.out", &["./a.out"]);
        assert!(told(5432, &["libpq"], &other).contains("PQfinish"));
        assert!(told(389, &[], &other).starts_with("Open the connection after the fork"));
    }

    #[test]
    fn every_advice_can_be_reached_and_is_linked() {
        let is_known = |name: &str| CLIENT_LIBRARIES.iter().any(|library| library.name == name);
        for advice in &ADVICE {
            assert!(advice.link.starts_with("https://") && advice.text.ends_with('.'), "{}", advice.link);
            assert!(advice.libraries.iter().all(|name| is_known(name)), "{}", advice.whom);
            let names = match advice.ecosystems {
                Ecosystems::All => continue,
                Ecosystems::Named(names) => names,
            };
            assert!(!advice.libraries.is_empty() || !names.is_empty());
            assert!(names.iter().all(|name| ecosystem::remedies().iter().any(|(whom, _)| whom == name)));
        }
        for (name, _) in HOOKS {
            assert!(ecosystem::remedies().iter().any(|(whom, _)| *whom == name), "{name}");
        }
    }
}
