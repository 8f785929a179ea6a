//! `cargo xtask dist`: the Debian package.
//!
//! The same program gives the same package, to the byte: owners, modes, times and order are set here, times by
//! `SOURCE_DATE_EPOCH` or else the last commit.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

mod contents;
mod control;
mod staging;

use crate::{apt, generate, project};
use contents::Sources;
use control::Control;
use staging::Staging;

/// Build the Debian package of the release build
#[derive(clap::Args)]
pub(crate) struct Options {}

/// Builds the package and says where it is.
pub(crate) fn run(_: &Options) -> Result<()> {
    println!("{}", build()?.display());
    Ok(())
}

/// Builds the program and its package, in `dist/` of cargo's target directory; gives the package's path.
pub(crate) fn build() -> Result<PathBuf> {
    let build = ["build", "--locked", "--release", "--package", "forkwatch", "--bin", "forkwatch"];
    project::run(project::cargo()?.args(build))?;
    let program = project::target()?.join("release/forkwatch");
    let program = program.canonicalize().with_context(|| format!("cannot find {}", program.display()))?;
    // strip comes with it.
    apt::provide("dpkg-shlibdeps", &["dpkg-dev"])?;
    let directory = project::target()?.join("dist");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;

    let epoch = epoch()?;
    let mut control = Control {
        version: control::debian_version(env!("CARGO_PKG_VERSION")),
        architecture: project::output(Command::new("dpkg").arg("--print-architecture"))?,
        depends: String::new(),
    };
    let root = project::root()?;
    let staging = Staging::new(&directory)?;
    let program = staging.stripped(&program)?;
    let generated = staging.beside_folder("generated")?;
    generate::write_all(&generated)?;
    let changelog = control.changelog(epoch)?;
    let sources = Sources { root: &root, program: &program, generated: &generated, changelog: &changelog };
    contents::stage(&staging, &sources)?;
    control.depends = control::depends(&staging.root().join(contents::PROGRAM))?;
    control.write(&staging, &root)?;
    let package = directory.join(format!("forkwatch_{}_{}.deb", control.version, control.architecture));
    staging.pack(&package, epoch)?;
    Ok(package)
}

/// Seconds since 1970 that all times in the package are (<https://reproducible-builds.org/specs/source-date-epoch/>).
fn epoch() -> Result<u64> {
    let given = env::var("SOURCE_DATE_EPOCH").ok();
    let text = match given {
        Some(text) => text,
        None => project::output(
            Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(project::root()?),
        )
        .context("SOURCE_DATE_EPOCH is not set, and there is no last commit to take its time")?,
    };
    text.parse().with_context(|| format!("SOURCE_DATE_EPOCH is {text:?}, and not a number of seconds"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A package of a program that does nothing, and what dpkg says is in it.
    fn package(directory: &Path) -> (PathBuf, String) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let program = directory.join("program");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        let control = Control {
            version: "1.2.3-1".to_owned(),
            architecture: "amd64".to_owned(),
            depends: "libc6 (>= 2.34)".to_owned(),
        };
        let generated = directory.join("generated");
        for name in [
            "man/forkwatch.1",
            "completions/forkwatch.bash",
            "completions/_forkwatch",
            "completions/forkwatch.fish",
        ] {
            let path = generated.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "generated\n").unwrap();
        }
        let staging = Staging::new(directory).unwrap();
        let changelog = control.changelog(1_000_000_000).unwrap();
        let sources = Sources { root, program: &program, generated: &generated, changelog: &changelog };
        contents::stage(&staging, &sources).unwrap();
        control.write(&staging, root).unwrap();
        let package = directory.join("package.deb");
        staging.pack(&package, 1_000_000_000).unwrap();
        let mut list = Command::new("dpkg-deb");
        let contents = project::output(list.env("TZ", "UTC").arg("--contents").arg(&package)).unwrap();
        (package, contents)
    }

    #[test]
    fn a_package_holds_these_files_with_these_modes_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let (package, contents) = package(directory.path());
        // drwxr-xr-x root/root 0 2001-09-09 01:46 ./etc/
        let listed: Vec<String> = contents
            .lines()
            .map(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                format!("{} {} {} {}", columns[0], columns[1], columns[3], columns[5])
            })
            .collect();
        assert!(
            listed.iter().all(|line| line.contains(" root/root 2001-09-09 ./")),
            "owners and times: {contents}"
        );
        let files: Vec<String> = listed
            .iter()
            .filter(|line| line.starts_with('-'))
            .map(|line| line.replace(" root/root 2001-09-09 .", " "))
            .collect();
        assert_eq!(files.join("\n"), include_str!("expected_files.txt").trim_end());
        assert!(
            listed
                .iter()
                .filter(|line| !line.starts_with('-'))
                .all(|line| line.starts_with("drwxr-xr-x ") && line.ends_with('/')),
            "{contents}"
        );
        let field = |name| project::output(Command::new("dpkg-deb").arg("--field").arg(&package).arg(name));
        assert_eq!(field("Version").unwrap(), "1.2.3-1");
        assert_eq!(field("Depends").unwrap(), "libc6 (>= 2.34)");
        assert!(field("Installed-Size").unwrap().parse::<u64>().unwrap() > 100);
        let file = |name| project::output(Command::new("dpkg-deb").arg("--info").arg(&package).arg(name));
        assert_eq!(file("conffiles").unwrap(), "/etc/forkwatch/forkwatch.toml\n/etc/forkwatch/hooks.toml");
        assert_eq!(file("md5sums").unwrap().lines().count(), files.len() - 2, "all but the conffiles");
        for script in ["postinst", "prerm", "postrm"] {
            assert!(file(script).unwrap().starts_with("#!/bin/sh\n"));
        }
    }

    #[test]
    fn the_same_sources_give_the_same_package() {
        let bytes = || {
            let directory = tempfile::tempdir().unwrap();
            fs::read(package(directory.path()).0).unwrap()
        };
        assert!(bytes() == bytes());
    }
}
