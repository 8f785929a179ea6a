//! Paths with parts that differ from one version to the next.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The existing file below a root that a path with `*` in its components stands for; of several, the one of the highest
/// version.
pub(super) fn newest_match(root: &Path, pattern: &str) -> Option<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = match part.split_once('*') {
            None => found.iter().map(|folder| folder.join(part)).filter(|path| path.exists()).collect(),
            Some((prefix, suffix)) => {
                found.iter().flat_map(|folder| entries(folder, prefix, suffix)).collect()
            }
        };
    }
    found.into_iter().max_by_key(|path| version_key(&path.to_string_lossy()))
}

/// What of a folder begins and ends like this.
fn entries(folder: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let matches = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(suffix));
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| matches(name))
        .map(|name| folder.join(name))
        .collect()
}

/// Every number in a path, in order: 3.9 comes before 3.11.
fn version_key(path: &str) -> Vec<u64> {
    path.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_finds_the_highest_version() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "junk"] {
            fs::create_dir_all(folder.path().join(version).join("bin")).unwrap();
        }
        fs::write(folder.path().join("9/bin/postgres"), "").unwrap();
        fs::write(folder.path().join("15/bin/postgres"), "").unwrap();
        let found = newest_match(folder.path(), "/*/bin/postgres");
        assert_eq!(found, Some(folder.path().join("15/bin/postgres")));
        assert_eq!(newest_match(folder.path(), "/*/bin/absent"), None);
    }
}
