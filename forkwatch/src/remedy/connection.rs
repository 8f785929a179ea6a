//! What to change where a connection is carried over a fork.

use super::{
    ecosystem, remedy as as_remedy,
    service::{Kind, kind},
};
use crate::model::{finding::Remedy, process::Program};

/// What the users of some libraries are told about connections of one kind.
struct Advice {
    /// Whom it is for.
    whom: &'static str,
    /// Of which kind the connection is.
    kinds: &'static [Kind],
    /// A library of the parent, or the ecosystem it belongs to, of which it is true.
    applies: Applies,
    text: &'static str,
    link: &'static str,
}

enum Applies {
    /// Where one of these libraries is loaded.
    To(&'static [&'static str]),
    /// In these ecosystems.
    In(&'static [&'static str]),
    /// Always.
    ToAll,
}

const PYTHON: &[&str] = &[
    "gunicorn",
    "uWSGI",
    "Celery",
    "PyTorch (DataLoader)",
    "Python multiprocessing and ProcessPoolExecutor",
    "Python",
];
const RUBY: &[&str] = &["Puma", "Resque", "Unicorn and Pitchfork", "Passenger", "Ruby"];

/// The first that fits is taken: what a library says of itself stands before what its language says.
static ADVICE: [Advice; 16] = [
    Advice {
        whom: "SQLAlchemy",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["sqlalchemy"]),
        text: "Call engine.dispose(close=False) in the child before it uses the engine (SQLAlchemy 1.4.33 or \
                 later): its pool then forgets the parent's connections without closing them. A plain dispose() in \
                 the child says goodbye to the server in the parent's name.",
        link: "https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork",
    },
    Advice {
        whom: "psycopg, asyncpg and Django on PostgreSQL",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["psycopg2", "psycopg", "asyncpg"]),
        text: "Connect, or open the pool, in the child; or close every connection before the fork. In Django that \
                 is django.db.connections.close_all(), and CONN_MAX_AGE = 0 keeps none open between requests.",
        link: "https://www.psycopg.org/docs/usage.html#thread-and-process-safety",
    },
    Advice {
        whom: "MySQL and Oracle clients in Python",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["mysqlclient", "mysql-connector", "oracledb"]),
        text: "Connect in the child; or close every connection before the fork. In Django that is \
                 django.db.connections.close_all(), and CONN_MAX_AGE = 0 keeps none open between requests.",
        link: "https://docs.djangoproject.com/en/stable/ref/databases/#persistent-connections",
    },
    Advice {
        whom: "ActiveRecord",
        kinds: &[Kind::Sql],
        applies: Applies::In(RUBY),
        text: "ActiveRecord leaves the parent's connections alone in the child since Rails 5.2; with an older one, \
                 call ActiveRecord::Base.connection_pool.disconnect! before the fork and establish_connection after \
                 it. A client of your own connects after the fork.",
        link: "https://api.rubyonrails.org/classes/ActiveRecord/ConnectionAdapters/ConnectionHandler.html",
    },
    Advice {
        whom: "Perl DBI",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["perl-DBI"]),
        text: "Set AutoInactiveDestroy => 1 on the handle, so that the child's exit does not end the parent's \
                 session, and connect again in the child.",
        link: "https://metacpan.org/pod/DBI#AutoInactiveDestroy",
    },
    Advice {
        whom: "PHP",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["php-pgsql", "php-mysql"]),
        text: "Connect in the child. Its copy of the parent's handle must not be destroyed either, since that says \
                 goodbye to the server: close the connection before pcntl_fork() and connect anew on both sides.",
        link: "https://www.php.net/manual/en/function.pcntl-fork.php",
    },
    Advice {
        whom: "libpq",
        kinds: &[Kind::Sql],
        applies: Applies::To(&["libpq"]),
        text: "Open the connection in the child. libpq does not allow two processes on one connection, and \
                 PQfinish in either ends it for both.",
        link: "https://www.postgresql.org/docs/current/libpq-connect.html",
    },
    Advice {
        whom: "PyMongo",
        kinds: &[Kind::MongoDb],
        applies: Applies::In(PYTHON),
        text: "Create the MongoClient in the child. PyMongo 4.3 and later survives a fork, but warns of it: its \
                 threads and locks stay behind.",
        link: "https://pymongo.readthedocs.io/en/4.7.1/faq.html#is-pymongo-fork-safe",
    },
    Advice {
        whom: "redis-py",
        kinds: &[Kind::Redis],
        applies: Applies::In(PYTHON),
        text: "Create the client, or at least its connection pool, in the child. redis-py 3.2 and later notices \
                 the fork and reconnects; a connection or pub/sub object that was taken out of the pool does not.",
        link: "https://redis.readthedocs.io/en/stable/connections.html",
    },
    Advice {
        whom: "Redis and memcached clients in Ruby",
        kinds: &[Kind::Redis, Kind::Memcached],
        applies: Applies::In(RUBY),
        text: "Close the client before the fork and connect after it. The gem connection_pool does so by itself \
                 from 2.4 on.",
        link: "https://github.com/mperham/connection_pool",
    },
    Advice {
        whom: "Kafka clients",
        kinds: &[Kind::Kafka],
        applies: Applies::ToAll,
        text: "Create producers and consumers in the child: librdkafka's threads stay behind in the parent, so a \
                 client that was made before the fork never sends anything there.",
        link: "https://karafka.io/docs/Infrastructure-Forking/",
    },
    Advice {
        whom: "pylibmc",
        kinds: &[Kind::Memcached],
        applies: Applies::To(&["pylibmc"]),
        text: "Give each process its own client: clone() it in the child, or use a pool that is made there.",
        link: "https://sendapatch.se/projects/pylibmc/pooling.html",
    },
    Advice {
        whom: "gRPC",
        kinds: &[Kind::Http, Kind::Telemetry],
        applies: Applies::To(&["grpc"]),
        text: "Create channels in the child. Where the parent needs gRPC too, set GRPC_ENABLE_FORK_SUPPORT=1 and \
                 let no call be under way while it forks.",
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    Advice {
        whom: "OpenTelemetry",
        kinds: &[Kind::Telemetry],
        applies: Applies::ToAll,
        text: "Build tracer and meter providers, with their exporters, in the child: their threads and \
                 connections do not survive a fork.",
        link: "https://opentelemetry-python.readthedocs.io/en/latest/examples/fork-process-model/README.html",
    },
    Advice {
        whom: "Cassandra drivers",
        kinds: &[Kind::Cassandra],
        applies: Applies::ToAll,
        text: "Create the cluster and its session in the child: the driver's threads stay behind in the parent.",
        link: "https://docs.datastax.com/en/developer/python-driver/latest/faq/",
    },
    Advice {
        whom: "HTTP sessions in Python",
        kinds: &[Kind::Http],
        applies: Applies::In(PYTHON),
        text: "Create the HTTP session in the child, or close it before the fork: two processes that take turns on \
                 a connection that is kept alive read each other's answers, and over TLS neither can read any.",
        link: "https://docs.python.org/3/library/os.html#os.register_at_fork",
    },
];

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

/// What everybody else is told, and where.
const GENERAL: (&str, &str) = (
    "Open the connection after the fork, in each process that uses it; or close it before the fork. A child that \
     merely inherited it must not touch it, and leaves by _exit, so that no library says goodbye on it.",
    "https://man7.org/linux/man-pages/man2/fork.2.html",
);

/// All the advice, with whom it is for.
pub(crate) fn remedies() -> Vec<(&'static str, Remedy)> {
    let general = ("any program", as_remedy(GENERAL.0, GENERAL.1));
    ADVICE.iter().map(|advice| (advice.whom, as_remedy(advice.text, advice.link))).chain([general]).collect()
}

/// What to change in a program that carries a connection to that service (`None`: to something unknown) over a fork,
/// with these client libraries loaded.
pub(crate) fn remedy(service: Option<&str>, libraries: &[String], program: &Program) -> Remedy {
    let ecosystem = ecosystem::recognise(program, &[]).name;
    let fits = |advice: &&Advice, kind: Kind| {
        advice.kinds.contains(&kind)
            && match advice.applies {
                Applies::To(names) => libraries.iter().any(|library| names.contains(&library.as_str())),
                Applies::In(ecosystems) => ecosystems.contains(&ecosystem),
                Applies::ToAll => true,
            }
    };
    let advice = service.and_then(kind).and_then(|kind| ADVICE.iter().find(|advice| fits(advice, kind)));
    let (text, link) = advice.map_or(GENERAL, |advice| (advice.text, advice.link));
    let hook = HOOKS.iter().find(|(name, _)| *name == ecosystem).map(|(_, hook)| *hook);
    as_remedy(&[Some(text), hook].into_iter().flatten().collect::<Vec<_>>().join(" "), link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(exe: &str, cmdline: &[&str]) -> Program {
        Program {
            exe: Some(exe.into()),
            cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Program::default()
        }
    }

    fn told(service: Option<&str>, libraries: &[&str], program: &Program) -> String {
        let libraries: Vec<String> = libraries.iter().map(|name| (*name).to_owned()).collect();
        remedy(service, &libraries, program).text
    }

    #[test]
    fn the_library_that_speaks_to_the_service_decides() {
        let python = program("/usr/bin/python3", &["python3", "app.py"]);
        let loaded = ["sqlalchemy", "psycopg2", "libpq"];
        assert!(told(Some("PostgreSQL"), &loaded, &python).contains("dispose(close=False)"));
        assert!(told(Some("PostgreSQL"), &loaded[1..], &python).contains("close_all()"));
        assert!(told(Some("Redis"), &loaded, &python).contains("redis-py"));
        assert!(told(Some("Kafka"), &loaded, &python).contains("librdkafka"));
        // What else is loaded says nothing about a connection to something unknown.
        assert!(told(None, &loaded, &python).starts_with("Open the connection after the fork"));
    }

    #[test]
    fn without_a_library_the_language_decides_and_the_server_says_where() {
        let puma = program("/usr/bin/ruby3.1", &["puma 6.4.2 (tcp://0.0.0.0:80) [app]"]);
        let told_puma = told(Some("PostgreSQL"), &["ruby-pg", "libpq"], &puma);
        assert!(told_puma.contains("ActiveRecord") && told_puma.contains("before_worker_boot"));
        let gunicorn = program("/usr/bin/python3.11", &["gunicorn: master [app]"]);
        assert!(told(Some("MongoDB"), &["pymongo"], &gunicorn).ends_with("the server hook post_fork."));
        let other = program("/srv/a.out", &["./a.out"]);
        assert!(told(Some("PostgreSQL"), &["libpq"], &other).contains("PQfinish"));
        assert!(told(Some("LDAP"), &[], &other).starts_with("Open the connection after the fork"));
    }

    #[test]
    fn every_advice_can_be_reached_and_is_linked() {
        for advice in &ADVICE {
            assert!(advice.link.starts_with("https://") && advice.text.ends_with('.'), "{}", advice.link);
            let names = match advice.applies {
                Applies::To(_) | Applies::ToAll => continue,
                Applies::In(names) => names,
            };
            assert!(names.iter().all(|name| ecosystem::remedies().iter().any(|(whom, _)| whom == name)));
        }
        for (name, _) in HOOKS {
            assert!(ecosystem::remedies().iter().any(|(whom, _)| *whom == name), "{name}");
        }
    }
}
