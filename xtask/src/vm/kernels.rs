//! Debian's kernels, the newest of a series.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{arch::Arch, packages::Apt, pins::FILE};
use crate::project;

/// From the oldest that still has a mirror to the one in the making.
const SUITES: [&str; 10] = [
    "bullseye",
    "bullseye-security",
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie",
    "trixie-security",
    "trixie-backports",
    "forky",
    "sid",
];
/// What the names of packages with a kernel begin with. From 6.19 on, the second has it and the first is empty.
const PREFIXES: [&str; 2] = ["linux-image-", "linux-binary-"];
/// A third of the size of the general flavour, and everything that concerns us is the same.
const CLOUD: &str = "cloud";
/// `PREEMPT_RT`: locks, and with them the layouts of structures, differ.
const REAL_TIME: &str = "rt";
/// The oldest release of all: what later ones of its series have learnt (their verifiers above all) it lacks.
pub(crate) const OLDEST: &str = "oldest";
/// Every series.
pub(crate) const NEWEST: &str = "newest";

/// All kernels of an architecture.
pub(crate) struct Archive {
    arch: Arch,
    apt: Apt,
    names: Vec<String>,
}

/// One of them.
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    /// What boots.
    pub(crate) image: PathBuf,
}

impl Archive {
    pub(crate) fn open(arch: Arch) -> Result<Self> {
        let apt = Apt::open("kernels", arch.debian(), &SUITES)?;
        let mut names = Vec::new();
        for prefix in PREFIXES {
            names.extend(apt.names(prefix)?);
        }
        Ok(Self { arch, apt, names })
    }

    /// The newest of a series (6.12), of a series' real-time flavour (6.12-rt), or of all (newest); or the oldest; or the
    /// very release (7.2.12+deb13-cloud-amd64).
    pub(crate) fn find(&self, series: &str) -> Result<Kernel> {
        if PREFIXES.iter().any(|prefix| self.names.contains(&[prefix, series].concat())) {
            return self.kernel(series);
        }
        let cloud = self.flavour(CLOUD);
        let releases = match series.strip_suffix("-rt") {
            Some(series) => releases(&self.names, series, &self.flavour(REAL_TIME)),
            None if series == OLDEST => releases(&self.names, NEWEST, &cloud).into_iter().rev().collect(),
            None => releases(&self.names, series, &cloud),
        };
        if releases.is_empty() {
            bail!("Debian's archive has no kernel of the series {series} for {}", self.arch.debian());
        }
        let mut failure = None;
        // An archive's index may name what its pool no longer holds, so the next one is tried.
        for release in releases {
            match self.kernel(release) {
                Ok(kernel) => return Ok(kernel),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or_else(|| bail!("no kernel was tried"), Err)
    }

    /// A release that `tests/kernels.toml` names. Where the archive has it no longer, the newest of its series.
    pub(crate) fn pinned(&self, release: &str) -> Result<Kernel> {
        let why = match self.kernel(release) {
            Ok(kernel) => return Ok(kernel),
            Err(why) => why,
        };
        let series = series_of(release);
        let kernel = self.find(&series).with_context(|| {
            format!(
                "{release} cannot be fetched ({why:#}), and nothing of its series: write another into {FILE}"
            )
        })?;
        println!(
            "{release} cannot be fetched ({why:#}); {} is booted instead: write it into {FILE}",
            kernel.release
        );
        Ok(kernel)
    }

    /// The newest release, where it is newer than this one.
    pub(crate) fn newer_than(&self, release: &str) -> Option<&str> {
        let cloud = self.flavour(CLOUD);
        let newest = releases(&self.names, NEWEST, &cloud).into_iter().next()?;
        (numbers(newest) > numbers(release)).then_some(newest)
    }

    /// All releases that the archive names, oldest first. Its pool may lack some.
    pub(crate) fn all(&self) -> Vec<&str> {
        let flavours = [CLOUD, REAL_TIME].map(|flavour| self.flavour(flavour));
        let mut all: Vec<&str> =
            flavours.iter().flat_map(|flavour| releases(&self.names, NEWEST, flavour)).collect();
        all.sort_by_key(|release| numbers(release));
        all
    }

    /// One release, fetched unless it is there.
    pub(crate) fn kernel(&self, release: &str) -> Result<Kernel> {
        let directory = project::cache()?.join("vm/kernels").join(release);
        let image = directory.join("vmlinuz");
        // The archive may have dropped it since it was fetched.
        if image.is_file() {
            return Ok(Kernel { release: release.to_owned(), image });
        }
        let packages = PREFIXES.map(|prefix| format!("{prefix}{release}"));
        let package = packages.iter().rev().find(|package| self.names.contains(package));
        let package = package.context("the archive does not have it")?;
        self.apt.provide(package, false, &directory, |unpacked| keep_only_the_image(unpacked, release))?;
        Ok(Kernel { release: release.to_owned(), image })
    }

    /// What the names of a flavour's releases end with.
    fn flavour(&self, name: &str) -> String {
        format!("-{name}-{}", self.arch.debian())
    }
}

/// Finds the image, and drops the modules, which nobody loads.
fn keep_only_the_image(directory: &Path, release: &str) -> Result<()> {
    // The second from 7.2 on.
    let places = [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
    let image = places.iter().map(|place| directory.join(place)).find(|path| path.is_file());
    let image = image.with_context(|| format!("the package of {release} has no kernel in it"))?;
    fs::rename(image, directory.join("vmlinuz"))?;
    for part in ["boot", "lib", "usr"] {
        let path = directory.join(part);
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// The releases of a series and flavour that have a package, newest first.
fn releases<'a>(names: &'a [String], series: &str, flavour: &str) -> Vec<&'a str> {
    let release = |name: &'a String| {
        let release = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
        let version = release.strip_suffix(flavour)?;
        let of_series = series == NEWEST
            || version
                .strip_prefix(series)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()));
        // `linux-image-cloud-amd64` and the like only depend on others.
        (of_series && version.matches('.').count() >= 2 && version.starts_with(|c: char| c.is_ascii_digit()))
            .then_some(release)
    };
    let mut releases: Vec<&str> = names.iter().filter_map(release).collect();
    releases.sort_by_key(|release| std::cmp::Reverse(numbers(release)));
    releases.dedup();
    releases
}

/// `7.2` of `7.2.13+deb14-cloud-amd64`.
pub(crate) fn series_of(release: &str) -> String {
    release.split('.').take(2).collect::<Vec<_>>().join(".")
}

/// All numbers in a release, in their order.
pub(crate) fn numbers(release: &str) -> Vec<u64> {
    release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_comes_first() {
        let names = [
            "linux-image-6.12.9+deb13-cloud-amd64",
            "linux-image-6.12.107+deb12-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64",
            "linux-image-6.12.107+deb13-cloud-amd64-unsigned",
            "linux-image-6.12.107+deb13-amd64",
            "linux-image-6.12.107+deb13-rt-amd64",
            "linux-image-6.12.90+deb13-rt-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-7.2.13+deb14-cloud-amd64",
            "linux-binary-7.2.13+deb14-cloud-amd64",
            "linux-binary-unsigned-7.2.13+deb14-cloud-amd64",
            "linux-image-cloud-amd64",
        ]
        .map(str::to_owned);
        let releases = |series| releases(&names, series, "-cloud-amd64");
        let found = releases("6.12");
        assert_eq!(
            found,
            ["6.12.107+deb13-cloud-amd64", "6.12.107+deb12-cloud-amd64", "6.12.9+deb13-cloud-amd64"]
        );
        assert_eq!(releases("6.1"), ["6.1.0-56-cloud-amd64"]);
        assert_eq!(releases(NEWEST).first(), Some(&"7.2.13+deb14-cloud-amd64"));
        assert!(releases("4.19").is_empty());
        let real_time = super::releases(&names, "6.12", "-rt-amd64");
        assert_eq!(real_time, ["6.12.107+deb13-rt-amd64", "6.12.90+deb13-rt-amd64"]);
    }
}
