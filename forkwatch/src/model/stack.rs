//! Where a thread is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most frames that a stack is told with.
pub const MAX_FRAMES: usize = 64;

/// How far forkwatch goes for the stack of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Stacks {
    /// No stack is looked at.
    None,
    /// From the stack and instruction pointers that `/proc` shows of a sleeping thread, and its memory: nothing is
    /// stopped. A frame that only another register leads to ends the stack.
    #[default]
    Light,
    /// Where such a stack ends early, with all registers of a thread that sleeps in `futex(2)`: it is stopped for them
    /// for some microseconds.
    Full,
}

/// A thread's stack, innermost frame first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// The frames that could be told, at most [`MAX_FRAMES`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub frames: Vec<Frame>,
    /// Why there is none, or why it ends before the thread's first function; absent where it is whole.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missing: Option<String>,
}

/// One call on a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Frame {
    /// The function, demangled; absent where no symbol covers it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub function: Option<String>,
    /// The object or script that it is in, by its path in the process's own file system.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<String>,
    /// Where in the object, as an offset into the file; absent for a script.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub offset: Option<u64>,
    /// The source line, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line: Option<u32>,
}

impl Frame {
    /// Whether it is of Python's own library, or of no file at all.
    pub fn is_of_interpreter(&self) -> bool {
        self.module.as_deref().is_some_and(|path| {
            path.starts_with('<') || path.contains("/lib/python") && !self.is_of_package()
        })
    }

    /// Whether it is of a package that was installed.
    fn is_of_package(&self) -> bool {
        self.module.as_deref().is_some_and(|path| path.contains("-packages/"))
    }

    /// Whether it is of the script's own code: not of Python's library, and of no package that was installed.
    pub fn is_of_program(&self) -> bool {
        !self.is_of_interpreter() && !self.is_of_package()
    }
}

impl Stack {
    /// No stack, for this reason.
    pub fn absent(why: impl Into<String>) -> Self {
        Self { frames: Vec::new(), missing: Some(why.into()) }
    }
}
