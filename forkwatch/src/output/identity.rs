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
    // A service may start users' programs, so that only root's own may call themselves otherwise without a word.
    let is_told = owner == Owner::User || program.uid != Some(0) && !program.runs_file_of_root();
    let exe = program.exe.as_deref().map(|exe| escape(exe.as_os_str().as_encoded_bytes()));
    let runs = match (provenance.executable, exe) {
        (Executable::Other, Some(exe)) => Some(format!("not the host's {exe}")),
        (_, Some(exe)) if is_told && !is_started_as(program) => Some(format!("runs {exe}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn program(uid: u32, unit: Option<&str>, exe: &str, first: &str) -> Program {
        Program {
            comm: "nginx".into(),
            exe: Some(exe.into()),
            cmdline: vec![first.to_owned()],
            unit: unit.map(str::to_owned),
            cgroup: unit.map(|unit| format!("/system.slice/{unit}")),
            uid: Some(uid),
            provenance: Some(Provenance {
                namespaces: Some(Vec::new()),
                executable: Executable::Host,
                login: None,
            }),
            ..Program::default()
        }
    }

    fn with(program: &Program, namespaces: &[Namespace], executable: Executable) -> Program {
        let provenance = Provenance { namespaces: Some(namespaces.to_vec()), executable, login: None };
        Program { provenance: Some(provenance), ..program.clone() }
    }

    fn told(program: &Program) -> String {
        identity(program).join(", ")
    }

    #[test]
    fn a_service_of_the_system_costs_no_more_than_its_uid() {
        let nginx = program(33, Some("nginx.service"), "/usr/sbin/nginx", "nginx: worker process");
        assert_eq!(told(&nginx), "uid 33, nginx.service");
        assert_eq!(told(&with(&nginx, &[Namespace::Mount], Executable::Host)), "uid 33, nginx.service");
        let own = program(999, Some("app.service"), "/opt/app/server", "/opt/app/server");
        assert_eq!(told(&own), "uid 999, app.service");
        assert_eq!(told(&program(0, None, "/root/x", "y")), "uid 0");
    }

    #[test]
    fn a_service_that_starts_a_users_program_does_not_lend_it_a_name() {
        let hosted = program(1001, Some("php-fpm.service"), "/home/alice/nginx", "/usr/sbin/nginx");
        assert_eq!(told(&hosted), "uid 1001, php-fpm.service, runs /home/alice/nginx");
    }

    #[test]
    fn what_is_not_the_hosts_is_said() {
        let user = program(1000, None, "/usr/sbin/nginx", "nginx");
        assert_eq!(told(&user), "uid 1000, runs /usr/sbin/nginx");
        let all = with(&user, &Namespace::ALL, Executable::Other);
        assert_eq!(
            told(&all),
            "uid 1000, own user, mount and pid namespaces, not the host's /usr/sbin/nginx"
        );
        let mounts = with(&user, &[Namespace::Mount], Executable::Other);
        assert_eq!(told(&mounts), "uid 1000, own mount namespace, not the host's /usr/sbin/nginx");
        let unseen = Program { comm: "nginx".into(), uid: Some(1000), ..Program::default() };
        assert_eq!(told(&unseen), "uid 1000, known by its comm alone");
        assert_eq!(told(&Program::default()), "uid unknown");
    }

    #[test]
    fn units_and_containers_are_told_once() {
        let id = "3f1c9a7d".repeat(8);
        let place = |unit: Option<&str>, container: &str| {
            let unit = unit.map(str::to_owned);
            let cgroup = Some("/".to_owned());
            let container = Some(container.to_owned());
            told(&Program { unit, container, cgroup, uid: Some(0), ..Program::default() })
        };
        assert_eq!(place(None, &id), "uid 0, container 3f1c9a7d3f1c");
        assert_eq!(place(Some("web.service"), &id), "uid 0, web.service, container 3f1c9a7d3f1c");
        let inside = place(Some("3f1c9a7d3f1c/nginx.service"), &id);
        assert_eq!(inside, "uid 0, container 3f1c9a7d3f1c/nginx.service");
        let rootless = place(Some("user@7.service"), &format!("user@7.service/{id}"));
        assert_eq!(rootless, "uid 0, container user@7.service/3f1c9a7d3f1c");
        assert_eq!(place(Some("web/init.scope"), "web"), "uid 0, container web/init.scope");
    }
}
