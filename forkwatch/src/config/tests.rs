use super::*;

const SHIPPED: &str = include_str!("../../../dist/forkwatch.toml");

fn refused(text: &str) -> String {
    Config::parse("test.toml", text).unwrap_err().to_string()
}

#[test]
fn the_shipped_file_is_the_default_commented_or_not() {
    assert_eq!(Config::parse("forkwatch.toml", SHIPPED).unwrap(), Config::default());
    // A comment that starts right after the `#` is a key or a table; prose follows a blank.
    let uncommented: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let config = Config::parse("forkwatch.toml", &uncommented).unwrap();
    assert!(!config.suppress.is_empty());
    assert_eq!(Config { suppress: Vec::new(), ..config }, Config::default());
}

#[test]
fn every_key_stands_in_the_shipped_file_below_a_comment() {
    let rule = "[[suppress]]\nexe = \"*\"\ncomm = \"*\"\nunit = \"*\"\nuid = 33\nthread = \"*\"\n\
                hazard = \"multithreaded-fork\"\nreason = \"x\"\n";
    let config = Config::parse("rule", rule).unwrap();
    let mut keys = 0;
    let mut sections = toml::Table::try_from(&config).unwrap();
    // A table within another has a heading of its own.
    let web = sections.get_mut("web").and_then(toml::Value::as_table_mut).unwrap();
    let inner = web.remove("tls_server_config").unwrap();
    sections.insert("web.tls_server_config".to_owned(), inner);
    for (section, keys_of_section) in sections {
        let table = match &keys_of_section {
            toml::Value::Array(rules) => rules[0].as_table().unwrap(),
            other => other.as_table().unwrap(),
        };
        let heading = if section == "suppress" { "[[suppress]]".to_owned() } else { format!("[{section}]") };
        let (_, body) = SHIPPED.split_once(&heading).unwrap_or_else(|| panic!("no {heading}"));
        let body = body.split("\n[").next().unwrap();
        for key in table.keys() {
            let start = format!("{key} = ");
            assert!(
                body.lines().any(|line| line.trim_start_matches('#').starts_with(&start)),
                "{heading} lacks {key}"
            );
            keys += 1;
        }
    }
    assert_eq!(keys, 40);
}

#[test]
fn what_is_shown_can_be_read_again() {
    let text = "[judge]\ngrace = \"1500ms\"\n[events]\noutput = \"/var/log/e.json\"\n[[suppress]]\ncomm = \"x\"\nreason = \"y\"\n";
    let config = Config::parse("test.toml", text).unwrap();
    assert_eq!(config.judge.grace, Duration::from_millis(1500));
    assert_eq!(config.events.output, EventOutput::File("/var/log/e.json".into()));
    assert_eq!(Config::parse("again", &config.to_string()).unwrap(), config);
}

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let message = refused("[web]\nlisten_adresses = []\n");
    assert!(message.contains("test.toml") && message.contains("line 2"), "{message}");
    assert!(message.contains("2 | listen_adresses = []") && message.contains("unknown field"), "{message}");
    assert!(refused("[[suppress]]\ncom = \"x\"\nreason = \"y\"\n").contains("unknown field `com`"));
    let rules =
        "[[suppress]]\ncomm = \"x\"\nreason = \"y\"\n[[suppress]]\nreason = \"y\"\nhazard = \"forks\"\n";
    let message = refused(rules);
    assert!(message.contains("6 | hazard = \"forks\"") && message.contains("is no hazard"), "{message}");
    let message = refused("[[suppress]]\nthread = \"x\"\nhazard = \"pending-signals\"\nreason = \"y\"\n");
    assert!(message.contains("not `pending-signals`"), "{message}");
}

#[test]
fn a_value_out_of_range_is_refused_with_its_line_and_what_fits() {
    for (text, says) in [
        ("[judge]\ngrace = \"5ms\"", "must be from 100ms to 60s"),
        ("[judge]\ngrace = \"soon\"", "is not a duration"),
        ("[judge]\ngrace = \"-1s\"", "is not a duration"),
        ("[kernel]\nring_bytes = 100000", "take 65536 or 131072"),
        ("[kernel]\nring_bytes = 4096", "from 65536 to 67108864"),
        ("[kernel]\nmax_children = 0", "from 1024 to"),
        ("[metrics]\nmax_series = 0", "from 1 to 10000"),
        ("[events]\nmax_bytes = 10", "from 1048576 to"),
        ("[web]\ntelemetry_path = \"/-/ready\"", "another page's"),
        ("[web]\ntelemetry_path = \"metrics\"", "must look like /metrics"),
        ("[web]\nlisten_addresses = [\"localhost\"]", "give an IP address and a port"),
        ("[web]\nallowed_hosts = [\"a.example:80\"]", "without a port"),
        ("[web]\nallowed_hosts = [\"*a\"]", "is not a name of a host"),
        ("[web]\nallowed_hosts = [\"\"]", "is not a name of a host"),
        ("[log]\nlevel = \"loud\"", "unknown variant `loud`"),
    ] {
        let message = refused(text);
        assert!(message.contains("line 2") && message.contains(says), "{text}: {message}");
    }
}

#[test]
fn values_that_do_not_fit_each_other_are_refused() {
    let message = refused("[judge]\ngrace = \"200ms\"\nrecheck = \"1s\"\n");
    assert!(message.contains("judge.recheck (1s) is longer than judge.grace (200ms)"), "{message}");
    let pair = "cert_file = \"c\"\nkey_file = \"k\"\n";
    let with_pair = |more: &str| format!("{pair}{more}");
    for (tls, says) in [
        ("key_file = \"k\"".to_owned(), "cert_file is not"),
        ("cert_file = \"c\"".to_owned(), "of no use without its key"),
        ("client_ca_file = \"a\"".to_owned(), "within TLS only"),
        ("client_auth_type = \"RequireAndVerifyClientCert\"".to_owned(), "within TLS only"),
        (with_pair("client_auth_type = \"VerifyClientCertIfGiven\""), "does not say whose"),
        (with_pair("client_ca_file = \"a\""), "lets everybody in"),
        // These ask for a certificate, and do not look who has signed it.
        (with_pair("client_auth_type = \"RequireAnyClientCert\""), "unknown variant `RequireAnyClientCert`"),
    ] {
        let message = refused(&format!("[web.tls_server_config]\n{tls}\n"));
        assert!(message.contains(says), "{tls}: {message}");
    }
    for more in ["", "client_auth_type = \"RequireAndVerifyClientCert\"\nclient_ca_file = \"a\""] {
        let text = format!("[web.tls_server_config]\n{pair}{more}");
        let config = Config::parse("test.toml", &text).unwrap();
        assert!(config.web.tls_server_config.is_on());
        assert_eq!(Config::parse("again", &config.to_string()).unwrap(), config);
        assert_eq!(Config::default().restart_needed(&config), Vec::<&str>::new(), "a reload is enough");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let message = Config::load(Path::new("/nonexistent/forkwatch.toml")).unwrap_err().to_string();
    assert!(message.contains("/nonexistent/forkwatch.toml") && message.contains("No such file"), "{message}");
}

#[test]
fn a_file_that_never_ends_is_refused() {
    for (path, kind) in [("/dev/zero", "a device"), ("/proc/self", "a directory")] {
        let message = Config::load(Path::new(path)).unwrap_err().to_string();
        assert!(message.contains(path) && message.contains(kind), "{message}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("forkwatch.toml");
    std::fs::write(&path, "# a comment\n".repeat(100_000)).unwrap();
    let message = Config::load(&path).unwrap_err().to_string();
    assert!(message.contains("longer than 1048576 bytes"), "{message}");
    std::fs::write(&path, b"# \xff\n").unwrap();
    assert!(Config::load(&path).unwrap_err().to_string().contains("not UTF-8"));
}

#[test]
fn a_port_alone_listens_on_every_address() {
    assert_eq!(listen_address(":9999").unwrap(), "[::]:9999".parse().unwrap());
    assert_eq!(listen_address("[::1]:1").unwrap(), "[::1]:1".parse().unwrap());
    assert!(listen_address(":99999").is_err());
}

#[test]
fn hosts_are_names_and_patterns() {
    let text = "[web]\nallowed_hosts = [\"metrics.example.org\", \"*.example.org\", \"*\", \"db_7\"]\n";
    let config = Config::parse("test.toml", text).unwrap();
    assert_eq!(config.web.allowed_hosts.len(), 4);
    assert_eq!(Config::default().restart_needed(&config), ["web.allowed_hosts"]);
}

#[test]
fn only_what_the_running_daemon_cannot_change_needs_a_restart() {
    let old = Config::default();
    let mut new = old.clone();
    new.log.level = LogLevel::Debug;
    new.judge.grace = Duration::from_secs(2);
    new.events.output = EventOutput::Stdout;
    assert_eq!(old.restart_needed(&new), Vec::<&str>::new());
    new.kernel.ring_bytes *= 2;
    new.web.listen_addresses.clear();
    assert_eq!(old.restart_needed(&new), ["web.listen_addresses", "kernel.ring_bytes"]);
}
