use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
};

use super::*;

/// Whoever is neither root nor the user that runs the tests.
const STRANGER: u32 = 12_345;

struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("precious"), "").unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A directory with this mode, of this user's.
    fn directory(&self, name: &str, mode: u32, owner: Option<u32>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        chown(&path, owner, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// A link to what is precious.
    fn link(&self, path: &Path, owner: Option<u32>) {
        symlink(self.path("precious"), path).unwrap();
        lchown(path, owner, None).unwrap();
    }
}

fn append(path: &Path) -> Result<File, OutputFileError> {
    Place::find(path)?.append()
}

fn create(path: &Path) -> Result<File, OutputFileError> {
    Place::find(path)?.create()
}

fn is_refused_link(result: &Result<File, OutputFileError>) -> bool {
    matches!(result, Err(OutputFileError::Link { .. }))
}

fn am_root() -> bool {
    let root = geteuid().is_root();
    if !root {
        crate::skip::skip("needs root, to make files of another user");
    }
    root
}

#[test]
fn what_is_made_is_for_owner_and_group_alone() {
    let house = House::new();
    for (name, file) in
        [("appended", append(&house.path("appended"))), ("created", create(&house.path("created")))]
    {
        let mode = file.unwrap().metadata().unwrap().mode();
        assert_eq!(mode & 0o7137, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o600, 0o600, "{name}: {mode:o}");
    }
    assert!(matches!(create(&house.path("created")), Err(OutputFileError::Exists)));
    append(&house.path("created")).unwrap();
}

#[test]
fn a_link_of_ones_own_is_followed_where_nobody_else_writes() {
    let house = House::new();
    let home = house.directory("home", 0o755, None);
    house.link(&home.join("link"), None);
    let file = append(&home.join("link")).unwrap();
    assert_eq!(file.metadata().unwrap().ino(), fs::metadata(house.path("precious")).unwrap().ino());
    // On the way, relative and absolute, to and fro.
    symlink("../home", home.join("again")).unwrap();
    symlink(&home, home.join("absolute")).unwrap();
    append(&home.join("again/absolute/../home/./new")).unwrap();
    assert!(home.join("new").exists());
    // And where it leads to nothing yet.
    symlink("nothing", home.join("dangling")).unwrap();
    append(&home.join("dangling")).unwrap();
    assert!(home.join("nothing").exists());
    symlink("circle", home.join("circle")).unwrap();
    assert!(append(&home.join("circle")).err().unwrap().to_string().contains("symbolic links"));
}

#[test]
fn a_link_in_a_directory_of_many_is_refused_whosever_it_is() {
    let house = House::new();
    for (name, mode) in [("open", 0o777), ("sticky", 0o1777)] {
        let shared = house.directory(name, mode, None);
        house.link(&shared.join("link"), None);
        let refused = append(&shared.join("link"));
        assert!(is_refused_link(&refused), "{refused:?}");
        assert!(is_refused_link(&create(&shared.join("link"))));
        // As a directory on the way, too.
        symlink(house.folder.path(), shared.join("way")).unwrap();
        assert!(is_refused_link(&append(&shared.join("way/new"))));
        assert!(!house.path("new").exists());
        // A file is none.
        append(&shared.join("file")).unwrap();
    }
    let message = append(&house.path("open/link")).err().unwrap().to_string();
    assert!(message.contains("open/link is a symbolic link") && message.contains("mode 777"), "{message}");
}

#[test]
fn another_users_link_is_refused_wherever_it_lies() {
    if !am_root() {
        return;
    }
    let house = House::new();
    let (ours, theirs) =
        (house.directory("ours", 0o755, None), house.directory("theirs", 0o755, Some(STRANGER)));
    house.link(&ours.join("theirs"), Some(STRANGER));
    house.link(&theirs.join("theirs"), Some(STRANGER));
    // As a hard link to one of root's would be.
    house.link(&theirs.join("ours"), None);
    for path in [ours.join("theirs"), theirs.join("theirs"), theirs.join("ours")] {
        assert!(is_refused_link(&append(&path)), "{}", path.display());
        assert!(is_refused_link(&create(&path)), "{}", path.display());
    }
    let group = house.directory("group", 0o775, None);
    chown(&group, None, Some(STRANGER)).unwrap();
    house.link(&group.join("theirs"), Some(STRANGER));
    assert!(is_refused_link(&append(&group.join("theirs"))));
    // As systemd makes one to the logs of a service, where a group of the host's may write too.
    house.link(&group.join("ours"), None);
    append(&group.join("ours")).unwrap();
    fs::write(group.join("file"), "").unwrap();
    chown(group.join("file"), Some(STRANGER), None).unwrap();
    assert!(matches!(append(&group.join("file")), Err(OutputFileError::Foreign(STRANGER))));
    assert_eq!(fs::read_to_string(house.path("precious")).unwrap(), "");
}

#[test]
fn a_file_that_another_user_put_there_is_not_written_to() {
    if !am_root() {
        return;
    }
    let house = House::new();
    let shared = house.directory("shared", 0o1777, None);
    let theirs = shared.join("theirs");
    fs::write(&theirs, "").unwrap();
    chown(&theirs, Some(STRANGER), None).unwrap();
    let refused = append(&theirs);
    assert!(matches!(refused, Err(OutputFileError::Foreign(STRANGER))), "{refused:?}");
    let linked = shared.join("linked");
    fs::hard_link(house.path("precious"), &linked).unwrap();
    assert!(matches!(append(&linked), Err(OutputFileError::Linked(2))));
    // Who rotates files by other means may give them to whom he likes.
    let ours = house.directory("ours", 0o755, None);
    fs::rename(&theirs, ours.join("theirs")).unwrap();
    append(&ours.join("theirs")).unwrap();
}

#[test]
fn what_forkwatch_was_started_with_can_be_written_to() {
    create(Path::new("/dev/null")).unwrap();
    create(Path::new("/dev/full")).unwrap();
    let house = House::new();
    let file = File::options().append(true).open(house.path("precious")).unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&file);
    for path in [format!("/proc/self/fd/{descriptor}"), format!("/dev/fd/{descriptor}")] {
        let path = Path::new(&path);
        if Place::find(path).is_err() {
            continue;
        }
        assert!(Place::find(path).unwrap().is_own_descriptor());
        for file in [append(path).unwrap(), create(path).unwrap()] {
            assert_eq!(file.metadata().unwrap().ino(), fs::metadata(house.path("precious")).unwrap().ino());
        }
    }
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writer));
    let message = create(Path::new(&path)).err().unwrap().to_string();
    assert!(message.contains("it is a pipe"), "{message}");
}

#[test]
fn what_is_no_file_is_named_and_not_opened() {
    let house = House::new();
    let pipe = house.path("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for (path, kind) in [
        (pipe.as_path(), "a pipe"),
        (Path::new("/dev/zero"), "a device"),
        (house.folder.path(), "a directory"),
    ] {
        let message = append(path).err().unwrap().to_string();
        assert!(message.contains(kind) && message.contains("name a regular file"), "{message}");
    }
    assert!(append(Path::new("/")).is_err() && append(Path::new("")).is_err());
    assert!(append(&house.path("precious/x")).is_err() && append(&house.path("absent/x")).is_err());
}

#[test]
fn root_is_told_why_it_may_not_write() {
    let denied: OutputFileError = Errno::EACCES.into();
    assert!(denied.is_privilege() && !denied.is_refusal());
    let message = denied.to_string();
    assert!(message.contains("Permission denied") && message.contains("CAP_DAC_OVERRIDE"), "{message}");
    assert!(!OutputFileError::from(Errno::ENOSPC).to_string().contains("CAP_DAC_OVERRIDE"));
}
