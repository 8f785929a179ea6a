//! In which order a child's memory is gone through: first where programs and libraries keep their variables, then the
//! all other anonymous memory, the smallest mappings first. The stacks of lost threads are left out: what lies there is of
//! no use to anybody, and now and then resembles a lock that was copied through registers.

use super::{lost::Lost, search::Search};
use crate::host::{
    maps::{Mapping, Maps},
    memory::OwnPages,
};

/// Goes through all of it, as far as the budget goes. Tells how many bytes were searched, and how many were left out.
pub(super) fn go_through(pages: &OwnPages, maps: &Maps, lost: &Lost, search: &mut Search<'_>) -> (u64, u64) {
    let mut regions: Vec<&Mapping> = maps.iter().filter(|mapping| pages.admits(mapping)).collect();
    regions.sort_by_key(|mapping| (rank(maps, mapping), mapping.end - mapping.start));
    let (mut searched, mut skipped) = (0, 0);
    let mut is_over = false;
    for mapping in regions {
        let size = mapping.end - mapping.start;
        if is_over {
            skipped += size;
            continue;
        }
        let stack = lost.first_descriptor(mapping).filter(|_| maps.follows_guard(mapping));
        let from = stack.unwrap_or(mapping.start);
        // Of a mapping at which the budget ends, what was shown until then.
        let mut shown = 0;
        let read = pages.go_through(mapping, from, |at, bytes| {
            shown += bytes.len() as u64;
            search.piece(at, bytes);
        });
        is_over = read.is_err();
        searched += read.unwrap_or(shown);
        skipped += if is_over { size.saturating_sub(shown) } else { 0 };
    }
    (searched, skipped)
}

/// Variables of a program or library, also those beyond its file, come first.
fn rank(maps: &Maps, mapping: &Mapping) -> u8 {
    u8::from(!mapping.is_file() && !maps.follows_file(mapping))
}
