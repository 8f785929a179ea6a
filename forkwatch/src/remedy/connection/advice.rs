//! What the users of each client library are told about connections that a fork carries over.

use super::super::{client::SQL, service::Kind};

/// What the users of some libraries are told about connections of some kinds.
pub(super) struct Advice {
    /// The library whose users it is for: `SQLAlchemy`.
    pub(super) whom: &'static str,
    /// To whom it goes where one of these libraries is in use, or is loaded and the connection is of a fitting kind.
    pub(super) libraries: &'static [&'static str],
    /// Of which kinds the connection is, where no call shows the library that uses it.
    pub(super) kinds: &'static [Kind],
    /// To whom it goes in the same case by the ecosystem alone.
    pub(super) ecosystems: Ecosystems,
    /// Where two processes use the connection.
    pub(super) text: &'static str,
    /// Where a child says goodbye on it; absent where nothing particular is known.
    pub(super) farewell: Option<&'static str>,
    pub(super) link: &'static str,
}

/// Ecosystems, by the names in [`super::super::ecosystem`].
pub(super) enum Ecosystems {
    /// These: their libraries map nothing by which they could be known.
    Named(&'static [&'static str]),
    /// Every ecosystem.
    All,
}

const NONE: Ecosystems = Ecosystems::Named(&[]);
const PYTHON: Ecosystems = Ecosystems::Named(&[
    "gunicorn",
    "uWSGI",
    "Celery",
    "PyTorch (DataLoader)",
    "Python multiprocessing and ProcessPoolExecutor",
    "Python",
]);
const RUBY: Ecosystems = Ecosystems::Named(&["Puma", "Resque", "Unicorn and Pitchfork", "Passenger", "Ruby"]);

/// How PHP and Ruby end a child without destructors and exit handlers.
const PHP_ENDS: &str = "Close the connection before pcntl_fork() and connect anew on both sides. PHP has no _exit: a \
                        child that must not say goodbye on an inherited handle ends itself by \
                        posix_kill(getmypid(), SIGKILL). Persistent connections (PDO::ATTR_PERSISTENT, p:host) stay \
                        open when the handle is dropped.";

/// The first that fits is taken: what a library says of itself stands before what its language says.
pub(super) static ADVICE: [Advice; 27] = [
    Advice {
        whom: "SQLAlchemy",
        libraries: &["sqlalchemy"],
        kinds: SQL,
        ecosystems: NONE,
        text: "Call engine.dispose(close=False) in the child before it uses the engine (SQLAlchemy 1.4.33 or \
               later): its pool then forgets the parent's connections without closing them. A plain dispose() in \
               the child says goodbye to the server in the parent's name.",
        farewell: Some(
            "Call engine.dispose(close=False) in the child (SQLAlchemy 1.4.33 or later): its pool then forgets the \
             parent's connections without a word to the server. A plain dispose() says goodbye in the parent's name, \
             and so does a connection that the child's exit destroys: a child that needs no database leaves by \
             os._exit().",
        ),
        link: "https://docs.sqlalchemy.org/en/20/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork",
    },
    Advice {
        whom: "Django",
        libraries: &["django"],
        kinds: SQL,
        ecosystems: NONE,
        text: "Call django.db.connections.close_all() before the fork, so that each process connects for itself. \
               CONN_MAX_AGE = 0 keeps no connection open between requests.",
        farewell: Some(
            "Call django.db.connections.close_all() before the fork and not in the child, where it says goodbye in the \
             parent's name. A child that needs no database leaves by os._exit().",
        ),
        link: "https://docs.djangoproject.com/en/stable/ref/databases/#persistent-connections",
    },
    Advice {
        whom: "psycopg_pool",
        libraries: &["psycopg-pool"],
        kinds: &[Kind::PostgreSql],
        ecosystems: NONE,
        text: "Open the pool in the child: make it with ConnectionPool(open=False) and call pool.open() after the fork. \
               The pool's threads stay behind in the parent, so that in the child broken connections are never \
               replaced and getconn() ends in PoolTimeout.",
        farewell: None,
        link: "https://www.psycopg.org/psycopg3/docs/advanced/pool.html",
    },
    Advice {
        whom: "psycopg, asyncpg and pg8000",
        libraries: &["psycopg2", "psycopg", "asyncpg", "pg8000"],
        kinds: &[Kind::PostgreSql],
        ecosystems: NONE,
        text: "Connect, or open the pool, in the child; or close every connection before the fork. In Django that \
               is django.db.connections.close_all(), and CONN_MAX_AGE = 0 keeps none open between requests.",
        farewell: Some(
            "Close every connection before the fork, or leave the child by os._exit(): where a connection object of the \
             parent's is destroyed in the child, or closed there, libpq says goodbye in the parent's name.",
        ),
        link: "https://www.psycopg.org/docs/usage.html#thread-and-process-safety",
    },
    Advice {
        whom: "MySQL and Oracle clients in Python",
        libraries: &["mysqlclient", "mysql-connector", "pymysql", "oracledb"],
        kinds: &[Kind::MySql, Kind::OtherSql],
        ecosystems: NONE,
        text: "Connect in the child; or close every connection before the fork. In Django that is \
               django.db.connections.close_all(), and CONN_MAX_AGE = 0 keeps none open between requests.",
        farewell: Some(
            "Close every connection before the fork, or leave the child by os._exit(): a connection object of the \
             parent's that is destroyed or closed in the child says goodbye in the parent's name.",
        ),
        link: "https://docs.djangoproject.com/en/stable/ref/databases/#persistent-connections",
    },
    Advice {
        whom: "mysql2 and Trilogy in Ruby",
        libraries: &["ruby-mysql2", "ruby-trilogy"],
        kinds: &[Kind::MySql],
        ecosystems: NONE,
        text: "Connect after the fork. ActiveRecord leaves the parent's connections alone in the child since Rails \
               5.2; a client of your own is closed before the fork and made anew after it.",
        farewell: Some(
            "Set client.automatic_close = false on an inherited Mysql2::Client in the child, so that its end does not end \
             the parent's session; or close it before the fork; or leave the child by exit!.",
        ),
        link: "https://github.com/brianmario/mysql2#readme",
    },
    Advice {
        whom: "ActiveRecord and pg in Ruby",
        libraries: &["ruby-pg"],
        kinds: SQL,
        ecosystems: RUBY,
        text: "ActiveRecord leaves the parent's connections alone in the child since Rails 5.2; with an older one, \
               call ActiveRecord::Base.connection_pool.disconnect! before the fork and establish_connection after \
               it. A client of your own connects after the fork.",
        farewell: Some(
            "Disconnect before the fork (ActiveRecord::Base.connection_pool.disconnect!, which Rails 5.2 and later make \
             needless; PG::Connection#finish), or leave the child by exit!, which runs no finalizers.",
        ),
        link: "https://api.rubyonrails.org/classes/ActiveRecord/ConnectionAdapters/ConnectionHandler.html",
    },
    Advice {
        whom: "DBD::MariaDB in Perl",
        libraries: &["DBD-MariaDB"],
        kinds: &[Kind::MySql],
        ecosystems: NONE,
        text: "Connect in the child. AutoInactiveDestroy does not help: DBD::MariaDB ignores it, so that the child's exit \
               ends the parent's session. Disconnect before the fork and connect anew on both sides, or use DBD::mysql, \
               which heeds it.",
        farewell: Some(
            "Leave the child by POSIX::_exit(), or disconnect before the fork and connect anew on both sides. \
             AutoInactiveDestroy does not help: DBD::MariaDB ignores it. DBD::mysql heeds it.",
        ),
        link: "https://github.com/perl5-dbi/DBD-MariaDB/pull/175",
    },
    Advice {
        whom: "Perl DBI",
        libraries: &["DBD-Pg", "DBD-mysql", "perl-DBI"],
        kinds: SQL,
        ecosystems: NONE,
        text: "Set AutoInactiveDestroy => 1 on the handle, so that the child's exit does not end the parent's \
               session, and connect again in the child.",
        farewell: Some(
            "Set AutoInactiveDestroy => 1 on the handle, so that the child's exit does not end the parent's session. A \
             child that calls disconnect on the inherited handle ends it all the same.",
        ),
        link: "https://metacpan.org/pod/DBI#AutoInactiveDestroy",
    },
    Advice {
        whom: "PDO, mysqli and pgsql in PHP",
        libraries: &["php-pgsql", "php-mysql"],
        kinds: &[Kind::PostgreSql, Kind::MySql],
        ecosystems: NONE,
        text: "Connect in the child. Its copy of the parent's handle must not be destroyed either, since that says \
               goodbye to the server: close the connection before pcntl_fork() and connect anew on both sides.",
        farewell: Some(PHP_ENDS),
        link: "https://www.php.net/manual/en/function.pcntl-fork.php",
    },
    Advice {
        whom: "libpq",
        libraries: &["libpq"],
        kinds: &[Kind::PostgreSql],
        ecosystems: NONE,
        text: "Open the connection in the child. libpq does not allow two processes on one connection, and \
               PQfinish in either ends it for both.",
        farewell: Some(
            "Call PQfinish in the child on no connection of the parent's, and leave the child by _exit().",
        ),
        link: "https://www.postgresql.org/docs/current/libpq-connect.html",
    },
    Advice {
        whom: "MySQL's and MariaDB's client libraries",
        libraries: &["libmysqlclient", "libmariadb"],
        kinds: &[Kind::MySql],
        ecosystems: NONE,
        text: "Call mysql_real_connect in the child, for a connection of its own: one connection is for one process, and \
               mysql_close in either ends it for both.",
        farewell: Some(
            "Call mysql_close in the child on no connection of the parent's, and leave the child by _exit().",
        ),
        link: "https://dev.mysql.com/doc/c-api/8.0/en/c-api-threaded-clients.html",
    },
    Advice {
        whom: "PyMongo",
        libraries: &["pymongo"],
        kinds: &[Kind::MongoDb],
        ecosystems: PYTHON,
        text: "Create the MongoClient in the child. PyMongo 4.3 and later survives a fork, but warns of it: its \
               threads and locks stay behind.",
        farewell: None,
        link: "https://pymongo.readthedocs.io/en/4.7.1/faq.html#is-pymongo-fork-safe",
    },
    Advice {
        whom: "Celery and kombu",
        libraries: &["kombu", "py-amqp"],
        kinds: &[Kind::Amqp],
        ecosystems: NONE,
        text: "Create the connection, producer or result consumer in the child: kombu's pools are renewed there by \
               kombu.pools.reset(), and a connection of one's own by making it after the fork.",
        farewell: None,
        link: "https://docs.celeryq.dev/projects/kombu/en/stable/userguide/pools.html",
    },
    Advice {
        whom: "Pika",
        libraries: &["pika"],
        kinds: &[Kind::Amqp],
        ecosystems: NONE,
        text: "Create the connection and its channels in the child: one is for one process, and for one thread of that.",
        farewell: None,
        link: "https://pika.readthedocs.io/en/stable/faq.html",
    },
    Advice {
        whom: "redis-py",
        libraries: &["redis-py"],
        kinds: &[Kind::Redis],
        ecosystems: PYTHON,
        text: "Create the client, or at least its connection pool, in the child. redis-py 3.2 and later notices \
               the fork and reconnects; a connection or pub/sub object that was taken out of the pool does not.",
        farewell: None,
        link: "https://redis.readthedocs.io/en/stable/connections.html",
    },
    Advice {
        whom: "phpredis, memcached and mongodb in PHP",
        libraries: &["phpredis", "php-memcached", "php-mongodb"],
        kinds: &[Kind::Redis, Kind::Memcached, Kind::MongoDb],
        ecosystems: NONE,
        text: "Connect in the child; or close the client before pcntl_fork() and connect anew on both sides. A \
               persistent connection (pconnect, persistent_id) outlives close() and is shared all the same.",
        farewell: Some(PHP_ENDS),
        link: "https://www.php.net/manual/en/function.pcntl-fork.php",
    },
    Advice {
        whom: "Redis and memcached clients in Ruby",
        libraries: &["ruby-hiredis"],
        kinds: &[Kind::Redis, Kind::Memcached],
        ecosystems: RUBY,
        text: "Close the client before the fork and connect after it. redis-rb notices a fork and reconnects, unless it \
               was told inherit_socket: true or is in a subscription; the gem connection_pool drops its connections \
               in a child from 2.4 on.",
        farewell: None,
        link: "https://github.com/mperham/connection_pool",
    },
    Advice {
        whom: "Kafka clients",
        libraries: &["confluent-kafka", "kafka-python", "rdkafka-ruby", "php-rdkafka", "librdkafka"],
        kinds: &[Kind::Kafka],
        ecosystems: Ecosystems::All,
        text: "Create producers and consumers in the child: librdkafka's threads stay behind in the parent, so a \
               client that was made before the fork never sends anything there.",
        farewell: None,
        link: "https://karafka.io/docs/Infrastructure-Forking/",
    },
    Advice {
        whom: "pymemcache",
        libraries: &["pymemcache"],
        kinds: &[Kind::Memcached],
        ecosystems: PYTHON,
        text: "Create the client in the child, or call client.close() before the fork: it connects again by itself. \
               pymemcache does not notice a fork, and neither do its pooled and hash clients.",
        farewell: None,
        link: "https://pymemcache.readthedocs.io/en/latest/getting_started.html",
    },
    Advice {
        whom: "pylibmc and libmemcached",
        libraries: &["pylibmc", "libmemcached"],
        kinds: &[Kind::Memcached],
        ecosystems: NONE,
        text: "Give each process its own client: clone() it in the child, or use a pool that is made there.",
        farewell: None,
        link: "https://sendapatch.se/projects/pylibmc/pooling.html",
    },
    Advice {
        whom: "gRPC",
        libraries: &["grpc"],
        kinds: &[Kind::Http, Kind::Telemetry],
        ecosystems: NONE,
        text: "Create channels in the child. Where the parent needs gRPC too, set GRPC_ENABLE_FORK_SUPPORT=1 and \
               let no call be under way while it forks.",
        farewell: None,
        link: "https://github.com/grpc/grpc/blob/master/doc/fork_support.md",
    },
    Advice {
        whom: "OpenTelemetry",
        libraries: &["opentelemetry"],
        kinds: &[Kind::Telemetry],
        ecosystems: Ecosystems::All,
        text: "Build tracer and meter providers, with their exporters, in the child: their threads and \
               connections do not survive a fork.",
        farewell: None,
        link: "https://opentelemetry-python.readthedocs.io/en/latest/examples/fork-process-model/README.html",
    },
    Advice {
        whom: "Cassandra drivers",
        libraries: &["cassandra-driver"],
        kinds: &[Kind::Cassandra],
        ecosystems: Ecosystems::All,
        text: "Create the cluster and its session in the child: the driver's threads stay behind in the parent.",
        farewell: None,
        link: "https://docs.datastax.com/en/developer/python-driver/latest/faq/",
    },
    Advice {
        whom: "Requests",
        libraries: &["requests"],
        kinds: &[],
        ecosystems: NONE,
        text: "Create the requests.Session in the child, or call session.close() before the fork: two processes that take \
               turns on a connection that is kept alive read each other's answers, and over TLS neither can read any.",
        farewell: None,
        link: "https://requests.readthedocs.io/en/latest/user/advanced/#session-objects",
    },
    Advice {
        whom: "HTTPX and aiohttp",
        libraries: &["httpx", "aiohttp"],
        kinds: &[],
        ecosystems: NONE,
        text: "Create the client (httpx.Client, aiohttp.ClientSession) in the child, or close it before the fork: two \
               processes that take turns on a connection that is kept alive read each other's answers, and over TLS \
               neither can read any.",
        farewell: None,
        link: "https://www.python-httpx.org/advanced/clients/",
    },
    Advice {
        whom: "urllib3 and other HTTP sessions in Python",
        libraries: &["urllib3"],
        kinds: &[Kind::Http],
        ecosystems: PYTHON,
        text: "Create the HTTP session (requests.Session, httpx.Client, urllib3.PoolManager) in the child, or close it \
               before the fork: two processes that take turns on a connection that is kept alive read each other's \
               answers, and over TLS neither can read any.",
        farewell: None,
        link: "https://docs.python.org/3/library/os.html#os.register_at_fork",
    },
];

/// What everybody else is told, and where.
pub(super) const GENERAL: (&str, &str) = (
    "Open the connection after the fork, in each process that uses it; or close it before the fork. A child that \
     merely inherited it must not touch it, and leaves by _exit, so that no library says goodbye on it.",
    "https://man7.org/linux/man-pages/man2/fork.2.html",
);

/// The same about a goodbye.
pub(super) const FAREWELL: (&str, &str) = (
    "Close the connection before the fork and open it anew on both sides; or leave the child by _exit (os._exit, exit!, \
     POSIX::_exit), which runs no destructors and exit handlers. A child closes no connection of its parent's but by \
     close(2) on the descriptor.",
    "https://man7.org/linux/man-pages/man2/_exit.2.html",
);
