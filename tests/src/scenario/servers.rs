//! Servers in C that fork without threads: PostgreSQL, nginx, Apache's prefork.

use std::{
    ffi::OsString,
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::Scenario;
use crate::{
    expectation::SILENCE,
    http::get,
    process,
    program::{Launch, Program},
    provided::Provided,
};

/// Who the servers become; it exists everywhere.
const USER: &str = "nobody";
const PAGE: &str = "/index.html";
/// What asks PostgreSQL for a fast shutdown: one that does not wait for clients.
pub(crate) const POSTGRES_STOP: Signal = Signal::SIGINT;
const POSTGRES_PORT: u16 = 5432;
const POSTGRES_IS_READY: &str = "database system is ready to accept connections";

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "postgresql_makes_a_cluster_starts_and_serves",
        expected: SILENCE,
        prepare: |folder| postgres(folder, None),
        work: query,
        stop: Some(POSTGRES_STOP),
    },
    Scenario {
        name: "nginx_starts_workers_and_reloads",
        expected: SILENCE,
        prepare: nginx,
        work: serve_and_reload,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "apache_prefork_starts_workers",
        expected: SILENCE,
        prepare: apache,
        work: |program| {
            let port = fs::read_to_string(program.folder().join("port"))?.parse()?;
            let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
            program.wait_for("a server at its port", |_| Ok(connect().is_ok()))?;
            get(connect()?, PAGE).map(drop)
        },
        stop: Some(Signal::SIGTERM),
    },
];

/// A cluster of its own, at a Unix socket in this folder and, if one is given, at an address.
fn postgres(folder: &Path, address: Option<(Ipv4Addr, u16)>) -> Result<Launch> {
    let server = Provided::find("postgres")?.for_everybody(folder)?;
    let initdb = server.beside("initdb");
    let script = format!(
        "'{}' --no-sync --auth=trust --username={USER} data && exec '{}' -D data -k '{}' -p {} -c listen_addresses={}",
        initdb.path.display(),
        server.path.display(),
        folder.display(),
        address.map_or(POSTGRES_PORT, |(_, port)| port),
        address.map(|(address, _)| address.to_string()).unwrap_or_default()
    );
    // PostgreSQL refuses root.
    Ok(server.let_run(Launch::new("/bin/sh").args(["-c", &script]))?.user(USER))
}

/// A running PostgreSQL, for programs that need one, and libpq's environment for its clients.
pub(crate) fn running_postgres(
    address: Option<(Ipv4Addr, u16)>,
) -> Result<(Program, [(&'static str, OsString); 4])> {
    let mut program = Program::hold(|folder| postgres(folder, address))?;
    program.release()?;
    program.said(POSTGRES_IS_READY)?;
    let host = match address {
        Some((address, _)) => address.to_string().into(),
        None => program.folder().as_os_str().to_owned(),
    };
    let port = address.map_or(POSTGRES_PORT, |(_, port)| port).to_string().into();
    let named =
        [("PGHOST", host), ("PGPORT", port), ("PGUSER", USER.into()), ("PGDATABASE", "postgres".into())];
    Ok((program, named))
}

fn query(program: &mut Program) -> Result<()> {
    program.said(POSTGRES_IS_READY)?;
    let answer = Provided::find("postgres")?
        .beside("psql")
        .command()?
        .args(["-h".as_ref(), program.folder().as_os_str()])
        .args(["-U", USER, "-tAc", "select 6 * 7", "postgres"])
        .output()
        .context("cannot run psql")?;
    ensure!(answer.stdout == b"42\n", "psql failed: {}", String::from_utf8_lossy(&answer.stderr));
    Ok(())
}

fn nginx(folder: &Path) -> Result<Launch> {
    let configuration = format!(
        "daemon off; pid nginx.pid; error_log stderr; worker_processes 2; user {USER} nogroup;
         events {{}}
         http {{
             access_log off;
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             server {{ listen unix:{}/socket; location / {{ return 200; }} }}
         }}",
        folder.display()
    );
    fs::write(folder.join("nginx.conf"), configuration)?;
    let folder = folder.display().to_string();
    Ok(Provided::find("nginx")?.launch()?.args(["-p", &folder, "-c", "nginx.conf", "-e", "stderr"]))
}

fn serve_and_reload(program: &mut Program) -> Result<()> {
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))?;
    get(UnixStream::connect(&socket)?, PAGE)?;
    let old = process::descendants(program.pid());
    program.signal(Signal::SIGHUP)?;
    program.wait_for("two new workers", |program| {
        let now = process::descendants(program.pid());
        Ok(now.len() == 2 && !now.iter().any(|worker| old.contains(worker)))
    })?;
    get(UnixStream::connect(&socket)?, PAGE).map(drop)
}

fn apache(folder: &Path) -> Result<Launch> {
    // Apache listens on no Unix socket. Another may take the port in between; the system hands out others first.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    fs::write(folder.join("port"), port.to_string())?;
    let page = folder.join("pages/index.html");
    fs::create_dir(folder.join("pages"))?;
    fs::write(page, "fine\n")?;
    let modules = Provided::find("apache2-prefork")?.for_everybody(folder)?;
    let modules = modules.path.parent().context("a module lies in a folder")?.display().to_string();
    let configuration = format!(
        "LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so
         LoadModule authz_core_module {modules}/mod_authz_core.so
         ServerRoot {root}\nDefaultRuntimeDir {root}\nPidFile {root}/apache.pid\nErrorLog /dev/stderr
         ServerName localhost\nListen 127.0.0.1:{port}
         StartServers 2\nDocumentRoot {root}/pages\n<Directory {root}/pages>\nRequire all granted\n</Directory>\n",
        root = folder.display()
    );
    let file = folder.join("apache.conf").display().to_string();
    fs::write(&file, configuration)?;
    let server = Provided::find("apache2")?.for_everybody(folder)?;
    Ok(server.launch()?.args(["-D", "FOREGROUND", "-f", &file]).user(USER))
}
