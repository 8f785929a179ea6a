//! Whose word a program's names are, by what is known of where it comes from.

use super::{
    process::Program,
    provenance::{Executable, Namespace, OF_ROOT, Owner, Provenance, USER_MANAGER, USERS_SLICE},
};

impl Program {
    /// Whose word its names are. What nothing is known of but uid and comm is its user's.
    pub fn owner(&self) -> Owner {
        let users =
            |name: &Option<String>| name.as_deref().is_some_and(|name| name.starts_with(USER_MANAGER));
        if users(&self.unit) || users(&self.container) {
            return Owner::User;
        }
        if self.container.is_some() {
            return Owner::Container;
        }
        let Some(provenance) = &self.provenance else {
            // Recordings of earlier versions say nothing more; but where there is no cgroup, nobody has looked.
            let unseen = self.cgroup.is_none() && self.uid.is_some_and(|uid| uid != 0);
            return if unseen { Owner::User } else { Owner::Host };
        };
        let is_root = self.uid == Some(0);
        if is_root && !provenance.is_in(Namespace::User) {
            return Owner::Host;
        }
        if provenance.executable == Executable::Other && self.is_of_machine() {
            return Owner::Container;
        }
        let by_system = self.is_of_system_unit() && (is_root || provenance.login.is_none());
        if by_system && provenance.executable != Executable::Other { Owner::Host } else { Owner::User }
    }

    /// Whether it runs in what systemd-machined, which takes orders from root alone, keeps as a machine: a container of
    /// systemd-nspawn(1) or libvirt.
    fn is_of_machine(&self) -> bool {
        self.cgroup.as_deref().is_some_and(|path| path.starts_with("/machine.slice/"))
    }

    /// Whether a unit that no user has made holds it: none that stands for a login.
    fn is_of_system_unit(&self) -> bool {
        let for_users = self.cgroup.as_deref().is_some_and(|path| path.starts_with(USERS_SLICE));
        self.unit.is_some() && !for_users
    }

    /// Whether its executable is a file of the host's that root alone can have put there.
    pub fn runs_file_of_root(&self) -> bool {
        let of_host = |provenance: &Provenance| {
            provenance.executable == Executable::Host && !provenance.is_in(Namespace::User)
        };
        self.provenance.as_ref().is_some_and(of_host)
            && self
                .exe
                .as_deref()
                .and_then(|exe| exe.to_str())
                .is_some_and(|exe| OF_ROOT.iter().any(|folder| exe.starts_with(folder)))
    }

    /// Where it runs, as metrics and rules name it: its unit, else its container.
    pub fn place(&self) -> Option<&str> {
        self.unit.as_deref().or(self.container.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(uid: u32, cgroup: &str, unit: Option<&str>) -> Program {
        Program {
            comm: "nginx".into(),
            exe: Some("/usr/sbin/nginx".into()),
            unit: unit.map(str::to_owned),
            cgroup: Some(cgroup.to_owned()),
            uid: Some(uid),
            provenance: Some(Provenance {
                namespaces: Some(Vec::new()),
                executable: Executable::Host,
                login: None,
            }),
            ..Program::default()
        }
    }

    fn service(uid: u32) -> Program {
        program(uid, "/system.slice/nginx.service", Some("nginx.service"))
    }

    fn with(program: Program, change: impl FnOnce(&mut Provenance)) -> Program {
        let mut provenance = program.provenance.clone().unwrap_or_default();
        change(&mut provenance);
        Program { provenance: Some(provenance), ..program }
    }

    #[test]
    fn a_service_of_the_system_is_the_hosts_whatever_protects_it() {
        assert_eq!(service(0).owner(), Owner::Host);
        assert_eq!(service(33).owner(), Owner::Host);
        let namespaces = |all: &[Namespace]| Some(all.to_vec());
        let sandboxed = with(service(33), |seen| seen.namespaces = namespaces(&[Namespace::Mount]));
        assert_eq!(sandboxed.owner(), Owner::Host);
        let private_users =
            with(service(33), |seen| seen.namespaces = namespaces(&[Namespace::User, Namespace::Mount]));
        assert_eq!(private_users.owner(), Owner::Host);
        let unreadable = with(service(33), |seen| *seen = Provenance::default());
        assert_eq!(unreadable.owner(), Owner::Host);
    }

    #[test]
    fn what_a_user_has_started_is_the_users() {
        let manager = "/user.slice/user-1000.slice/user@1000.service/app.slice/nginx.service";
        assert_eq!(program(1000, manager, Some("user@1000.service/nginx.service")).owner(), Owner::User);
        let session = "/user.slice/user-1000.slice/session-3.scope";
        assert_eq!(program(1000, session, Some("session-3.scope")).owner(), Owner::User);
        assert_eq!(program(0, session, Some("session-3.scope")).owner(), Owner::Host, "sudo");
        assert_eq!(program(1000, "/", None).owner(), Owner::User);
        // A user's cron job runs in the system's cron.service.
        let cron = program(1000, "/system.slice/cron.service", Some("cron.service"));
        assert_eq!(with(cron, |seen| seen.login = Some(1000)).owner(), Owner::User);
        // A service's code that has mounted a file of its own over another's.
        assert_eq!(with(service(33), |seen| seen.executable = Executable::Other).owner(), Owner::User);
        // Root of a user namespace is root of nothing else.
        let own = with(program(0, "/", None), |seen| seen.namespaces = Some(vec![Namespace::User]));
        assert_eq!(own.owner(), Owner::User);
    }

    #[test]
    fn a_container_is_its_own_owner_unless_a_user_runs_it() {
        let id = "3f1c9a7d".repeat(8);
        let docker = format!("/system.slice/docker-{id}.scope");
        let nginx = Program { container: Some(id.clone()), ..program(101, &docker, None) };
        assert_eq!(with(nginx, |seen| seen.executable = Executable::Other).owner(), Owner::Container);
        let nspawn = program(
            33,
            "/machine.slice/systemd-nspawn@web.service/payload",
            Some("systemd-nspawn@web.service"),
        );
        assert_eq!(with(nspawn, |seen| seen.executable = Executable::Other).owner(), Owner::Container);
        let rootless = Program {
            container: Some(format!("user@1000.service/{id}")),
            ..program(1000, "/user.slice/user-1000.slice/x", Some("user@1000.service"))
        };
        assert_eq!(rootless.owner(), Owner::User);
    }

    #[test]
    fn what_nobody_has_looked_at_is_its_users_and_old_recordings_stay_as_they_were() {
        let unseen = Program { comm: "nginx".into(), uid: Some(1000), ..Program::default() };
        assert_eq!(unseen.owner(), Owner::User);
        assert_eq!(Program { uid: Some(0), ..unseen }.owner(), Owner::Host);
        assert_eq!(Program { provenance: None, ..service(33) }.owner(), Owner::Host);
        assert_eq!(Program::default().owner(), Owner::Host);
    }

    #[test]
    fn only_files_that_root_has_put_there_vouch_for_a_name() {
        assert!(service(33).runs_file_of_root());
        let home = Program { exe: Some("/home/u/nginx".into()), ..service(33) };
        assert!(!home.runs_file_of_root());
        assert!(!with(service(33), |seen| seen.executable = Executable::Other).runs_file_of_root());
        let user = with(service(33), |seen| seen.namespaces = Some(vec![Namespace::User]));
        assert!(!user.runs_file_of_root());
    }
}
