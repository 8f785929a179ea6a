//! How a run of a hook ended.

use std::time::Duration;

use crate::model::signals::signal_name;

/// A run of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Whether it did its work, or why not.
    pub how: How,
    /// How long it took.
    pub took: Duration,
    /// The end of what it wrote to standard output and error.
    pub output: String,
    /// Bytes that it wrote there in all.
    pub written: u64,
}

/// What became of one run of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It ended with code 0, or its address answered with success.
    Good,
    /// With another code than 0.
    Code(i32),
    /// By a signal that is not ours.
    Signal(i32),
    /// It took too long, and was killed with its process group.
    TimedOut,
    /// It could not be run, or what it was sent to did not take it.
    Failed(String),
    /// The process that it was to be told by its pid has ended.
    Gone(&'static str),
    /// Everything was asked to end.
    Stopped,
}

impl How {
    /// A word for counting.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Code(_) | Self::Signal(_) | Self::Failed(_) => "failed",
            Self::TimedOut => "timed-out",
            Self::Gone(_) => "gone",
            Self::Stopped => "stopped",
        }
    }

    /// What happened, after the hook's name.
    pub fn words(&self) -> String {
        match self {
            Self::Good => "ran".to_owned(),
            Self::Code(code) => format!("exited with code {code}"),
            Self::Signal(number) => {
                format!("was killed by {}", signal_name(u32::try_from(*number).unwrap_or(0)))
            }
            Self::TimedOut => "took too long, and was killed with all of its process group".to_owned(),
            Self::Failed(why) => format!("failed: {why}"),
            Self::Gone(why) => format!("was not run: {why}"),
            Self::Stopped => "was ended, because everything ends".to_owned(),
        }
    }
}
