//! Durations for a reader.

/// Units by the nanoseconds that they hold, from the greatest.
const UNITS: [(u64, &str); 6] = [
    (86_400_000_000_000, "d"),
    (3_600_000_000_000, "h"),
    (60_000_000_000, "min"),
    (1_000_000_000, "s"),
    (1_000_000, "ms"),
    (1_000, "us"),
];

/// Nanoseconds with two digits or more, rounded down, in the greatest unit of which there is a whole one:
/// `1.9 ms`, `12 us`, `3.0 min`.
pub fn humanly(nanoseconds: u64) -> String {
    let Some((size, name)) = UNITS.iter().find(|(size, _)| nanoseconds >= *size) else {
        return format!("{nanoseconds} ns");
    };
    match nanoseconds / size {
        whole @ 0..10 => format!("{whole}.{} {name}", nanoseconds % size / (size / 10)),
        whole => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_digits_and_a_fitting_unit() {
        for (nanoseconds, shown) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.0 us"),
            (12_345, "12 us"),
            (1_999_999, "1.9 ms"),
            (999_999_999, "999 ms"),
            (1_005_000_000, "1.0 s"),
            (90_000_000_000, "1.5 min"),
            (7_200_000_000_000, "2.0 h"),
            (864_000_000_000_000, "10 d"),
            (u64::MAX, "213503 d"),
        ] {
            assert_eq!(humanly(nanoseconds), shown);
        }
    }
}
