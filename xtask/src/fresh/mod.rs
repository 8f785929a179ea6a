//! `cargo xtask fresh-test`: the two commands of README.md on a machine that has nothing.
//!
//! The machine is a directory with a bare Debian in it, in a mount namespace of its own; kernel, processes and network
//! are the host's. Only what is committed gets there, as a clone. Rust is the host's toolchain, which can be read there
//! and not written; crates, packages and kernels are downloaded as they would be by anybody.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::{
    fcntl::{Flock, FlockArg},
    sys::resource::{UsageWho, getrusage},
};

mod base;
mod leftovers;
mod summary;

use crate::{project, vm::Sum};
use leftovers::Before;
use summary::Summary;

/// Where the clone is, in the system.
const CLONE: &str = "root/forkwatch";
/// Enters the system.
const ENTER: &str = include_str!("enter.sh");
/// Makes files as old as the commits that changed them: cargo compiles what is newer than what it made of it.
const AGE: &str = r#"git ls-files | while read -r file; do
    touch --date="@$(git log -1 --format=%ct -- "$file")" "$file"
done"#;
/// What of the environment gets in: how to reach the network.
const PASSED_ON: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
/// All else of it.
const ENVIRONMENT: [&str; 4] = [
    "HOME=/root",
    "LANG=C.UTF-8",
    "PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "CARGO_TERM_COLOR=never",
];

/// Run both commands of the README in a bare Debian, made for it (needs root; each some 17 minutes and 12 GB)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian release (repeatable) [default: all]
    #[arg(long = "release", value_name = "RELEASE", value_enum)]
    releases: Vec<Release>,
    /// Begin with the content of this target directory, of an earlier run of this, so that only what was committed since
    /// is compiled: for work on the tests. The figures are not those of a bare machine
    #[arg(long, value_name = "DIRECTORY")]
    target: Option<PathBuf>,
}

/// A release that the README promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Release {
    Bookworm,
    Trixie,
}

impl Release {
    const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Tests one release after the other; the last line of the output is the sum.
pub(crate) fn run(options: &Options) -> Result<()> {
    let all = Release::value_variants();
    let releases = if options.releases.is_empty() { all } else { &options.releases };
    let sum = test(releases, options.target.as_deref())?;
    if !sum.skipped.is_empty() {
        println!("\nskipped:");
        sum.skipped.iter().for_each(|line| println!("  {line}"));
    }
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped.len());
    if sum.failed > 0 {
        std::process::exit(1)
    }
    Ok(())
}

/// The same as a part of all tests: every release.
pub(crate) fn run_as_part() -> Result<Sum> {
    test(Release::value_variants(), None)
}

fn test(releases: &[Release], target: Option<&Path>) -> Result<Sum> {
    if !nix::unistd::geteuid().is_root() {
        bail!("making a Debian system needs root");
    }
    let place = project::cache()?.join("fresh");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let _alone = alone(&place)?;
    let mut sum = Sum::default();
    for release in releases {
        // A run that was ended may have left one.
        let system = System { directory: place.join("system"), rust: rust()? };
        system.remove()?;
        let done = system.test(*release, target, &mut sum);
        system.remove()?;
        done.with_context(|| format!("the bare {release} could not be tested"))?;
    }
    Ok(sum)
}

/// Keeps other runs off until it is dropped.
fn alone(place: &Path) -> Result<Flock<fs::File>> {
    let path = place.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| {
        anyhow::Error::new(error)
            .context(format!("another fresh-test runs (it has locked {})", path.display()))
    })
}

/// The toolchain that runs this.
fn rust() -> Result<PathBuf> {
    let sysroot = PathBuf::from(project::output(Command::new("rustc").args(["--print", "sysroot"]))?);
    let sysroot = sysroot.canonicalize().with_context(|| format!("cannot find {}", sysroot.display()))?;
    if sysroot.starts_with("/usr") {
        bail!(
            "Rust is in {}, which cannot be lent to another system: use a toolchain of rustup",
            sysroot.display()
        );
    }
    Ok(sysroot)
}

/// A bare Debian and what belongs to it.
struct System {
    directory: PathBuf,
    rust: PathBuf,
}

impl System {
    fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// Which mount namespace the last command ran in.
    fn note(&self) -> PathBuf {
        self.directory.join("namespace")
    }

    fn test(&self, release: Release, target: Option<&Path>, sum: &mut Sum) -> Result<()> {
        let root = self.root();
        fs::create_dir(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        base::unpack(release, &root)?;
        self.clone_project()?;
        if let Some(target) = target {
            let clone = root.join(CLONE);
            project::run(Command::new("cp").arg("--archive").arg(target).arg(clone.join("target")))?;
            project::run(Command::new("sh").args(["-c", AGE]).current_dir(clone))?;
        }
        let before = Before::of(&root)?;
        println!("\n==> {release}: cargo run --release -- demo");
        let demo = self.command(&["cargo", "run", "--release", "--", "demo"])?;
        println!("\n==> {release}: cargo xtask test");
        let tests = self.command(&["cargo", "xtask", "test"])?;
        let mut left = before.leftovers(&root)?;
        left.extend([demo.left.as_slice(), &tests.left].concat());

        println!("\n==> {release}");
        println!("  demo: {demo}");
        println!("  test: {tests}");
        println!("  disk: {} MB", self.megabytes()?);
        for what in &left {
            println!("  left behind: {what}");
        }
        let mut count = |succeeded: bool| if succeeded { sum.passed += 1 } else { sum.failed += 1 };
        count(demo.succeeded);
        count(left.is_empty());
        tests.summary.add_to(sum, tests.succeeded, release.name());
        Ok(())
    }

    /// What is committed, and nothing else.
    fn clone_project(&self) -> Result<()> {
        let project = project::root()?;
        let git =
            |arguments: &[&str]| project::output(Command::new("git").arg("-C").arg(&project).args(arguments));
        if !git(&["status", "--porcelain"])?.is_empty() {
            println!("what is not committed is not tested");
        }
        println!("commit {}", git(&["rev-parse", "HEAD"])?);
        let mut clone = Command::new("git");
        clone.args(["clone", "--quiet", "--no-hardlinks"]).arg(&project).arg(self.root().join(CLONE));
        project::run(&mut clone)
    }

    /// Runs a command in the clone, as if the system were all there is.
    fn command(&self, words: &[&str]) -> Result<Done> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "--", "sh", "-c", ENTER, "enter.sh"]);
        command.arg(self.root()).arg(&self.rust).arg(self.note()).arg(Path::new("/").join(CLONE)).arg("-i");
        command.args(ENVIRONMENT);
        for name in PASSED_ON {
            if let Ok(value) = std::env::var(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        command.args(words).stdin(Stdio::null());
        let (start, before) = (Instant::now(), worked()?);
        let mut summary = Summary::default();
        let succeeded = project::run_watched_as(&words.join(" "), &mut command, |line| summary.read(line))?;
        let (took, worked) = (start.elapsed(), worked()?.saturating_sub(before));
        let left = self.end_processes()?;
        Ok(Done { succeeded, took, worked, summary, left })
    }

    /// Ends what a command has left running; says what that was.
    fn end_processes(&self) -> Result<Vec<String>> {
        let Ok(namespace) = fs::read_to_string(self.note()) else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for pid in leftovers::processes(Path::new(namespace.trim()))? {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            left.push(format!("a process, {} ({pid})", name.trim()));
            project::run(Command::new("kill").args(["-KILL", &pid.to_string()]))?;
        }
        Ok(left)
    }

    fn megabytes(&self) -> Result<u64> {
        let mut usage = Command::new("du");
        usage.args(["--summarize", "--one-file-system", "--block-size=1000000"]).arg(&self.directory);
        let said = project::output(&mut usage)?;
        let number = said.split_whitespace().next().and_then(|number| number.parse().ok());
        number.with_context(|| format!("du says no number: {said}"))
    }

    fn remove(&self) -> Result<()> {
        if self.directory.exists() {
            self.end_processes()?;
            fs::remove_dir_all(&self.directory)
                .with_context(|| format!("cannot remove {}", self.directory.display()))?;
        }
        Ok(())
    }
}

/// What came of a command.
struct Done {
    succeeded: bool,
    took: Duration,
    /// The processor's time that it took, which a busy machine hardly changes.
    worked: Duration,
    summary: Summary,
    /// Processes that it left running.
    left: Vec<String>,
}

impl fmt::Display for Done {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { succeeded, took, worked, .. } = self;
        let outcome = if *succeeded { "passed" } else { "failed" };
        write!(formatter, "{outcome} in {} s, {} s of a processor", took.as_secs(), worked.as_secs())
    }
}

/// The processor's time of all children that have ended, and of theirs.
fn worked() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot ask for the processor's time")?;
    let seconds = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    Ok(Duration::from_secs(seconds.try_into().unwrap_or_default()))
}
