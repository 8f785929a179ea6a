//! What client libraries speak to.

use super::service::Kind;

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
    use crate::model::client_library::CLIENT_LIBRARIES;

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
    fn libraries_of_several_kinds_say_nothing_of_a_connection() {
        let only = |loaded: &[&'static str]| only_kind(loaded.iter().copied());
        assert_eq!(only(&["sqlalchemy", "psycopg2", "libpq"]), Some(Kind::PostgreSql));
        assert_eq!(only(&["psycopg2", "libpq", "hiredis"]), None);
        assert_eq!(only(&["sqlalchemy"]), None);
        assert_eq!(only(&[]), None);
    }
}
