//! How far the names that a process goes by can be relied on: whose it is, and what of it is not the host's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
pub(super) const USERS_SLICE: &str = "/user.slice/user-";
/// Folders in which root alone makes files.
pub(super) const OF_ROOT: [&str; 6] = ["/usr/bin/", "/usr/sbin/", "/usr/lib", "/bin/", "/sbin/", "/lib"];

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

impl Provenance {
    /// Whether it lives in such a namespace that is not the host's.
    pub fn is_in(&self, namespace: Namespace) -> bool {
        self.namespaces.as_ref().is_some_and(|all| all.contains(&namespace))
    }
}
