//! Names as they stand in the source. Whoever built the object chose them, so they are bounded and made safe to print.

use std::fmt;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

use crate::model::process;

/// The longest name that is told.
pub(super) const MAX_LENGTH: usize = 512;

/// How deep a C++ name may be nested: a level takes up to 30 KiB of stack in a debug build, and a third of that in a
/// release. The main thread of a program has room for it.
const MAX_DEPTH: u32 = 96;

/// The name of a Rust or C++ function in plain words; any other as it is, without its version.
pub(super) fn demangle(name: &[u8]) -> String {
    let name = name.split(|byte| *byte == b'@').next().unwrap_or(name);
    let text = String::from_utf8_lossy(name);
    let plain = rust(&text).or_else(|| cpp(name)).unwrap_or_else(|| process::escape(name));
    shorten(plain)
}

fn rust(name: &str) -> Option<String> {
    let symbol = rustc_demangle::try_demangle(name).ok()?;
    let mut text = Bounded::default();
    // Without the hash; too long is cut.
    let _ = fmt::write(&mut text, format_args!("{symbol:#}"));
    Some(process::escape(text.0.as_bytes()))
}

fn cpp(name: &[u8]) -> Option<String> {
    if !name.starts_with(b"_Z") {
        return None;
    }
    let symbol = Symbol::new_with_options(name, &ParseOptions::default().recursion_limit(MAX_DEPTH)).ok()?;
    let mut text = Bounded::default();
    let options = DemangleOptions::new().no_params().no_return_type().recursion_limit(MAX_DEPTH);
    // Some hundred bytes can stand for gigabytes of text: the sink refuses more, and what it took is kept.
    let whole = symbol.structured_demangle(&mut text, &options).is_ok();
    (whole || text.0.len() >= MAX_LENGTH).then(|| process::escape(text.0.as_bytes()))
}

fn shorten(mut text: String) -> String {
    if text.len() > MAX_LENGTH {
        let end = (0..=MAX_LENGTH).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Takes no more than is told.
#[derive(Default)]
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push_str(text);
        if self.0.len() > MAX_LENGTH { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_the_source() {
        assert_eq!(demangle(b"pthread_mutex_lock@@GLIBC_2.34"), "pthread_mutex_lock");
        assert_eq!(demangle(b"_ZN4core3fmt5write17h0123456789abcdefE"), "core::fmt::write");
        assert_eq!(demangle(b"_RNvCs15kBYyAo9fc_7mycrate7example"), "mycrate::example");
        assert_eq!(demangle(b"_ZN4node9inspector5Agent4StopEv"), "node::inspector::Agent::Stop");
        assert_eq!(demangle(b"a\x1b[31m"), "a\\x1b[31m");
    }

    /// On half the stack that it has at work, that of a main thread.
    fn length(name: Vec<u8>) -> usize {
        let work = move || demangle(&name).len();
        thread::Builder::new().stack_size(8 * 1024 * 1024 / 2).spawn(work).unwrap().join().unwrap()
    }

    #[test]
    fn no_depth_overflows_the_stack() {
        for (start, middle, end) in [
            ("_Z1f", "P", "i"),
            ("_Z1fI", "1fI", "EEE"),
            ("_ZN", "1aIN", "EE"),
            ("_Z1fDT", "cl", "E"),
            ("_Z1fIX", "pt", "EE"),
            ("_Z1fIX", "L_Z1fIX", "EE"),
            ("_Z1f", "F", "vE"),
            ("_ZZ", "Z", "vE1a"),
            ("_RNvC1a1b", "I", "E"),
            ("_RI", "NvI", "E"),
            ("_RINvC1a1b", "R", "E"),
            ("_RINvC1a1b", "T", "E"),
            ("_RMC1a", "S", "E"),
        ] {
            for count in [10, 90, 400, MAX_LENGTH * 4] {
                let name = format!("{start}{}{end}", middle.repeat(count));
                assert!(length(name.into_bytes()) <= MAX_LENGTH + 3);
            }
        }
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic_or_long(name in "_(Z|R)[A-Za-z0-9_]{0,300}", tail in any::<Vec<u8>>()) {
            let mut name = name.into_bytes();
            name.extend(tail);
            prop_assert!(length(name) <= MAX_LENGTH + 3);
        }
    }
}
