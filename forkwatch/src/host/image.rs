//! An image in memory that stands for a process: what the fuzzed readers of stacks and symbols read.

use std::rc::Rc;

use super::{
    bytes::{Bytes, Slice},
    maps::{Mapping, Maps},
};

/// Where the image of an object lies: at the address that linkers give to programs, so that seeds can be real ones.
pub(super) const START: u64 = 0x40_0000;

/// A process in which an image is all that there is: its first words are taken for what the kernel shows of it.
pub(super) struct Image {
    /// A number from its head, to be used as an address within the image.
    pub(super) first: u64,
    /// Another number from its head, for the same use.
    pub(super) second: u64,
    /// The image as a file.
    pub(super) memory_as_file: Bytes,
    /// The image as the memory of a process.
    pub(super) memory: Bytes,
    /// A mapping of a program for all of it.
    pub(super) maps: Rc<Maps>,
}

impl Image {
    /// Four bytes each for the two numbers, and the rest is the image.
    pub(super) fn of(data: &[u8]) -> Option<Self> {
        let (first, rest) = data.split_first_chunk()?;
        let (second, image) = rest.split_first_chunk()?;
        let address = |offset: &[u8; 4]| START.wrapping_add(u32::from_le_bytes(*offset).into());
        let head = Mapping {
            start: START,
            end: START + image.len() as u64,
            readable: true,
            executable: true,
            path: b"/python3.11".to_vec(),
            ..Mapping::default()
        };
        Some(Self {
            first: address(first),
            second: address(second),
            memory_as_file: Bytes::of(Slice { start: 0, bytes: image.to_vec() }),
            memory: Bytes::of(Slice { start: START, bytes: image.to_vec() }),
            maps: Rc::new(Maps::made_up(vec![head])),
        })
    }
}
