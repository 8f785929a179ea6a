//! What the fuzzer has found, and a second of changes of it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};

use super::*;

/// How long each target is fed.
const TIME: Duration = Duration::from_secs(1);
/// What one input may take: a thousand times what the slowest of the corpus does.
const PATIENCE: Duration = Duration::from_secs(10);
/// No input of the corpus is longer, and no change makes it so.
const LONGEST: usize = 16 * 1024;

/// Random numbers that are the same each time (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % limit.max(1)
    }
}

/// Values at which something turns.
const EDGES: [u64; 10] = [0, 1, 0x7f, 0x80, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 63, u64::MAX];

fn changed(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        match random.below(6) {
            0 if !out.is_empty() => out[at] ^= 1 << random.below(8),
            1 if !out.is_empty() => out[at] = random.below(256).try_into().unwrap(),
            2 => out.truncate(at),
            3 => {
                let (from, count) = (random.below(other.len()), random.below(64));
                let piece: Vec<u8> = other.iter().skip(from).take(count).copied().collect();
                out.splice(at..at, piece);
            }
            4 => {
                let edge = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = 1 << random.below(4);
                for (place, byte) in out.iter_mut().skip(at).zip(edge.iter().take(width)) {
                    *place = *byte;
                }
            }
            _ => {
                let end = (at + random.below(32)).min(out.len());
                out.drain(at..end);
            }
        }
    }
    out.truncate(LONGEST);
    out
}

/// Of this thread: a busy host makes no parser slow.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn feed(name: &str) {
    let target = target(name).unwrap();
    let run = |input: &[u8]| {
        let began = processor_time();
        // What a failing input was is told by the panic's own words and this line.
        let told = Told(input);
        (target.run)(input);
        std::mem::forget(told);
        let took = processor_time().saturating_sub(began);
        assert!(took < PATIENCE, "{name} took {took:?} for {input:02x?}");
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut corpus: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    corpus.sort();
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|path| fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    run(b"");
    for input in &corpus {
        assert!(input.len() <= LONGEST);
        run(input);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let end = Instant::now() + TIME;
    while Instant::now() < end {
        let (one, other) = (random.below(corpus.len()), random.below(corpus.len()));
        run(&changed(&corpus[one], &corpus[other], &mut random));
    }
}

/// Says what the input was where a target fails.
struct Told<'a>(&'a [u8]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        eprintln!("the input was {:02x?}", self.0);
    }
}

macro_rules! feed {
    ($($name:ident)*) => { $(#[test] fn $name() { feed(stringify!($name)); })* };
}

feed! { btf config demangle locks maps mounts python recording symbols task unwind }

#[test]
fn every_target_is_fed_and_every_folder_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut folders: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.map(|target| target.name));
}
