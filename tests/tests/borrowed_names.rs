//! A user who calls his program by another's name, in the place of another's file and below the cgroup of another's
//! unit, is told from it wherever forkwatch says a name; services of the system and containers are not accused.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    host::{needs_root, needs_the_hosts_mounts, skip},
    metrics::{Scrape, free_address},
    process,
    program::{Launch, Program},
    runner::Tests,
    tests,
    wait::until,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![names_that_are_borrowed_are_marked_and_honest_ones_are_not])
}

/// The name that all of them go by.
const NAME: &str = "nginx";
const CONTAINER: &str = "3f1c9a7d2b4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f701";
/// Puts its first argument where the real one lies, for all that it starts, and runs that.
const IN_ITS_PLACE: &str =
    "mount -t tmpfs borrowed /usr/sbin && cp \"$0\" /usr/sbin/nginx && exec /usr/sbin/nginx";
/// The same, but runs it from outside, in the namespaces of the host: its link says `/usr/sbin/nginx` all the same. What
/// holds the namespace ends with it, as the last writer of a pipe.
const FROM_OUTSIDE: &str = "mkfifo made held && { \
    unshare --user --map-root-user --mount /bin/sh -c '\
        mount -t tmpfs borrowed /usr/sbin && cp \"$0\" /usr/sbin/nginx && echo $$ >made && exec cat held' \"$0\" & \
    read -r made <made && exec 9>held && exec /proc/$made/root/usr/sbin/nginx; }";

/// The tree of cgroups, version 2, mounted for the test alone.
struct Tree(tempfile::TempDir);

impl Tree {
    fn mount() -> Result<Self> {
        let point = tempfile::tempdir()?;
        let none: Option<&Path> = None;
        match mount(none, point.path(), Some("cgroup2"), MsFlags::empty(), none) {
            Ok(()) => Ok(Self(point)),
            Err(error) => skip(format!("cannot mount cgroups of version 2: {error}")),
        }
    }

    /// Makes a cgroup, as a service manager does.
    fn cgroup(&self, path: &str) -> Result<PathBuf> {
        let made = self.0.path().join(path);
        fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        Ok(made)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

/// A program in a cgroup, whose child waits for a lock for ever.
struct Case {
    program: Program,
    cgroup: Option<PathBuf>,
    expected: Expected,
}

/// What is to be said of it.
struct Expected {
    /// What it is called in metrics, and how sentences begin to call it.
    name: &'static str,
    sentence: &'static str,
    uid: &'static str,
    unit: &'static str,
    container: &'static str,
    owner: &'static str,
    executable: &'static str,
    /// All that stands behind its pid.
    who: String,
}

impl Case {
    fn hold(
        tree: &Tree,
        cgroup: Option<&str>,
        launch: impl FnOnce(&Path) -> Launch,
        expected: Expected,
    ) -> Result<Self> {
        let binary = fixture::fixture("orphan_mutex")?;
        let program = Program::hold(|folder| {
            let copy = folder.join(NAME);
            fs::copy(binary, &copy).context("cannot copy the fixture")?;
            Ok(launch(&copy))
        })?;
        let cgroup = cgroup.map(|path| tree.cgroup(path)).transpose()?;
        if let Some(cgroup) = &cgroup {
            fs::write(cgroup.join("cgroup.procs"), program.pid().to_string())?;
        }
        Ok(Self { program, cgroup, expected })
    }

    /// The forker and its child, once that waits for the lock.
    fn stuck(&mut self) -> Result<i32> {
        let told = self.program.next_json()?;
        let lock = told.get("lock").and_then(serde_json::Value::as_str).context("no lock")?;
        let lock = u64::from_str_radix(lock.trim_start_matches("0x"), 16)?;
        let first = self.program.pid();
        until("the child to wait for the lock", || {
            Ok(process::descendants(first).into_iter().find(|child| process::waits_for(child.pid, lock)))
        })
        .map(|child| child.pid)
    }

    fn check(&self, event: &Event, log: &str, scan: &str, scrape: &Scrape) -> Result<()> {
        let Expected { name, sentence, uid, unit, container, owner, executable, who } = &self.expected;
        let finding = event.finding().context("it is a finding")?;
        let same = |what: &str, is: &str, expected: &str| {
            ensure!(is == expected, "{sentence}: {what} {is:?} is not {expected:?}: {event:#?}");
            Ok(())
        };
        same("severity", finding.severity(), "critical")?;
        same("program", finding.program(), name)?;
        same(
            "executable's path",
            event.text("/process/parent/executable").rsplit('/').next().unwrap_or_default(),
            NAME,
        )?;
        same("uid", event.text("/process/parent/user/id"), uid)?;
        same("child's uid", event.text("/process/user/id"), uid)?;
        same("unit", event.text("/service/name"), unit)?;
        same("container", event.text("/container/id"), container)?;
        same("owner", event.text("/forkwatch/provenance/owner"), owner)?;
        same("executable", event.text("/forkwatch/provenance/executable"), executable)?;
        let parent = finding.parent_pid().context("no parent")?;
        let called = format!(" of {sentence} (pid {parent}) waits in vain for ");
        ensure!(finding.summary().contains(&called), "{called:?} is not in {:?}", finding.summary());
        let child = event.pid().context("no child")?;
        let line = log
            .lines()
            .find(|line| line.contains("orphaned-lock") && line.contains(&format!(" {child} of ")))
            .with_context(|| format!("no line about {child} in {log}"))?;
        ensure!(line.contains("ERROR") && line.contains(&called) && line.contains(who), "{who:?}: {line}");
        // What wrapped lines say, whole.
        let scan: Vec<&str> = scan.split_whitespace().collect();
        let shown = format!("(pid {parent}, {who})");
        ensure!(scan.join(" ").contains(&shown), "{shown:?} is not in {}", scan.join(" "));
        let place = if unit.is_empty() { container } else { unit };
        let place = if place.is_empty() { String::new() } else { format!(",unit=\"{place}\"") };
        let series = format!("hazard=\"orphaned-lock\",program=\"{name}\"{place}");
        let count = scrape.sum("forkwatch_unsafe_forks_total", &series);
        ensure!(count >= 1.0, "{series} is not 1 or more:\n{}", scrape.0);
        let checked = Command::new(binary::forkwatch()?).args(["check", &parent.to_string()]).output()?;
        let checked =
            String::from_utf8_lossy(&checked.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        let shown = format!("{sentence} (pid {parent}, {who}): a fork now would be");
        ensure!(checked.contains(&shown), "{shown:?} is not in {checked}");
        Ok(())
    }

    fn end(mut self) -> Result<()> {
        self.program.end(None)?;
        if let Some(cgroup) = &self.cgroup {
            until("its cgroup to be empty", || Ok(fs::remove_dir(cgroup).ok()))?;
            // The cgroups above it, up to one that others use.
            let above = cgroup.ancestors().skip(1).take(4);
            above.take_while(|path| fs::remove_dir(path).is_ok()).for_each(drop);
        }
        Ok(())
    }
}

fn shell(script: &str, copy: &Path) -> [OsString; 4] {
    ["/bin/sh".into(), "-c".into(), script.into(), copy.into()]
}

/// Lets other users run what lies in the folder of a program.
fn open_to_all(copy: &Path) {
    let open = |folder| fs::set_permissions(folder, fs::Permissions::from_mode(0o755));
    // Where it fails the program does, and says so.
    let _ = copy.parent().map(open);
}

/// Has all that is started from here come from no login, as what the system starts does not.
fn leave_login() -> Result<()> {
    const NONE: &str = "4294967295";
    let own = Path::new("/proc/self/loginuid");
    match fs::read_to_string(own) {
        Ok(login) if login.trim() != NONE && fs::write(own, NONE).is_err() => skip("cannot leave this login"),
        _ => Ok(()),
    }
}

/// Skips the test where no user may make namespaces.
fn users_make_namespaces() -> Result<()> {
    let tried = Command::new("/usr/bin/setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/unshare",
            "--user",
            "--map-root-user",
        ])
        .args(["--mount", "/bin/sh", "-c", "mount -t tmpfs x /usr/sbin"])
        .output()
        .context("cannot run setpriv")?;
    if tried.status.success() {
        return Ok(());
    }
    skip(format!("users may not make namespaces here: {}", String::from_utf8_lossy(&tried.stderr).trim()))
}

fn cases(tree: &Tree) -> Result<Vec<Case>> {
    let expected = |name, sentence, uid, who: &str| Expected {
        name,
        sentence,
        uid,
        unit: "",
        container: "",
        owner: "host",
        executable: "host",
        who: who.to_owned(),
    };
    let liar = "uid 65534's nginx";
    let unshare = || Launch::new("/usr/bin/unshare");
    Ok(vec![
        Case::hold(
            tree,
            Some("user.slice/user-65534.slice/user@65534.service/app.slice/nginx.service"),
            |copy| {
                let launch = unshare().args(["--user", "--map-root-user", "--mount"]);
                launch.args(shell(IN_ITS_PLACE, copy)).user("nobody")
            },
            Expected {
                unit: "user@65534.service/nginx.service",
                owner: "user",
                executable: "other",
                ..expected(
                    liar,
                    liar,
                    "65534",
                    "uid 65534, user@65534.service/nginx.service, own user and mount namespaces, not the host's \
                     /usr/sbin/nginx",
                )
            },
        )?,
        Case::hold(
            tree,
            None,
            |copy| Launch::new("/bin/sh").args(shell(FROM_OUTSIDE, copy).into_iter().skip(1)).user("nobody"),
            Expected {
                owner: "user",
                executable: "other",
                ..expected(liar, liar, "65534", "uid 65534, not the host's /usr/sbin/nginx")
            },
        )?,
        Case::hold(
            tree,
            Some(&format!("system.slice/docker-{CONTAINER}.scope")),
            |copy| {
                unshare().args(["--mount", "--pid", "--fork", "--kill-child"]).args(shell(IN_ITS_PLACE, copy))
            },
            Expected {
                container: CONTAINER,
                owner: "container",
                executable: "other",
                ..expected(NAME, "nginx in container 3f1c9a7d2b4e", "0", "uid 0, container 3f1c9a7d2b4e")
            },
        )?,
        Case::hold(
            tree,
            Some("system.slice/nginx.service"),
            |copy| Launch::new(copy).user("www-data"),
            Expected { unit: "nginx.service", ..expected(NAME, NAME, "33", "uid 33, nginx.service") },
        )?,
        // As PrivateTmp= and ProtectSystem= of a unit make it.
        Case::hold(
            tree,
            Some("system.slice/web.service"),
            |copy| {
                open_to_all(copy);
                let launch = unshare().args(["--mount", "/usr/bin/setpriv", "--reuid=33", "--regid=33"]);
                launch.args(["--clear-groups", "--inh-caps=-all"]).args([copy])
            },
            Expected { unit: "web.service", ..expected(NAME, NAME, "33", "uid 33, web.service") },
        )?,
    ])
}

fn names_that_are_borrowed_are_marked_and_honest_ones_are_not() -> Result<()> {
    needs_root()?;
    needs_the_hosts_mounts()?;
    leave_login()?;
    users_make_namespaces()?;
    let tree = Tree::mount()?;
    let mut cases = cases(&tree)?;
    let address = free_address()?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("forkwatch.toml");
    fs::write(&config, "[judge]\ngrace = \"100ms\"\nstuck_after = \"500ms\"\n")?;
    let listen = format!("--web.listen-address={address}");
    let mut daemon = Forkwatch::daemon([listen.as_str(), "--config", &config.display().to_string()])?;
    let mut found = Vec::new();
    for case in &mut cases {
        case.program.release()?;
    }
    for case in &mut cases {
        let child = i64::from(case.stuck()?);
        let is_it = |event: &Event| {
            event.pid() == Some(child)
                && event.finding().is_some_and(|finding| finding.hazard() == "orphaned-lock")
        };
        found.push(daemon.wait_for(&format!("the finding about {}", case.expected.sentence), is_it)?);
    }
    let scrape = Scrape::of(address)?;
    let scan = Command::new(binary::forkwatch()?).args(["scan", "--stuck-after", "500ms"]).output()?;
    let (scan, log) = (String::from_utf8_lossy(&scan.stdout), daemon.stderr());
    for (case, event) in cases.iter().zip(&found) {
        case.check(event, &log, &scan, &scrape)?;
    }
    cases.into_iter().try_for_each(Case::end)?;
    daemon.stop().map(drop)
}
