use super::*;

/// A host with `/usr` on a disk of its own, and a bind mount on top.
const HOSTS: &str = "\
    1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
    2 1 8:2 / /usr rw - ext4 /dev/sda2 rw\n\
    3 1 8:1 /srv/real /opt/app rw - ext4 /dev/sda1 rw\n\
    4 1 0:50 / /home/u/with\\040blank rw - fuse.x x rw\n";

fn same(path: &str, own: &str) -> bool {
    let hosts: Vec<Entry<'_>> = mountinfo::entries(HOSTS).collect();
    let own = mountinfo::entries(own).next().unwrap();
    is_same_file(path, &own, &hosts)
}

#[test]
fn a_sandbox_shows_the_hosts_own_files() {
    // As ProtectSystem= mounts the same folder again.
    assert!(same("/usr/sbin/nginx", "70 69 8:2 / /usr ro - ext4 /dev/sda2 rw"));
    assert!(same("/usr/sbin/nginx", "70 69 8:2 /sbin /usr/sbin ro - ext4 /dev/sda2 rw"));
    assert!(same("/usr/sbin/nginx", "70 69 8:2 /sbin/nginx /usr/sbin/nginx ro - ext4 /dev/sda2 rw"));
    assert!(same("/usr/sbin/nginx (deleted)", "70 69 8:2 / /usr ro - ext4 /dev/sda2 rw"));
    assert!(same("/opt/app/bin/x", "70 69 8:1 /srv/real /opt/app rw - ext4 /dev/sda1 rw"));
    assert!(same("/opt/app/bin/x", "70 69 8:1 /srv/real/bin /opt/app/bin rw - ext4 /dev/sda1 rw"));
    assert!(same("/sbin/init", "70 69 8:1 / / rw - ext4 /dev/sda1 rw"));
}

#[test]
fn a_path_that_leads_to_another_file_is_told() {
    for own in [
        // A user's file, folder, and a folder with the same names in it, on the same file system.
        "70 69 8:1 /home/u/evil /usr/sbin/nginx rw - ext4 /dev/sda1 rw",
        "70 69 8:2 /home/evil /usr/sbin rw - ext4 /dev/sda2 rw",
        "70 69 8:2 /tmp/usr /usr rw - ext4 /dev/sda2 rw",
        // Other file systems.
        "70 69 8:1 / / rw - ext4 /dev/sda1 rw",
        "70 69 0:60 / / rw - overlay overlay rw",
        "70 69 0:61 / /usr/sbin rw - tmpfs tmpfs rw",
        // A mount whose source was deleted.
        "70 69 8:2 /sbin/nginx//deleted /usr/sbin/nginx rw - ext4 /dev/sda2 rw",
        // A mount that the path does not lie on.
        "70 69 8:2 / /usr/lib rw - ext4 /dev/sda2 rw",
        "70 69 8:2 / /us rw - ext4 /dev/sda2 rw",
    ] {
        assert!(!same("/usr/sbin/nginx", own), "{own}");
    }
    // Nor is what lies beneath a mount of the host.
    assert!(!same("/opt/app/bin/x", "70 69 8:1 / / rw - ext4 /dev/sda1 rw"));
    assert!(!same("/home/u/with blank/x", "70 69 8:1 / / rw - ext4 /dev/sda1 rw"));
}

#[test]
fn a_path_is_followed_over_the_mounts_on_its_way() {
    let hosts: Vec<Entry<'_>> = mountinfo::entries(HOSTS).collect();
    let mount = |path: &str| mount_of(path, &hosts).map(|mount| mount.id);
    assert_eq!(mount("/usr"), Some(2));
    assert_eq!(mount("/usr/sbin/nginx"), Some(2));
    assert_eq!(mount("/usrlocal"), Some(1));
    assert_eq!(mount("/home/u/with blank/x"), Some(4));
    assert_eq!(mount_of("/x", &[]).map(|mount| mount.id), None);
    // One mount over another at the same point, and one that the upper hides.
    let stacked = "1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /usr rw - ext4 b rw\n3 2 8:3 / /usr rw - ext4 c rw\n\
        4 2 8:4 / /usr/sbin rw - ext4 d rw\n5 1 8:1 / / rw - ext4 a rw";
    let stacked: Vec<Entry<'_>> = mountinfo::entries(stacked).collect();
    assert_eq!(mount_of("/usr/sbin/nginx", stacked.get(..4).unwrap()).map(|mount| mount.id), Some(3));
    // A second mount over the root hides all of them.
    assert_eq!(mount_of("/usr/sbin/nginx", &stacked).map(|mount| mount.id), Some(5));
    // Mounts that lie on each other in a circle, which no kernel shows, lead nowhere.
    let circle = "1 0 8:1 / / rw - ext4 a rw\n2 3 8:2 / /a rw - ext4 b rw\n3 2 8:3 / /a rw - ext4 c rw";
    let circle: Vec<Entry<'_>> = mountinfo::entries(circle).collect();
    assert_eq!(mount_of("/a", &circle).map(|mount| mount.id), Some(1));
}

#[test]
fn this_process_runs_a_file_of_the_host_in_the_hosts_namespaces() {
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    if mounts("self") != mounts("1") {
        crate::skip::skip("the tests run in a mount namespace of their own");
        return;
    }
    let (exe, provenance) = of_process(std::process::id());
    assert_eq!(exe, Some(std::env::current_exe().unwrap()));
    assert_eq!(provenance.executable, Executable::Host);
    assert_eq!(provenance.namespaces, Some(Vec::new()));
    let nobody = of_process(u32::MAX);
    assert_eq!(nobody, (None, Provenance::default()));
}
