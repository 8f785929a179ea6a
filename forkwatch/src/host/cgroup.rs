//! Which unit and which container a process belongs to, by its cgroup path.
//!
//! Below the service manager of a user, and within a container, cgroups are made and named by that user, or by whoever
//! is root in there. So what is found below bears the name of that before it, and `nginx.service` alone is a unit that
//! root has made on this host.

use crate::model::provenance::{USER_MANAGER, is_container_id, short_container};

/// Where a process stands in the cgroup tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// The path in the hierarchy that tells most.
    pub path: Option<String>,
    /// The systemd unit: `nginx.service`, `user@1000.service/nginx.service`, `3f1c9a7d2b4e/nginx.service`.
    pub unit: Option<String>,
    /// The container's id, or its name with LXC: `3f1c...`, `user@1000.service/3f1c...`.
    pub container: Option<String>,
}

impl Membership {
    /// Reads `/proc/PID/cgroup`: one `hierarchy:controllers:path` a line (cgroups(7)).
    ///
    /// On a hybrid host either tree may hold all processes in its root while the other is in use, so the version 2
    /// path is preferred unless it is the root, then systemd's own hierarchy, then any other.
    pub fn parse(text: &str) -> Option<Self> {
        let path = text
            .lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':');
                let rank = match (parts.next()?, parts.next()?) {
                    ("0", "") => 0,
                    (_, "name=systemd") => 1,
                    _ => 2,
                };
                let path = parts.next().filter(|path| path.starts_with('/'))?;
                Some((path == "/", rank, path))
            })
            .min_by_key(|(is_root, rank, _)| (*is_root, *rank))
            .map(|(_, _, path)| path)?;
        Some(Self::of_path(path))
    }

    /// Reads a cgroup path: `/system.slice/nginx.service`.
    ///
    /// The innermost container counts. Its unit is the one that runs inside it, else the one that it runs in; a
    /// scope that only stands for the container is no unit.
    pub fn of_path(path: &str) -> Self {
        // The kernel says so of a cgroup that was removed while a process was still in it.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        let mut found = Self { path: Some(path.to_owned()), ..Self::default() };
        // Who names what is found next, each with a slash.
        let mut namers = String::new();
        // A unit's inner cgroups are its own affair, whatever they are called; but a user's service manager and a
        // container have units of their own inside.
        let mut may_nest = true;
        let mut is_users = false;
        let mut previous = "";
        for component in path.split('/').filter(|component| !component.is_empty()) {
            if let Some(id) = container_id(previous, component) {
                found.container = Some(format!("{namers}{id}"));
                // A unit that keeps containers has named this one.
                if let Some(unit) = &found.unit {
                    namers = format!("{unit}/");
                }
                namers.push_str(short_container(id));
                namers.push('/');
                (may_nest, is_users) = (true, false);
            } else if may_nest
                && let Some(name) = unit_name(component)
                && (found.unit.is_none() || name != "init.scope")
            {
                let unit = format!("{namers}{name}");
                // A manager within a manager is a name like any other.
                may_nest = name.starts_with(USER_MANAGER) && !is_users;
                if may_nest {
                    namers = format!("{unit}/");
                    is_users = true;
                }
                found.unit = Some(unit);
            }
            previous = component;
        }
        found
    }
}

/// The unit that a component of the path stands for. Slices only group units. systemd puts `_` in front of names
/// that would clash with the kernel's file names (`cg_escape`).
fn unit_name(component: &str) -> Option<&str> {
    let name = component.strip_prefix('_').unwrap_or(component);
    let (stem, kind) = name.rsplit_once('.')?;
    let is_kind = matches!(kind, "service" | "scope" | "socket" | "mount" | "swap");
    let is_unit = is_kind && !stem.is_empty() && is_name(name);
    is_unit.then_some(name)
}

/// Whether systemd would take this for a name (`VALID_CHARS`, `src/basic/unit-name.c`): a cgroup may be called anything,
/// such as `a.service, uid 0`.
fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte))
}

/// The id of the container that a component of the path stands for:
/// - `ID` alone: docker, Kubernetes and Amazon ECS with the cgroupfs driver;
/// - `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`: with the systemd driver;
/// - `kubepods-...slice:cri-containerd:ID`: containerd where the two are mixed up;
/// - `lxc/NAME`, `lxc.payload/NAME`, `lxc.payload.NAME`: LXC and Incus.
///
/// conmon and the LXC monitor watch over a container from outside, in cgroups of like names.
fn container_id<'a>(previous: &str, component: &'a str) -> Option<&'a str> {
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return Some(name).filter(|name| is_name(name));
    }
    if matches!(previous, "lxc" | "lxc.payload") && !component.starts_with("lxc.") {
        return Some(component).filter(|name| is_name(name));
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let (prefix, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    (is_container_id(id) && !prefix.ends_with("conmon")).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "3f1c9a7d2b4e6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f701";
    const OUTER: &str = "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd";

    #[test]
    fn paths_of_the_real_world_are_understood() {
        let cases: &[(&str, Option<&str>, Option<&str>)] = &[
            ("/", None, None),
            ("/system.slice/gunicorn.service", Some("gunicorn.service"), None),
            ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service"), None),
            ("/system.slice/gunicorn.service (deleted)", Some("gunicorn.service"), None),
            ("/system.slice/foo.service/inner.scope", Some("foo.service"), None),
            ("/system.slice/_memory.service", Some("memory.service"), None),
            ("/init.scope", Some("init.scope"), None),
            ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope"), None),
            ("/user.slice/user-1000.slice/user@1000.service/init.scope", Some("user@1000.service"), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-foot-42.scope",
                Some("user@1000.service/app-gnome-foot-42.scope"),
                None,
            ),
            ("/docker/ID", None, Some(ID)),
            ("/system.slice/docker-ID.scope", None, Some(ID)),
            (
                "/system.slice/docker-ID.scope/system.slice/nginx.service",
                Some("3f1c9a7d2b4e/nginx.service"),
                Some(ID),
            ),
            ("/system.slice/docker-ID.scope/init.scope", Some("3f1c9a7d2b4e/init.scope"), Some(ID)),
            ("/kubepods/burstable/pod7f9c2b1e-1b2c-4d5e-8f90-a1b2c3d4e5f6/ID", None, Some(ID)),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7f9c.slice/cri-containerd-ID.scope",
                None,
                Some(ID),
            ),
            (
                "/system.slice/containerd.service/kubepods-burstable-pod7f9c.slice:cri-containerd:ID",
                Some("containerd.service"),
                Some(ID),
            ),
            ("/kubepods.slice/kubepods-pod7f9c.slice/crio-ID.scope/container", None, Some(ID)),
            (
                "/kubepods.slice/kubepods-pod7f9c.slice/crio-conmon-ID.scope",
                Some("crio-conmon-ID.scope"),
                None,
            ),
            ("/machine.slice/libpod-ID.scope/container", None, Some(ID)),
            ("/machine.slice/libpod-conmon-ID.scope", Some("libpod-conmon-ID.scope"), None),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
                Some("user@1000.service"),
                Some("user@1000.service/ID"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/libpod-payload-ID",
                Some("user@1000.service/web.service"),
                Some("user@1000.service/ID"),
            ),
            ("/system.slice/web.service/libpod-payload-ID", Some("web.service"), Some(ID)),
            (
                "/docker/OUTER/kubelet.slice/kubelet-kubepods.slice/cri-containerd-ID.scope",
                None,
                Some("aaaaaaaaaaaa/ID"),
            ),
            ("/ecs/0123456789abcdef0123456789abcdef/ID", None, Some(ID)),
            ("/lxc.payload.web/system.slice/nginx.service", Some("web/nginx.service"), Some("web")),
            ("/lxc.payload/web", None, Some("web")),
            ("/lxc/web/init.scope", Some("web/init.scope"), Some("web")),
            ("/lxc.monitor.web", None, None),
            (
                "/user.slice/user-7.slice/user@7.service/app.slice/a.service), root (nginx.service",
                Some("user@7.service"),
                None,
            ),
            ("/lxc.payload.a, uid 0", None, None),
            ("/sandbox/b98a91b4692942ed93ffb9be36bf2e6a", None, None),
        ];
        for (path, unit, container) in cases {
            let path = path.replace("ID", ID).replace("OUTER", OUTER);
            let [unit, container] = [unit, container].map(|name| name.map(|name| name.replace("ID", ID)));
            let seen = Membership::of_path(&path);
            assert_eq!((seen.unit, seen.container), (unit, container), "{path}");
        }
    }

    #[test]
    fn no_user_and_no_container_can_name_a_unit_of_the_system() {
        let user = "/user.slice/user-65534.slice/user@65534.service";
        let container = format!("/system.slice/docker-{ID}.scope");
        let service = format!("/system.slice/web.service/libpod-payload-{ID}");
        for below in [
            "app.slice/nginx.service".to_owned(),
            "nginx.service".to_owned(),
            "_nginx.service".to_owned(),
            "system.slice/nginx.service".to_owned(),
            "user@0.service/app.slice/nginx.service".to_owned(),
            "user.slice/user-0.slice/user@0.service/app.slice/nginx.service".to_owned(),
            format!("docker-{OUTER}.scope"),
            format!("docker-{OUTER}.scope/system.slice/nginx.service"),
            format!("docker-{OUTER}.scope/user@0.service/nginx.service"),
            format!("a.service/{OUTER}/nginx.service"),
            "lxc/web/nginx.service".to_owned(),
            "lxc.payload.web/nginx.service".to_owned(),
        ] {
            for (namer, name) in [
                (user, "user@65534.service"),
                (container.as_str(), "3f1c9a7d2b4e"),
                (service.as_str(), "web.service"),
            ] {
                let seen = Membership::of_path(&format!("{namer}/{below}"));
                let qualified = |told: &str| {
                    told == name || told.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
                };
                assert!(seen.unit.as_deref().is_none_or(qualified), "{namer}/{below}: {seen:?}");
                // The service that keeps a container is its unit, and is told beside it.
                let container = seen.container.as_deref();
                assert!(
                    container.is_none_or(|told| qualified(told)
                        || told.contains(ID)
                        || told.starts_with("3f1c9a7d2b4e/"))
                        || seen.unit.as_deref().is_some_and(qualified),
                    "{namer}/{below}: {seen:?}"
                );
            }
        }
        let seen = Membership::of_path(&format!("{user}/app.slice/nginx.service"));
        assert_eq!(seen.unit.as_deref(), Some("user@65534.service/nginx.service"));
        let seen = Membership::of_path(&format!("{user}/user@0.service/app.slice/nginx.service"));
        assert_eq!(seen.unit.as_deref(), Some("user@65534.service/user@0.service"));
    }

    #[test]
    fn the_hierarchy_that_tells_most_is_taken() {
        let path = |text: &str| Membership::parse(text).and_then(|seen| seen.path);
        assert_eq!(path("0::/system.slice/a.service\n").as_deref(), Some("/system.slice/a.service"));
        assert_eq!(
            path("4:memory:/m\n1:name=systemd:/system.slice/a.service\n0::/system.slice/b.service\n")
                .as_deref(),
            Some("/system.slice/b.service")
        );
        assert_eq!(
            path("4:memory:/m\n1:name=systemd:/system.slice/a.service\n0::/\n").as_deref(),
            Some("/system.slice/a.service")
        );
        assert_eq!(path("9:name=systemd:/\n4:memory:/m:n\n0::/\n").as_deref(), Some("/m:n"));
        assert_eq!(path("9:name=systemd:/\n0::/\n").as_deref(), Some("/"));
        assert_eq!(path(""), None);
        assert_eq!(path("nonsense\n0:\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9:=/a-z.\\-\n@_]{0,200}") {
            if let Some(seen) = Membership::parse(&text) {
                prop_assert!(seen.path.is_some_and(|path| path.starts_with('/')));
            }
        }
    }
}
