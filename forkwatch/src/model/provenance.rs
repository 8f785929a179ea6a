//! How far the names that a process goes by can be relied on: whose it is, and what of it is not the host's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::process::Program;

/// What tells whether a process's names are the host's, as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Namespaces in which it lives that are not those of the host's first process; absent where they may not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespaces: Option<Vec<Namespace>>,
    /// Its executable beside the host's file of the same path.
    #[serde(default)]
    pub executable: Executable,
    /// The user whose login it comes from (`/proc/PID/loginuid`), inherited by all that a login or a user's cron job
    /// starts; absent for what the system has started.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub login: Option<u32>,
}

/// A kind of namespace in which names mean something else than on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Namespace {
    /// Who is root in it need not be on the host; any user may make one.
    User,
    /// What lies under a path in it need not lie there on the host.
    Mount,
    /// It counts pids of its own.
    Pid,
}

impl Namespace {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::User, Self::Mount, Self::Pid];

    /// The name in events and sentences.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
        }
    }
}

/// What a process runs, beside the file that the host has under the path that it shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Executable {
    /// That file, though it may have been deleted since.
    Host,
    /// Another: the path is one of a container, or of a mount that the host does not have.
    Other,
    /// It could not be told.
    #[default]
    Unknown,
}

/// Whose word a program's names are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The host's: root has started it, or a unit of the system.
    Host,
    /// A container's that root has started. Names within it are its image's.
    Container,
    /// A user's: names are what that user made them.
    User,
}

impl Owner {
    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Container => "container",
            Self::User => "user",
        }
    }
}

/// How the unit of a user's service manager begins; so do all names of cgroups below it.
pub const USER_MANAGER: &str = "user@";
/// Where systemd puts what belongs to users.
const USERS_SLICE: &str = "/user.slice/user-";
/// Folders in which root alone makes files.
const OF_ROOT: [&str; 6] = ["/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib"];

/// Digits of a container's id that engines show.
const SHORT: usize = 12;

/// A container's id as short as its users write it, after the names of those that it is in; one that has a name, whole.
pub fn short_container(container: &str) -> &str {
    // Only the last part is an id at its full length.
    let start = container.rfind('/').map_or(0, |slash| slash + 1);
    match container.get(start..) {
        Some(id) if is_container_id(id) => container.get(..start + SHORT).unwrap_or(container),
        _ => container,
    }
}

/// Every engine that follows OCI names containers by 64 hexadecimal digits.
pub fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
}

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

impl Provenance {
    /// Whether it lives in such a namespace that is not the host's.
    pub fn is_in(&self, namespace: Namespace) -> bool {
        self.namespaces.as_ref().is_some_and(|all| all.contains(&namespace))
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
