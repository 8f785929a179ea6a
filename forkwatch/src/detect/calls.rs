//! What the calls of a thread are of: by function, library and script.

use crate::model::{lock::ThreadAt, process::escape, stack::Frame};

/// Whether a call is of this function, which bears its class's name from some versions on, in such a file.
pub(super) fn is(frame: &Frame, function: &str, file: &str) -> bool {
    let name = frame.function.as_deref().and_then(|name| name.rsplit('.').next());
    (function.is_empty() || name == Some(function))
        && frame.module.as_deref().is_some_and(|module| module.ends_with(file))
}

/// The name of a function, in Rust without the brackets around the type that it is of: `<tokio::..::Inner>::park`.
pub(super) fn name_of(frame: &Frame) -> Option<&str> {
    frame.function.as_deref().map(|name| name.trim_start_matches(['<', '&']))
}

pub(super) fn module_starts(frame: &Frame, starts: &[&str]) -> bool {
    let module = frame.module.as_deref().and_then(|module| module.rsplit('/').next());
    module.is_some_and(|module| starts.iter().any(|start| module.starts_with(start)))
}

impl ThreadAt {
    /// Whether one of its script's calls is one of these: function, or any if empty, and end of the file's path.
    pub(super) fn runs(&self, calls: &[(&str, &str)]) -> bool {
        let frames = self.script.iter().flat_map(|script| &script.frames);
        frames.into_iter().any(|frame| calls.iter().any(|(function, file)| is(frame, function, file)))
    }

    /// Whether one of its calls is of a function, or in a library, whose name begins so.
    pub(super) fn calls(&self, functions: &[&str], libraries: &[&str]) -> bool {
        self.stack.frames.iter().any(|frame| {
            let named = |name: &str| functions.iter().any(|start| name.starts_with(start));
            name_of(frame).is_some_and(named) || module_starts(frame, libraries)
        })
    }
}

/// `_worker (thread.py:81)`. What the C library does below says nothing.
pub(super) fn named(frame: &Frame) -> Option<String> {
    let function = frame.function.as_deref()?;
    let file = frame.module.as_deref().and_then(|module| module.rsplit('/').next()).unwrap_or_default();
    if ["libc.", "libc-", "libpthread", "ld-"].iter().any(|start| file.starts_with(start)) {
        return None;
    }
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    Some(format!("{} ({}{line})", escape(function), escape(file)))
}
