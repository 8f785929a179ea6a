//! What is mounted where: `/proc/self/mountinfo` (`show_mountinfo`, `fs/proc_namespace.c`).

use std::{collections::HashMap, io};

use super::file;

/// Where that of forkwatch's own mount namespace is.
pub(super) const PATH: &str = "/proc/self/mountinfo";
/// Its size on a host with thousands of mounts.
const MAX_SIZE: u64 = 4 * 1024 * 1024;

/// A mount.
pub(super) struct Entry<'a> {
    /// Its id, of which no two mounts of the host have the same.
    pub(super) id: u32,
    /// The id of the mount that it lies on.
    pub(super) parent: u32,
    /// Its file system, as major and minor device number: of the whole file system, whatever `stat` shows of a part.
    pub(super) device: &'a str,
    /// What of its file system is mounted, escaped.
    pub(super) root: &'a str,
    /// Where, escaped.
    pub(super) point: &'a str,
    /// The type of its file system.
    pub(super) kind: &'a str,
    /// The file system's own options.
    pub(super) options: &'a str,
}

/// Reads the whole list.
pub(super) fn read() -> io::Result<String> {
    Ok(String::from_utf8_lossy(&file::read(PATH, MAX_SIZE)?).into_owned())
}

/// Reads that of a process's mount namespace, in paths below that process's root. An error where it is too long to be
/// read whole: what is not in it must not count as not there.
pub(super) fn read_of(tgid: u32) -> io::Result<String> {
    let path = format!("/proc/{tgid}/mountinfo");
    let text = file::read(&path, MAX_SIZE)?;
    if text.len() as u64 >= MAX_SIZE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("{path} is longer than {MAX_SIZE} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The mounts in it, each after those that it may lie on top of.
pub(super) fn entries(text: &str) -> impl Iterator<Item = Entry<'_>> {
    text.lines().filter_map(parse)
}

/// `proc_pid_mountinfo(5)`: id, parent, device, root, mount point, options, optional fields, `-`, type, source, super
/// options.
fn parse(line: &str) -> Option<Entry<'_>> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ');
    let (id, parent) = (mount.next()?.parse().ok()?, mount.next()?.parse().ok()?);
    let (device, root, point) = (mount.next()?, mount.next()?, mount.next()?);
    let mut file_system = file_system.split(' ');
    let (kind, options) = (file_system.next()?, file_system.nth(1).unwrap_or_default());
    Some(Entry { id, parent, device, root, point, kind, options })
}

/// The id of the mount that a path leads to, from the mount of the root on: to each that lies on the way.
pub(super) fn leads_to(path: &str, root: u32, mounts: &[Entry<'_>]) -> u32 {
    let mut on: HashMap<u32, Vec<&Entry<'_>>> = HashMap::new();
    for mount in mounts.iter().filter(|mount| mount.id != mount.parent) {
        on.entry(mount.parent).or_default().push(mount);
    }
    let mut at = root;
    // Each step leads to another mount, so there are no more steps than mounts.
    for _ in mounts {
        let next = on
            .get(&at)
            .into_iter()
            .flatten()
            .filter(|mount| below(path, &unescape(mount.point)).is_some())
            .min_by_key(|mount| mount.point.len());
        match next {
            Some(next) => at = next.id,
            None => break,
        }
    }
    at
}

/// What follows a folder in a path, from the slash on; nothing for the folder itself.
pub(super) fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The kernel writes blanks, newlines and backslashes as `\` and three octal digits (`mangle_path`).
pub(super) fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                out.push(char::from(code));
                out.push_str(rest);
            }
            _ => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(unescape("a\\040b\\134c"), "a b\\c");
        assert_eq!(unescape("a\\04"), "a\\04");
        assert_eq!(unescape("a\\é\\"), "a\\é\\");
    }

    #[test]
    fn a_line_is_read_whatever_optional_fields_it_has() {
        for optional in ["", " shared:5", " shared:5 master:2"] {
            let line = format!("41 31 0:38 /a /mnt/b rw,relatime{optional} - cgroup2 none rw,nsdelegate");
            let entry = parse(&line).unwrap();
            assert_eq!((entry.id, entry.parent, entry.device), (41, 31, "0:38"));
            assert_eq!((entry.root, entry.point), ("/a", "/mnt/b"));
            assert_eq!((entry.kind, entry.options), ("cgroup2", "rw,nsdelegate"));
        }
        assert!(parse("nonsense").is_none() && parse("1 2 - cgroup2").is_none());
    }
}
