//! What is at the other end of a connection, by its address.

use crate::model::connection::Peer;

const POSTGRESQL: &str = "PostgreSQL";
const PGBOUNCER: &str = "PgBouncer";
const MYSQL: &str = "MySQL";
const ORACLE: &str = "Oracle";
const SQL_SERVER: &str = "SQL Server";
const REDIS: &str = "Redis";
const MEMCACHED: &str = "memcached";
const MONGODB: &str = "MongoDB";
const CASSANDRA: &str = "Cassandra";
const KAFKA: &str = "Kafka";
const AMQP: &str = "AMQP";
const HTTP: &str = "HTTP";
const OTLP: &str = "OTLP";
const LDAP: &str = "LDAP";
const SMTP: &str = "SMTP";

/// Ports that few use for anything else.
const PORTS: [(u16, &str); 25] = [
    (25, SMTP),
    (80, HTTP),
    (389, LDAP),
    (443, HTTP),
    (465, SMTP),
    (587, SMTP),
    (636, LDAP),
    (1433, SQL_SERVER),
    (1521, ORACLE),
    (3306, MYSQL),
    (4317, OTLP),
    (4318, OTLP),
    (5432, POSTGRESQL),
    (5671, AMQP),
    (5672, AMQP),
    (6379, REDIS),
    (6380, REDIS),
    (6432, PGBOUNCER),
    (8080, HTTP),
    (9042, CASSANDRA),
    (9092, KAFKA),
    (11211, MEMCACHED),
    (26379, REDIS),
    (27017, MONGODB),
    (33060, MYSQL),
];

/// What stands in the file name of a Unix socket; the particular before the general.
const NAMES: [(&str, &str); 11] = [
    (".s.PGSQL.6432", PGBOUNCER),
    (".s.PGSQL.", POSTGRESQL),
    ("mysql", MYSQL),
    ("mariadb", MYSQL),
    ("redis", REDIS),
    ("valkey", REDIS),
    ("memcached", MEMCACHED),
    ("mongodb", MONGODB),
    ("rabbitmq", AMQP),
    ("ldapi", LDAP),
    ("docker", HTTP),
];

/// What that address looks like, as people call it; absent where it looks like nothing in particular.
pub fn service(peer: &Peer) -> Option<&'static str> {
    match peer {
        Peer::Tcp(address) => {
            let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
            PORTS.iter().find(|(number, _)| *number == port).map(|(_, service)| *service)
        }
        Peer::Unix(path) => {
            let name = path.trim_start_matches('@').rsplit('/').next()?;
            NAMES.iter().find(|(part, _)| name.contains(part)).map(|(_, service)| *service)
        }
        Peer::Unknown => None,
    }
}

/// Services whose clients are told the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    PostgreSql,
    MySql,
    OtherSql,
    Redis,
    Memcached,
    MongoDb,
    Cassandra,
    Kafka,
    Amqp,
    Ldap,
    Http,
    Telemetry,
    Mail,
}

impl Kind {
    /// The service that a client of this kind speaks to; absent where there are several.
    pub(crate) const fn service(self) -> Option<&'static str> {
        match self {
            Self::PostgreSql => Some(POSTGRESQL),
            Self::MySql => Some(MYSQL),
            Self::OtherSql | Self::Mail => None,
            Self::Redis => Some(REDIS),
            Self::Memcached => Some(MEMCACHED),
            Self::MongoDb => Some(MONGODB),
            Self::Cassandra => Some(CASSANDRA),
            Self::Kafka => Some(KAFKA),
            Self::Amqp => Some(AMQP),
            Self::Ldap => Some(LDAP),
            Self::Http => Some(HTTP),
            Self::Telemetry => Some(OTLP),
        }
    }
}

/// Of which kind a service is.
pub(crate) fn kind(service: &str) -> Option<Kind> {
    Some(match service {
        POSTGRESQL | PGBOUNCER => Kind::PostgreSql,
        MYSQL => Kind::MySql,
        ORACLE | SQL_SERVER => Kind::OtherSql,
        REDIS => Kind::Redis,
        MEMCACHED => Kind::Memcached,
        MONGODB => Kind::MongoDb,
        CASSANDRA => Kind::Cassandra,
        KAFKA => Kind::Kafka,
        AMQP => Kind::Amqp,
        LDAP => Kind::Ldap,
        HTTP => Kind::Http,
        OTLP => Kind::Telemetry,
        SMTP => Kind::Mail,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Option<&'static str> {
        service(&Peer::Tcp(address.to_owned()))
    }

    fn unix(path: &str) -> Option<&'static str> {
        service(&Peer::Unix(path.to_owned()))
    }

    #[test]
    fn a_port_tells_the_service() {
        assert_eq!(tcp("10.0.0.7:5432"), Some("PostgreSQL"));
        assert_eq!(tcp("[::1]:6379"), Some("Redis"));
        assert_eq!(tcp("[fe80::1%2]:9092"), Some("Kafka"));
        assert_eq!(tcp("10.0.0.7:15432"), None);
        assert_eq!(tcp("10.0.0.7"), None);
        assert!(PORTS.is_sorted_by_key(|(port, _)| *port));
    }

    #[test]
    fn a_path_tells_the_service() {
        assert_eq!(unix("/run/postgresql/.s.PGSQL.5432"), Some("PostgreSQL"));
        assert_eq!(unix("/tmp/.s.PGSQL.6432"), Some("PgBouncer"));
        for path in ["/run/mysqld/mysqld.sock", "/tmp/mysql.sock", "/run/mysqld/mysqlx.sock", "@mariadb"] {
            assert_eq!(unix(path), Some("MySQL"), "{path}");
        }
        assert_eq!(unix("/run/redis/redis-server.sock"), Some("Redis"));
        assert_eq!(unix("/tmp/mongodb-27017.sock"), Some("MongoDB"));
        assert_eq!(unix("/run/memcached/memcached.sock"), Some("memcached"));
        // A folder of that name says nothing about what is in it.
        assert_eq!(unix("/srv/redis-exporter/control.sock"), None);
        assert_eq!(unix("/run/systemd/journal/stdout"), None);
    }

    #[test]
    fn every_service_is_of_a_kind() {
        let services =
            PORTS.iter().map(|(_, service)| service).chain(NAMES.iter().map(|(_, service)| service));
        for service in services {
            assert!(kind(service).is_some(), "{service}");
        }
    }
}
