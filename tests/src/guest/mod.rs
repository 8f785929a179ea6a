//! What the programs in a test machine share: they run tests, tell the host what came of them on a serial port, and
//! switch the machine off.

pub mod runner;
pub mod verdict;
