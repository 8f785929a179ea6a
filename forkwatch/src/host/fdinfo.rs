//! Signals that a process takes in through signalfds.

use std::io::ErrorKind;

use super::file;
use crate::model::signals::SignalSet;

/// Descriptors that are looked at, from the lowest: programs open their signalfd early.
const MAX_DESCRIPTORS: usize = 1024;

/// The union of the masks of a process's signalfds; absent where they may not be read: another user's without
/// `CAP_SYS_PTRACE`, and before Linux 5.14 also with it, because the directory is its owner's alone.
pub(super) fn signalfd_mask(tgid: u32) -> Option<SignalSet> {
    let mut mask = SignalSet::EMPTY;
    for descriptor in file::numbers(format!("/proc/{tgid}/fdinfo"), MAX_DESCRIPTORS).ok()? {
        match file::read_small(format!("/proc/{tgid}/fdinfo/{descriptor}")) {
            Ok(text) => mask = mask.or(parse(&text).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
            // Closed meanwhile.
            Err(_) => {}
        }
    }
    Some(mask)
}

/// The mask in an `fdinfo` (`signalfd_show_fdinfo`, fs/signalfd.c); absent where it is not a signalfd's.
fn parse(text: &[u8]) -> Option<SignalSet> {
    file::mask(text, "sigmask:").map(SignalSet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_signalfd_shows_its_mask_and_a_file_none() {
        let signalfd = b"pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t1064\nsigmask:\t0000000000014000\n";
        assert_eq!(parse(signalfd), Some(SignalSet::of(&[15, 17])));
        assert_eq!(parse(b"pos:\t0\nflags:\t0100000\nmnt_id:\t25\nino:\t9\n"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }
    }
}
