//! Whether a file can be a whole database, before redb looks at it: one that was cut off redb takes for a defect of its
//! caller, and panics.

/// Bytes of the head that are looked at.
pub(super) const HEAD: usize = 32;
/// What every file of redb begins with.
const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1a, 0x0a, 0xa9, 0x0d, 0x0a];
/// The only one that redb makes without being told otherwise.
const PAGE: u64 = 4096;

/// Whether a file that begins so is as long as it says. What is no database at all redb refuses by itself.
///
/// `DatabaseHeader` of redb 2.6, `src/tree_store/page_store/header.rs`: after the magic number, a byte and two of padding
/// come the size of a page, the pages of a region's head, the most pages of its data, how many regions are full, and the
/// pages of data of the last one, each in four bytes.
pub(super) fn is_whole(head: &[u8; HEAD], length: u64) -> bool {
    if !head.starts_with(&MAGIC) {
        return true;
    }
    let number = |at: usize| {
        let bytes = head.get(at..).and_then(|bytes| bytes.first_chunk()).copied();
        u64::from(u32::from_le_bytes(bytes.unwrap_or_default()))
    };
    let [page, head_pages, most, full, last] = [12, 16, 20, 24, 28].map(number);
    let of_full = full.saturating_mul(head_pages.saturating_add(most));
    let of_last = if last > 0 { head_pages.saturating_add(last) } else { 0 };
    let pages = of_full.saturating_add(of_last).saturating_add(1);
    page == PAGE && (full > 0 || last > 0) && length >= pages.saturating_mul(PAGE)
}
