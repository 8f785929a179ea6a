//! The one piece of code that switches probes on and off. To attach what is loaded needs no privilege.

use std::collections::HashSet;

use aya::{Ebpf, programs::links::FdLink};

use super::{
    attach,
    error::KernelError,
    probes::{Probe, Row, TABLE, Way, When},
    ways::{NoProbe, Probes},
};
use crate::{model::kernel_log, release::Release};

/// Who has a probe switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// A process, by tgid.
    Process(u32),
    /// A socket, by inode number.
    Socket(u64),
    /// The watch itself, for as long as it lasts.
    Watch,
}

/// The probes of a loaded object, each on while somebody asks for it.
pub(super) struct Switch {
    probes: Probes,
    rows: Vec<Switched>,
}

/// What stands of a row.
#[derive(Default)]
struct Switched {
    /// Who asks: the kernel side takes children into its table by itself.
    askers: HashSet<Asker>,
    /// Dropping one detaches it.
    links: Vec<FdLink>,
}

impl Switch {
    pub(super) fn new(probes: Probes) -> Self {
        Self { probes, rows: TABLE.iter().map(|_| Switched::default()).collect() }
    }

    pub(super) const fn probes(&self) -> &Probes {
        &self.probes
    }

    /// The same, to be changed before anything is switched on.
    pub(super) const fn probes_mut(&mut self) -> &mut Probes {
        &mut self.probes
    }

    /// Switches on what is on from the start where the kernel has a way: `first` those programs that must be attached
    /// before all others, else the others. To be called twice.
    pub(super) fn on_from_start(&mut self, ebpf: &mut Ebpf, first: bool) {
        for row in TABLE.iter().filter(|row| row.when == When::Optional) {
            let Ok(way) = self.probes.way(row.probe) else { continue };
            let Some((last, others)) = way.programs.split_last() else { continue };
            let programs = if first { others } else { std::slice::from_ref(last) };
            match programs
                .iter()
                .map(|program| attach::attach_on_demand(ebpf, *program))
                .collect::<Result<Vec<_>, _>>()
            {
                Ok(links) => self.change(row.probe, |switched| {
                    switched.askers.insert(Asker::Watch);
                    switched.links.extend(links);
                }),
                Err(error) => {
                    tracing::warn!(%error, "what this program reports is not watched on this kernel");
                    self.detach(row.probe);
                    self.probes.forget(row.probe, NoProbe::refused(last.name, &error));
                }
            }
        }
    }

    /// Switches a probe on for somebody, and forgets it where the kernel refuses.
    pub(super) fn on(&mut self, ebpf: &mut Ebpf, probe: Probe, asker: Asker) {
        self.attach(ebpf, probe);
        self.change(probe, |switched| {
            switched.askers.insert(asker);
        });
    }

    /// Takes that back.
    pub(super) fn off(&mut self, probe: Probe, asker: Asker) {
        self.change(probe, |switched| {
            switched.askers.remove(&asker);
        });
    }

    /// Attaches all that is attached on demand, unless it is.
    pub(super) fn try_all(&mut self, ebpf: &mut Ebpf) {
        for row in TABLE.iter().filter(|row| row.when == When::OnDemand { beside: None }) {
            self.attach(ebpf, row.probe);
        }
    }

    /// Detaches what nobody asks for any more. Gives those that were attached until now: what the kernel side has
    /// entered in their tables by itself can be taken out.
    pub(super) fn detach_idle(&mut self) -> Vec<Probe> {
        let idle = |switched: &Switched| switched.askers.is_empty() && !switched.links.is_empty();
        let rows = TABLE
            .iter()
            .zip(&self.rows)
            .filter(|(row, switched)| row.when == When::OnDemand { beside: None } && idle(switched));
        let idle: Vec<Probe> = rows.map(|(row, _)| row.probe).collect();
        for probe in &idle {
            // What stays attached finds its tables empty.
            if self.can_attach_again(*probe) {
                self.detach(*probe);
            }
        }
        idle
    }

    /// Forgets a probe that was tried and reported something else than what happened.
    pub(super) fn distrust(&mut self, probe: Probe, why: String) {
        tracing::warn!(
            why,
            "{} cannot be watched on this kernel: what was tried at the start came out wrong",
            words(probe)
        );
        self.probes.forget(probe, NoProbe::Untrue(why));
        self.detach(probe);
    }

    /// Forgets a probe whose program the kernel refuses.
    pub(super) fn refuse(&mut self, probe: Probe, program: &'static str, error: &KernelError) {
        self.probes.forget(probe, NoProbe::refused(program, error));
    }

    /// Attaches a probe, and what goes beside it, unless it is attached.
    fn attach(&mut self, ebpf: &mut Ebpf, probe: Probe) {
        let is_attached = self.row(probe).is_some_and(|switched| !switched.links.is_empty());
        if is_attached || !self.attach_one(ebpf, probe) {
            return;
        }
        for row in beside(probe) {
            self.attach_one(ebpf, row.probe);
        }
    }

    /// Attaches all programs of a probe, or none; forgets it where the kernel refuses. Tells whether it is attached.
    fn attach_one(&mut self, ebpf: &mut Ebpf, probe: Probe) -> bool {
        let Ok(way) = self.probes.way(probe) else { return false };
        let mut links = Vec::new();
        for program in way.programs {
            match attach::attach_on_demand(ebpf, *program) {
                Ok(link) => links.push(link),
                Err(error) => {
                    tracing::warn!(%error, "what this program reports is not watched on this kernel");
                    self.probes.forget(probe, NoProbe::refused(program.name, &error));
                    return false;
                }
            }
        }
        tracing::debug!(target: kernel_log::TARGET, "switched on: {}", words(probe));
        self.change(probe, |switched| switched.links = links);
        true
    }

    fn detach(&mut self, probe: Probe) {
        let probes = beside(probe).map(|row| row.probe).chain([probe]);
        for probe in probes {
            self.change(probe, |switched| switched.links.clear());
        }
        tracing::debug!(target: kernel_log::TARGET, "switched off: {}", words(probe));
    }

    /// Whether a probe, and what goes beside it, can be attached again once it was detached: before Linux 5.13 (commit
    /// f3a95075549e) a program at a function cannot.
    fn can_attach_again(&self, probe: Probe) -> bool {
        const REATTACH: Release = Release(5, 13);
        let mut probes = beside(probe).map(|row| row.probe).chain([probe]);
        Release::running() >= REATTACH
            || !probes.any(|probe| self.probes.way(probe).is_ok_and(Way::uses_functions))
    }

    fn row(&self, probe: Probe) -> Option<&Switched> {
        TABLE.iter().zip(&self.rows).find(|(row, _)| row.probe == probe).map(|(_, switched)| switched)
    }

    fn change(&mut self, probe: Probe, change: impl FnOnce(&mut Switched)) {
        let found = TABLE.iter().zip(&mut self.rows).find(|(row, _)| row.probe == probe);
        if let Some((_, switched)) = found {
            change(switched);
        }
    }
}

/// What a probe tells, in words.
fn words(probe: Probe) -> &'static str {
    TABLE.iter().find(|row| row.probe == probe).map_or("this", |row| row.tells)
}

/// The rows that are attached beside that of another probe.
fn beside(probe: Probe) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(move |row| row.when == When::OnDemand { beside: Some(probe) })
}
