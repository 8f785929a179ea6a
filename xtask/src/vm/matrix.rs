//! Every kernel in every way it is to be booted, as many at once as there are processors for.

use std::{
    num::NonZero,
    path::PathBuf,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::{
    Lockdown, Options,
    attempt::{self, indented},
    guest, initramfs,
    kernels::{Archive, Kernel, NEWEST, OLDEST, series_of},
    machine::{Emulator, Setup},
    pins::Pins,
    report::{Outcome, Report},
};

const MEMORY: &str = "512M";
/// A boot takes some seconds on an idle host, and no test more than ten.
const PATIENCE: Duration = Duration::from_secs(300);

/// What boots.
pub(crate) struct Matrix<'a> {
    options: &'a Options,
    emulator: Emulator,
    initramfs: PathBuf,
    /// With the name of its column.
    kernels: Vec<(String, Kernel)>,
    /// Pinned ones that cannot be had, and why.
    pub(crate) absent: Vec<String>,
}

/// What came of a boot.
pub(crate) struct Boot {
    pub(crate) column: String,
    pub(crate) release: String,
    pub(crate) lockdown: Lockdown,
    pub(crate) report: Report,
}

impl<'a> Matrix<'a> {
    /// Builds and fetches all of it.
    pub(crate) fn prepare(options: &'a Options, archive: &Archive) -> Result<Self> {
        let programs = guest::build(options.arch)?;
        let mut absent = Vec::new();
        Ok(Self {
            options,
            emulator: Emulator::provide(options.arch)?,
            initramfs: initramfs::build(options.arch, &programs)?,
            kernels: if options.pinned { pinned(archive, &mut absent)? } else { kernels(options, archive)? },
            absent,
        })
    }

    /// What is booted, in the order of the tables. Unless levels are asked for, each kernel as it is, and the oldest
    /// and the newest locked down as well: what a lockdown forbids has changed little between them.
    fn all(&self) -> Vec<(&str, &Kernel, Lockdown)> {
        let level = |lockdown: &Lockdown| {
            let ends = self.options.lockdown.is_empty() && *lockdown != Lockdown::None;
            let last = self.kernels.len().saturating_sub(1);
            let kernels = self.kernels.iter().enumerate();
            let chosen = kernels.filter(move |(index, _)| !ends || *index == 0 || *index == last);
            let lockdown = *lockdown;
            chosen.map(move |(_, (column, kernel))| (column.as_str(), kernel, lockdown))
        };
        let levels = &self.options.lockdown;
        let levels = if levels.is_empty() { &Lockdown::ALL[..] } else { levels };
        levels.iter().flat_map(level).collect()
    }

    /// Boots all, and says of each how it went as soon as it is known.
    pub(crate) fn run(&self) -> Result<Vec<Boot>> {
        let all = self.all();
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let at_once = (processors / usize::try_from(self.options.cpus.max(1))?).max(1);
        let next = Mutex::new(all.iter().enumerate());
        let mut boots = thread::scope(|scope| {
            let worker = || {
                let mut done = Vec::new();
                loop {
                    // A statement of its own, so that the lock is not held through the boot.
                    let job = next.lock().map_err(|_| anyhow!("another machine's thread panicked"))?.next();
                    let Some((index, (column, kernel, lockdown))) = job else { return anyhow::Ok(done) };
                    done.push((index, self.boot(column, kernel, *lockdown)?));
                }
            };
            let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().try_fold(Vec::new(), |mut boots, worker| {
                boots.extend(worker.join().map_err(|_| anyhow!("a machine's thread panicked"))??);
                anyhow::Ok(boots)
            })
        })?;
        boots.sort_by_key(|(index, _)| *index);
        Ok(boots.into_iter().map(|(_, boot)| boot).collect())
    }

    fn boot(&self, column: &str, kernel: &Kernel, lockdown: Lockdown) -> Result<Boot> {
        let append = [lockdown.word(), &self.options.append].join(" ");
        let setup = Setup {
            kernel: &kernel.image,
            initramfs: &self.initramfs,
            append: append.trim(),
            cpus: self.options.cpus,
            memory: MEMORY,
            patience: PATIENCE,
        };
        let start = Instant::now();
        let name = format!("{} {append}", kernel.release);
        let (report, console) = attempt::boot(&self.emulator, &setup, name.trim())?;
        println!("{}", outcome(kernel, append.trim(), &report, start.elapsed()));
        if self.options.console || !report.is_success() {
            println!("{}", indented(&console));
        }
        let (column, release) = (column.to_owned(), kernel.release.clone());
        Ok(Boot { column, release, lockdown, report })
    }
}

/// Those of `tests/kernels.toml`.
fn pinned(archive: &Archive, absent: &mut Vec<String>) -> Result<Vec<(String, Kernel)>> {
    let mut kernels = Vec::new();
    for release in Pins::read()?.kernels {
        match archive.pinned(&release) {
            Ok(kernel) => kernels.push((short(&kernel.release), kernel)),
            // What cannot be fetched cannot be tested, which is told and no failure.
            Err(why) => absent.push(format!("forkwatch on {release}: {why:#}")),
        }
    }
    Ok(kernels)
}

/// The kernels asked for.
fn kernels(options: &Options, archive: &Archive) -> Result<Vec<(String, Kernel)>> {
    if options.all {
        let (named, mut kernels, mut why) = (archive.all(), Vec::new(), None);
        for release in &named {
            match archive.kernel(release) {
                Ok(kernel) => kernels.push((short(release), kernel)),
                Err(error) => why = why.or(Some(error)),
            }
        }
        if let Some(why) = why {
            let missing = named.len() - kernels.len();
            println!(
                "{missing} of the {} kernels that the archive names are not in it, such as: {why:#}",
                named.len()
            );
        }
        return Ok(kernels);
    }
    let asked: Vec<&str> = match options.kernels.as_slice() {
        [] => options.arch.series().to_vec(),
        asked => asked.iter().map(String::as_str).collect(),
    };
    let kernel = |series: &str| {
        let kernel = archive.find(series)?;
        let column = match series {
            OLDEST => short(&kernel.release),
            NEWEST => series_of(&kernel.release),
            series => series.to_owned(),
        };
        Ok((column, kernel))
    };
    asked.into_iter().map(kernel).collect()
}

/// A release without what all have: `6.12.107+deb13-rt`.
fn short(release: &str) -> String {
    let short = release.rsplit_once('-').map_or(release, |(rest, _)| rest);
    short.trim_end_matches("-cloud").to_owned()
}

/// How it went, in a line, and a line for each failure.
fn outcome(kernel: &Kernel, append: &str, report: &Report, took: Duration) -> String {
    let [passed, failed, skipped] =
        [Outcome::Passed, Outcome::Failed, Outcome::Skipped].map(|outcome| report.count(outcome));
    let mut lines = vec![format!(
        "{} {append}: {passed} passed, {failed} failed, {skipped} skipped ({:.1} s)",
        kernel.release,
        took.as_secs_f64()
    )];
    lines.extend(report.complaint().map(|complaint| format!("  {complaint}")));
    let failures = report.tests.iter().filter(|test| test.outcome == Outcome::Failed);
    lines.extend(failures.map(|test| format!("  {}: {}", test.name, test.remark)));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_shortly() {
        assert_eq!(short("6.12.107+deb13-cloud-amd64"), "6.12.107+deb13");
        assert_eq!(short("6.12.107+deb13-rt-amd64"), "6.12.107+deb13-rt");
        assert_eq!(series_of("7.2.13+deb14-cloud-amd64"), "7.2");
    }
}
