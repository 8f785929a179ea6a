use super::*;

const SHIPPED: &str = include_str!("../../../../dist/hooks.toml");

fn hooks(text: &str) -> Vec<Hook> {
    Hooks::parse("test.toml", text).unwrap().0
}

fn refused(text: &str) -> String {
    Hooks::parse("test.toml", text).unwrap_err().to_string()
}

fn one(more: &str) -> String {
    format!("[[hook]]\nname = \"x\"\n{more}\n")
}

fn finding(hazard: &str, certainty: &str, severity: &str, state: &str) -> Told {
    let text = |text: &str| Some(text.to_owned());
    Told {
        action: "finding".to_owned(),
        hazard: text(hazard),
        certainty: text(certainty),
        severity: text(severity),
        state: text(state),
        unit: text("web.service"),
        names: vec!["gunicorn".to_owned(), "worker".to_owned()],
        uid: Some(33),
        ..Told::default()
    }
}

#[test]
fn the_shipped_file_has_no_hook_and_its_examples_can_be_used() {
    assert_eq!(hooks(SHIPPED), Vec::new());
    let uncommented: String = SHIPPED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n");
    assert!(hooks(&uncommented).len() >= 2);
}

#[test]
fn every_example_of_the_documentation_can_be_used() {
    let page = include_str!("../../../../docs/hooks.md");
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 5, "{}", examples.len());
    for example in examples {
        assert!(!hooks(example).is_empty(), "{example}");
    }
}

#[test]
fn hooks_run_by_order_and_the_newest_first_where_it_is_equal() {
    let hook = |name: &str, order: i64| {
        format!("[[hook]]\nname = \"{name}\"\non = [\"finding\"]\nexec = [\"/bin/true\"]\norder = {order}\n")
    };
    let text = [hook("a", 0), hook("b", 0), hook("first", -5), hook("c", 0), hook("last", 9)].concat();
    let names: Vec<String> = hooks(&text).into_iter().map(|hook| hook.name).collect();
    assert_eq!(names, ["first", "c", "b", "a", "last"]);
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let exec = "exec = [\"/bin/true\"]";
    for (text, words) in [
        (one("on = [\"finding\"]"), "it does nothing: give it `exec` or `url`"),
        (one(&format!("on = []\n{exec}")), "`on` is empty"),
        (one(&format!("on = [\"findings\"]\n{exec}")), "\"findings\" is none of finding, worker_forked"),
        (one(&format!("on = [\"finding\"]\n{exec}\nurl = \"http://x/\"")), "make it two hooks"),
        (one("on = [\"finding\"]\nexec = [\"true\"]"), "absolute path of the program"),
        (one("on = [\"finding\"]\nexec = []"), "`exec` is empty"),
        (one("on = [\"finding\"]\nexec = [\"/bin/{pid}\"]"), "cannot depend on the event"),
        (one("on = [\"finding\"]\nexec = [\"/bin/true\", \"{name}\"]"), "there are {pid}, {parent}"),
        (
            one("on = [\"finding\"]\nexec = [\"/bin/true\", \"a}\"]"),
            "a brace that begins or ends no known value",
        ),
        (one("on = [\"finding\"]\nurl = \"ftp://x/\""), "begins neither with http:// nor with https://"),
        (one("on = [\"finding\"]\nurl = \"http://x/\"\nca_file = \"/ca\""), "`ca_file` is for https"),
        (one("on = [\"finding\"]\nurl = \"https://x/\"\nca_file = \"ca\""), "must be an absolute path"),
        (one(&format!("on = [\"finding\"]\n{exec}\nca_file = \"/ca\"")), "belong to `url`"),
        (one("on = [\"finding\"]\nurl = \"http://u:p@x/\""), "belongs into `headers`"),
        (one("on = [\"finding\"]\nurl = \"http://x:99999/\""), "`url` is \"http://x:99999/\""),
        (
            one("on = [\"finding\"]\nurl = \"http://x/\"\nheaders = { Host = \"y\" }"),
            "forkwatch's own to set",
        ),
        (
            one("on = [\"finding\"]\nurl = \"http://x/\"\nheaders = { A = \"y\\nz\" }"),
            "that HTTP does not allow",
        ),
        (one("on = [\"finding\"]\nurl = \"http://x/\"\nretries = 99"), "10 at most"),
        (one(&format!("on = [\"finding\"]\n{exec}\nretries = 1")), "belong to `url`"),
        (one(&format!("on = [\"finding\"]\n{exec}\nhazard = [\"orphan\"]")), "fits no hazard"),
        (
            one(&format!("on = [\"finding\"]\n{exec}\ncertainty = \"sure\"")),
            "none of heuristic, strong, certain",
        ),
        (one(&format!("on = [\"finding\"]\n{exec}\nstate = [\"open\"]")), "none of suspected, confirmed"),
        (
            one(&format!("on = [\"worker_exited\"]\n{exec}\nseverity = \"critical\"")),
            "which `on` does not name",
        ),
        (one(&format!("on = [\"finding\"]\n{exec}\nhow = [\"SIGKILL\"]")), "does not name worker_exited"),
        (one(&format!("on = [\"finding\"]\n{exec}\nserver = \"gunicorn\"")), "known of workers alone"),
        (one(&format!("on = [\"finding\"]\n{exec}\nunit = \"\"")), "`unit` is empty"),
        (one(&format!("on = [\"finding\"]\n{exec}\ntimeout = \"2d\"")), "`timeout`: "),
        (
            one(&format!("on = [\"finding\"]\n{exec}\nat_most = \"often\"")),
            "no rate: write how often in how long",
        ),
        (one(&format!("on = [\"finding\"]\n{exec}\nat_most = \"0/1m\"")), "no rate"),
        (one(&format!("on = [\"finding\"]\n{exec}\ncolour = \"red\"")), "unknown field `colour`"),
        (format!("[[hook]]\nname = \"a b\"\non = [\"finding\"]\n{exec}"), "`name` must be"),
        (format!("[[hook]]\nname = \"-a\"\non = [\"finding\"]\n{exec}"), "`name` must be"),
        (one(&format!("on = [\"finding\"]\n{exec}")).repeat(2), "two hooks are called \"x\""),
        (one(&format!("on = [\"finding\"]\n{exec}")) + "[other]\n", "unknown field `other`"),
    ] {
        let message = refused(&text);
        assert!(message.contains(words), "{text}\n{message}");
        assert!(message.contains("test.toml"), "{message}");
    }
    let many =
        |number| format!("[[hook]]\nname = \"h{number}\"\non = [\"finding\"]\nexec = [\"/bin/true\"]\n");
    let many = (0..65).map(many).collect::<Vec<_>>().concat();
    assert!(refused(&many).contains("it has 65 hooks: 64 at most"));
    assert!(refused(&one("on = [\"finding\"]\nexec = [\"true\"]")).contains("line 1"));
}

#[test]
fn a_finding_fits_by_hazard_certainty_severity_and_state() {
    let fits = |more: &str, told: &Told| {
        let hooks = hooks(&one(&format!("on = [\"finding\"]\nexec = [\"/bin/true\"]\n{more}")));
        hooks[0].criteria.fit(told)
    };
    let told = finding("orphaned-lock", "certain", "critical", "confirmed");
    for (more, fit) in [
        ("", true),
        ("hazard = [\"orphaned-*\", \"held-locks\"]", true),
        ("hazard = [\"held-locks\"]", false),
        ("certainty = \"certain\"\nseverity = \"critical\"", true),
        ("state = [\"suspected\"]", false),
        ("state = [\"confirmed\", \"resolved\"]", true),
        ("unit = \"web*\"", true),
        ("unit = \"*/web*\"", false),
        ("comm = \"gun*\"", true),
        ("comm = \"nginx\"", false),
        ("uid = 33", true),
        ("uid = 0", false),
    ] {
        assert_eq!(fits(more, &told), fit, "{more}");
    }
    let weak = finding("orphaned-lock", "heuristic", "warning", "suspected");
    assert!(fits("", &weak) && fits("severity = \"warning\"", &weak));
    assert!(!fits("certainty = \"strong\"", &weak) && !fits("severity = \"critical\"", &weak));
    // What is over is told to those alone who ask for it.
    let over = finding("orphaned-lock", "certain", "critical", "resolved");
    assert!(!fits("", &over) && fits("state = [\"resolved\"]", &over));
    // A hook that is about workers says nothing about findings, and the other way round.
    let worker = Told { action: "worker_exited".to_owned(), ..told.clone() };
    assert!(!fits("", &worker));
}

#[test]
fn a_name_that_a_user_has_borrowed_fits_only_where_it_is_said_whose_it_is() {
    let fits = |more: &str, told: &Told| {
        hooks(&one(&format!("on = [\"finding\"]\nexec = [\"/bin/true\"]\n{more}")))[0].criteria.fit(told)
    };
    let mut told = finding("orphaned-lock", "certain", "critical", "confirmed");
    told.is_of_user = true;
    told.unit = Some("user@33.service/web.service".to_owned());
    assert!(!fits("comm = \"gunicorn\"", &told));
    assert!(!fits("unit = \"web.service\"", &told) && !fits("unit = \"*web.service\"", &told));
    assert!(fits("comm = \"gunicorn\"\nuid = 33", &told));
    assert!(fits("unit = \"user@33.service/web.service\"", &told));
    assert!(fits("", &told), "one that asks for no name is about everybody's");
}

#[test]
fn a_worker_fits_by_server_and_how_it_ended() {
    let fits = |more: &str, how: Option<&str>| {
        let told = Told {
            action: "worker_exited".to_owned(),
            server: Some("gunicorn".to_owned()),
            how: how.map(str::to_owned),
            ..Told::default()
        };
        hooks(&one(&format!("on = [\"worker_exited\"]\nexec = [\"/bin/true\"]\n{more}")))[0]
            .criteria
            .fit(&told)
    };
    assert!(fits("", None) && fits("server = \"gun*\"", Some("code 0")));
    assert!(fits("how = [\"SIG*\"]", Some("SIGKILL")) && !fits("how = [\"SIG*\"]", Some("code 0")));
    assert!(!fits("how = [\"SIG*\"]", None) && !fits("server = \"uWSGI\"", None));
}

struct Of(&'static [(Placeholder, &'static str)]);

impl Values for Of {
    fn value(&self, placeholder: Placeholder) -> Option<String> {
        self.0.iter().find(|(one, _)| *one == placeholder).map(|(_, value)| (*value).to_owned())
    }
}

#[test]
fn an_argument_takes_values_of_the_event_and_braces_can_be_written() {
    let values = Of(&[(Placeholder::Pid, "12"), (Placeholder::Hazard, "orphaned-lock")]);
    let of = |text: &str| Argument::read(text).unwrap().of(&values);
    assert_eq!(of("--pid={pid}"), Ok("--pid=12".to_owned()));
    assert_eq!(of("{hazard}/{pid}.txt"), Ok("orphaned-lock/12.txt".to_owned()));
    assert_eq!(of("{{pid}} {{\"a\": 1}}"), Ok("{pid} {\"a\": 1}".to_owned()));
    assert_eq!(of(""), Ok(String::new()));
    assert_eq!(of("{uid}"), Err(Placeholder::Uid));
    assert_eq!(Argument::read("-{pid}-").unwrap().shown(), "-{pid}-");
}

#[test]
fn an_address_is_taken_apart() {
    let url = |text: &str| Url::read(text).unwrap();
    let plain = url("http://alerts.example:9093/api?x=1");
    assert_eq!((plain.host.as_str(), plain.port, plain.path.as_str()), ("alerts.example", 9093, "/api?x=1"));
    assert_eq!(plain.shown(), "http://alerts.example:9093/api?x=1");
    let secure = url("https://alerts.example/api");
    assert_eq!((secure.is_secure, secure.port), (true, 443));
    assert_eq!(secure.shown(), "https://alerts.example/api");
    assert_eq!(url("https://alerts.example:8443/").port, 8443);
    let six = url("http://[::1]");
    assert_eq!(
        (six.host.as_str(), six.port, six.path.as_str(), six.authority.as_str()),
        ("::1", 80, "/", "[::1]")
    );
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_written_makes_the_reader_panic(text in ".{0,300}", word in ".{0,40}") {
        let _ = Hooks::parse("x", &text);
        let _ = Argument::read(&word);
        let _ = Url::read(&format!("http://{word}"));
        let _ = Rate::read(&word);
    }
}
