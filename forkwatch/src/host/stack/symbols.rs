//! Names for addresses: from the symbol table in the object's file or in its separate debug file, else from the one in
//! memory that the loader uses. Tables are read in portions and never kept.

use std::cmp::Reverse;

use object::{
    NativeEndian,
    elf::{
        DT_GNU_HASH, DT_HASH, DT_STRTAB, DT_SYMTAB, SHN_UNDEF, SHT_SYMTAB, STB_GLOBAL, STB_WEAK, STT_FUNC,
        STT_GNU_IFUNC, STT_NOTYPE, STT_OBJECT, Sym64,
    },
    pod,
};

#[cfg(any(test, fuzzing))]
use crate::host::image::Image;

use super::{demangle::demangle, elf::Object, files};
use crate::host::{budget, bytes::Bytes, target_file::Files};

/// Symbols of one object that are looked at: Chromium has a million.
const MAX_SYMBOLS: u64 = 2 * 1024 * 1024;
/// Symbols that are read at once.
const PORTION: u64 = 2048;
/// The longest name that is looked at; C++ makes some that are longer than they are useful.
pub(super) const MAX_NAME: usize = 4096;
/// Names of one symbol that are compared; the C library has up to six.
const MAX_NAMES: usize = 16;
/// Chains of a hash table that are looked at.
const MAX_BUCKETS: u32 = 1024 * 1024;

const ENDIAN: NativeEndian = NativeEndian;

type Symbol = Sym64<NativeEndian>;

const SYMBOL_SIZE: u64 = size_of::<Symbol>() as u64;

/// What an address is the address of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Code,
    Data,
}

impl Kind {
    fn admits(self, symbol: &Symbol) -> bool {
        match self {
            Self::Code => matches!(symbol.st_type(), STT_FUNC | STT_GNU_IFUNC | STT_NOTYPE),
            Self::Data => matches!(symbol.st_type(), STT_OBJECT),
        }
    }
}

/// Looks for the symbols of addresses as if the image were the object's file.
#[cfg(any(test, fuzzing))]
pub(super) fn names_in_file(image: &Image, addresses: &[u64]) {
    if let Some(table) = Table::of_file(&image.memory_as_file) {
        let mut found = vec![None; addresses.len()];
        table.search(Kind::Code, addresses, &mut found);
    }
    let _ = files::section(&image.memory_as_file, b".eh_frame");
}

/// A symbol table and the strings that belong to it.
struct Table<'a> {
    bytes: &'a Bytes,
    symbols: u64,
    count: u64,
    strings: u64,
}

/// The innermost symbols so far that cover an address: several names for one thing, as it is read from the table. Their
/// texts are read last, once for each: a table can name a million symbols that cover every address.
#[derive(Clone, Default)]
struct Best {
    start: u64,
    /// How public each is, and where its name is.
    names: Vec<(u8, u64)>,
}

/// The names of the symbols of an object that cover these addresses in memory, in their order.
pub(super) fn names(
    target: &Files,
    memory: &Bytes,
    object: &Object,
    kind: Kind,
    addresses: &[u64],
) -> Vec<Option<String>> {
    let wanted: Vec<u64> = addresses.iter().map(|address| address.wrapping_sub(object.bias)).collect();
    let mut found: Vec<Option<String>> = vec![None; wanted.len()];
    for file in files::of(target, memory, object) {
        if let Some(table) = Table::of_file(&file) {
            table.search(kind, &wanted, &mut found);
            break;
        }
    }
    if found.iter().any(Option::is_none)
        && let Some(table) = Table::of_memory(memory, &Dynamic::read(memory, object))
    {
        table.search(kind, &wanted, &mut found);
    }
    found
}

/// Where a variable is in memory, by its exact name, as the loader finds it (`do_lookup_x`, elf/dl-lookup.c).
pub(super) fn address_of(memory: &Bytes, object: &Object, name: &[u8]) -> Option<u64> {
    let dynamic = Dynamic::read(memory, object);
    let (table, hashes) =
        (Table::of_memory(memory, &dynamic)?, Hashes::read(memory, dynamic.get(DT_GNU_HASH)?)?);
    let hash = name.iter().fold(5381_u32, |hash, byte| hash.wrapping_mul(33).wrapping_add(u32::from(*byte)));
    let bucket = u64::from(hash.checked_rem(hashes.buckets)?);
    let mut index = memory.half(hashes.at.wrapping_add(bucket * 4))?;
    loop {
        let chained = hashes.chain(memory, index)?;
        if chained | 1 == hash | 1 {
            let symbol: Symbol = memory.get(table.symbols.wrapping_add(u64::from(index) * SYMBOL_SIZE))?;
            if Kind::Data.admits(&symbol) && table.name(&symbol, name.len() + 1) == name {
                return Some(object.bias.wrapping_add(symbol.st_value.get(ENDIAN)));
            }
        }
        if chained & 1 == 1 {
            return None;
        }
        index = index.checked_add(1).filter(|index| u64::from(*index) < MAX_SYMBOLS)?;
    }
}

impl<'a> Table<'a> {
    fn of_file(file: &'a Bytes) -> Option<Self> {
        let sections = files::sections(file)?;
        let symbols = sections.iter().find(|section| section.sh_type.get(ENDIAN) == SHT_SYMTAB)?;
        let strings = sections.get(usize::try_from(symbols.sh_link.get(ENDIAN)).ok()?)?;
        Some(Self {
            bytes: file,
            symbols: symbols.sh_offset.get(ENDIAN),
            count: symbols.sh_size.get(ENDIAN) / SYMBOL_SIZE,
            strings: strings.sh_offset.get(ENDIAN),
        })
    }

    fn of_memory(memory: &'a Bytes, dynamic: &Dynamic) -> Option<Self> {
        let count = match dynamic.get(DT_GNU_HASH) {
            Some(hash) => Hashes::read(memory, hash)?.count(memory)?,
            None => u64::from(memory.half(dynamic.get(DT_HASH)?.wrapping_add(4))?),
        };
        Some(Self {
            bytes: memory,
            symbols: dynamic.get(DT_SYMTAB)?,
            count,
            strings: dynamic.get(DT_STRTAB)?,
        })
    }

    /// Absent where it could not be read to its end.
    fn each(&self, mut use_symbol: impl FnMut(&Symbol)) -> Option<()> {
        let (mut next, count) = (0, self.count);
        if count > MAX_SYMBOLS {
            return None;
        }
        while next < count {
            let portion = PORTION.min(count - next);
            let length = usize::try_from(portion * SYMBOL_SIZE).ok()?;
            let bytes = self.bytes.take(self.symbols.wrapping_add(next * SYMBOL_SIZE), length)?;
            for symbol in pod::slice_from_all_bytes::<Symbol>(&bytes).ok()? {
                use_symbol(symbol);
            }
            next += portion;
        }
        Some(())
    }

    fn name(&self, symbol: &Symbol, limit: usize) -> Vec<u8> {
        self.bytes.text(self.name_at(symbol), limit)
    }

    fn name_at(&self, symbol: &Symbol) -> u64 {
        self.strings.wrapping_add(u64::from(symbol.st_name.get(ENDIAN)))
    }

    /// Names the addresses that have no name yet. Of the symbols that cover one, the innermost; of several names for one
    /// thing the most public. Nothing from half a table: the innermost might stand in the other half.
    fn search(&self, kind: Kind, wanted: &[u64], found: &mut [Option<String>]) {
        let mut open: Vec<(u64, Best, &mut Option<String>)> = wanted
            .iter()
            .zip(found.iter_mut())
            .filter(|(_, name)| name.is_none())
            .map(|(address, name)| (*address, Best::default(), name))
            .collect();
        let whole = self.each(|symbol| {
            if symbol.st_shndx.get(ENDIAN) == SHN_UNDEF
                || symbol.st_name.get(ENDIAN) == 0
                || !kind.admits(symbol)
            {
                return;
            }
            let (start, size) = (symbol.st_value.get(ENDIAN), symbol.st_size.get(ENDIAN));
            for (address, best, _) in &mut open {
                if address.checked_sub(start).is_some_and(|inside| inside < size) {
                    best.add(start, rank(symbol), self.name_at(symbol));
                }
            }
        });
        if whole.is_none() {
            return;
        }
        for (_, best, name) in open {
            *name = best.name(self.bytes).map(|name| demangle(&name));
        }
        // What was cut short is no name.
        if budget::steps(0).is_err() {
            found.fill(None);
        }
    }
}

impl Best {
    fn add(&mut self, start: u64, rank: u8, name: u64) {
        if self.names.is_empty() || start > self.start {
            self.start = start;
            self.names.clear();
        }
        if start == self.start && self.names.len() < MAX_NAMES {
            self.names.push((rank, name));
        }
    }

    fn name(&self, strings: &Bytes) -> Option<Vec<u8>> {
        let names = self.names.iter().map(|(rank, at)| (*rank, strings.text(*at, MAX_NAME)));
        names
            .filter(|(_, name)| !name.is_empty())
            .max_by_key(|(rank, name)| Self::key(*rank, name))
            .map(|(_, name)| name)
    }

    /// Greater is better: `pthread_mutex_lock` is a better name than `__pthread_mutex_lock`.
    fn key(rank: u8, name: &[u8]) -> (Reverse<usize>, u8, Reverse<usize>) {
        let underscores = name.iter().take_while(|byte| **byte == b'_').count();
        let underscores = if name.starts_with(b"_Z") || name.starts_with(b"_R") { 0 } else { underscores };
        (Reverse(underscores), rank, Reverse(name.len()))
    }
}

fn rank(symbol: &Symbol) -> u8 {
    match symbol.st_bind() {
        STB_GLOBAL => 2,
        STB_WEAK => 1,
        _ => 0,
    }
}

/// What the dynamic section says, with addresses in memory.
struct Dynamic(Vec<(i64, u64)>);

impl Dynamic {
    fn read(memory: &Bytes, object: &Object) -> Self {
        // glibc puts addresses in memory into the section, musl and the kernel leave those in the file.
        let absolute = |value| if object.covers(value) { value } else { object.bias.wrapping_add(value) };
        Self(object.dynamic(memory).into_iter().map(|(tag, value)| (tag, absolute(value))).collect())
    }

    fn get(&self, wanted: i64) -> Option<u64> {
        self.0.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value)
    }
}

/// The hash table of the loader (`_dl_setup_hash`, elf/dl-setup_hash.c).
struct Hashes {
    buckets: u32,
    /// The first symbol that it holds.
    first: u32,
    /// Where the buckets are; the chains follow them.
    at: u64,
}

impl Hashes {
    fn read(memory: &Bytes, hash: u64) -> Option<Self> {
        let buckets = memory.half(hash)?;
        let first = memory.half(hash.wrapping_add(4))?;
        let filter = u64::from(memory.half(hash.wrapping_add(8))?);
        Some(Self { buckets, first, at: hash.wrapping_add(16).wrapping_add(filter * 8) })
    }

    /// The hash of a symbol, its lowest bit set where that is the last of its bucket.
    fn chain(&self, memory: &Bytes, index: u32) -> Option<u32> {
        let link = u64::from(self.buckets) + u64::from(index.checked_sub(self.first)?);
        memory.half(self.at.wrapping_add(link * 4))
    }

    /// The table has no count of symbols: the last chain ends with the last of them.
    fn count(&self, memory: &Bytes) -> Option<u64> {
        let (mut last, mut bucket) = (0, 0);
        let buckets = self.buckets.min(MAX_BUCKETS);
        while bucket < buckets {
            let portion = (buckets - bucket).min(16 * 1024);
            let bytes = memory
                .take(self.at.wrapping_add(u64::from(bucket) * 4), usize::try_from(portion).ok()? * 4)?;
            let (heads, _) = bytes.as_chunks::<4>();
            last = heads.iter().map(|head| u32::from_ne_bytes(*head)).fold(last, u32::max);
            bucket += portion;
        }
        while u64::from(last) < MAX_SYMBOLS && self.chain(memory, last)? & 1 == 0 {
            last += 1;
        }
        Some(u64::from(last) + 1)
    }
}
