//! How long something lasted, in words.

/// A duration in nanoseconds with two or three digits: `340 ms`, `2.1 s`, `42 s`, `5 min`, `3 h`.
pub(crate) fn lasted(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    let seconds = milliseconds / 1000;
    match seconds {
        0 if milliseconds == 0 => "less than 1 ms".to_owned(),
        0 => format!("{milliseconds} ms"),
        1..10 => format!("{seconds}.{} s", milliseconds % 1000 / 100),
        10..180 => format!("{seconds} s"),
        180..10_800 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_the_unit_that_fits() {
        let milli = 1_000_000;
        for (nanoseconds, text) in [
            (999, "less than 1 ms"),
            (340 * milli, "340 ms"),
            (2199 * milli, "2.1 s"),
            (42_000 * milli, "42 s"),
            (179_000 * milli, "179 s"),
            (300_000 * milli, "5 min"),
            (u64::MAX, "5124095 h"),
        ] {
            assert_eq!(lasted(nanoseconds), text);
        }
    }
}
