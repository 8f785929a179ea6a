//! `forkwatch daemon` as an operator meets it: its pages, its metrics in a real Prometheus, its signals.

use std::{
    fmt::Write as _,
    fs,
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    daemon::Daemon,
    fixture,
    forkwatch::Forkwatch,
    host::needs_root,
    http,
    metrics::{Scrape, free_address},
    program::Program,
    provided::Provided,
    runner::Tests,
    tests,
    wait::{DEADLINE, until},
};
use nix::sys::signal::Signal;
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        findings_go_to_the_journal_with_their_fields,
        its_pages_are_there,
        its_metrics_pass_promtool,
        a_finding_is_an_event_and_a_metric,
        a_real_prometheus_scrapes_and_answers,
        a_broken_configuration_is_refused_and_the_old_kept,
        it_keeps_no_capability_that_it_does_not_need,
    ])
    // Nobody else may take its port.
    .and(Tests::alone(tests![sigterm_ends_it_cleanly]))
}

/// A daemon on a free port.
fn daemon(arguments: &[&str]) -> Result<(Forkwatch, SocketAddr)> {
    let address = free_address()?;
    let listen = format!("--web.listen-address={address}");
    let daemon = Forkwatch::daemon([listen.as_str()].iter().chain(arguments))?;
    Ok((daemon, address))
}

fn its_pages_are_there() -> Result<()> {
    let (daemon, address) = daemon(&[])?;
    for path in ["/", "/-/healthy", "/-/ready", "/metrics"] {
        http::get(TcpStream::connect(address)?, path)?;
    }
    let (status, _) = http::ask(TcpStream::connect(address)?, "/no-such-page")?;
    ensure!(status.contains(" 404 "), "an unknown page was answered with {status}");
    daemon.stop().map(drop)
}

fn its_metrics_pass_promtool() -> Result<()> {
    let promtool = Provided::find("promtool")?;
    let (daemon, address) = daemon(&[])?;
    let scrape = Scrape::of(address)?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("metrics");
    fs::write(&file, &scrape.0)?;
    let output =
        promtool.command()?.args(["check", "metrics"]).stdin(Stdio::from(fs::File::open(file)?)).output()?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "promtool: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    daemon.stop().map(drop)
}

fn a_finding_is_an_event_and_a_metric() -> Result<()> {
    let (mut daemon, address) = daemon(&[])?;
    let mut program = fixture::hold("mt_fork", &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64);
    daemon.wait_for("the finding", |event| event.finding().is_some() && event.pid() == child)?;
    let scrape = Scrape::of(address)?;
    for (metric, labels) in [
        ("forkwatch_findings_total", "hazard=\"multithreaded-fork\""),
        ("forkwatch_unsafe_forks_total", "program=\"mt_fork\""),
        ("forkwatch_detector_enabled", "detector=\"multithreaded-fork\""),
        ("forkwatch_unexeced_children", ""),
    ] {
        ensure!(scrape.sum(metric, labels) >= 1.0, "{metric} with {labels} is not 1 or more:\n{}", scrape.0);
    }
    program.end(None)?;
    daemon.stop().map(drop)
}

fn a_real_prometheus_scrapes_and_answers() -> Result<()> {
    let binary = Provided::find("prometheus")?;
    let (daemon, address) = daemon(&[])?;
    let own = free_address()?;
    let mut prometheus = Program::hold(|folder| {
        let configuration = format!(
            "global: {{scrape_interval: 1s}}\n\
             scrape_configs: [{{job_name: forkwatch, static_configs: [{{targets: ['{address}']}}]}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), configuration)?;
        Ok(binary.launch()?.args([
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address={own}"),
        ]))
    })?;
    prometheus.release()?;
    prometheus.wait_for("Prometheus to answer the query", |_| {
        let Ok(stream) = TcpStream::connect(own) else { return Ok(false) };
        let Ok(body) = http::get(stream, "/api/v1/query?query=forkwatch_build_info") else {
            return Ok(false);
        };
        Ok(body.contains("\"version\""))
    })?;
    every_query_is_understood(own)?;
    prometheus.end(Some(Signal::SIGTERM))?;
    daemon.stop().map(drop)
}

/// Those of the dashboards, as Grafana asks them.
fn every_query_is_understood(prometheus: SocketAddr) -> Result<()> {
    let mut asked = 0;
    for dashboard in [
        include_str!("../../docs/grafana-overview.json"),
        include_str!("../../docs/grafana-server.json"),
        include_str!("../../docs/grafana-health.json"),
    ] {
        let document: Value = serde_json::from_str(dashboard)?;
        let panels = document.get("panels").and_then(Value::as_array).context("no panels")?;
        let targets = panels.iter().filter_map(|panel| panel.get("targets")?.as_array()).flatten();
        for expression in targets.filter_map(|target| target.get("expr")?.as_str()) {
            let expression = ["$instance", "$unit", "$server"]
                .iter()
                .fold(expression.to_owned(), |expression, variable| expression.replace(variable, ".*"))
                .replace("$__rate_interval", "1m");
            let query = expression.bytes().fold(String::new(), |mut query, byte| {
                let _ = write!(query, "%{byte:02x}");
                query
            });
            let answer = http::get(TcpStream::connect(prometheus)?, &format!("/api/v1/query?query={query}"))
                .context(expression.clone())?;
            let answer: Value = serde_json::from_str(&answer)?;
            ensure!(
                answer.get("status").and_then(Value::as_str) == Some("success"),
                "{expression}: {answer}"
            );
            asked += 1;
        }
    }
    ensure!(asked > 42, "only {asked} queries");
    Ok(())
}

fn sigterm_ends_it_cleanly() -> Result<()> {
    let (mut daemon, address) = daemon(&[])?;
    daemon.signal(Signal::SIGTERM)?;
    let status = daemon.ended()?;
    ensure!(status.code() == Some(0), "ended with {status}: {}", daemon.stderr());
    ensure!(TcpStream::connect(address).is_err(), "something listens still");
    Ok(())
}

fn a_broken_configuration_is_refused_and_the_old_kept() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("forkwatch.toml");
    fs::write(&file, "[judge]\ngrace = \"2s\"\n")?;
    let (daemon, address) = daemon(&["--config", &file.display().to_string()])?;
    let successful =
        || -> Result<f64> { Ok(Scrape::of(address)?.sum("forkwatch_config_last_reload_successful", "")) };
    ensure!(successful()? > 0.5, "the first configuration is good");
    fs::write(&file, "[judge]\ngraze = \"2s\"\n")?;
    daemon.signal(Signal::SIGHUP)?;
    until("the reload to fail", || Ok((successful()? < 0.5).then_some(())))?;
    until("the log to show the key", || Ok(daemon.stderr().contains("graze").then_some(())))?;
    fs::write(&file, "[judge]\ngrace = \"3s\"\n")?;
    daemon.signal(Signal::SIGHUP)?;
    until("the reload to succeed", || Ok((successful()? > 0.5).then_some(())))?;
    daemon.stop().map(drop)
}

fn it_keeps_no_capability_that_it_does_not_need() -> Result<()> {
    /// `CAP_BPF` of linux/capability.h, which reading a map wants before Linux 5.19.
    const ALLOWED: u64 = 1 << 39;
    needs_root()?;
    let (daemon, _) = daemon(&[])?;
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no CapEff")?;
        let effective = u64::from_str_radix(effective.trim(), 16)?;
        ensure!(effective & !ALLOWED == 0, "a thread keeps the capabilities {effective:#x}");
    }
    daemon.stop().map(drop)
}

/// A socket in place of the journal's hears what the journal would.
fn findings_go_to_the_journal_with_their_fields() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("journal");
    let journal = UnixDatagram::bind(&path)?;
    journal.set_read_timeout(Some(DEADLINE))?;
    let daemon = Daemon::start(&format!("[log]\njournal = \"{}\"\n", path.display()), &[])?;
    let mut program = fixture::hold_as("mt_fork", "journalled", &[])?;
    program.release()?;
    let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
    let mut bytes = vec![0; 65_536];
    let mut hear = |what: &str| -> Result<String> {
        loop {
            let length = match journal.recv(&mut bytes) {
                // A handler ran. The kernel begins no call again that has a time limit (signal(7)).
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => received.with_context(|| format!("no {what}"))?,
            };
            let heard = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
            if heard.contains(&format!("FORKWATCH_PID={child}\n")) && heard.contains(what) {
                return Ok(heard);
            }
        }
    };
    let heard = hear("FORKWATCH_STATE=suspected\n")?;
    for field in ["FORKWATCH_HAZARD=multithreaded-fork\n", "PRIORITY=4\n", "FORKWATCH_PROGRAM=journalled\n"] {
        ensure!(heard.contains(field), "no {field} in {heard}");
    }
    program.end(None)?;
    hear("FORKWATCH_STATE=resolved\n")?;
    let log = daemon.forkwatch.stderr();
    ensure!(!log.contains("journalled"), "it is in the log, too: {log}");
    daemon.stop()
}
