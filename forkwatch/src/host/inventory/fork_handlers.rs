//! Threads that their own module ends before each fork and starts again after it, as the source of the module tells.

use std::path::Path;

use crate::{
    host::{bytes::Bytes, target_file::Files},
    model::stack::Frame,
};

/// The module of gunicorn's control socket. In releases after 25.1 it ends its thread before each fork (`_before_fork`,
/// gunicorn/ctl/server.py); 25.1 forks beside it.
const MODULE: &str = "/gunicorn/ctl/server.py";
/// The call in which the thread is, and what stands in the line of it.
const CALL: (&str, &str) = ("_run_loop", "asyncio.run(");
/// What a module calls that has something done at each fork.
const REGISTERS: &str = "os.register_at_fork(";
/// Most bytes of the source that are read: it has some 16,000.
const MOST: usize = 256 << 10;

/// Whether a thread of a process that is in these calls ends before each fork.
pub(super) fn ends_at_forks(tgid: u32, script: &[Frame]) -> bool {
    let Some((path, line)) = script.iter().find_map(of_module) else { return false };
    let tells = |file: &Bytes| tells(&String::from_utf8_lossy(&file.take_up_to(0, MOST)), line);
    Files::of(tgid).known(Path::new(path), tells).is_some()
}

/// Where the thread runs its loop: the path of the module, and the line.
fn of_module(frame: &Frame) -> Option<(&str, u32)> {
    let path = frame.module.as_deref().filter(|path| path.ends_with(MODULE))?;
    // Since CPython 3.11 the class stands before it.
    let function = frame.function.as_deref()?.rsplit('.').next();
    Some((path, frame.line.filter(|_| function == Some(CALL.0))?))
}

/// Whether the source is that of a module that has its thread ended, and the one that runs: a file that was replaced by
/// another version since has something else in that line.
fn tells(source: &str, line: u32) -> bool {
    let at = usize::try_from(line).ok().and_then(|line| source.lines().nth(line.checked_sub(1)?));
    at.is_some_and(|at| at.contains(CALL.1)) && source.contains(REGISTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "import os\n\nos.register_at_fork(before=stop)\n\ndef _run_loop(self):\n    asyncio.run(self.serve())\n";

    fn frame(function: &str, module: &str, line: u32) -> Frame {
        let (function, module) = (Some(function.to_owned()), Some(module.to_owned()));
        Frame { function, module, line: Some(line), ..Frame::default() }
    }

    #[test]
    fn the_source_that_runs_decides() {
        assert!(tells(SOURCE, 6));
        // A version without handlers, and one that has replaced the file since.
        assert!(!tells(&SOURCE.replace("os.register", "self.register"), 6));
        assert!(!tells(SOURCE, 5) && !tells(SOURCE, 0) && !tells(SOURCE, 60) && !tells("", 1));
    }

    #[test]
    fn only_the_thread_of_that_module_is_meant() {
        let module = "/v/site-packages/gunicorn/ctl/server.py";
        assert_eq!(of_module(&frame("ControlSocketServer._run_loop", module, 6)), Some((module, 6)));
        assert_eq!(of_module(&frame("_run_loop", "/srv/app/ctl/server.py", 6)), None);
        assert_eq!(of_module(&frame("ControlSocketServer.stop", module, 6)), None);
        assert_eq!(of_module(&frame("_run_loop", module, 6)).map(|(_, line)| line), Some(6));
    }

    #[test]
    fn the_source_is_read_as_the_process_finds_it() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("gunicorn/ctl");
        std::fs::create_dir_all(&folder).unwrap();
        let module = folder.join("server.py");
        std::fs::write(&module, SOURCE).unwrap();
        let calls = [frame("select", "/usr/lib/python3.11/selectors.py", 9)];
        let own = |line| [calls.as_slice(), &[frame("_run_loop", module.to_str().unwrap(), line)]].concat();
        assert!(ends_at_forks(std::process::id(), &own(6)));
        assert!(!ends_at_forks(std::process::id(), &own(2)));
        assert!(!ends_at_forks(std::process::id(), &calls));
    }
}
