//! Attributes of an object that a class of the script's made.
//!
//! Where its values are differs between versions: in a dictionary up to 3.10; since 3.11 before the object, and since
//! 3.13 behind it, without a dictionary until one is asked for (`Objects/dictobject.c`, `Include/internal/pycore_dict.h`
//! and `pycore_object.h` of each). Which value is whose stands in keys that all objects of the class share.

use super::Interpreter;

/// Names in one dictionary that are compared; no object of a thread has more.
const MAX_ENTRIES: u64 = 256;
/// The largest table of places of so many names.
const MAX_TABLE: u64 = 4096;
/// `ht_cached_keys` of a class stands at one of these words, counted from behind the object's head: 840 in 3.7, 864 in
/// 3.12 and 3.13.
const CACHED_KEYS: std::ops::Range<u64> = 103..118;
/// `tp_basicsize`, `tp_flags` and `tp_dictoffset`, counted likewise.
const BASIC_SIZE: u64 = 16;
const FLAGS: u64 = 152;
const DICT_OFFSET: u64 = 272;
/// `Py_TPFLAGS_INLINE_VALUES`
const INLINE_VALUES: u64 = 1 << 2;
/// No object is larger that has its values behind it.
const MAX_SIZE: u64 = 4096;
/// Nothing is mapped below.
const LOWEST: u64 = 0x1_0000;

/// Where a name stands in the keys of a dictionary, and the value beside it, if it is there.
struct Entry {
    index: u64,
    value: Option<u64>,
}

impl Interpreter<'_> {
    /// The value of an attribute.
    pub(super) fn attribute(&self, object: u64, name: &str) -> Option<u64> {
        let head = self.head();
        let class = self.pointer(object, self.layout.object_type)?;
        let before = |words: u64| self.pointer(object.wrapping_sub(words * 8), 0);
        let dictionary = match self.layout.minor {
            ..=10 => {
                let offset = self.memory.word(class.wrapping_add(head + DICT_OFFSET))?;
                return self
                    .item(self.pointer(object, Some(offset).filter(|offset| *offset < MAX_SIZE)?)?, name);
            }
            11 => match before(4) {
                Some(values) => return self.shared(class, values, name),
                None => before(3),
            },
            12 => match before(3)? {
                // A pointer to the values is marked by its lowest bit: it is one less.
                values if values & 1 == 1 => return self.shared(class, values + 1, name),
                dictionary => Some(dictionary),
            },
            // Without GIL two words less stand before it.
            _ => before(if head == 16 { 3 } else { 1 }),
        };
        if let Some(dictionary) = dictionary {
            return self.item(dictionary, name);
        }
        let flags = self.memory.word(class.wrapping_add(head + FLAGS))?;
        let size =
            self.memory.word(class.wrapping_add(head + BASIC_SIZE)).filter(|size| *size <= MAX_SIZE)?;
        let values = object.wrapping_add(size);
        // `valid`, the fourth of the bytes that come first.
        let [_, _, _, is_valid] = self.memory.array(values)?;
        (self.layout.minor >= 13 && flags & INLINE_VALUES != 0 && is_valid == 1)
            .then(|| self.shared(class, values.wrapping_add(8), name))?
    }

    /// A string object, of the very class `str`.
    pub(super) fn string(&self, object: u64) -> Option<String> {
        let kind = self.pointer(self.pointer(object, self.layout.object_type)?, self.layout.type_name)?;
        (self.memory.text(kind, 4) == b"str").then(|| self.text(object))?
    }

    /// The size of what every object begins with.
    const fn head(&self) -> u64 {
        self.layout.object_type + 8
    }

    /// The one of these values that belongs to a name.
    fn shared(&self, class: u64, values: u64, name: &str) -> Option<u64> {
        let mut keys = CACHED_KEYS.filter_map(|word| self.pointer(class, self.head() + word * 8));
        let index = keys.find_map(|keys| self.entry(keys, name))?.index;
        self.pointer(values, index * 8)
    }

    /// The value in a dictionary.
    fn item(&self, dictionary: u64, name: &str) -> Option<u64> {
        let entry = self.entry(self.pointer(dictionary, self.head() + 16)?, name)?;
        match self.pointer(dictionary, self.head() + 24) {
            Some(values) => {
                let before = if self.layout.minor >= 13 { 8 } else { 0 };
                self.pointer(values, before + entry.index * 8)
            }
            None => entry.value,
        }
    }

    /// Looks for a name in keys: `PyDictKeysObject`, with a table of places and then the entries.
    fn entry(&self, keys: u64, name: &str) -> Option<Entry> {
        if keys < LOWEST || !keys.is_multiple_of(8) {
            return None;
        }
        let (table, count, hashed) = if self.layout.minor <= 10 {
            let size = self.memory.word(keys.wrapping_add(8))?;
            // A byte for each place, as long as the number of a place fits into it.
            let width = if size <= 0xff { 1 } else { 2 };
            (40 + size.checked_mul(width)?, self.memory.word(keys.wrapping_add(32))?, true)
        } else {
            let [_, _, kind, _] = self.memory.array(keys.wrapping_add(8))?;
            let [_, log2, ..]: [u8; 4] = self.memory.array(keys.wrapping_add(8))?;
            let size = 1_u64.checked_shl(log2.into())?;
            (32 + size, self.memory.word(keys.wrapping_add(24))?, kind == 0)
        };
        if table > MAX_TABLE || count > MAX_ENTRIES {
            return None;
        }
        // The hash of the name, where it is kept; the name; the value.
        let (stride, before) = if hashed { (24, 8) } else { (16, 0) };
        (0..count).find_map(|index| {
            let at = keys.wrapping_add(table + index * stride + before);
            let is_it = self.pointer(at, 0).and_then(|key| self.string(key)).is_some_and(|key| key == name);
            is_it.then(|| Entry { index, value: self.pointer(at, 8) })
        })
    }
}
