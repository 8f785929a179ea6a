//! Which line an instruction is of: the position in the table of lines, from an index that is a bit vector with counts
//! (`succ_index_lookup`, iseq.c).

use crate::host::bytes::Bytes;

/// `IMMEDIATE_TABLE_SIZE`: so many instructions have their count of 7 bits in the first words, nine in each.
const IMMEDIATE: u64 = 54;
const IN_A_WORD: u64 = 9;
/// `struct succ_dict_block`: a count, seven counts of 9 bits, and 512 bits.
const BLOCK: u64 = 80;
const BITS: u64 = 512;

/// How many entries of the table begin at an instruction or before it.
pub(super) fn rank(memory: &Bytes, index: u64, instruction: u64) -> Option<u64> {
    let Some(beyond) = instruction.checked_sub(IMMEDIATE) else {
        let word = memory.word(index.wrapping_add(instruction / IN_A_WORD * 8))?;
        return Some(word >> (instruction % IN_A_WORD * 7) & 0x7f);
    };
    let block = index.wrapping_add(IMMEDIATE / IN_A_WORD * 8).wrapping_add(beyond / BITS * BLOCK);
    let (small, bit) = (beyond % BITS / 64, beyond % 64);
    let before = memory.word(block.wrapping_add(8))?;
    let before = small.checked_sub(1).map_or(0, |small| before >> (small * 9) & 0x1ff);
    let bits = memory.word(block.wrapping_add(16 + small * 8))? << (63 - bit);
    Some(u64::from(memory.half(block)?) + before + u64::from(bits.count_ones()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bytes::Slice;

    const INDEX: u64 = 0x1000;

    /// The index of entries that begin at these instructions, as `succ_index_table_create` makes it.
    fn index(begins: &[u64], instructions: u64) -> Bytes {
        let count = |upto: u64| begins.iter().filter(|at| **at < upto).count() as u64;
        let mut words = vec![0_u64; 6];
        for at in 0..IMMEDIATE {
            words[usize::try_from(at / 9).unwrap()] |= count(at + 1) << (at % 9 * 7);
        }
        for block in 0..instructions.saturating_sub(IMMEDIATE).div_ceil(BITS) {
            let first = IMMEDIATE + block * BITS;
            words.push(count(first));
            let ranks = (1..8).map(|small| (count(first + small * 64) - count(first)) << ((small - 1) * 9));
            words.push(ranks.sum());
            words.extend((0..8).map(|small| {
                let is_begin = |bit: &u64| begins.contains(&(first + small * 64 + bit));
                (0..64).filter(is_begin).map(|bit| 1 << bit).sum::<u64>()
            }));
        }
        Bytes::of(Slice { start: INDEX, bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect() })
    }

    #[test]
    fn the_entry_of_every_instruction_is_found() {
        let begins: Vec<u64> = (0..1500).filter(|at| *at == 0 || at % 7 == 3 || at % 64 == 63).collect();
        // Of the first instructions there are no more entries than seven bits can count.
        let memory = index(&begins, 1500);
        for instruction in 0..1500 {
            let expected = begins.iter().filter(|at| **at <= instruction).count() as u64;
            assert_eq!(rank(&memory, INDEX, instruction), Some(expected), "{instruction}");
        }
        assert_eq!(rank(&memory, INDEX, 4000), None);
        assert_eq!(rank(&memory, INDEX, u64::MAX), None);
    }
}
