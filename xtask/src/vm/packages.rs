//! Debian packages that are unpacked and not installed: an apt with a configuration and package lists of its own, so
//! that the system's stay as they are.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::project;

/// What Debian's archive is signed with (package debian-archive-keyring).
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists are fetched anew when they are older.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// Where packages are remembered that the lists name and the archive does not have, until the lists are fetched anew.
const GONE: &str = "gone";

/// An apt of its own.
pub(crate) struct Apt {
    root: PathBuf,
}

impl Apt {
    /// One that knows these suites of an architecture. Its lists may be a day old.
    pub(crate) fn open(name: &str, architecture: &str, suites: &[&str]) -> Result<Self> {
        let apt = Self { root: project::cache()?.join("vm").join(format!("apt-{name}-{architecture}")) };
        fs::create_dir_all(&apt.root).with_context(|| format!("cannot make {}", apt.root.display()))?;
        let _alone = apt.lock()?;
        let stamp = apt.root.join("updated");
        if age(&stamp).is_some_and(|age| age < FRESH) {
            return Ok(apt);
        }
        for directory in ["etc/apt.conf.d", "etc/preferences.d", "lists/partial", "cache/archives/partial"] {
            let path = apt.root.join(directory);
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
        apt.write("status", "")?;
        apt.write("sources.list", &sources_of_the_system(architecture, suites)?)?;
        apt.write("apt.conf", &configuration(&apt.root, architecture))?;
        match project::output(apt.command("apt-get").args(["--quiet=2", "update"])) {
            // Old lists are better than none: what they name may be unpacked here already.
            Err(error) if stamp.exists() => eprintln!("the package lists stay as they were: {error:#}"),
            Err(error) => return Err(error),
            Ok(_) => {
                remove(&apt.root.join(GONE))?;
                apt.write("updated", "")?;
            }
        }
        Ok(apt)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.root.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", self.root.join("apt.conf")).current_dir(&self.root);
        command
    }

    /// Keeps other runs off until it is dropped: they may share the cache.
    fn lock(&self) -> Result<Flock<File>> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!(error).context(format!("cannot lock {}", path.display())))
    }

    /// Names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = project::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// Sees that a package is unpacked in a directory, with all that it depends on if asked for, and `finished`.
    pub(crate) fn provide(
        &self,
        package: &str,
        with_dependencies: bool,
        into: &Path,
        finish: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        let _alone = self.lock()?;
        if into.exists() {
            return Ok(());
        }
        let fetched = self.fetch(package, with_dependencies)?;
        // Unpacked beside and then renamed: what is there is whole.
        let beside = into.with_extension("partial");
        remove(&beside)?;
        fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
        let mut archives = 0;
        for entry in fs::read_dir(&fetched)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                project::output(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&beside))?;
                archives += 1;
            }
        }
        if archives == 0 {
            bail!("apt-get fetched nothing for {package}");
        }
        finish(&beside)?;
        fs::rename(&beside, into).with_context(|| format!("cannot make {}", into.display()))?;
        remove(&fetched)
    }

    /// Fetches a package; gives the directory it lies in.
    fn fetch(&self, package: &str, with_dependencies: bool) -> Result<PathBuf> {
        let gone = self.root.join(GONE).join(package);
        if gone.exists() {
            bail!("the archive names {package} and does not have it");
        }
        let fetched = self.root.join("fetched");
        remove(&fetched)?;
        let partial = fetched.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        let mut command = self.command("apt-get");
        if with_dependencies {
            command.args([
                "install",
                "--yes",
                "--download-only",
                "--no-install-recommends",
                "--quiet=2",
                "-o",
            ]);
            command.arg(format!("Dir::Cache::archives={}", fetched.display()));
        } else {
            command.args(["download", "--quiet=2"]).current_dir(&fetched);
        }
        eprintln!("fetching {package}");
        match project::output(command.arg(package)) {
            Ok(_) => Ok(fetched),
            Err(error) => {
                if error.to_string().contains("404  Not Found") {
                    fs::create_dir_all(self.root.join(GONE))?;
                    fs::write(&gone, "").with_context(|| format!("cannot write {}", gone.display()))?;
                }
                Err(error)
            }
        }
    }
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now().duration_since(fs::metadata(path).ok()?.modified().ok()?).ok()
}

/// Where the system gets Debian's packages from.
#[derive(Debug, PartialEq, Eq)]
struct Mirrors {
    main: String,
    /// Of security updates; absent where the system has none.
    security: Option<String>,
}

impl Mirrors {
    fn of_the_system() -> Result<Self> {
        let format = "$(ORIGIN) $(LABEL) $(REPO_URI)";
        let targets = project::output(Command::new("apt-get").args(["indextargets", "--format", format]))?;
        Self::parse(&targets)
            .context("apt knows no mirror of Debian: is this Debian, and `apt-get update` run?")
    }

    fn parse(targets: &str) -> Option<Self> {
        let find = |kind: &str| {
            let address = targets.lines().find_map(|line| line.strip_prefix(kind));
            address.map(|address| address.trim().trim_end_matches('/').to_owned())
        };
        Some(Self { main: find("Debian Debian ")?, security: find("Debian Debian-Security ") })
    }
}

/// The lines of a sources.list for these suites, from the system's mirrors.
pub(crate) fn sources_of_the_system(architecture: &str, suites: &[&str]) -> Result<String> {
    Ok(sources(&Mirrors::of_the_system()?, architecture, suites))
}

fn sources(mirrors: &Mirrors, architecture: &str, suites: &[&str]) -> String {
    let source = |suite: &&str| {
        let security = suite.ends_with("-security");
        let mirror = if security { mirrors.security.as_ref() } else { Some(&mirrors.main) };
        mirror.map(|mirror| format!("deb [arch={architecture} signed-by={KEYRING}] {mirror} {suite} main\n"))
    };
    suites.iter().filter_map(source).collect()
}

/// apt.conf(5)
fn configuration(root: &Path, architecture: &str) -> String {
    let root = root.display();
    format!(
        r#"APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
Dir::Etc "{root}/etc";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::State::lists "{root}/lists";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Acquire::Languages "none";
// An old suite's last Release file has expired, and is still what it was.
Acquire::Check-Valid-Until "false";
// The user _apt may not see this directory.
APT::Sandbox::User "root";
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_those_that_apt_uses() {
        let targets = "Other Repo https://other.example/x/\n\
            Debian Debian http://mirror.example/debian/\n\
            Debian Debian-Security http://mirror.example/security/\n";
        let mirrors = Mirrors::parse(targets).unwrap();
        assert_eq!(mirrors.main, "http://mirror.example/debian");
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/security"));
        assert_eq!(Mirrors::parse("Other Repo https://other.example/x/\n"), None);
    }

    #[test]
    fn security_suites_come_from_their_own_mirror_or_not_at_all() {
        let mut mirrors = Mirrors { main: "http://m".to_owned(), security: Some("http://s".to_owned()) };
        let text = sources(&mirrors, "arm64", &["trixie", "trixie-security"]);
        let key = format!("deb [arch=arm64 signed-by={KEYRING}]");
        let wanted = format!("{key} http://m trixie main\n{key} http://s trixie-security main\n");
        assert_eq!(text, wanted);
        mirrors.security = None;
        assert_eq!(sources(&mirrors, "arm64", &["trixie", "trixie-security"]).lines().count(), 1);
    }
}
