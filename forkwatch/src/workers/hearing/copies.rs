//! What is new in a pipe, by copies of what lay in it at two looks.

/// What lay in it.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// At the last look; none where there was none.
    last: Option<Vec<u8>>,
    /// What the process that reads from it had read in all, from whatever.
    taken: Option<u64>,
    /// Bytes that came and were taken out between two looks.
    missed: u64,
}

impl Copies {
    /// How many bytes were taken out before they could be seen, since this was asked last: as many as somebody has written
    /// and who reads has read, if neither has done so elsewhere.
    pub(super) const fn missed(&mut self) -> u64 {
        std::mem::replace(&mut self.missed, 0)
    }

    /// What was written since the last copy, as far as it was not taken out meanwhile. At most so many bytes were written.
    ///
    /// What lies in a pipe is what lay in it, without its beginning, which was read, and with what came since. The same bytes
    /// may be there because nothing has happened, or because they were read and written again. So where several stories
    /// fit, the one is told in which most is new, of those in which nobody has read or written more than he counts.
    pub(super) fn added(&mut self, copy: &[u8], most: u64, taken: Option<u64>) -> Vec<u8> {
        let was_taken = match (self.taken, taken) {
            (Some(then), Some(now)) => now.saturating_sub(then),
            _ => u64::MAX,
        };
        self.taken = taken;
        // What lay in it at the first look was written before anybody listened.
        let Some(last) = self.last.replace(copy.to_vec()) else { return Vec::new() };
        let fits = |stayed: &usize| {
            let (gone, new) = (last.len() - stayed, copy.len() - stayed);
            gone as u64 <= was_taken && new as u64 <= most
        };
        // Nothing of it is left if none of these fit: then something may have come and gone unseen.
        let stayed = overlaps(&last, copy).into_iter().rfind(fits).unwrap_or(0);
        let new = copy.get(stayed..).unwrap_or_default();
        if was_taken < u64::MAX && most < u64::MAX {
            let taken = was_taken.saturating_sub((last.len() - stayed) as u64);
            self.missed += taken.min(most.saturating_sub(new.len() as u64));
        }
        new.to_vec()
    }
}

/// All lengths of which the end of `before` is the beginning of `after`, the longest first; the last is 0. In time that grows
/// with their lengths alone, whatever is in them (Knuth, Morris, Pratt).
fn overlaps(before: &[u8], after: &[u8]) -> Vec<usize> {
    // For each beginning of `after`, the longest shorter beginning that it ends with.
    let mut borders: Vec<usize> = Vec::with_capacity(after.len());
    let shorter = |borders: &[usize], length: usize| {
        length.checked_sub(1).and_then(|last| borders.get(last)).copied().unwrap_or(0)
    };
    let mut length = 0;
    for (place, byte) in after.iter().enumerate() {
        if place > 0 {
            length = extended(after, &borders, length, *byte, shorter);
        }
        borders.push(length);
    }
    let mut length = 0;
    for byte in before {
        if length == after.len() {
            length = shorter(&borders, length);
        }
        length = extended(after, &borders, length, *byte, shorter);
    }
    let mut all = vec![length];
    while length > 0 {
        length = shorter(&borders, length);
        all.push(length);
    }
    all
}

/// The longest beginning that ends with this byte, where the last one had so many bytes.
fn extended(
    after: &[u8],
    borders: &[usize],
    mut length: usize,
    byte: u8,
    shorter: impl Fn(&[usize], usize) -> usize,
) -> usize {
    while length > 0 && after.get(length) != Some(&byte) {
        length = shorter(borders, length);
    }
    length + usize::from(after.get(length) == Some(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is new in each of these copies, each after so many bytes were written and taken.
    fn new(looks: &[(&str, u64, u64)]) -> Vec<String> {
        let (mut copies, mut taken) = (Copies::default(), 0);
        let of = |(copy, written, now): &(&str, u64, u64)| {
            taken += now;
            String::from_utf8(copies.added(copy.as_bytes(), *written, Some(taken))).unwrap()
        };
        looks.iter().map(of).collect()
    }

    #[test]
    fn what_came_is_told_once_whether_it_is_read_or_not() {
        assert_eq!(
            new(&[("", 0, 0), ("a\n", 2, 0), ("a\nb\n", 2, 0), ("b\n", 0, 2), ("", 0, 2)]),
            ["", "a\n", "b\n", "", ""]
        );
        assert_eq!(new(&[("old\n", 0, 0), ("old\na\n", 2, 0), ("c\n", 2, 6)]), ["", "a\n", "c\n"]);
    }

    #[test]
    fn the_same_line_again_is_new_only_where_it_was_read_and_written() {
        assert_eq!(new(&[("", 0, 0), ("tick\n", 5, 0), ("tick\n", 0, 0)]), ["", "tick\n", ""]);
        assert_eq!(new(&[("", 0, 0), ("tick\n", 5, 0), ("tick\n", 5, 5)]), ["", "tick\n", "tick\n"]);
        assert_eq!(
            new(&[("", 0, 0), ("tick\n", 5, 0), ("tick\n", 99, 0)]),
            ["", "tick\n", ""],
            "nobody has read"
        );
        assert_eq!(new(&[("", 0, 0), ("x\n", 2, 0), ("x\nx\n", 2, 0)]), ["", "x\n", "x\n"]);
    }

    #[test]
    fn what_was_taken_out_unseen_is_counted() {
        let mut copies = Copies::default();
        copies.added(b"", 0, Some(0));
        assert!(copies.added(b"", 6, Some(6)).is_empty());
        assert_eq!((copies.missed(), copies.missed()), (6, 0));
        assert_eq!(copies.added(b"b\n", 8, Some(12)), b"b\n");
        assert_eq!(copies.missed(), 6);
        copies.added(b"", 0, Some(14));
        assert_eq!(copies.missed(), 0, "that was seen");
    }

    #[test]
    fn what_cannot_be_explained_is_told_as_it_is() {
        assert_eq!(new(&[("", 0, 0), ("abc", 3, 0), ("xyz", 0, 0)]), ["", "abc", "xyz"]);
    }

    proptest::proptest! {
        #[test]
        fn overlaps_are_those_that_there_are(before in "[ab]{0,12}", after in "[ab]{0,12}") {
            let most = before.len().min(after.len());
            let all: Vec<usize> = (0..=most).rev().filter(|length| before.ends_with(&after[..*length])).collect();
            proptest::prop_assert_eq!(overlaps(before.as_bytes(), after.as_bytes()), all);
        }
    }

    #[test]
    fn what_is_made_to_be_slow_is_not() {
        let (last, copy) = ("x".repeat(64 << 10) + "y", "x".repeat(64 << 10));
        assert_eq!(overlaps(last.as_bytes(), copy.as_bytes()), [0]);
        assert_eq!(overlaps(copy.as_bytes(), copy.as_bytes()).len(), copy.len() + 1);
    }
}
