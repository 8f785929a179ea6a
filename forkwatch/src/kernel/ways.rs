//! The way that this kernel has for each row of the table of probes. Its programs are loaded at the start, while there is
//! the privilege for that.

use aya::{Btf as AyaBtf, Ebpf};

use super::{
    attach::{self, Programs},
    btf::{Btf, Kind},
    error::KernelError,
    probes::{Place, Probe, Program, Row, TABLE, Way, When},
};

/// Why a probe cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoProbe {
    /// Nobody has asked for it.
    #[error("not asked for")]
    NotAsked,
    /// There is no such place.
    #[error("this kernel has no {0}")]
    Absent(String),
    /// What the program reads is not where it could be found.
    #[error("this kernel's structures are not as forkwatch knows them")]
    Fields,
    /// It would cost the start too much.
    #[error("to find its function among this kernel's types would delay every start")]
    Dear,
    /// It was tried at the start, and what came was not so.
    #[error("tried at the start, {0}: this kernel tells it in a way that forkwatch does not know")]
    Untrue(String),
    /// The kernel does not take the program.
    #[error("this kernel refuses the program {program}: {reason}")]
    Refused {
        /// The name of the eBPF program.
        program: &'static str,
        /// Why, as a sentence without a full stop.
        reason: String,
    },
}

impl NoProbe {
    /// Of a program of many, what the kernel said is enough: what all of them need was there.
    pub(super) fn refused(program: &'static str, error: &KernelError) -> Self {
        let reason = match error {
            KernelError::Privilege { error, .. } | KernelError::LockedMemory { error, .. } => {
                error.to_string()
            }
            KernelError::Verifier { error, reason, .. } => format!("{error}: {}", complaint(reason)),
            error => error.to_string(),
        };
        Self::Refused { program, reason }
    }
}

/// The way that this kernel has for each probe, as far as that is known: a program that was loaded may be refused when
/// it is first attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probes(Vec<Result<&'static Way, NoProbe>>);

impl Probes {
    /// All of them, each by the first way.
    pub fn all() -> Self {
        Self(TABLE.iter().map(|row| row.ways.first().ok_or(NoProbe::NotAsked)).collect())
    }

    /// How a probe is had.
    pub fn way(&self, probe: Probe) -> Result<&'static Way, &NoProbe> {
        let found = TABLE.iter().zip(&self.0).find(|(row, _)| row.probe == probe);
        found.map_or(Err(&NoProbe::NotAsked), |(_, way)| way.as_ref().copied())
    }

    /// The same without one of them.
    #[must_use]
    pub fn without(mut self, probe: Probe, why: NoProbe) -> Self {
        self.forget(probe, why);
        self
    }

    pub(super) fn forget(&mut self, probe: Probe, why: NoProbe) {
        self.set(probe, Err(why));
    }

    fn set(&mut self, probe: Probe, way: Result<&'static Way, NoProbe>) {
        let place = TABLE.iter().position(|row| row.probe == probe);
        if let Some(known) = place.and_then(|place| self.0.get_mut(place)) {
            *known = way;
        }
    }

    /// What the kernel's types promise. `has` tells whether the places of all these globals are known; `asked` are the
    /// probes that are on where they are asked for.
    ///
    /// Functions stand at the end of the types. To look that far, and to have aya know the ids up to there, takes
    /// some 5 ms and 15 MB: done where a probe is not to be had by tracepoints and can be by functions, or they are
    /// looked for anyway, and not for the rare shutdown(2) of a Unix stream alone.
    pub(super) fn find(types: &Btf<'_>, has: impl Fn(&[&str]) -> bool, asked: &[Probe]) -> Self {
        // All at once: each look takes a pass over the types.
        let mut absent =
            missing(types, places(|place| matches!(place, Place::Tracepoint(_) | Place::Pass(_))));
        let lacks_tracepoints = TABLE.iter().filter(|row| is_loaded_only(row)).any(|row| {
            let mut places = row.ways.first().into_iter().flat_map(|way| way.programs);
            row.ways.iter().any(Way::uses_functions) && places.any(|program| absent.contains(&program.place))
        });
        let of_asked = TABLE.iter().filter(|row| asked.contains(&row.probe));
        let asked_functions = of_asked.flat_map(|row| row.ways).flat_map(|way| way.programs);
        let functions = lacks_tracepoints
            || asked_functions
                .filter_map(|program| program.place.function())
                .any(|function| types.has_function(function));
        if functions {
            absent.extend(missing(types, places(|place| place.function().is_some())));
        }
        let mut probes = Self(vec![Err(NoProbe::NotAsked); TABLE.len()]);
        for row in TABLE {
            let found = match row.when {
                When::OnRequest { .. } | When::Optional if !asked.contains(&row.probe) => {
                    Err(NoProbe::NotAsked)
                }
                When::OnDemand { beside: Some(other) } => match probes.way(other) {
                    Ok(_) => choose(row, types, &has, &absent, functions),
                    Err(why) => Err(why.clone()),
                },
                _ => choose(row, types, &has, &absent, functions),
            };
            probes.set(row.probe, found);
        }
        probes
    }

    /// The names of all tracepoints, and those of all functions, that loading asks for.
    pub(super) fn names(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let (mut tracepoints, mut functions) = (Vec::new(), Vec::new());
        let ways = self.0.iter().filter_map(|way| way.as_ref().ok());
        for program in ways.flat_map(|way| way.programs) {
            match program.place {
                Place::Tracepoint(name) => tracepoints.push(name),
                Place::Entry(name) | Place::Exit(name) | Place::Pass(name) => {
                    if !functions.contains(&name) {
                        functions.push(name);
                    }
                }
                Place::SystemCalls(_) => {}
            }
        }
        (tracepoints, functions)
    }

    /// Loads what is attached on demand; forgets what the kernel does not take.
    pub(super) fn load(&mut self, loadable: &mut Programs<'_>, ids: &AyaBtf) {
        for row in TABLE.iter().filter(|row| is_loaded_only(row)) {
            let Ok(first) = self.way(row.probe) else { continue };
            let mut load = |way: &'static Way| load_all(loadable, way.programs, ids).map(|()| way);
            // Of several refusals the first is told.
            let loaded = load(first)
                .or_else(|why| with_spares(row, first).skip(1).find_map(|way| load(way).ok()).ok_or(why));
            self.set(row.probe, loaded);
        }
    }

    /// Loads and attaches what is on where it was asked for: by the first way that the kernel lets us have.
    pub(super) fn attach_asked(&mut self, ebpf: &mut Ebpf, ids: &AyaBtf) -> Result<(), KernelError> {
        for row in TABLE.iter().filter(|row| matches!(row.when, When::OnRequest { .. })) {
            let Ok(way) = self.way(row.probe) else { continue };
            let mut refused = None;
            for way in with_spares(row, way) {
                let result = way.programs.iter().try_for_each(|program| {
                    attach::load_program(&mut Programs::all(ebpf), *program, ids)?;
                    attach::attach(ebpf, *program)
                });
                let Err(error) = result else {
                    self.set(row.probe, Ok(way));
                    refused = None;
                    break;
                };
                tracing::debug!(%error, by = way.words, "this kernel refuses one way to attach a probe");
                refused = Some(error);
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Whether its programs are loaded at the start where the kernel takes them, and attached or read later.
fn is_loaded_only(row: &Row) -> bool {
    matches!(row.when, When::Optional | When::OnDemand { .. } | When::OnRead)
}

/// A way of a row, and those for a kernel that refuses it.
fn with_spares(row: &Row, way: &'static Way) -> impl Iterator<Item = &'static Way> {
    let behind = row.ways.iter().skip_while(move |other| *other != way);
    behind.enumerate().filter(|(at, way)| *at == 0 || way.spare).map(|(_, way)| way)
}

/// The places of this kind in all ways.
fn places(is_wanted: impl Fn(&Place) -> bool) -> Vec<Place> {
    let rows = TABLE.iter().filter(|row| is_loaded_only(row));
    let programs = rows.flat_map(|row| row.ways).flat_map(|way| way.programs);
    programs.map(|program| program.place).filter(is_wanted).collect()
}

/// The first way whose places are there, and whose fields are known; or why there is none: what the last lacks that was
/// looked for.
fn choose(
    row: &Row,
    types: &Btf<'_>,
    has: impl Fn(&[&str]) -> bool,
    absent: &[Place],
    functions: bool,
) -> Result<&'static Way, NoProbe> {
    let mut why = NoProbe::Dear;
    for way in row.ways {
        if way.uses_functions() && !functions && is_loaded_only(row) {
            continue;
        }
        let lacking =
            way.programs.iter().map(|program| program.place).find(|place| lacks(types, row, absent, *place));
        why = if let Some(place) = lacking {
            NoProbe::Absent(place.to_string())
        } else if !way.fields.iter().any(|fields| has(fields)) {
            NoProbe::Fields
        } else if way.form.is_some_and(|(function, arguments)| !is_of_form(types, function, arguments)) {
            NoProbe::Absent(format!(
                "{} of a known form",
                Place::Exit(way.form.map_or("", |(function, _)| function))
            ))
        } else {
            return Ok(way);
        };
    }
    Err(why)
}

fn lacks(types: &Btf<'_>, row: &Row, absent: &[Place], place: Place) -> bool {
    match row.when {
        // Where it is not there, nothing can be watched, and the load says so.
        When::Always => false,
        When::Optional | When::OnDemand { .. } | When::OnRead => absent.contains(&place),
        When::OnRequest { .. } => place.function().is_some_and(|function| !types.has_function(function)),
    }
}

/// Whether a function has so many arguments.
fn is_of_form(types: &Btf<'_>, function: &str, arguments: usize) -> bool {
    let function = types.find(Kind::Function, function);
    function.and_then(|function| types.arguments(function).ok()) == Some(arguments)
}

/// The places that the kernel does not describe.
fn missing(types: &Btf<'_>, places: Vec<Place>) -> Vec<Place> {
    let names: Vec<_> = places
        .iter()
        .map(|place| match place {
            Place::Tracepoint(name) => (Kind::Typedef, format!("btf_trace_{name}")),
            Place::Entry(name) | Place::Exit(name) | Place::Pass(name) | Place::SystemCalls(name) => {
                (Kind::Function, (*name).to_owned())
            }
        })
        .collect();
    let wanted: Vec<_> = names.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    let found = types.find_all(&wanted).into_iter().zip(places);
    found.filter(|(id, _)| id.is_none()).map(|(_, place)| place).collect()
}

fn load_all(loadable: &mut Programs<'_>, programs: &[Program], ids: &AyaBtf) -> Result<(), NoProbe> {
    programs.iter().try_for_each(|program| {
        attach::load_program(loadable, *program, ids).map_err(|error| {
            tracing::debug!(%error, "a program that is attached on demand is not loaded");
            NoProbe::refused(program.name, &error)
        })
    })
}

/// The verifier's last word before its statistics.
fn complaint(log: &str) -> &str {
    const STATISTICS: [&str; 5] =
        ["processed ", "insns processed ", "verification time ", "stack depth ", "mark_precise"];
    let is_statistics = |line: &&str| STATISTICS.iter().any(|start| line.starts_with(start));
    log.lines().rev().find(|line| !is_statistics(line)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
