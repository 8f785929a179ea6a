//! Feeds one of forkwatch's parsers, whose name is in `FORKWATCH_FUZZ_TARGET`, with what libFuzzer makes up. The options
//! are libFuzzer's own: `cargo xtask fuzz` passes them.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod fuzz {
    use std::{env, sync::OnceLock};

    use forkwatch::fuzz::{TARGETS, Target, target};

    /// What is fed.
    fn chosen() -> Target {
        static CHOSEN: OnceLock<Target> = OnceLock::new();
        *CHOSEN.get_or_init(|| {
            let name = env::var("FORKWATCH_FUZZ_TARGET").unwrap_or_default();
            target(&name).unwrap_or_else(|| {
                let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
                panic!("FORKWATCH_FUZZ_TARGET is \"{name}\" and must be one of {}", names.join(", "))
            })
        })
    }

    libfuzzer_sys::fuzz_target!(|data: &[u8]| (chosen().run)(data));
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without --cfg fuzzing; cargo xtask fuzz builds it as it must be");
    std::process::exit(2);
}
