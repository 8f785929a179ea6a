//! Which line an instruction belongs to: CPython's three formats (`Objects/lnotab_notes.txt` of 3.9 and 3.10,
//! `Objects/locations.md` of 3.11).

/// The line of the instruction at this offset in bytes; absent where it belongs to none.
pub(super) fn line(minor: u8, table: &[u8], first: i32, instruction: u64) -> Option<u32> {
    let line = match minor {
        ..10 => pairs(table, first, instruction),
        10 => ranges(table, first, instruction),
        11.. => locations(table, first, instruction),
    }?;
    u32::try_from(line).ok().filter(|line| *line > 0)
}

/// By how much the instruction and then the line advance, one byte each.
fn pairs(table: &[u8], first: i32, instruction: u64) -> Option<i32> {
    let (mut at, mut line) = (0_u64, first);
    for [instructions, lines] in table.as_chunks().0 {
        at += u64::from(*instructions);
        if at > instruction {
            break;
        }
        line = line.checked_add(i32::from(lines.cast_signed()))?;
    }
    Some(line)
}

/// The length of a range of instructions, and by how much its line is further than the last; -128 for no line.
fn ranges(table: &[u8], first: i32, instruction: u64) -> Option<i32> {
    let (mut end, mut line) = (0_u64, first);
    for [length, lines] in table.as_chunks().0 {
        let lines = lines.cast_signed();
        if lines != -128 {
            line = line.checked_add(i32::from(lines))?;
        }
        end += u64::from(*length);
        if instruction < end {
            return (lines != -128).then_some(line);
        }
    }
    None
}

/// Entries that begin with a byte whose upper bit is set: a kind, and a length in instructions of two bytes.
fn locations(table: &[u8], first: i32, instruction: u64) -> Option<i32> {
    let (mut end, mut line) = (0_u64, first);
    let mut bytes = table.iter().copied().peekable();
    while let Some(head) = bytes.next() {
        if head & 0x80 == 0 {
            return None;
        }
        let kind = (head >> 3) & 15;
        let rest: Vec<u8> = std::iter::from_fn(|| bytes.next_if(|byte| byte & 0x80 == 0)).collect();
        line = line.checked_add(match kind {
            13 | 14 => signed(&rest)?,
            11 | 12 => i32::from(kind - 10),
            _ => 0,
        })?;
        end += (u64::from(head & 7) + 1) * 2;
        if instruction < end {
            return (kind != 15).then_some(line);
        }
    }
    None
}

/// Six bits a byte, the lowest first; the seventh says that more follow. The lowest bit of all is the sign.
fn signed(bytes: &[u8]) -> Option<i32> {
    let mut value = 0_u32;
    for (index, byte) in bytes.iter().enumerate() {
        let shift = u32::try_from(index).ok()? * 6;
        value |= u32::from(byte & 63).checked_shl(shift)?;
        if byte & 64 == 0 {
            break;
        }
    }
    let magnitude = i32::try_from(value >> 1).ok()?;
    Some(if value & 1 == 0 { magnitude } else { -magnitude })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_format_leads_to_the_line() {
        // The example of Objects/lnotab_notes.txt.
        let pairs = [0, 1, 6, 1, 44, 5, 255, 0, 45, 127, 0, 73];
        assert_eq!(line(9, &pairs, 1, 0), Some(2));
        assert_eq!(line(9, &pairs, 1, 49), Some(3));
        assert_eq!(line(9, &pairs, 1, 50), Some(8));
        assert_eq!(line(9, &pairs, 1, 350), Some(208));
        let ranges = [4, 1, 2, 128, 6, 255];
        assert_eq!(line(10, &ranges, 7, 3), Some(8));
        assert_eq!(line(10, &ranges, 7, 4), None);
        assert_eq!(line(10, &ranges, 7, 6), Some(7));
        assert_eq!(line(10, &ranges, 7, 12), None);
        // No column, two further, one instruction; none; one line further, two instructions.
        let locations = [0x80 | (13 << 3), 4, 0x80 | (15 << 3), 0x80 | (11 << 3) | 1, 0, 0];
        assert_eq!(line(12, &locations, 10, 0), Some(12));
        assert_eq!(line(12, &locations, 10, 2), None);
        assert_eq!(line(12, &locations, 10, 7), Some(13));
        assert_eq!(line(12, &locations, 10, 8), None);
        assert_eq!(signed(&[0x41, 0x01]), Some(-32));
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(
            minor in 7_u8..15, table in any::<Vec<u8>>(), first in any::<i32>(), at in any::<u64>(),
        ) {
            let _ = line(minor, &table, first, at);
        }
    }
}
