//! Stacks and names of an image in memory: see [`crate::host::fuzz`].

use super::{
    demangle,
    elf::Object,
    python,
    registers::Registers,
    ruby,
    symbols::{self, Kind},
    unwind,
};
use crate::{
    host::{image::Image, target_file::Files},
    model::stack::MAX_FRAMES,
};

/// With few registers and with all of them, from an instruction and a stack pointer.
pub(in crate::host) fn unwind(image: &Image) {
    let Image { first, second, memory, maps, .. } = image;
    let values: Vec<u64> = (0..33).map(|register| second.wrapping_add(register * 8)).collect();
    for registers in [Registers::new(*first, *second), Registers::complete(*first, &values)] {
        let walk = unwind::walk(&Files::none(), memory, maps, registers);
        assert!(walk.calls.len() <= MAX_FRAMES);
        assert!(!walk.calls.is_empty() || walk.missing.is_some());
    }
}

/// Of code, of data, and by name; and the tables as a file has them.
pub(in crate::host) fn symbols(image: &Image) {
    let Image { first, second, memory, maps, .. } = image;
    symbols::names_in_file(image, &[*first, *second]);
    let Some(head) = maps.objects().next() else { return };
    let Ok(object) = Object::read(memory, head) else { return };
    let addresses = [*first, *second, *first];
    for kind in [Kind::Code, Kind::Data] {
        let names = symbols::names(&Files::none(), memory, &object, kind, &addresses);
        assert_eq!(names.len(), addresses.len());
        assert_eq!(names.first(), names.last());
    }
    let _ = symbols::address_of(memory, &object, b"_PyRuntime");
}

/// A name, which is told in bounded words.
pub(in crate::host) fn demangle(name: &[u8]) {
    let name = name.get(..name.len().min(symbols::MAX_NAME)).unwrap_or_default();
    let plain = demangle::demangle(name);
    assert!(plain.len() <= demangle::MAX_LENGTH + '…'.len_utf8() && !plain.contains('\x1b'), "{plain:?}");
}

/// The thread whose number is the first of the image's, of both interpreters.
pub(in crate::host) fn script(image: &Image) {
    let Image { first, memory, maps, .. } = image;
    let own_id = || u32::try_from(first & 0xffff).ok();
    let most = 16;
    if let Some(Ok(Some(stack))) = python::stack_of(memory, maps, Some(b"/python3.11"), own_id, most) {
        assert!(stack.frames.len() <= most);
    }
    let _ = python::threads_of(memory, maps, Some(b"/python3.11"));
    ruby::fuzz(memory, *first);
}
