use std::{fs, process::Command};

use nix::sys::resource::{Resource, setrlimit};

use super::*;

const NEVER: Rotation = Rotation { max_bytes: 0, keep: 0 };

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.json");
    (folder, path)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    super::numbered(path.as_os_str(), number).into()
}

fn is_not_regular(result: &Result<EventFile, EventFileError>) -> bool {
    matches!(result, Err(EventFileError::Open { source: OutputFileError::NotRegular(_), .. }))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn lines_are_appended_to_what_is_there() {
    let (_folder, path) = folder();
    fs::write(&path, "{\"a\":1}\n").unwrap();
    assert!(EventFile::open(&path, NEVER).unwrap().append("{\"b\":2}"));
    assert_eq!(text(&path), "{\"a\":1}\n{\"b\":2}\n");
}

#[test]
fn only_owner_and_group_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let (_folder, path) = folder();
    EventFile::open(&path, NEVER).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0);
}

#[test]
fn a_full_file_is_renamed_and_the_oldest_one_goes() {
    let (folder, path) = folder();
    let mut file = EventFile::open(&path, Rotation { max_bytes: 10, keep: 2 }).unwrap();
    for line in ["first", "second", "third", "4", "5", "fourth", "a line that is longer than a file"] {
        assert!(file.append(line));
    }
    assert_eq!(text(&path), "a line that is longer than a file\n");
    assert_eq!(text(&numbered(&path, 1)), "fourth\n");
    assert_eq!(text(&numbered(&path, 2)), "third\n4\n5\n");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
}

#[test]
fn with_nothing_to_keep_a_full_file_begins_anew() {
    let (folder, path) = folder();
    let mut file = EventFile::open(&path, Rotation { max_bytes: 4, keep: 0 }).unwrap();
    assert!(file.append("one") && file.append("two"));
    assert_eq!(text(&path), "two\n");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
}

#[test]
fn rotation_that_fails_loses_nothing() {
    let (_folder, path) = folder();
    let mut file = EventFile::open(&path, Rotation { max_bytes: 4, keep: 1 }).unwrap();
    // A directory that is not empty cannot be replaced by a file, not even by root.
    fs::create_dir_all(numbered(&path, 1).join("x")).unwrap();
    assert!(file.append("one") && file.append("two"));
    assert_eq!(text(&path), "one\ntwo\n");
    fs::remove_dir_all(numbered(&path, 1)).unwrap();
    assert!(file.append("six"));
    assert_eq!((text(&numbered(&path, 1)), text(&path)), ("one\ntwo\n".to_owned(), "six\n".to_owned()));
}

#[test]
fn a_file_that_others_renamed_is_begun_anew_on_reopen() {
    let (folder, path) = folder();
    let mut file = EventFile::open(&path, NEVER).unwrap();
    assert!(file.append("old"));
    let moved = folder.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    assert!(file.append("old too"));
    file.reopen(NEVER).unwrap();
    assert!(file.append("new"));
    file.reopen(NEVER).unwrap();
    assert!(file.append("new too"));
    assert_eq!((text(&moved), text(&path)), ("old\nold too\n".to_owned(), "new\nnew too\n".to_owned()));
}

#[test]
fn an_event_that_a_crash_cut_short_is_removed() {
    let (_folder, path) = folder();
    for (before, after) in [("{\"a\":1}\n{\"b\":", "{\"a\":1}\n"), ("{\"b\":", ""), ("", ""), ("x\n", "x\n")]
    {
        fs::write(&path, before).unwrap();
        EventFile::open(&path, NEVER).unwrap();
        assert_eq!(text(&path), after);
    }
}

#[test]
fn a_file_of_something_else_is_left_alone() {
    let (folder, path) = folder();
    fs::write(&path, "{}\nmy precious notes").unwrap();
    assert!(matches!(EventFile::open(&path, NEVER), Err(EventFileError::NotEvents(_))));
    assert_eq!(text(&path), "{}\nmy precious notes");
    assert!(is_not_regular(&EventFile::open(Path::new("/dev/full"), NEVER)));
    assert!(EventFile::open(folder.path(), NEVER).is_err());
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(is_not_regular(&EventFile::open(&pipe, NEVER)));
}

#[test]
fn two_writers_do_not_share_a_file() {
    let (_folder, path) = folder();
    let first = EventFile::open(&path, NEVER).unwrap();
    let message = EventFile::open(&path, NEVER).err().unwrap().to_string();
    assert!(message.contains("another forkwatch"), "{message}");
    drop(first);
    EventFile::open(&path, NEVER).unwrap();
}

#[test]
fn a_missing_directory_is_told_at_once() {
    let message =
        EventFile::open(Path::new("/nonexistent/e.json"), Rotation { max_bytes: 1, keep: 1 }).err().unwrap();
    assert!(message.to_string().contains("/nonexistent/e.json"), "{message}");
}

/// Runs this test anew in a process whose files can only grow to 20 bytes: like a full disk, that lets a write
/// succeed in part and then fail, and it can be lifted.
#[test]
fn a_full_disk_loses_events_whole_and_is_survived() {
    const FOLDER: &str = "FORKWATCH_TEST_FOLDER";
    let Some(folder) = std::env::var_os(FOLDER) else {
        let (folder, path) = folder();
        let name = "output::event_file::tests::a_full_disk_loses_events_whole_and_is_survived";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(FOLDER, folder.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&path), "{\"one\":1}\n{\"4\":4}\n{\"five\":5}\n");
        return;
    };
    let path = PathBuf::from(folder).join("events.json");
    let mut file = EventFile::open(&path, NEVER).unwrap();
    file.settled = Duration::ZERO;
    // SAFETY: ignoring a signal installs no handler; a write beyond the limit then fails with EFBIG.
    unsafe { nix::sys::signal::signal(nix::sys::signal::SIGXFSZ, nix::sys::signal::SigHandler::SigIgn) }
        .unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 20, libc::RLIM_INFINITY).unwrap();
    assert!(file.append("{\"one\":1}"));
    assert!(!file.append("{\"two\":\"too long\"}"));
    assert_eq!(text(&path), "{\"one\":1}\n", "what was written of a lost event is cut off");
    assert!(!file.append("{\"three\":\"too long\"}"));
    assert_eq!(file.outage.as_ref().map(|outage| outage.lost), Some(2));
    assert!(file.append("{\"4\":4}"), "what fits is written");
    assert!(file.outage.is_none());
    assert!(!file.append("{\"five\":5}"));
    setrlimit(Resource::RLIMIT_FSIZE, libc::RLIM_INFINITY, libc::RLIM_INFINITY).unwrap();
    assert!(file.append("{\"five\":5}"));
}

/// Root's file, another user's directory, and a link from there to it.
#[test]
fn no_link_of_another_user_leads_to_a_file_of_ours() {
    if !nix::unistd::geteuid().is_root() {
        return crate::skip::skip("needs root, to give a directory to another user");
    }
    let (folder, path) = folder();
    let precious = folder.path().join("precious");
    fs::write(&precious, "{}\n").unwrap();
    let theirs = folder.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    std::os::unix::fs::chown(&theirs, Some(12_345), Some(12_345)).unwrap();
    let link = theirs.join("events.json");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    std::os::unix::fs::lchown(&link, Some(12_345), Some(12_345)).unwrap();
    let rotation = Rotation { max_bytes: 4, keep: 1 };
    let message = EventFile::open(&link, NEVER).err().unwrap().to_string();
    assert!(message.contains("another user could have put there"), "{message}");

    // One that turns up while the file is in use: at the next rotation, and on reopen.
    let mut file = EventFile::open(&path, rotation).unwrap();
    assert!(file.append("{}"));
    fs::remove_file(&path).unwrap();
    fs::rename(&link, &path).unwrap();
    assert!(file.append("{\"lost\":1}"));
    assert!(file.reopen(rotation).is_err());
    assert_eq!(text(&precious), "{}\n");

    // In the place of a rotated file it is replaced.
    fs::rename(&path, numbered(&path, 1)).unwrap();
    let mut file = EventFile::open(&path, rotation).unwrap();
    assert!(file.append("one") && file.append("two"));
    assert_eq!((text(&numbered(&path, 1)), text(&precious)), ("one\n".to_owned(), "{}\n".to_owned()));
    assert!(!numbered(&path, 1).is_symlink());
}
