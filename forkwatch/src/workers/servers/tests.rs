use super::*;

/// A process as written evidence has it.
struct Seen {
    program: Program,
    loaded: Vec<Loaded>,
    forked: bool,
    age: Duration,
}

fn seen(exe: &str, cmdline: &[&str]) -> Seen {
    let program = Program {
        comm: exe.rsplit('/').next().unwrap_or_default().into(),
        exe: Some(exe.into()),
        cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
        uid: Some(0),
        ..Program::default()
    };
    Seen { program, loaded: Vec::new(), forked: false, age: Duration::from_secs(60) }
}

fn forked(exe: &str, cmdline: &[&str]) -> Seen {
    Seen { forked: true, ..seen(exe, cmdline) }
}

fn judged(family: &[Seen]) -> Recognised {
    let kin: Vec<Kin<'_>> = family.iter().map(kin).collect();
    recognise(&kin)
}

fn kin(seen: &Seen) -> Kin<'_> {
    Kin { program: &seen.program, loaded: &seen.loaded, forked: seen.forked, age: seen.age }
}

/// The server, its version and settings in one line, and each part in one.
fn told(family: &[Seen]) -> (String, Vec<String>) {
    let Recognised { server, parts } = judged(family);
    let server = server.map_or_else(String::new, |server| {
        let settings = server.settings.iter().map(|setting| format!("; {}: {}", setting.name, setting.value));
        let version = server.version.map(|version| format!(" {version}"));
        [server.name.into_owned(), version.unwrap_or_default()].into_iter().chain(settings).collect()
    });
    let part = |part: Option<Part>| match part {
        None => "-".to_owned(),
        Some(Part { role, title: None }) => role.name().to_owned(),
        Some(Part { role, title: Some(title) }) => format!("{}: {title}", role.name()),
    };
    (server, parts.into_iter().map(part).collect())
}

const PYTHON: &str = "/usr/bin/python3.11";
const RUBY: &str = "/usr/bin/ruby3.1";

/// What each of these families is to be called, and the part of each process.
fn check(families: &[(Vec<Seen>, &str, &[&str])]) {
    for (family, server, parts) in families {
        let (name, roles) = told(family);
        assert_eq!(name, *server);
        assert_eq!(roles, *parts, "{server}");
    }
}

#[test]
fn servers_of_scripts_are_recognised_by_their_titles() {
    check(&[
        (
            vec![
                seen(PYTHON, &["gunicorn: master [app:app]"]),
                forked(PYTHON, &["gunicorn: worker [app:app]"]),
            ],
            "gunicorn",
            &["master", "worker"],
        ),
        (
            vec![
                seen("/usr/bin/uwsgi-core", &["uWSGI master"]),
                forked("/usr/bin/uwsgi-core", &["uWSGI worker 1"]),
                forked("/usr/bin/uwsgi-core", &["uWSGI http 1"]),
            ],
            "uWSGI",
            &["master: master", "worker: worker 1", "helper: http 1"],
        ),
        (
            vec![
                seen(PYTHON, &["[celeryd: celery@web1:MainProcess] -active- (worker -A shop -c 2)"]),
                forked(PYTHON, &["[celeryd: celery@web1:ForkPoolWorker-1]"]),
                forked(PYTHON, &["[celeryd: celery@web1:Beat]"]),
            ],
            "Celery; concurrency: 2; application: shop",
            &["master", "worker: ForkPoolWorker-1", "helper: Beat"],
        ),
        (
            vec![
                seen(RUBY, &["puma 6.4.2 (tcp://0.0.0.0:9292) [shop]"]),
                forked(RUBY, &["puma: cluster worker 0: 17 [shop]"]),
            ],
            "Puma 6.4.2; bind: tcp://0.0.0.0:9292",
            &["master", "worker: worker 0"],
        ),
        (
            vec![
                seen(RUBY, &["unicorn master -c u.rb -E production"]),
                forked(RUBY, &["unicorn worker[0] -c u.rb -E production"]),
            ],
            "Unicorn; configuration: u.rb; environment: production",
            &["master", "worker: worker 0"],
        ),
        (
            vec![
                seen(RUBY, &["pitchfork monitor -c p.rb"]),
                forked(RUBY, &["pitchfork (gen:0) mold -c p.rb"]),
                forked(RUBY, &["pitchfork (gen:0) worker[1] - ready"]),
            ],
            "Unicorn; configuration: p.rb",
            &["master", "helper: mold", "worker: worker 1"],
        ),
        (
            vec![
                seen(RUBY, &["resque-2.6.0: Forked 17 at 1690000000"]),
                forked(RUBY, &["resque-2.6.0: Processing default since 1690000000 [Mail]"]),
            ],
            "Resque 2.6.0",
            &["master: Forked 17 at 1690000000", "worker: Processing default since 1690000000 [Mail]"],
        ),
    ]);
}

#[test]
fn other_servers_are_recognised_by_their_titles() {
    check(&[
        (
            vec![
                seen("/usr/lib/passenger/PassengerAgent", &["Passenger watchdog"]),
                seen("/usr/lib/passenger/PassengerAgent", &["Passenger core"]),
                seen(RUBY, &["Passenger AppPreloader: /srv/shop"]),
                forked(RUBY, &["Passenger RubyApp: /srv/shop (production)"]),
            ],
            "Passenger",
            &[
                "master: watchdog",
                "helper: core",
                "helper: AppPreloader: /srv/shop",
                "worker: RubyApp: /srv/shop (production)",
            ],
        ),
        (
            vec![
                seen("/usr/sbin/php-fpm8.2", &["php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)"]),
                forked("/usr/sbin/php-fpm8.2", &["php-fpm: pool www"]),
            ],
            "php-fpm 8.2; configuration: /etc/php/8.2/fpm/php-fpm.conf",
            &["master", "worker: pool www"],
        ),
        (
            vec![
                seen(
                    "/usr/lib/postgresql/15/bin/postgres",
                    &["/usr/lib/postgresql/15/bin/postgres", "-D", "/data"],
                ),
                forked("/usr/lib/postgresql/15/bin/postgres", &["postgres: checkpointer "]),
                forked("/usr/lib/postgresql/15/bin/postgres", &["postgres: 15/main: walwriter "]),
                forked("/usr/lib/postgresql/15/bin/postgres", &["postgres: 15/main: app shop [local] idle"]),
            ],
            "PostgreSQL 15; data: /data",
            &["master", "helper: checkpointer", "helper: walwriter", "worker: app shop [local] idle"],
        ),
        (
            vec![
                seen("/usr/sbin/nginx", &["nginx: master process /usr/sbin/nginx -c /etc/n.conf"]),
                forked("/usr/sbin/nginx", &["nginx: worker process"]),
                forked("/usr/sbin/nginx", &["nginx: worker process is shutting down"]),
                forked("/usr/sbin/nginx", &["nginx: cache manager process"]),
            ],
            "nginx; configuration: /etc/n.conf",
            &["master", "worker", "worker: worker, stopping", "helper: cache manager"],
        ),
    ]);
}

#[test]
fn where_there_are_no_titles_the_fork_tells_the_role() {
    let gunicorn = ["python3", "/venv/bin/gunicorn", "-w", "2", "--threads=4", "--preload", "app:app"];
    let (server, parts) =
        told(&[seen(PYTHON, &gunicorn), forked(PYTHON, &gunicorn), forked(PYTHON, &gunicorn)]);
    assert_eq!(server, "gunicorn; worker class: gthread; workers: 2; threads: 4; preload: yes");
    assert_eq!(parts, ["master", "worker", "worker"]);

    let apache = ["/usr/sbin/apache2", "-k", "start"];
    let mut master = seen("/usr/sbin/apache2", &apache);
    master.loaded = vec![Loaded::ApacheEvent, Loaded::ModWsgi];
    let daemon = forked("/usr/sbin/apache2", &["(wsgi:shop)", "-k", "start"]);
    let (server, parts) = told(&[master, forked("/usr/sbin/apache2", &apache), daemon]);
    assert_eq!(server, "Apache; MPM: event; module: mod_wsgi");
    assert_eq!(parts, ["master", "worker", "worker: mod_wsgi shop"]);

    let haproxy = ["/usr/sbin/haproxy", "-Ws", "-f", "/etc/haproxy/haproxy.cfg"];
    let (server, parts) = told(&[seen("/usr/sbin/haproxy", &haproxy), forked("/usr/sbin/haproxy", &haproxy)]);
    assert_eq!(server, "HAProxy; master-worker: yes; configuration: /etc/haproxy/haproxy.cfg");
    assert_eq!(parts, ["master", "worker"]);
}

#[test]
fn the_class_of_a_worker_shows_in_what_it_has_loaded() {
    let gunicorn = ["python3", "/venv/bin/gunicorn", "-c", "g.py", "app:app"];
    let mut worker = forked(PYTHON, &gunicorn);
    worker.loaded = vec![Loaded::Gevent];
    assert_eq!(
        told(&[seen(PYTHON, &gunicorn), worker]).0,
        "gunicorn; worker class: gevent; configuration: g.py"
    );
    let asked = ["python3", "/venv/bin/gunicorn", "-k", "gthread", "app:app"];
    assert_eq!(told(&[seen(PYTHON, &asked)]).0, "gunicorn; worker class: gthread");
    // A file may set it.
    assert_eq!(told(&[seen(PYTHON, &gunicorn)]).0, "gunicorn; configuration: g.py");
}

#[test]
fn a_missing_master_is_told_where_nothing_else_can_ask_for_one() {
    let uwsgi = |line: &[&str]| told(&[seen("/usr/bin/uwsgi", line)]).0;
    assert!(uwsgi(&["uwsgi", "--http", ":80", "-p", "2"]).starts_with("uWSGI; master: no: "));
    assert!(uwsgi(&["uwsgi", "-M", "-p", "2"]).starts_with("uWSGI; master: yes"));
    assert_eq!(uwsgi(&["uwsgi", "--ini", "a.ini"]), "uWSGI; configuration: a.ini");
    assert_eq!(uwsgi(&["uwsgi", "/etc/uwsgi/a.ini"]), "uWSGI");
    assert_eq!(uwsgi(&["uWSGI master"]), "uWSGI");
}

#[test]
fn workers_that_exec_are_known_by_what_they_run() {
    let node = "/usr/bin/node";
    let family = [seen(node, &["node", "/srv/s.js"]), seen(node, &["/usr/bin/node", "/srv/s.js"])];
    assert_eq!(told(&family), ("Node.js cluster".to_owned(), vec!["master".to_owned(), "worker".to_owned()]));
    // A program of its own is none, and no program becomes a server by what it runs for a moment.
    assert_eq!(told(&[seen(node, &["node", "/srv/s.js"])]), (String::new(), vec!["-".to_owned()]));
    let shell = [seen(node, &["node", "/srv/s.js"]), seen("/usr/bin/dash", &["sh", "-c", "ls"])];
    assert_eq!(told(&shell).0, "");

    let spawned = "from multiprocessing.spawn import spawn_main; spawn_main(tracker_fd=5, pipe_handle=7)";
    let tracker = "from multiprocessing.resource_tracker import main;main(4)";
    let mut master = seen(PYTHON, &["python3", "work.py"]);
    master.loaded = vec![Loaded::Multiprocessing];
    let family = [
        master,
        seen(PYTHON, &[PYTHON, "-c", tracker]),
        seen(PYTHON, &[PYTHON, "-c", spawned, "--multiprocessing-fork"]),
    ];
    let (server, parts) = told(&family);
    assert_eq!(server, "Python multiprocessing");
    assert_eq!(parts, ["master", "helper: resource tracker", "worker: spawned"]);
}

#[test]
fn a_forked_pool_is_known_by_what_its_program_has_loaded() {
    let work = ["python3", "work.py"];
    let mut master = seen(PYTHON, &work);
    master.loaded = vec![Loaded::Multiprocessing];
    let family = [master, forked(PYTHON, &work)];
    assert_eq!(told(&family).0, "Python multiprocessing");
    // One forked child of a script without it is no pool.
    assert_eq!(told(&[seen(PYTHON, &work), forked(PYTHON, &work)]).0, "");
}

#[test]
fn any_program_with_two_long_lived_forked_children_is_a_server() {
    let sshd = "/usr/sbin/sshd";
    let family = |ages: [u64; 2]| {
        let child = |age| Seen { age: Duration::from_secs(age), ..forked(sshd, &["sshd: user [priv]"]) };
        told(&[seen(sshd, &[sshd, "-D"]), child(ages[0]), child(ages[1])])
    };
    assert_eq!(family([20, 30]).0, "sshd");
    assert_eq!(family([20, 30]).1, ["master", "worker", "worker"]);
    assert_eq!(family([20, 3]), (String::new(), vec!["-".to_owned(); 3]));
    let pipeline = [seen("/usr/bin/bash", &["bash"]), seen("/usr/bin/less", &["less"])];
    assert_eq!(told(&pipeline).0, "");
}

#[test]
fn a_users_server_bears_the_uid() {
    let mut own = seen(PYTHON, &["gunicorn: master [app]"]);
    own.program.uid = Some(1000);
    assert_eq!(told(&[own]).0, "uid 1000's gunicorn");
}

#[test]
fn nothing_at_all_is_no_server() {
    assert_eq!(recognise(&[]), Recognised { server: None, parts: Vec::new() });
    assert_eq!(told(&[seen("", &[])]).0, "");
}

proptest::proptest! {
    #[test]
    fn no_words_make_it_panic(
        exe in "(/usr/bin/)?(python3|nginx|uwsgi|postgres|node|php-fpm|ruby|)",
        cmdline in proptest::collection::vec("(gunicorn: |puma |unicorn |postgres: |\\[celeryd: )?.{0,30}", 0..4),
    ) {
        let words: Vec<&str> = cmdline.iter().map(String::as_str).collect();
        told(&[seen(&exe, &words), forked(&exe, &words)]);
    }
}
