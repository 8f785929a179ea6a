//! What a package says about itself (deb-control(5), deb-changelog(5)).

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use super::{contents::CONFFILES, staging::Staging};
use crate::project;

/// Run by dpkg (deb-postinst(5) and so on); they lie in `dist/debian`.
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

/// What is not the same for every build.
pub(super) struct Control {
    pub(super) version: String,
    pub(super) architecture: String,
    /// Packages with the shared libraries that the program is linked with.
    pub(super) depends: String,
}

/// A version of Cargo's in Debian's words: a pre-release comes before its release only behind a tilde, and what is
/// packed is upstream's release in its first packaging.
pub(super) fn debian_version(version: &str) -> String {
    format!("{}-1", version.replacen('-', "~", 1).replace('-', "."))
}

/// The packages with the libraries that a program is linked with, by the lists of symbols that they bring.
pub(super) fn depends(program: &Path) -> Result<String> {
    // dpkg-shlibdeps(1) wants to run in a source package.
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    fs::create_dir(directory.path().join("debian"))?;
    fs::write(
        directory.path().join("debian/control"),
        "Source: forkwatch\n\nPackage: forkwatch\nArchitecture: any\n",
    )?;
    let found = project::output(
        Command::new("dpkg-shlibdeps").current_dir(directory.path()).arg("-O").arg("-e").arg(program),
    )?;
    let depends = found.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    Ok(depends.with_context(|| format!("dpkg-shlibdeps found nothing: {found:?}"))?.to_owned())
}

impl Control {
    /// Debian's changelog: that of the packaging, which is the release's.
    pub(super) fn changelog(&self, epoch: u64) -> Result<String> {
        let date = project::output(
            Command::new("date")
                .env("LC_ALL", "C")
                .args(["--utc", "--rfc-email", "--date"])
                .arg(format!("@{epoch}")),
        )?;
        Ok(format!(
            "forkwatch ({}) unstable; urgency=medium\n\n  \
             * Package of this release. What has changed is in changelog.gz.\n\n \
             -- The forkwatch contributors <forkwatch@users.noreply.github.com>  {date}\n",
            self.version
        ))
    }

    /// Writes all that dpkg wants to know. The files must be in their places.
    pub(super) fn write(&self, staging: &Staging, root: &Path) -> Result<()> {
        let debian = root.join("dist/debian");
        let read = |name: &str| {
            let path = debian.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        let Self { version, architecture, depends } = self;
        let size = staging.installed_size()?;
        let control = format!(
            "{}Version: {version}\nArchitecture: {architecture}\nDepends: {depends}\nInstalled-Size: {size}\n",
            read("control")?
        );
        staging.about("control", &control, 0o644)?;
        let conffiles = CONFFILES.map(|file| ["/", file, "\n"].concat()).concat();
        staging.about("conffiles", &conffiles, 0o644)?;
        let files = staging.files()?;
        let sums = project::output(Command::new("md5sum").current_dir(staging.root()).args(
            files.iter().filter(|file| !CONFFILES.iter().any(|conffile| Path::new(conffile) == *file)),
        ))?;
        staging.about("md5sums", &(sums + "\n"), 0o644)?;
        for script in SCRIPTS {
            staging.about(script, &read(script)?, 0o755)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_sorts_as_debian_sorts() {
        assert_eq!(debian_version("0.1.0"), "0.1.0-1");
        assert_eq!(debian_version("1.0.0-rc.1"), "1.0.0~rc.1-1");
        assert_eq!(debian_version("1.0.0-rc-2"), "1.0.0~rc.2-1");
    }

    #[test]
    fn the_changelog_is_as_dpkg_reads_it() {
        let control =
            Control { version: "1.2-1".to_owned(), architecture: String::new(), depends: String::new() };
        let text = control.changelog(0).unwrap();
        assert!(text.starts_with("forkwatch (1.2-1) unstable; urgency=medium\n\n  * "), "{text}");
        assert!(text.ends_with(">  Thu, 01 Jan 1970 00:00:00 +0000\n"), "{text}");
    }
}
