//! Whether what a process shows of itself is the host's: its namespaces, its executable, and the login it comes from.
//!
//! Nothing here asks a file system for anything, for one may be a user's own (FUSE) and never answer: what a process
//! runs is told by the mount that its file lies on and by the path within that, both of which the kernel knows by heart.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::{
    answering, file, host_mounts,
    mountinfo::{self, Entry, below, leads_to, unescape},
};
use crate::model::provenance::{Executable, Namespace, Provenance};

/// `/proc/PID/loginuid` of a process that no login has started: -1 (`audit_alloc`, kernel/auditsc.c).
const NO_LOGIN: u32 = u32::MAX;
/// What the kernel puts after the path of a file that has been unlinked (`d_path`, `fs/d_path.c`).
const DELETED: &str = " (deleted)";

/// What runs in a process: the path of its executable, and how far its names can be relied on.
pub(super) fn of_process(tgid: u32) -> (Option<PathBuf>, Provenance) {
    let running = Running::of_process(tgid).ok();
    let executable = running.as_ref().and_then(|running| compare(tgid, running).ok()).unwrap_or_default();
    let exe = running.map(|running| running.path).or_else(|| fs::read_link(format!("/proc/{tgid}/exe")).ok());
    (exe, Provenance { namespaces: foreign_namespaces(tgid), executable, login: login(tgid) })
}

/// The namespaces of a process that are not the host's; absent where either's may not be read.
fn foreign_namespaces(tgid: u32) -> Option<Vec<Namespace>> {
    static OF_HOST: OnceLock<Option<Vec<PathBuf>>> = OnceLock::new();
    // Those of the first process, or where that may not be looked at those of forkwatch itself.
    let of_host = OF_HOST.get_or_init(|| namespaces("1").or_else(|| namespaces("self"))).as_ref()?;
    let own = namespaces(&tgid.to_string())?;
    let foreign = Namespace::ALL.into_iter().zip(own.iter().zip(of_host));
    Some(foreign.filter(|(_, (own, hosts))| own != hosts).map(|(namespace, _)| namespace).collect())
}

/// What the links of a process's namespaces say, in the order of [`Namespace::ALL`].
fn namespaces(process: &str) -> Option<Vec<PathBuf>> {
    let name = |namespace| match namespace {
        Namespace::User => "user",
        Namespace::Mount => "mnt",
        Namespace::Pid => "pid",
    };
    Namespace::ALL
        .into_iter()
        .map(|namespace| fs::read_link(format!("/proc/{process}/ns/{}", name(namespace))).ok())
        .collect()
}

fn login(tgid: u32) -> Option<u32> {
    let text = file::read_small(format!("/proc/{tgid}/loginuid")).ok()?;
    std::str::from_utf8(&text).ok()?.trim().parse().ok().filter(|uid| *uid != NO_LOGIN)
}

/// The file that a process runs.
struct Running {
    /// Held open, so that no other mount can get its id meanwhile.
    _file: File,
    /// Its path, as the kernel shows it.
    path: PathBuf,
    /// The mount that it was started from.
    mount: u32,
}

impl Running {
    /// `O_PATH` asks the file system nothing: the link is one of the kernel's own, and nothing is opened there
    /// (`do_o_path`, fs/namei.c).
    fn of_process(tgid: u32) -> io::Result<Self> {
        let file = answering::place(&format!("/proc/{tgid}/exe"))?;
        let path = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let mount = answering::mount_of(&file)?;
        Ok(Self { _file: file, path, mount })
    }
}

/// Whether that is the file that the host has, or had, under the path that is shown.
///
/// A process of the host's own mount namespace need not run one: it may have been given a descriptor of a file in
/// another (`fexecve(3)`). So the mount decides, and not the namespace.
fn compare(tgid: u32, running: &Running) -> io::Result<Executable> {
    let Some(path) = running.path.to_str() else { return Ok(Executable::Unknown) };
    if host_mounts::with(|ids, _, _| ids.contains(&running.mount))? {
        return Ok(Executable::Host);
    }
    // What a process that has changed its root shows of its mounts is in other paths than its executable's.
    if fs::read_link(format!("/proc/{tgid}/root"))? != Path::new("/") {
        return Ok(Executable::Other);
    }
    let own = mountinfo::read_of(tgid)?;
    let own = mountinfo::entries(&own).find(|mount| mount.id == running.mount);
    let Some(own) = own else { return Ok(Executable::Other) };
    host_mounts::with(|_, hosts, _| {
        let hosts: Vec<Entry<'_>> = mountinfo::entries(hosts).collect();
        if is_same_file(path, &own, &hosts) { Executable::Host } else { Executable::Other }
    })
}

/// Whether the path on that mount is the same place in the same file system as it is on the host: however often that
/// was mounted, that is one file.
fn is_same_file(path: &str, own: &Entry<'_>, hosts: &[Entry<'_>]) -> bool {
    let path = path.strip_suffix(DELETED).unwrap_or(path);
    let on_host = mount_of(path, hosts);
    on_host.is_some_and(|host| {
        let places = (place_within(path, own), place_within(path, host));
        host.device == own.device && matches!(places, (Some(own), Some(host)) if own == host)
    })
}

/// The mount that a path leads to.
fn mount_of<'a, 'b>(path: &str, mounts: &'a [Entry<'b>]) -> Option<&'a Entry<'b>> {
    let is_listed = |id: u32| mounts.iter().any(|mount| mount.id == id);
    let root = mounts.iter().find(|mount| mount.point == "/" && !is_listed(mount.parent))?;
    let id = leads_to(path, root.id, mounts);
    mounts.iter().find(|mount| mount.id == id)
}

/// Where a path on a mount lies in the mount's file system.
fn place_within(path: &str, mount: &Entry<'_>) -> Option<String> {
    let root = unescape(mount.root);
    below(path, &unescape(mount.point)).map(|rest| format!("{}{rest}", root.trim_end_matches('/')))
}

#[cfg(test)]
mod tests;
