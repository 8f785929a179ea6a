//! Which client libraries for databases and brokers a process has loaded.

use super::file;

/// A process with thousands of mappings; of one with more, the first are looked at.
const MAX_MAPS: u64 = 1024 * 1024;

/// What stands in the path of a file that the library maps, and the library's name. Those in the name of a binding
/// come before the library that it is bound to. What is written in Python, Ruby or PHP alone maps nothing, and is not
/// found.
const LIBRARIES: [(&str, &[&str]); 29] = [
    ("sqlalchemy", &["/sqlalchemy/"]),
    ("psycopg2", &["/psycopg2/"]),
    ("psycopg", &["/psycopg_c/", "/psycopg_binary/"]),
    ("asyncpg", &["/asyncpg/"]),
    ("mysqlclient", &["/MySQLdb/"]),
    ("mysql-connector", &["/_mysql_connector.", "/mysql/connector/"]),
    ("oracledb", &["/oracledb/", "/cx_Oracle."]),
    ("pymongo", &["/pymongo/", "/bson/_cbson."]),
    ("hiredis", &["/hiredis/", "/libhiredis.", "/libhiredis-"]),
    ("confluent-kafka", &["/confluent_kafka/"]),
    ("pylibmc", &["/_pylibmc."]),
    ("cassandra-driver", &["/cassandra/"]),
    ("ruby-pg", &["/pg_ext.so"]),
    ("ruby-mysql2", &["/mysql2/mysql2.so"]),
    ("ruby-trilogy", &["/trilogy/cext.so"]),
    ("rdkafka-ruby", &["/rdkafka-"]),
    ("php-pgsql", &["/pdo_pgsql.so", "/pgsql.so"]),
    ("php-mysql", &["/pdo_mysql.so", "/mysqli.so", "/mysqlnd.so"]),
    ("perl-DBI", &["/auto/DBI/DBI.so"]),
    ("libpq", &["/libpq.", "/libpq-"]),
    ("libmysqlclient", &["/libmysqlclient.", "/libmysqlclient-"]),
    ("libmariadb", &["/libmariadb.", "/libmariadb-", "/libmariadbclient."]),
    ("librdkafka", &["/librdkafka.", "/librdkafka-"]),
    ("libmemcached", &["/libmemcached.", "/libmemcached-"]),
    ("libmongoc", &["/libmongoc"]),
    ("librabbitmq", &["/librabbitmq.", "/librabbitmq-"]),
    ("libldap", &["/libldap.", "/libldap-", "/libldap_r"]),
    ("odbc", &["/libodbc.", "/libodbc-"]),
    ("grpc", &["/cygrpc.", "/libgrpc.", "/grpc_c.so"]),
];

/// The client libraries that a process has mapped; none where its mappings may not be read.
pub(super) fn client_libraries(tgid: u32) -> Vec<String> {
    parse(&maps(tgid))
}

/// Whether a process has mapped `SQLite`, or Python's binding to it.
pub(super) fn has_sqlite(tgid: u32) -> bool {
    let maps = maps(tgid);
    ["/libsqlite3.", "/_sqlite3."].iter().any(|part| maps.contains(part))
}

fn maps(tgid: u32) -> String {
    let bytes = file::read(format!("/proc/{tgid}/maps"), MAX_MAPS).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The kernel escapes newlines in paths (`seq_file_path`), so no path can forge a line.
fn parse(maps: &str) -> Vec<String> {
    let paths: Vec<&str> =
        maps.lines().filter_map(|line| line.find('/').and_then(|start| line.get(start..))).collect();
    let loaded = |parts: &[&str]| paths.iter().any(|path| parts.iter().any(|part| path.contains(part)));
    LIBRARIES.iter().filter(|(_, parts)| loaded(parts)).map(|(name, _)| (*name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_and_what_they_are_bound_to_are_named_once() {
        let maps = "\
7f1-7f2 r-xp 00000000 fe:00 1 /usr/lib/x86_64-linux-gnu/libc.so.6
7f2-7f3 r-xp 00000000 fe:00 2 /venv/lib/python3.11/site-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so
7f3-7f4 rw-p 00001000 fe:00 2 /venv/lib/python3.11/site-packages/psycopg2/_psycopg.cpython-311-x86_64-linux-gnu.so
7f4-7f5 r-xp 00000000 fe:00 3 /venv/lib/python3.11/site-packages/psycopg2_binary.libs/libpq-9b38f5e3.so.5.17
7f5-7f6 rw-p 00000000 00:00 0 [heap]
7f6-7f7 r-xp 00000000 fe:00 4 /venv/lib/python3.11/site-packages/sqlalchemy/cyextension/util.cpython-311-x86_64-linux-gnu.so
";
        assert_eq!(parse(maps), ["sqlalchemy", "psycopg2", "libpq"]);
        assert_eq!(parse("7f1-7f2 rw-p 0 00:00 0 [anon:libpq.]\n"), Vec::<String>::new());
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(client_libraries(u32::MAX), Vec::<String>::new());
    }
}
