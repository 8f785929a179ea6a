//! What client libraries speak to.

use super::service::Kind;
use crate::model::client_library::CLIENT_LIBRARIES;

/// Services that are asked in SQL.
pub(super) const SQL: &[Kind] = &[Kind::PostgreSql, Kind::MySql, Kind::OtherSql];

/// What a client library speaks to, by the names of [`crate::model::client_library`]; nothing of one that is not known.
pub(super) fn kinds(library: &str) -> &'static [Kind] {
    match library {
        "sqlalchemy" | "django" | "perl-DBI" | "odbc" => SQL,
        "psycopg-pool" | "psycopg2" | "psycopg" | "asyncpg" | "pg8000" | "ruby-pg" | "php-pgsql"
        | "DBD-Pg" | "libpq" => &[Kind::PostgreSql],
        "mysqlclient" | "mysql-connector" | "pymysql" | "ruby-mysql2" | "ruby-trilogy" | "php-mysql"
        | "DBD-mysql" | "DBD-MariaDB" | "libmysqlclient" | "libmariadb" => &[Kind::MySql],
        "oracledb" => &[Kind::OtherSql],
        "pymongo" | "php-mongodb" | "libmongoc" => &[Kind::MongoDb],
        "redis-py" | "hiredis" | "ruby-hiredis" | "phpredis" => &[Kind::Redis],
        "pymemcache" | "pylibmc" | "php-memcached" | "libmemcached" => &[Kind::Memcached],
        "py-amqp" | "pika" | "librabbitmq" => &[Kind::Amqp],
        // Its transports are many.
        "kombu" => &[Kind::Amqp, Kind::Redis],
        "confluent-kafka" | "kafka-python" | "rdkafka-ruby" | "php-rdkafka" | "librdkafka" => &[Kind::Kafka],
        "cassandra-driver" => &[Kind::Cassandra],
        "libldap" => &[Kind::Ldap],
        "requests" | "httpx" | "aiohttp" | "urllib3" => &[Kind::Http],
        "grpc" => &[Kind::Http, Kind::Telemetry],
        "opentelemetry" => &[Kind::Telemetry],
        _ => &[],
    }
}

/// Libraries in C that programs in other languages use by way of a binding.
const BOUND: [&str; 7] =
    ["libpq", "libmysqlclient", "libmariadb", "librdkafka", "libmemcached", "libmongoc", "hiredis"];

/// Whether a library comes with another, which is the one that a program uses.
pub(super) fn is_bound(library: &str) -> bool {
    BOUND.contains(&library) || library == "libldap"
}

/// The binding by which these are used, where only such libraries were seen in use and one that is loaded can lead there.
pub(super) fn binding(used: &[&str], loaded: &[String]) -> Option<&'static str> {
    let native = used.first().filter(|_| used.iter().all(|library| BOUND.contains(library)))?;
    let leads_there = |name: &&str| {
        !BOUND.contains(name) && kinds(name) == kinds(native) && loaded.iter().any(|loaded| loaded == name)
    };
    let mut found = CLIENT_LIBRARIES.iter().map(|library| library.name).filter(leads_there);
    found.next().filter(|_| found.next().is_none())
}

/// The service that these libraries lead to, which are in use on one connection; absent where they do not say.
pub(super) fn service(used: &[&str]) -> Option<&'static str> {
    used.iter().find_map(|library| match kinds(library) {
        [kind] => kind.service(),
        _ => None,
    })
}

/// The only kind of service that these libraries know of, which are loaded.
pub(super) fn only_kind<'a>(loaded: impl Iterator<Item = &'a str>) -> Option<Kind> {
    let mut found = None;
    // It comes with others: libpq is linked with it.
    let (directories, others): (Vec<&str>, Vec<&str>) = loaded.partition(|library| *library == "libldap");
    let loaded = if others.is_empty() { directories } else { others };
    for library in loaded {
        match kinds(library) {
            [kind] if found.is_none_or(|found| found == *kind) => found = Some(*kind),
            // It speaks by way of another library, which says more.
            kinds if kinds == SQL => {}
            _ => return None,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_speaks_to_something() {
        for library in &CLIENT_LIBRARIES {
            assert!(!kinds(library.name).is_empty(), "{}", library.name);
        }
    }

    #[test]
    fn a_library_in_use_tells_the_service() {
        assert_eq!(service(&["sqlalchemy", "psycopg2", "libpq"]), Some("PostgreSQL"));
        assert_eq!(service(&["django", "sqlalchemy"]), None);
        assert_eq!(service(&["kombu"]), None);
    }

    #[test]
    fn what_leads_to_a_library_in_c_is_told_where_it_is_one() {
        let by = |used: &[&str], loaded: &[&str]| {
            let loaded: Vec<String> = loaded.iter().map(|name| (*name).to_owned()).collect();
            binding(used, &loaded)
        };
        let php = ["php-pgsql", "php-mysql", "phpredis", "libpq", "libldap"];
        assert_eq!(by(&["libpq"], &php), Some("php-pgsql"));
        assert_eq!(by(&["libmariadb"], &["perl-DBI", "DBD-MariaDB", "libmariadb"]), Some("DBD-MariaDB"));
        // Which of the two, or none: nothing is said. What was seen in the calls decides.
        assert_eq!(by(&["libpq"], &["psycopg2", "psycopg", "libpq"]), None);
        assert_eq!(by(&["libpq"], &["libpq"]), None);
        assert_eq!(by(&["psycopg2", "libpq"], &["psycopg", "psycopg2"]), None);
        assert_eq!(by(&[], &php), None);
    }

    #[test]
    fn libraries_of_several_kinds_say_nothing_of_a_connection() {
        let only = |loaded: &[&'static str]| only_kind(loaded.iter().copied());
        assert_eq!(only(&["sqlalchemy", "psycopg2", "libpq"]), Some(Kind::PostgreSql));
        assert_eq!(only(&["psycopg2", "libpq", "libldap"]), Some(Kind::PostgreSql));
        assert_eq!(only(&["libldap"]), Some(Kind::Ldap));
        assert_eq!(only(&["psycopg2", "libpq", "hiredis"]), None);
        assert_eq!(only(&["sqlalchemy"]), None);
        assert_eq!(only(&[]), None);
    }
}
