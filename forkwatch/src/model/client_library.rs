//! Client libraries for databases, brokers and the like, and how the files are called that they consist of.

use super::{
    process::Comm,
    stack::{Frame, Stack},
};

/// A library by which programs use a service.
pub struct ClientLibrary {
    /// As people call it.
    pub name: &'static str,
    /// What stands in the path of a file of its own: of an object that a process maps, or of a script that it runs. A name
    /// that may be anybody's comes with the folder that packages are installed in.
    paths: &'static [&'static str],
}

impl ClientLibrary {
    /// Whether this file is one of its own.
    pub fn owns(&self, path: &str) -> bool {
        self.paths.iter().any(|part| path.contains(part))
    }
}

const fn library(name: &'static str, paths: &'static [&'static str]) -> ClientLibrary {
    ClientLibrary { name, paths }
}

/// All that are known. A binding stands before the library that it is bound to. What is written in Python, Ruby or PHP
/// alone maps nothing: only the calls of a script show it.
pub static CLIENT_LIBRARIES: [ClientLibrary; 52] = [
    library("django", &["-packages/django/db/"]),
    library("sqlalchemy", &["/sqlalchemy/"]),
    library("psycopg-pool", &["/psycopg_pool/"]),
    library("psycopg2", &["/psycopg2/"]),
    library("psycopg", &["/psycopg_c/", "/psycopg_binary/", "-packages/psycopg/"]),
    library("asyncpg", &["/asyncpg/"]),
    library("pg8000", &["-packages/pg8000/"]),
    library("mysqlclient", &["/MySQLdb/"]),
    library("mysql-connector", &["/_mysql_connector.", "/mysql/connector/"]),
    library("pymysql", &["-packages/pymysql/"]),
    library("oracledb", &["/oracledb/", "/cx_Oracle."]),
    library("pymongo", &["/pymongo/", "/bson/_cbson."]),
    library("redis-py", &["-packages/redis/"]),
    library("hiredis", &["/hiredis/", "/libhiredis.", "/libhiredis-"]),
    library("kombu", &["-packages/kombu/"]),
    library("py-amqp", &["-packages/amqp/"]),
    library("pika", &["-packages/pika/"]),
    library("confluent-kafka", &["/confluent_kafka/"]),
    library("kafka-python", &["-packages/kafka/"]),
    library("pymemcache", &["-packages/pymemcache/"]),
    library("pylibmc", &["/_pylibmc.", "-packages/pylibmc/"]),
    library("cassandra-driver", &["/cassandra/"]),
    library("opentelemetry", &["-packages/opentelemetry/"]),
    library("requests", &["-packages/requests/"]),
    library("httpx", &["-packages/httpx/"]),
    library("aiohttp", &["-packages/aiohttp/"]),
    library("urllib3", &["-packages/urllib3/"]),
    library("ruby-pg", &["/pg_ext.so"]),
    library("ruby-mysql2", &["/mysql2/mysql2.so"]),
    library("ruby-trilogy", &["/trilogy/cext.so"]),
    library("ruby-hiredis", &["/hiredis_connection.so"]),
    library("rdkafka-ruby", &["/rdkafka-"]),
    library("php-pgsql", &["/pdo_pgsql.so", "/pgsql.so"]),
    library("php-mysql", &["/pdo_mysql.so", "/mysqli.so", "/mysqlnd.so"]),
    library("phpredis", &["/redis.so"]),
    library("php-memcached", &["/memcached.so"]),
    library("php-mongodb", &["/mongodb.so"]),
    library("php-rdkafka", &["/rdkafka.so"]),
    library("DBD-Pg", &["/auto/DBD/Pg/Pg.so"]),
    library("DBD-mysql", &["/auto/DBD/mysql/mysql.so"]),
    library("DBD-MariaDB", &["/auto/DBD/MariaDB/MariaDB.so"]),
    library("perl-DBI", &["/auto/DBI/DBI.so"]),
    library("libpq", &["/libpq.", "/libpq-"]),
    library("libmysqlclient", &["/libmysqlclient.", "/libmysqlclient-"]),
    library("libmariadb", &["/libmariadb.", "/libmariadb-", "/libmariadbclient."]),
    library("librdkafka", &["/librdkafka.", "/librdkafka-"]),
    library("libmemcached", &["/libmemcached.", "/libmemcached-"]),
    library("libmongoc", &["/libmongoc"]),
    library("librabbitmq", &["/librabbitmq.", "/librabbitmq-"]),
    library("libldap", &["/libldap.", "/libldap-", "/libldap_r"]),
    library("odbc", &["/libodbc.", "/libodbc-"]),
    library("grpc", &["/cygrpc.", "/libgrpc.", "/grpc_c.so", "-packages/grpc/"]),
];

/// The libraries that these calls are in, in the order of the list.
pub fn libraries_in<'a>(stacks: impl IntoIterator<Item = &'a Stack>) -> Vec<&'static str> {
    let frames: Vec<&Frame> = stacks.into_iter().flat_map(|stack| &stack.frames).collect();
    let is_called =
        |library: &&ClientLibrary| frames.iter().any(|frame| is_of(frame, |path| library.owns(path)));
    CLIENT_LIBRARIES.iter().filter(is_called).map(|library| library.name).collect()
}

/// The library that has started a thread for itself, by the calls of its script: the first of them that is not the
/// interpreter's own is the library's.
pub fn started_by(script: &Stack) -> Option<&'static str> {
    // What is cut off may be the beginning.
    let first = script.frames.iter().rev().find(|frame| !frame.is_of_interpreter());
    let first = first.filter(|_| script.missing.is_none())?;
    let library = CLIENT_LIBRARIES.iter().find(|library| is_of(first, |path| library.owns(path)))?;
    Some(library.name)
}

/// The library whose thread is called so.
pub fn thread_of(comm: Comm) -> Option<&'static str> {
    // rd_kafka_thread_main, rd_kafka_broker_thread_main and so on, in librdkafka.
    comm.bytes().starts_with(b"rdk:").then_some("librdkafka")
}

fn is_of(frame: &Frame, owns: impl FnOnce(&str) -> bool) -> bool {
    frame.module.as_deref().is_some_and(owns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(modules: &[&str]) -> Stack {
        let frame = |module: &&str| Frame { module: Some((*module).to_owned()), ..Frame::default() };
        Stack { frames: modules.iter().map(frame).collect(), missing: None }
    }

    #[test]
    fn calls_tell_the_libraries() {
        let script = stack(&[
            "/venv/lib/python3.11/site-packages/sqlalchemy/engine/default.py",
            "/venv/lib/python3.11/site-packages/sqlalchemy/engine/base.py",
            "/srv/redis/shop.py",
        ]);
        let native = stack(&[
            "/usr/lib/x86_64-linux-gnu/libc.so.6",
            "/venv/lib/python3.11/site-packages/psycopg2_binary.libs/libpq-9b38f5e3.so.5.17",
            "/venv/lib/python3.11/site-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so",
        ]);
        assert_eq!(libraries_in([&script, &native]), ["sqlalchemy", "psycopg2", "libpq"]);
        assert_eq!(
            libraries_in([&stack(&["/srv/redis/shop.py", "/srv/requests/a.py"])]),
            <[&str; 0]>::default()
        );
    }

    #[test]
    fn a_thread_is_its_that_begins_in_it() {
        let begins = ["/usr/lib/python3.11/threading.py", "/usr/lib/python3.11/threading.py"];
        let pool = "/venv/lib/python3.11/site-packages/psycopg_pool/pool.py";
        let of = |modules: &[&str]| started_by(&stack(&[modules, &begins].concat()));
        assert_eq!(of(&["/usr/lib/python3.11/queue.py", pool]), Some("psycopg-pool"));
        // A thread of the program's own that is about to call it.
        assert_eq!(of(&[pool, "/srv/app.py"]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(thread_of("rdk:main".into()), Some("librdkafka"));
        assert_eq!(thread_of("python3".into()), None);
    }

    #[test]
    fn a_library_has_one_name() {
        for (index, one) in CLIENT_LIBRARIES.iter().enumerate() {
            assert!(
                CLIENT_LIBRARIES.iter().skip(index + 1).all(|other| other.name != one.name),
                "{}",
                one.name
            );
            assert!(one.paths.iter().all(|path| path.len() > 5), "{}", one.name);
        }
    }
}
