//! Whose process it is, in a few words: the uid, where it runs, and what of its names is not the host's.

use crate::model::{
    process::{Program, escape},
    provenance::{Executable, Namespace, Owner, Provenance, short_container},
};

/// Whose process it is, as phrases: `uid 33`, `nginx.service`. All of it is safe for a terminal.
pub fn identity(program: &Program) -> Vec<String> {
    let uid = program.uid.map_or_else(|| "uid unknown".to_owned(), |uid| format!("uid {uid}"));
    [uid].into_iter().chain(place(program)).chain(marks(program)).collect()
}

/// Where it runs: its unit and its container, each with who named it.
fn place(program: &Program) -> Vec<String> {
    let Program { unit, container, .. } = program;
    let short = container.as_deref().map(short_container);
    // One of the two may bear the other's name before its own, and says it all.
    let within = |name: &str, other: &str| name.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
    let shown = match (unit.as_deref(), short) {
        (Some(unit), Some(container)) if within(unit, container) => vec![format!("container {unit}")],
        (Some(unit), Some(container)) if within(container, unit) => vec![format!("container {container}")],
        (unit, container) => unit
            .map(str::to_owned)
            .into_iter()
            .chain(container.map(|container| format!("container {container}")))
            .collect(),
    };
    shown.iter().map(|name| escape(name.as_bytes())).collect()
}

/// What of a program's names is not the host's; nothing for a program of the host's own, and for a container, whose
/// names are its own and which is named.
pub fn marks(program: &Program) -> Vec<String> {
    let owner = program.owner();
    if owner == Owner::Container {
        return Vec::new();
    }
    let Some(provenance) = &program.provenance else {
        let unseen = owner == Owner::User && program.cgroup.is_none();
        return if unseen { vec!["known by its comm alone".to_owned()] } else { Vec::new() };
    };
    let exe = program.exe.as_deref().map(|exe| escape(exe.as_os_str().as_encoded_bytes()));
    let runs = match (provenance.executable, exe) {
        (Executable::Other, Some(exe)) => Some(format!("not the host's {exe}")),
        (_, Some(exe)) if owner == Owner::User && !is_started_as(program) => Some(format!("runs {exe}")),
        (_, None) if owner == Owner::User => Some("executable unknown".to_owned()),
        _ => None,
    };
    namespaces(provenance).into_iter().chain(runs).collect()
}

/// Namespaces of its own, but for a mount namespace that only hides parts of the host, as services of the system have.
fn namespaces(provenance: &Provenance) -> Option<String> {
    let is_harmless = |namespace: &Namespace| {
        *namespace == Namespace::Mount
            && provenance.executable != Executable::Other
            && !provenance.is_in(Namespace::User)
    };
    let names: Vec<&str> = provenance
        .namespaces
        .iter()
        .flatten()
        .filter(|namespace| !is_harmless(namespace))
        .map(|namespace| namespace.name())
        .collect();
    match names.as_slice() {
        [] => None,
        [name] => Some(format!("own {name} namespace")),
        [first @ .., last] => Some(format!("own {} and {last} namespaces", first.join(", "))),
    }
}

/// Whether it was started by the name of its executable, so that the command line shows that already.
fn is_started_as(program: &Program) -> bool {
    let (Some(exe), first) = (program.exe.as_deref(), program.cmdline.first()) else { return true };
    first.is_none_or(|first| exe.to_str() == Some(first.as_str()))
}
