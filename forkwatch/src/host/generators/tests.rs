use std::ptr;

use super::{layout::tests::of, twister::tests::state, *};
use crate::host::forked::Forked;

/// A state as `NumPy` has it: the words, and after them which is next.
struct State(Box<[u32]>);

impl State {
    fn new(seed: u32, numbers: u32) -> Self {
        let (bytes, next) = state(seed, numbers);
        let words = bytes.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word));
        Self(words.chain([next]).collect())
    }

    fn place(&self) -> u64 {
        self.0.as_ptr().addr() as u64
    }

    /// Has another as many words further.
    fn draw(&mut self, words: u32) {
        let next = self.0.last_mut().unwrap();
        // SAFETY: a word of this one's; written so that it is not left out because nobody reads it here.
        unsafe { ptr::write_volatile(next, *next + words) };
    }
}

fn memory_of(tgid: u32) -> Bytes {
    memory::of_process(tgid, Rc::new(Maps::of_process(tgid).unwrap())).unwrap()
}

#[test]
fn a_child_that_has_drawn_is_ahead_of_its_forker() {
    let mut state = State::new(7, 10);
    for (words, expected) in [(0, None), (5, Some(5))] {
        let child = Forked::into(|| state.draw(words));
        let (ours, theirs) = (|| memory_of(child.tgid()), memory_of(std::process::id()));
        let place = state.place();
        let compared = || compare(&ours(), &theirs, place, &of(Maker::Numpy)).map(|ahead| ahead.numbers);
        if expected.is_some() {
            // It draws some time after the fork.
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while compared() != expected && std::time::Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
        assert_eq!(compared(), expected);
        assert_eq!(compare(&theirs, &ours(), place, &of(Maker::Numpy)), None, "the forker is not ahead");
        let nobodys = of(Maker::Python);
        assert_eq!(compare(&ours(), &theirs, place, &nobodys), None, "before it stands no type");
    }
}

#[test]
fn where_no_such_generators_can_be_nothing_is_searched() {
    let child = Forked::new();
    let own = Stat::of_process(std::process::id()).unwrap().key();
    assert_eq!(generators(child.key(), own, None), GeneratorsSeen::Unknown);
    let gone = child.key();
    drop(child);
    assert_eq!(generators(gone, own, None), GeneratorsSeen::Gone);
}
