//! Generators of pseudo-random numbers that a fork has copied.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, Program},
    time::BootTime,
};

/// Most generators that one answer tells of.
pub const MAX_GENERATORS: usize = 8;

/// Where the states of a forker's generators lie; its forked children have theirs at the same addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeneratorPlaces([u64; MAX_GENERATORS]);

impl GeneratorPlaces {
    /// These; of more than [`MAX_GENERATORS`] the first.
    pub fn of(addresses: &[u64]) -> Self {
        let mut places = Self::default();
        for (place, address) in places.0.iter_mut().zip(addresses) {
            *place = *address;
        }
        places
    }

    /// The addresses.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied().filter(|place| *place != 0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// Whose generator it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// CPython's: an object `random.Random`.
    Python,
    /// `NumPy`'s `MT19937`, which `numpy.random.rand` and its like use.
    Numpy,
    /// PHP's, of `mt_rand`, `rand`, `shuffle` and their like, or of an object `Random\Engine\Mt19937`.
    Php,
    /// CRuby's: an object `Random`.
    Ruby,
}

/// A generator of a forked process whose numbers are those that its forker's copy would give next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// Where its state lies, in both.
    pub place: u64,
    /// The library whose generator it is.
    pub maker: Maker,
    /// What tells the forker's present state from all others.
    pub state: u64,
    /// How many numbers of 32 bits the forked process has drawn beyond that state.
    pub numbers: u64,
}

/// The generators of a forker, and how those of a forked process stand to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generators {
    /// When they were looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in the forker.
    pub program: Program,
    /// Where the forker has any.
    pub places: GeneratorPlaces,
    /// Those from which the forked process has drawn what its siblings may draw, too.
    pub ahead: Vec<Ahead>,
    /// Bytes of the forker's memory that were not searched, because that took too much.
    pub skipped: u64,
}

/// What a look at the generators of a forked process and of its forker has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GeneratorsSeen {
    /// The forked process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// The forker has ended, or has exec'd since the fork.
    Left,
    /// Nothing runs there whose generators can be recognised.
    Unknown,
    /// They cannot be looked at, for this reason.
    Unreadable(String),
    /// Both had generators that could be compared.
    Compared(Box<Generators>),
}
