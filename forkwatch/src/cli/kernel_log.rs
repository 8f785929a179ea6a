//! `--kernel-log`, which several commands have.

use clap::{Args, builder::PossibleValuesParser};

use crate::kernel::Speakers;

/// Whose decisions in the kernel are logged.
#[derive(Debug, Args)]
pub(super) struct KernelLog {
    /// Log what the programs in the kernel decide, and why: of all, or of those named. Loads other programs than
    /// usual, which are slower
    #[arg(
        long,
        value_name = "PROGRAM",
        num_args = 0..,
        require_equals = true,
        value_delimiter = ',',
        default_missing_value = Speakers::ALL,
        value_parser = PossibleValuesParser::new(Speakers::words())
    )]
    kernel_log: Vec<String>,
}

impl KernelLog {
    /// The programs that are to log: none unless the option was given.
    pub(super) fn speakers(&self) -> Speakers {
        Speakers::named(self.kernel_log.iter().map(String::as_str))
    }
}
